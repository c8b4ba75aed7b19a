// One attempt from its claim to its report: resources, agent, spans, outcome. Knows no queue.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Tracer } from "@opentelemetry/api";
import { AttemptTimeout, failureOf, InvalidReward, RunnerStopped } from "./failure.js";
import { AttemptStatus, type FailureSchema } from "./gen/agentlightning/v1/attempt_pb.js";
import { RolloutMode, type Assignment } from "./gen/agentlightning/v1/rollout_pb.js";
import { StoreService } from "./gen/agentlightning/v1/store_service_pb.js";
import type { ResourceReader, Resources } from "./resources.js";
import type { Store } from "./store.js";
import type { Span } from "./gen/agentlightning/v1/span_pb.js";
import { AttemptTrace } from "./tracing.js";

const GRACE_MS = 3000;
const REPORT_MS = 5000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
// Spans of an attempt that has ended change nothing; those of an unresponsive one would bring it back to life.
const TAKES_EVIDENCE = new Set([AttemptStatus.TIMEOUT, AttemptStatus.FAILED, AttemptStatus.CANCELLED]);

const MODES = new Map<RolloutMode, "train" | "val" | "test">([
  [RolloutMode.TRAIN, "train"], [RolloutMode.VAL, "val"], [RolloutMode.TEST, "test"],
]);

/** What an agent is given beside its task. */
export interface AgentContext {
  readonly rolloutId: string;
  readonly attemptId: string;
  /** What the rollout is for. */
  readonly mode: "train" | "val" | "test" | undefined;
  /** The task as JSON text, as it was enqueued. */
  readonly inputJson: string;
  /** What is tuned. */
  readonly resources: Resources;
  /** Fires when nobody waits for the agent any more: cancelled, lost, out of time, or the runner stops. */
  readonly signal: AbortSignal;
  /** Makes spans of the attempt; so does any other tracer of OpenTelemetry's global provider. */
  readonly tracer: Tracer;
}

/** Does a task and returns how good that was, or nothing. */
export type Agent<Task = any> = (task: Task, context: AgentContext) => Promise<number | null | undefined | void>;

/** The attempt is somebody else's now, or nobody's. */
export class AttemptLost extends Error {
  override readonly name = "AttemptLost";

  constructor(readonly status: AttemptStatus) {
    super(`the attempt is no longer ours (${AttemptStatus[status] ?? "UNSPECIFIED"})`);
  }
}

interface Outcome {
  outcome: { case: "succeeded"; value: {} } | { case: "failure"; value: MessageInitShape<typeof FailureSchema> };
  spans?: Span[];
}

/** How calls name an attempt. */
export interface AttemptRef {
  rolloutId: string;
  attemptId: string;
}

/** What attempts share. */
export interface Means {
  agent: Agent;
  store: Store;
  resources: ResourceReader;
  tracer: Tracer;
  log: (text: string) => void;
}

/** An attempt at work. */
export class Attempt {
  readonly #over = new AbortController();
  readonly #givenUp = new AbortController();
  readonly #trace: AttemptTrace;
  #lost: AttemptStatus | undefined;

  constructor(readonly assignment: Assignment, readonly means: Means) {
    this.#trace = new AttemptTrace(means.store, assignment, means.tracer);
  }

  get ref(): AttemptRef {
    return refOf(this.assignment);
  }

  /** The attempt is lost: whatever the agent does now, nobody is told. */
  lose(status: AttemptStatus): void {
    this.#lost ??= status;
    this.#end(new AttemptLost(status));
  }

  /** The runner does not wait for the agent. */
  stop(): void {
    this.#end(new RunnerStopped());
  }

  /** Runs the agent and reports how it ended. Never throws. */
  async run(): Promise<void> {
    const outcome = await this.#outcome();
    if (this.#lost !== undefined && !TAKES_EVIDENCE.has(this.#lost)) {
      this.#trace.discard();
      return this.#log("abandoned: somebody else has it, or nobody");
    }
    const lostSpanCount = await this.#trace.close(this.#givenUp.signal);
    if (this.#lost !== undefined) return this.#log(`abandoned: ${AttemptStatus[this.#lost]}`);
    await this.#complete(outcome, lostSpanCount);
  }

  async #outcome(): Promise<Outcome> {
    const { signal } = this.#over;
    const stopLate = this.#startClock();
    try {
      const reward = await this.#trace.run(() => this.#work(signal));
      const spans = reward === undefined ? [] : [this.#trace.reward(reward)];
      return { outcome: { case: "succeeded", value: {} }, spans };
    } catch (error) {
      return { outcome: { case: "failure", value: failureOf(signal.aborted ? signal.reason : error) } };
    } finally {
      clearTimeout(stopLate);
    }
  }

  async #work(signal: AbortSignal): Promise<number | undefined> {
    const { agent, tracer } = this.means;
    const { mode, inputJson } = this.assignment.rollout!;
    const resources = await this.means.resources.read(this.assignment.rollout!, signal);
    const given = { ...this.ref, mode: MODES.get(mode), inputJson, resources, signal, tracer };
    signal.throwIfAborted();
    const reward = await unlessOver(agent(JSON.parse(inputJson), given), signal);
    if (reward === undefined || reward === null) return undefined;
    if (Number.isFinite(reward)) return reward;
    throw new InvalidReward(`the agent returned ${String(reward)}: a reward is a finite number`);
  }

  /** Reports the outcome, whatever is heard meanwhile: that the attempt has ended may be the work of a first report. */
  async #complete(outcome: Outcome, lostSpanCount: number): Promise<void> {
    const request = { ...this.ref, ...outcome, lostSpanCount: BigInt(lostSpanCount) };
    try {
      await this.means.store.settle(StoreService.method.completeAttempt, request, { signal: this.#givenUp.signal });
      if (outcome.outcome.case === "failure") this.#log(`failed: ${outcome.outcome.value.message}`);
    } catch (error) {
      this.#log(`not reported: ${this.#givenUp.signal.aborted ? "the store did not answer in time" : error}`);
    }
  }

  #startClock(): NodeJS.Timeout | undefined {
    const timeout = this.assignment.rollout?.config?.timeout;
    if (!timeout) return undefined;
    const ms = durationMs(timeout);
    const late = () => this.#over.abort(new AttemptTimeout(`the agent did not finish within ${ms / 1000} s`));
    return setTimeout(late, Math.min(ms, LONGEST_TIMER_MS));
  }

  #end(reason: Error): void {
    this.#over.abort(reason);
    setTimeout(() => this.#givenUp.abort(), GRACE_MS + REPORT_MS).unref();
  }

  #log(text: string): void {
    this.means.log(`[${this.ref.rolloutId} ${this.ref.attemptId}] ${text}`);
  }
}

/** What the work comes to. Once the signal fires, it has a moment to end, and what it comes to does not count. */
async function unlessOver<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const leftBehind = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => (timer = setTimeout(() => reject(signal.reason), GRACE_MS)));
  });
  try {
    return await Promise.race([work, leftBehind]);
  } finally {
    clearTimeout(timer);
    signal.throwIfAborted();
  }
}

export function refOf({ attempt }: Assignment): AttemptRef {
  return { rolloutId: attempt!.rolloutId, attemptId: attempt!.attemptId };
}
