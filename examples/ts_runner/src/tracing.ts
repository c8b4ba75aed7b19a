// Spans of the OpenTelemetry SDK on their way to the store: whose they are, their numbers, their delivery.
// Identity travels in OpenTelemetry's context, so that many rollouts run in one process.
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  context, createContextKey, ROOT_CONTEXT, trace, type Context, type Span as ApiSpan, type Tracer,
} from "@opentelemetry/api";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import {
  AlwaysOnSampler, NodeTracerProvider, type ReadableSpan, type Span, type SpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import type { Assignment } from "./gen/agentlightning/v1/rollout_pb.js";
import { SpanSchema, type Span as SpanMessage } from "./gen/agentlightning/v1/span_pb.js";
import { repeated, type Store } from "./store.js";

const ATTEMPT = createContextKey("agentlightning-attempt");
const EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const BATCH_MS = 100;
const BATCH_SPANS = 100;
// So that neither the limits of OpenTelemetry nor OTEL_* variables take anything from what is learnt from.
const EVERYTHING = {
  attributeCountLimit: Infinity, attributeValueLengthLimit: Infinity, attributePerEventCountLimit: Infinity,
  attributePerLinkCountLimit: Infinity, eventCountLimit: Infinity, linkCountLimit: Infinity,
};

/** Makes spans know their attempt, and hands them to it as they end. */
class AttemptSpanProcessor implements SpanProcessor {
  readonly #attempts = new WeakMap<object, AttemptTrace>();

  onStart(span: Span, parent: Context): void {
    const attempt = parent.getValue(ATTEMPT);
    if (!(attempt instanceof AttemptTrace)) return;
    this.#attempts.set(span, attempt);
    span.setAttributes(attempt.begin());
  }

  onEnd(span: ReadableSpan): void {
    this.#attempts.get(span)?.add(span);
  }

  async forceFlush(): Promise<void> {}
  async shutdown(): Promise<void> {}
}

/** Makes the tracer of agents, and OpenTelemetry's global one as long as nobody else has. */
export function startTracing(): Tracer {
  const spanProcessors = [new AttemptSpanProcessor()];
  const provider = new NodeTracerProvider({ sampler: new AlwaysOnSampler(), spanLimits: EVERYTHING, spanProcessors });
  provider.register();
  return provider.getTracer("agentlightning");
}

/**
 * The spans of one attempt. They are sent while it runs, and kept until the store has them.
 *
 * It speaks OTLP on the runner's own channel. The stock exporter keeps to itself which spans the store refused, and
 * looks for a store that was away only every two minutes.
 */
export class AttemptTrace {
  readonly #root: ApiSpan;
  readonly #context: Context;
  readonly #givenUp = new AbortController();
  #next: bigint;
  #waiting: ReadableSpan[] = [];
  #unfinished = 0;
  #lost = 0;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #delivery: Promise<void> = Promise.resolve();

  constructor(readonly store: Store, readonly assignment: Assignment, tracer: Tracer) {
    this.#next = assignment.nextSequenceId || 1n;
    const own = ROOT_CONTEXT.setValue(ATTEMPT, this);
    this.#root = tracer.startSpan("agentlightning.rollout", {}, own);
    this.#context = trace.setSpan(own, this.#root);
  }

  /** Runs a function within the attempt: the spans it starts, now or later, are the attempt's. */
  run<T>(call: () => T): T {
    return context.with(this.#context, call);
  }

  /** Counts a span that starts, and says what tells that it is the attempt's. */
  begin(): Record<string, string | number> {
    this.#unfinished += 1;
    return { ...this.#identity(), "agentlightning.span_sequence_id": Number(this.#next++) };
  }

  /** Takes a span that has ended. Those that end after the attempt are nobody's. */
  add(span: ReadableSpan): void {
    if (this.#closed) return;
    this.#unfinished -= 1;
    this.#waiting.push(span);
    this.#timer ??= setTimeout(() => this.#deliver(), BATCH_MS);
  }

  /** The span of a reward, which goes with the report of the attempt. */
  reward(value: number): SpanMessage {
    const now = timestampNow();
    const { traceId, spanId } = this.#root.spanContext();
    const { rolloutId, attemptId } = this.assignment.attempt!;
    return create(SpanSchema, {
      rolloutId, attemptId, sequenceId: this.#next++, traceId, spanId: randomBytes(8).toString("hex"),
      parentSpanId: spanId, name: "agentlightning.annotation", startTime: now, endTime: now,
      attributes: [
        { key: "agentlightning.reward.0.name", value: { value: { case: "stringValue", value: "primary" } } },
        { key: "agentlightning.reward.0.value", value: { value: { case: "doubleValue", value } } },
      ],
    });
  }

  /** Ends the attempt's root span and sends all that has ended. Returns how many spans the store does not have. */
  async close(signal?: AbortSignal): Promise<number> {
    this.#root.end();
    this.#closed = true;
    signal?.addEventListener("abort", () => this.#givenUp.abort());
    if (signal?.aborted) this.#givenUp.abort();
    await this.#deliver();
    return this.#lost + this.#unfinished + this.#waiting.length;
  }

  /** Sends no more. */
  discard(): void {
    this.#closed = true;
    this.#givenUp.abort();
    clearTimeout(this.#timer);
  }

  #deliver(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return (this.#delivery = this.#delivery.then(() => this.#send()));
  }

  /** Sends what waits, for as long as the store is away. Of a batch that is refused the halves are tried. */
  async #send(): Promise<void> {
    const { signal } = this.#givenUp;
    for (let size = BATCH_SPANS; this.#waiting.length && !signal.aborted; ) {
      const batch = this.#waiting.slice(0, size);
      try {
        this.#lost += await repeated(() => this.#export(batch), signal);
        this.#waiting.splice(0, batch.length);
        size = Math.min(size * 2, BATCH_SPANS);
      } catch {
        if (signal.aborted) return;
        if (batch.length === 1) this.#lost += this.#waiting.splice(0, 1).length;
        size = Math.ceil(batch.length / 2);
      }
    }
  }

  /** Returns how many of the spans the store refused. */
  async #export(spans: ReadableSpan[]): Promise<number> {
    const request = ProtobufTraceSerializer.serializeRequest(spans);
    const answer = await this.store.send(EXPORT, request!, { signal: this.#givenUp.signal });
    return Number(ProtobufTraceSerializer.deserializeResponse(answer).partialSuccess?.rejectedSpans ?? 0);
  }

  #identity(): Record<string, string> {
    const { rolloutId, attemptId } = this.assignment.attempt!;
    return { "agentlightning.rollout_id": rolloutId, "agentlightning.attempt_id": attemptId };
  }
}
