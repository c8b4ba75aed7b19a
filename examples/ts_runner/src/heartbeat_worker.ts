// The thread of heartbeats, with a channel of its own: an agent that blocks the event loop does not hold it up.
// Started by heartbeats.ts.
import { parentPort, workerData } from "node:worker_threads";
import { StoreService } from "./gen/agentlightning/v1/store_service_pb.js";
import type { Lost, Order } from "./heartbeats.js";
import { Store } from "./store.js";

const RETRY_MS = 500;

const { address, workerId } = workerData as { address: string; workerId: string };
const store = new Store(address);
const held = new Map<string, Order>();
let due = Infinity;
let timer: NodeJS.Timeout | undefined;

parentPort!.on("message", (order: Order | { release: string }) => {
  if ("release" in order) {
    held.delete(order.release);
  } else {
    held.set(order.attemptId, order);
    beatWithin(order.everyMs);
  }
});

/** Beats after so long, or before if that was planned already. */
function beatWithin(ms: number): void {
  if (performance.now() + ms >= due) return;
  due = performance.now() + ms;
  clearTimeout(timer);
  timer = setTimeout(() => void beat(), ms);
}

/** Renews all leases in one call, at the shortest interval that any of them asks for. */
async function beat(): Promise<void> {
  due = Infinity;
  const attempts = [...held.values()];
  if (!attempts.length) return;
  const shortest = Math.min(...attempts.map((attempt) => attempt.everyMs));
  beatWithin((await renew(attempts, shortest)) ? shortest : Math.min(shortest, RETRY_MS));
}

async function renew(attempts: Order[], timeoutMs: number): Promise<boolean> {
  const refs = attempts.map(({ rolloutId, attemptId }) => ({ rolloutId, attemptId }));
  try {
    const answer = await store.call(StoreService.method.heartbeatAttempts, { attempts: refs, workerId }, { timeoutMs });
    for (const { attemptId, status } of answer.results.filter((result) => !result.held)) {
      if (held.delete(attemptId)) parentPort!.postMessage({ attemptId, status } satisfies Lost);
    }
    return true;
  } catch {
    return false; // A store that is away gives every lease a fresh duration when it is back.
  }
}
