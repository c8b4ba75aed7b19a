// Why an attempt did not succeed, told from what the agent threw. Knows errors alone.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { FailureKind, type FailureSchema } from "./gen/agentlightning/v1/attempt_pb.js";

const LONGEST = 16_000;
const INFRASTRUCTURE = new Set([
  "InfrastructureError", "StoreError", "APIConnectionError", "RateLimitError", "InternalServerError",
]);
const BROKEN_NETWORK = /^(ECONN|UND_ERR_|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)/;

/** Thrown by an agent that could not do its work through no fault of its own: the rollout is delivered again. */
export class InfrastructureError extends Error {
  override readonly name = "InfrastructureError";
}

/** The agent took longer than its rollout allows. */
export class AttemptTimeout extends Error {
  override readonly name = "AttemptTimeout";
}

/** The runner was told a second time to stop. */
export class RunnerStopped extends InfrastructureError {
  constructor() {
    super("the runner was stopped during the attempt");
  }
}

/** The agent returned what cannot be a reward. */
export class InvalidReward extends Error {
  override readonly name = "InvalidReward";
}

/** The failure of an attempt that an error ended; the end of a long stack trace is kept. */
export function failureOf(error: unknown): MessageInitShape<typeof FailureSchema> {
  if (!(error instanceof Error)) {
    return { kind: FailureKind.AGENT, type: typeof error, message: String(error).slice(0, LONGEST) };
  }
  return {
    kind: kindOf(error),
    type: error.constructor.name,
    message: error.message.slice(0, LONGEST),
    stackTrace: (error.stack ?? "").slice(-LONGEST),
  };
}

/**
 * Who is to blame. The network and the model's server are infrastructure, which says nothing about the agent; their
 * classes are known by name, so that no client needs to be installed. Everything else is the agent's.
 */
function kindOf(error: Error): FailureKind {
  if (error instanceof AttemptTimeout) return FailureKind.TIMEOUT;
  return isInfrastructure(error) ? FailureKind.INFRASTRUCTURE : FailureKind.AGENT;
}

function isInfrastructure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, status } = error as { code?: unknown; status?: unknown };
  const names = namesOf(error);
  return (
    names.some((name) => INFRASTRUCTURE.has(name)) ||
    (typeof code === "string" && BROKEN_NETWORK.test(code)) ||
    (names.includes("APIError") && (status === 429 || Number(status) >= 500)) ||
    isInfrastructure(error.cause)
  );
}

function namesOf(error: Error): string[] {
  const names: string[] = [];
  for (let type = error.constructor; typeof type === "function" && type.name; type = Object.getPrototypeOf(type)) {
    names.push(type.name);
  }
  return names;
}
