// A runner: claims rollouts, runs an agent on each, reports. Ends as told by signals. What it exports is for agents.
import { randomUUID } from "node:crypto";
import { constants, hostname } from "node:os";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Attempt, refOf, type Agent } from "./attempt.js";
import type { Assignment } from "./gen/agentlightning/v1/rollout_pb.js";
import { StoreService, type DequeueRolloutsRequestSchema } from "./gen/agentlightning/v1/store_service_pb.js";
import { Heartbeats, type Lost } from "./heartbeats.js";
import { Losses } from "./losses.js";
import { ResourceReader } from "./resources.js";
import { Store } from "./store.js";
import { startTracing } from "./tracing.js";

export type { Agent, AgentContext } from "./attempt.js";
export { recordingFetch } from "./chat.js";
export { InfrastructureError } from "./failure.js";
export { PromptTemplate, PromptTemplateError } from "./prompt.js";
export { MissingResourceError, Resources, type LLM } from "./resources.js";

const WAIT_SECONDS = 30;
const READY_MS = 2000;
const MOST_AT_ONCE = 100;
const REPEAT_MS = 500;
const GIVE_BACK_MS = 2000;
const LINGER_MS = 3000;
const REMEMBERED = 10_000;

/** What a runner runs, and where. What is absent is read from the environment. */
export interface RunnerOptions<Task = any> {
  agent: Agent<Task>;
  /** `AGL_STORE`, else `localhost:4747`. */
  store?: string;
  /** `AGL_QUEUE`, else `default`. */
  queue?: string;
  /** How many rollouts at once: `AGL_CONCURRENCY`, else 1. */
  concurrency?: number;
  /** Ends after so many: `AGL_MAX_ROLLOUTS`, else never. */
  maxRollouts?: number;
}

/**
 * Runs an agent on the rollouts of a queue until it has done as many as it should, or until SIGTERM or SIGINT: then it
 * takes no more and finishes what runs. At a second signal what runs is reported as stopped, and the process exits.
 *
 *     await runRunner({ agent: async (task: { question: string }, { resources, signal }) => {
 *       const prompt = resources.promptTemplate("prompt").format(task);
 *       return (await ask(prompt, signal)) === "42" ? 1 : 0;
 *     } });
 */
export async function runRunner<Task>(options: RunnerOptions<Task>): Promise<void> {
  const runner = new Runner(options);
  let signals = 0;
  const stop = (signal: "SIGTERM" | "SIGINT") => {
    signals += 1;
    if (signals === 1) return runner.drain();
    process.exitCode = 128 + constants.signals[signal];
    runner.stop();
  };
  process.on("SIGTERM", stop).on("SIGINT", stop);
  try {
    await runner.run();
  } finally {
    process.off("SIGTERM", stop).off("SIGINT", stop);
  }
  if (signals > 1) process.exit(); // An agent that did not heed its signal would keep the process alive.
  if (signals > 0) setTimeout(() => process.exit(), LINGER_MS).unref(); // So would a timer that an agent forgot.
}

class Runner {
  readonly #address: string;
  readonly #queue: string;
  readonly #concurrency: number;
  readonly #workerId = `ts-${hostname()}-${process.pid}`;
  readonly #store: Store;
  readonly #heartbeats: Heartbeats;
  readonly #losses: Losses;
  readonly #means;
  readonly #draining = new AbortController();
  readonly #attempts = new Map<string, Attempt>();
  readonly #running = new Set<Promise<void>>();
  readonly #known = new Set<string>();
  #left: number;

