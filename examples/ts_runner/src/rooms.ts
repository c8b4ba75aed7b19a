// The room selector: books a meeting room with one tool and two calls of a model. `make demo-ts` trains its prompt.
import OpenAI from "openai";
import { recordingFetch, runRunner, type AgentContext } from "./runner.js";

interface Task {
  task_input: Record<string, unknown>;
  expected_choice: string;
  rooms: { rooms: { id: string }[] };
}

const MODEL = "gpt-4.1-nano";
const NO_ROOM = "No Room";
const TOOLS: OpenAI.ChatCompletionTool[] = [{
  type: "function",
  function: {
    name: "get_rooms_and_availability",
    description: "Lists every meeting room and whether it is free at the given date and time.",
    parameters: {
      type: "object",
      properties: {
        date: { type: "string", description: "YYYY-MM-DD" },
        time: { type: "string", description: "HH:MM, 24 hours" },
        duration_min: { type: "integer", description: "Length of the meeting in minutes" },
      },
      required: ["date", "time", "duration_min"],
    },
  },
}];

const client = new OpenAI({ fetch: recordingFetch() });

async function selectRoom(task: Task, { resources, signal }: AgentContext): Promise<number> {
  const prompt = resources.promptTemplate("prompt_template").format(task.task_input);
  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: prompt }];
  const ask = async (tools?: OpenAI.ChatCompletionTool[]) => {
    const request = { model: MODEL, temperature: 0, messages, ...(tools && { tools }) };
    return (await client.chat.completions.create(request, { signal })).choices[0]!.message;
  };
  let answer = await ask(TOOLS);
  if (answer.tool_calls) {
    messages.push(answer);
    const content = JSON.stringify(task.rooms);
    for (const { id } of answer.tool_calls) messages.push({ role: "tool", tool_call_id: id, content });
    answer = await ask();
  }
  return grade(answer.content ?? "", task);
}

/** 1 for exactly the expected choice, 0.5 if it is the only choice that a longer answer names, else 0. */
function grade(answer: string, { expected_choice: expected, rooms: { rooms } }: Task): number {
  if (answer.trim() === expected) return 1;
  const named = [NO_ROOM, ...rooms.map(({ id }) => id)].filter((choice) => new RegExp(`\\b${choice}\\b`).test(answer));
  return named.length === 1 && named[0] === expected ? 0.5 : 0;
}

await runRunner({ agent: selectRoom });
