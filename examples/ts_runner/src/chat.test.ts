import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { SpanStatusCode } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { recordingFetch } from "./chat.js";

const URL = "http://model/v1/chat/completions";
const REQUEST = { model: "m", temperature: 0, messages: [{ role: "user", content: "Why?" }] };
const ANSWER = { id: "c-1", choices: [{ message: { role: "assistant", content: "So." }, finish_reason: "stop" }] };

const exporter = new InMemorySpanExporter();
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();

beforeEach(() => exporter.reset());

function post(answer: () => Response, url = URL, request: object = REQUEST): Promise<Response> {
  return recordingFetch(async () => answer())(url, { method: "POST", body: JSON.stringify(request) });
}

test("a completion is one span, with question and answer", async () => {
  await post(() => Response.json(ANSWER));
  const [span, ...others] = exporter.getFinishedSpans();
  assert.deepEqual([span!.name, others.length], ["openai.chat.completion", 0]);
  assert.equal(span!.attributes["gen_ai.request.temperature"], 0);
  assert.deepEqual(JSON.parse(String(span!.attributes["gen_ai.input.messages"])), [
    { role: "user", parts: [{ type: "text", content: "Why?" }] },
  ]);
  assert.deepEqual(JSON.parse(String(span!.attributes["gen_ai.output.messages"])), [
    { role: "assistant", parts: [{ type: "text", content: "So." }], finish_reason: "stop" },
  ]);
});

test("the caller reads the answer as ever", async () => {
  assert.deepEqual(await (await post(() => Response.json(ANSWER))).json(), ANSWER);
});

test("a streamed answer is not held up", async () => {
  const response = await post(() => new Response(new ReadableStream()), URL, { ...REQUEST, stream: true });
  assert.equal(response.bodyUsed, false);
});

test("a completion that the server refuses is a span in error", async () => {
  await post(() => new Response("", { status: 429, statusText: "Too Many Requests" }));
  const [span] = exporter.getFinishedSpans();
  assert.deepEqual(span!.status, { code: SpanStatusCode.ERROR, message: "429 Too Many Requests" });
});

test("a completion that does not reach the server is a span in error, and fails as ever", async () => {
  const broken = new TypeError("fetch failed");
  const failing = () => {
    throw broken;
  };
  await assert.rejects(post(failing), broken);
  assert.equal(exporter.getFinishedSpans()[0]!.status.code, SpanStatusCode.ERROR);
});

test("an answer that is no completion is a span in error, and the caller's to judge", async () => {
  const response = await post(() => new Response("<html>"));
  assert.equal(await response.text(), "<html>");
  assert.match(exporter.getFinishedSpans()[0]!.status.message!, /^not recorded: SyntaxError/);
});

test("other requests are left alone", async () => {
  await post(() => Response.json({}), "http://model/v1/embeddings");
  await recordingFetch(async () => Response.json({}))("http://model/v1/models");
  assert.deepEqual(exporter.getFinishedSpans(), []);
});
