// The agent that tests/conformance gives its tasks to, to see what a runner does.
import { appendFileSync, existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { runRunner, type AgentContext } from "./runner.js";

interface Task {
  log: string;
  steps?: number;
  wait_for?: string;
  fail?: string;
  reward?: number | null;
}

async function conform(task: Task, { resources, tracer, signal }: AgentContext): Promise<number | null | undefined> {
  const log = (line: string) => appendFileSync(task.log, `${line}\n`);
  log("began");
  const prompt = resources.promptTemplates.get("prompt");
  if (prompt) log(`prompt ${prompt.template}`);
  for (let step = 0; step < (task.steps ?? 0); step++) tracer.startSpan(`step-${step}`).end();
  while (task.wait_for && !existsSync(task.wait_for)) {
    if (signal.aborted) return log("stopped"), null;
    await delay(20);
  }
  log(task.fail ? "failed" : "ended");
  if (task.fail) throw new Error(task.fail);
  return task.reward;
}

await runRunner({ agent: conform });
