// Client in Node with @grpc/grpc-js over mTLS: asks one thing again and again, until a call fails or its standard input ends.
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const [address, authority, certificate, key, path, request] = process.argv.slice(2);
const same = (b) => b;
const secure = grpc.credentials.createSsl(...[authority, key, certificate].map((name) => fs.readFileSync(name)));
const client = new grpc.Client(address, secure);
let ended = false;
process.stdin.on('end', () => { ended = true; }).resume();
const call = () => new Promise((resolve) => {
  const deadline = Date.now() + 60000;
  client.makeUnaryRequest(path, same, same, Buffer.from(request, 'base64'), new grpc.Metadata(), {deadline}, resolve);
});
(async () => {
  let answered = 0;
  let error = null;
  while (!ended && !(error = await call())) {
    answered += 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  console.log(JSON.stringify({answered, failure: error ? error.message : 'none'}));
  process.exit(0);
})();
