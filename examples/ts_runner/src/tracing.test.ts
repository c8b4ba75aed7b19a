import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { AssignmentSchema } from "./gen/agentlightning/v1/rollout_pb.js";
import { StoreError, type CallOptions, type Store } from "./store.js";
import { AttemptTrace, startTracing } from "./tracing.js";

const assignment = create(AssignmentSchema, { attempt: { rolloutId: "ro-1", attemptId: "at-1" }, nextSequenceId: 5n });
const tracer = startTracing();
const accepted = new Uint8Array();
let sent: Buffer[];
let answers: (Uint8Array | Error)[];
let attempt: AttemptTrace;

const store = {
  async send(_path: string, message: Uint8Array, { signal }: CallOptions) {
    signal?.throwIfAborted();
    sent.push(Buffer.from(message));
    const answer = answers.shift() ?? accepted;
    if (answer instanceof Error) throw answer;
    return answer;
  },
} as unknown as Store;

beforeEach(() => {
  [sent, answers] = [[], []];
  attempt = new AttemptTrace(store, assignment, tracer);
});

afterEach(() => attempt.discard());

test("spans that any tracer starts within the attempt are the attempt's", async () => {
  attempt.run(() => trace.getTracer("other").startSpan("work").end());
  tracer.startSpan("elsewhere").end();
  assert.equal(await attempt.close(), 0);
  const bytes = Buffer.concat(sent).toString("latin1");
  assert.ok(bytes.includes("work") && bytes.includes("at-1") && !bytes.includes("elsewhere"));
});

test("the attempt is known after an await too", async () => {
  await attempt.run(async () => {
    await new Promise(setImmediate);
    tracer.startSpan("later").end();
  });
  await attempt.close();
  assert.ok(Buffer.concat(sent).includes("later"));
});

test("spans are numbered as they start, from the assignment's number on", () => {
  assert.equal(attempt.begin()["agentlightning.span_sequence_id"], 6); // 5 is the root
  assert.equal(attempt.reward(1).sequenceId, 7n);
});

test("a reward belongs to the root span", () => {
  const reward = attempt.reward(0.5);
  assert.deepEqual([reward.rolloutId, reward.attemptId, reward.name], ["ro-1", "at-1", "agentlightning.annotation"]);
  assert.match(`${reward.traceId} ${reward.parentSpanId} ${reward.spanId}`, /^[0-9a-f]{32} [0-9a-f]{16} [0-9a-f]{16}$/);
});

test("spans are sent again while the store is away", async () => {
  answers = [new StoreError("", status.UNAVAILABLE, ""), new StoreError("", status.UNAVAILABLE, "SERVER_DRAINING")];
  assert.equal(await attempt.close(), 0);
  assert.equal(sent.length, 3);
});

test("of a batch that is refused the halves are sent, and a span that is refused alone is lost", async () => {
  const tooLarge = new StoreError("", status.RESOURCE_EXHAUSTED, "");
  attempt.run(() => tracer.startSpan("large").end());
  answers = [tooLarge, tooLarge, accepted];
  assert.equal(await attempt.close(), 1);
  assert.equal(sent.length, 3);
});

test("spans that the store does not take are lost", async () => {
  answers = [Buffer.from([0x0a, 0x02, 0x08, 0x01])]; // ExportTraceServiceResponse.partial_success.rejected_spans = 1
  assert.equal(await attempt.close(), 1);
});

test("a burst of spans with a bad one among them is sent in few calls", async () => {
  attempt.run(() => Array.from({ length: 5000 }, () => tracer.startSpan("work").end()));
  answers = Array.from({ length: 8 }, () => new StoreError("", status.RESOURCE_EXHAUSTED, ""));
  assert.equal(await attempt.close(), 1);
  assert.ok(sent.length < 80, `${sent.length} calls`);
});

test("a span keeps its attempt however many attributes it has", async () => {
  const attributes = Object.fromEntries(Array.from({ length: 200 }, (_, number) => [`key-${number}`, number]));
  attempt.run(() => tracer.startSpan("wide", { attributes }).end());
  await attempt.close();
  assert.equal(Buffer.concat(sent).toString("latin1").split("agentlightning.attempt_id").length, 3); // and the root
});

test("spans that have not ended with the attempt are lost", async () => {
  attempt.run(() => tracer.startSpan("forgotten"));
  assert.equal(await attempt.close(), 1);
});

test("spans that could not be sent in time are lost", async () => {
  assert.equal(await attempt.close(AbortSignal.abort()), 1);
});