  constructor(options: RunnerOptions) {
    const address = (this.#address = options.store ?? (process.env.AGL_STORE || "localhost:4747"));
    this.#queue = options.queue ?? (process.env.AGL_QUEUE || "default");
    this.#concurrency = options.concurrency ?? count("AGL_CONCURRENCY", 1);
    this.#left = options.maxRollouts ?? count("AGL_MAX_ROLLOUTS", Infinity);
    const store = (this.#store = new Store(address));
    const onLost = (lost: Lost) => this.#lose(lost);
    const held = () => [...this.#attempts.values()].map((attempt) => attempt.ref);
    this.#heartbeats = new Heartbeats(address, this.#workerId, onLost);
    this.#losses = new Losses(store, { workerId: this.#workerId, queue: this.#queue }, held, onLost);
    this.#means = { agent: options.agent, store, resources: new ResourceReader(store), tracer: startTracing(), log };
  }

  /** Takes no more. */
  drain(): void {
    log("takes no more, and finishes what runs");
    this.#draining.abort();
  }

  /** Gives up what runs. */
  stop(): void {
    for (const attempt of this.#attempts.values()) attempt.stop();
  }

  async run(): Promise<void> {
    log(`takes rollouts of ${this.#queue} at ${this.#address}, ${this.#concurrency} at once`);
    void this.#store.ready(READY_MS).then((ready) => ready || log("waits for the store, which is not there"));
    try {
      while (!this.#draining.signal.aborted && this.#left > 0) {
        const free = Math.min(this.#concurrency - this.#running.size, this.#left, MOST_AT_ONCE);
        if (free > 0) for (const assignment of await this.#claim(free)) this.#start(assignment);
        else await Promise.race(this.#running);
      }
      await Promise.all(this.#running);
    } finally {
      await Promise.all([this.#heartbeats.close(), this.#losses.close()]);
      this.#store.close();
    }
  }

  /** Claims by long-poll: unlike what a stream pushes, the answer to a call that broke can be had by repeating it. */
  async #claim(maxRollouts: number): Promise<Assignment[]> {
    const { signal } = this.#draining;
    const waitTimeout = { seconds: BigInt(WAIT_SECONDS) };
    const request = { workerId: this.#workerId, queue: this.#queue, maxRollouts, waitTimeout, requestId: randomUUID() };
    const options = { signal, timeoutMs: (WAIT_SECONDS + 5) * 1000 };
    try {
      return (await this.#store.settle(StoreService.method.dequeueRollouts, request, options)).assignments;
    } catch (error) {
      if (!signal.aborted) throw error;
      await this.#giveBack(request);
      return [];
    }
  }

  /** Gives back what the store may have claimed while the call was being ended: a repeat tells. */
  async #giveBack(request: MessageInitShape<typeof DequeueRolloutsRequestSchema>): Promise<void> {
    const options = { timeoutMs: REPEAT_MS, signal: AbortSignal.timeout(GIVE_BACK_MS) };
    try {
      const { assignments } = await this.#store.settle(StoreService.method.dequeueRollouts, request, options);
      const attempts = assignments.map(refOf);
      if (attempts.length) await this.#store.settle(StoreService.method.releaseAttempts, { attempts }, options);
    } catch {
      log("the store did not say whether it has claimed more; it will notice by itself");
    }
  }

  #start(assignment: Assignment): void {
    const attempt = new Attempt(assignment, this.#means);
    const { attemptId } = attempt.ref;
    if (this.#known.has(attemptId)) return; // Delivered twice; an attempt is run once.
    this.#remember(attemptId);
    this.#left -= 1;
    this.#attempts.set(attemptId, attempt);
    this.#heartbeats.hold(assignment);
    this.#losses.hold(attempt.ref);
    const work = attempt.run().finally(() => {
      this.#heartbeats.release(attemptId);
      this.#attempts.delete(attemptId);
      this.#running.delete(work);
    });
    this.#running.add(work);
  }

  #remember(attemptId: string): void {
    this.#known.add(attemptId);
    const [oldest] = this.#known;
    if (this.#known.size > REMEMBERED) this.#known.delete(oldest!);
  }

  #lose({ attemptId, status }: Lost): void {
    this.#heartbeats.release(attemptId);
    this.#attempts.get(attemptId)?.lose(status);
  }
}

function count(name: string, absent: number): number {
  const text = process.env[name];
  if (!text) return absent;
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  throw new Error(`${name} is '${text}': write a whole number from 1 on`);
}

function log(text: string): void {
  console.error(`${new Date().toISOString()} ${text}`);
}
