// Asks a server for items over HTTP: no library, no generated code. Node 22.18 and later run it as it is: node retrieve.ts
// RF_URL is the address of `rf serve --http-port 8080`, RF_TOKEN a token where the server wants one.
const url = process.env.RF_URL ?? "http://127.0.0.1:8080";
const token = process.env.RF_TOKEN;

interface RetrieveRequest {
  userId?: string;
  session?: { history: { itemId: string; timestampUs?: string }[]; sessionId?: string };
  k: number;
  excludeSeen?: boolean;
}

interface RetrieveResponse {
  items?: { itemId: string; score: number }[]; // what is empty, zero or false is left out
  bundle: string;
  cold?: boolean;
}

class CallError extends Error {
  readonly code: string;
  readonly field: string | null;
  readonly requestId: string | null;

  constructor(reply: Response, told: { code: string; message: string; field: string | null }) {
    super(told.message);
    this.code = told.code;
    this.field = told.field;
    this.requestId = reply.headers.get("x-request-id");
  }
}

async function call<Request, Reply>(method: string, request: Request, milliseconds = 1000): Promise<Reply> {
  const reply = await fetch(`${url}/retrievalformer.v1.${method}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "connect-timeout-ms": String(milliseconds),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(milliseconds * 2),
  });
  const told = await reply.json();
  if (!reply.ok) throw new CallError(reply, told);
  return told;
}

const retrieve = (request: RetrieveRequest) =>
  call<RetrieveRequest, RetrieveResponse>("RetrievalService/Retrieve", request, 10_000);

const answer = await retrieve({ userId: process.env.RF_USER ?? "42", k: 5, excludeSeen: true });
console.log(`from ${answer.bundle}${answer.cold ? ", nothing is known of the user" : ""}`);
for (const [place, item] of (answer.items ?? []).entries()) {
  console.log(`${String(place + 1).padStart(3)} ${item.itemId.padStart(8)} ${item.score.toFixed(3)}`);
}

try {
  await retrieve({ userId: "42", k: 0 });
} catch (error) {
  if (!(error instanceof CallError)) throw error;
  console.log(`${error.code}, ${error.field}: ${error.message}`);
}
