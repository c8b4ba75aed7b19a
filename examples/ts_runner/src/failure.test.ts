import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import OpenAI from "openai";
import { AttemptTimeout, failureOf, InfrastructureError, RunnerStopped } from "./failure.js";
import { FailureKind } from "./gen/agentlightning/v1/attempt_pb.js";
import { StoreError } from "./store.js";

const { AGENT, INFRASTRUCTURE, TIMEOUT } = FailureKind;
const headers = new Headers();
const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });

for (const [name, error, kind] of [
  ["an error of the agent", new RangeError("7"), AGENT],
  ["a value that is no error", "oops", AGENT],
  ["a file that is not there", Object.assign(new Error(), { code: "ENOENT" }), AGENT],
  ["what the model's server refuses", new OpenAI.BadRequestError(400, {}, "", headers), AGENT],
  ["too many calls of the model", new OpenAI.RateLimitError(429, {}, "", headers), INFRASTRUCTURE],
  ["an error of the model's server", new OpenAI.InternalServerError(503, {}, "", headers), INFRASTRUCTURE],
  ["a model that is not reached", new OpenAI.APIConnectionError({ message: "" }), INFRASTRUCTURE],
  ["a model that takes too long", new OpenAI.APIConnectionTimeoutError(), INFRASTRUCTURE],
  ["a refused connection", refused, INFRASTRUCTURE],
  ["a fetch that fails", new TypeError("fetch failed", { cause: refused }), INFRASTRUCTURE],
  ["what the agent says is infrastructure", new InfrastructureError("no GPU"), INFRASTRUCTURE],
  ["a store that refuses", new StoreError("", status.NOT_FOUND, "RESOURCES_NOT_FOUND"), INFRASTRUCTURE],
  ["a runner that is stopped", new RunnerStopped(), INFRASTRUCTURE],
  ["an agent that takes too long", new AttemptTimeout("1 s"), TIMEOUT],
] as const) {
  test(`${name} is ${FailureKind[kind]}`, () => {
    assert.equal(failureOf(error).kind, kind);
  });
}

test("a failure names the error's class, and has its message and stack", () => {
  const { type, message, stackTrace } = failureOf(new RangeError("7 is too much"));
  assert.deepEqual([type, message], ["RangeError", "7 is too much"]);
  assert.match(stackTrace!, /failure\.test/);
});

const circular = new Error("round");
circular.cause = circular;
const unusual = Object.assign(new Error(), { message: { code: 7 } });

for (const [name, error, said] of [
  ["causes that go round in circles", circular, "round"],
  ["a message that is no text", unusual, "{ code: 7 }"],
  ["a value that cannot be made a text", Object.create(null), "[Object: null prototype] {}"],
] as const) {
  test(`a failure survives ${name}`, () => assert.equal(failureOf(error).message, said));
}

test("a failure tells what caused its error", () => {
  const { stackTrace } = failureOf(new Error("no room", { cause: new TypeError("no door") }));
  assert.match(stackTrace!, /no room[^]*Caused by: TypeError: no door/);
});

test("a long message is cut", () => {
  assert.equal(failureOf(new Error("x".repeat(100_000))).message!.length, 16_000);
});
