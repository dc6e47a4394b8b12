// Client in Node with @grpc/grpc-js: what it was answered, as JSON.
const grpc = require('@grpc/grpc-js');
const [address, path, request, large] = process.argv.slice(2);
const same = (b) => b;
const client = new grpc.Client(address, grpc.credentials.createInsecure(), {'grpc.max_receive_message_length': -1});
const call = (path, body, options = {}) => new Promise((resolve) => {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', 'from-node');
  let trailers;
  const made = client.makeUnaryRequest(path, same, same, body, metadata, options, (error, reply) => {
    setImmediate(() => resolve({code: error ? error.code : 0, details: error && error.details,
      reply: reply && reply.toString('base64'), id: trailers && trailers.get('x-request-id')[0]}));
  });
  made.on('status', (status) => { trailers = status.metadata; });
});
(async () => {
  const found = {
    good: await call(path, Buffer.from(request, 'base64')),
    wrong: await call(path, Buffer.from('ffffff', 'hex')),
    unknown: await call(path + 'No', Buffer.alloc(0)),
    large: await call(path, Buffer.alloc(Number(large))),
    many: (await Promise.all(Array.from({length: 200}, () => call(path, Buffer.from(request, 'base64'))))).map((r) => r.code),
    health: await call('/grpc.health.v1.Health/Check', Buffer.alloc(0)),
  };
  console.log(JSON.stringify(found));
  client.close();
})();
