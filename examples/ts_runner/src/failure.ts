// Why an attempt did not succeed, told from what the agent threw. Knows errors alone.
import { inspect } from "node:util";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { FailureKind, type FailureSchema } from "./gen/agentlightning/v1/attempt_pb.js";

const LONGEST = 16_000;
const DEEPEST = 20; // causes: they may go round in circles
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

/** The failure of an attempt that an error ended, whatever that is; the end of a long stack trace is kept. */
export function failureOf(error: unknown): MessageInitShape<typeof FailureSchema> {
  if (!(error instanceof Error)) {
    return { kind: FailureKind.AGENT, type: typeof error, message: textOf(error).slice(0, LONGEST) };
  }
  return {
    kind: kindOf(error),
    type: namesOf(error)[0] ?? "Error",
    message: textOf(error.message).slice(0, LONGEST),
    stackTrace: stackOf(error).slice(-LONGEST),
  };
}

/** The stack of an error and of those that caused it. */
function stackOf(error: Error, depth = 0): string {
  const { stack = "", cause } = error;
  if (!(cause instanceof Error) || depth >= DEEPEST) return textOf(stack);
  return `${textOf(stack)}\nCaused by: ${stackOf(cause, depth + 1)}`;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : inspect(value);
}

/**
 * Who is to blame. The network and the model's server are infrastructure, which says nothing about the agent; their
 * classes are known by name, so that no client needs to be installed. Everything else is the agent's.
 */
function kindOf(error: Error): FailureKind {
  if (error instanceof AttemptTimeout) return FailureKind.TIMEOUT;
  return isInfrastructure(error) ? FailureKind.INFRASTRUCTURE : FailureKind.AGENT;
}

function isInfrastructure(error: unknown, depth = 0): boolean {
  if (!(error instanceof Error) || depth > DEEPEST) return false;
  const { code, status } = error as { code?: unknown; status?: unknown };
  const names = namesOf(error);
  return (
    names.some((name) => INFRASTRUCTURE.has(name)) ||
    (typeof code === "string" && BROKEN_NETWORK.test(code)) ||
    (names.includes("APIError") && (status === 429 || Number(status) >= 500)) ||
    isInfrastructure(error.cause, depth + 1)
  );
}

function namesOf(error: Error): string[] {
  const names: string[] = [];
  for (let type = error.constructor; typeof type === "function" && type.name; type = Object.getPrototypeOf(type)) {
    names.push(type.name);
  }
  return names;
}
