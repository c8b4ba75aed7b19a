import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  Metadata, Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall, type ServiceError,
} from "@grpc/grpc-js";
import {
  DequeueRolloutsRequestSchema as Request, DequeueRolloutsResponseSchema as Response, StoreService,
} from "./gen/agentlightning/v1/store_service_pb.js";
import { parseAddress, Store, StoreError } from "./store.js";

const method = StoreService.method.dequeueRollouts;
const server = new Server();
let store: Store;
let requestIds: string[];
let refusals: Partial<ServiceError>[];

before(async () => {
  const dequeue = {
    path: "/agentlightning.v1.StoreService/DequeueRollouts", requestStream: false, responseStream: false,
    requestSerialize: Buffer.from, requestDeserialize: (bytes: Buffer) => fromBinary(Request, bytes),
    responseSerialize: Buffer.from, responseDeserialize: Buffer.from,
  };
  server.addService({ dequeue }, {
    dequeue(call: ServerUnaryCall<{ requestId: string }, Uint8Array>, answer: sendUnaryData<Uint8Array>) {
      requestIds.push(call.request.requestId);
      const refusal = refusals.shift();
      if (refusal) answer(refusal);
      else answer(null, toBinary(Response, create(Response)));
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    const bound = (error: Error | null, port: number) => (error ? reject(error) : resolve(port));
    server.bindAsync("localhost:0", ServerCredentials.createInsecure(), bound);
  });
  store = new Store(`http://localhost:${port}`);
});

after(() => {
  store.close();
  server.forceShutdown();
});

function refusing(...errors: Partial<ServiceError>[]): void {
  requestIds = [];
  refusals = errors;
}

/** A refusal with `google.rpc.ErrorInfo`: each field is a tag, a length and its bytes. */
function because(reason: string, domain = "agentlightning"): Metadata {
  const field = (tag: number, value: Buffer) => Buffer.concat([Buffer.from([(tag << 3) | 2, value.length]), value]);
  const info = Buffer.concat([field(1, Buffer.from(reason)), field(2, Buffer.from(domain))]);
  const any = Buffer.concat([field(1, Buffer.from("type.googleapis.com/google.rpc.ErrorInfo")), field(2, info)]);
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.concat([Buffer.from([0x08, 9]), field(3, any)]));
  return metadata;
}

async function refusalOf(call: Promise<unknown>): Promise<StoreError> {
  const error = await call.then(() => undefined, (error: unknown) => error);
  assert.ok(error instanceof StoreError);
  return error;
}

test("a call is made again with the same request while nobody knows how it ended", async () => {
  const draining = { code: status.UNAVAILABLE, metadata: because("SERVER_DRAINING") };
  refusing({ code: status.DEADLINE_EXCEEDED, details: "" }, draining);
  assert.deepEqual((await store.settle(method, { requestId: "one" })).assignments, []);
  assert.deepEqual(requestIds, ["one", "one", "one"]);
});

test("a refusal has the store's reason and is not repeated", async () => {
  refusing({ code: status.FAILED_PRECONDITION, details: "too late", metadata: because("ATTEMPT_ENDED") });
  const { message, reason } = await refusalOf(store.settle(method, { requestId: "two" }));
  assert.deepEqual([message, reason, requestIds], ["ATTEMPT_ENDED: too late", "ATTEMPT_ENDED", ["two"]]);
});

test("an internal error with the store's reason is not repeated", async () => {
  refusing({ code: status.INTERNAL, metadata: because("BUG") });
  assert.equal((await refusalOf(store.settle(method, {}))).reason, "BUG");
});

test("a call that gRPC itself ends is made again a few times", async () => {
  refusing(...Array.from({ length: 6 }, () => ({ code: status.INTERNAL, details: "" })));
  assert.equal((await refusalOf(store.settle(method, {}))).code, status.INTERNAL);
  assert.equal(requestIds.length, 6);
});

for (const [address, target, secure] of [
  ["localhost:4747", "localhost:4747", false],
  ["http://localhost:1/", "localhost:1", false],
  ["grpc://a.example", "a.example:4747", false],
  ["HTTPS://a.example:1", "a.example:1", true],
  ["grpcs://[::1]:1", "[::1]:1", true],
] as const) {
  test(`${address} is an address`, () => assert.deepEqual(parseAddress(address), { target, secure }));
}

for (const address of ["", "ftp://localhost", "localhost:port", "localhost:99999", ":4747", "http://a:1/store"]) {
  test(`'${address}' is no address, which is said`, () => assert.throws(() => parseAddress(address), /host:port/));
}

test("a reason of somebody else's is none", async () => {
  refusing({ code: status.NOT_FOUND, metadata: because("ATTEMPT_ENDED", "elsewhere") });
  assert.equal((await refusalOf(store.call(method, {}))).reason, "");
});

test("a call that is ended says why", async () => {
  const stopped = new Error("enough");
  await assert.rejects(store.call(method, {}, { signal: AbortSignal.abort(stopped) }), stopped);
});
