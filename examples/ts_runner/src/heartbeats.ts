// Keeps leases, from a thread that no agent can block. Knows neither claims nor agents.
import { Worker } from "node:worker_threads";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { AttemptStatus } from "./gen/agentlightning/v1/attempt_pb.js";
import type { Assignment } from "./gen/agentlightning/v1/rollout_pb.js";

/** To keep the lease of an attempt. */
export interface Order {
  rolloutId: string;
  attemptId: string;
  everyMs: number;
}

/** An attempt that is no longer ours, and where it stands. */
export interface Lost {
  attemptId: string;
  status: AttemptStatus;
}

/** Heartbeats for the attempts that are held, until they are released. */
export class Heartbeats {
  readonly #thread: Worker;

  constructor(address: string, workerId: string, onLost: (lost: Lost) => void) {
    this.#thread = new Worker(new URL("./heartbeat_worker.js", import.meta.url), { workerData: { address, workerId } });
    this.#thread.on("message", onLost);
  }

  hold({ attempt, heartbeatInterval }: Assignment): void {
    if (!attempt || !heartbeatInterval) return;
    const { rolloutId, attemptId } = attempt;
    this.#thread.postMessage({ rolloutId, attemptId, everyMs: durationMs(heartbeatInterval) } satisfies Order);
  }

  release(attemptId: string): void {
    this.#thread.postMessage({ release: attemptId });
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}
