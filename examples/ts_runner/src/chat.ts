// Records chat completions as spans, as OpenTelemetry's GenAI conventions write them: a `fetch` for OpenAI's client.
// Knows OpenAI's JSON, not its package.
import { SpanKind, SpanStatusCode, trace, type Attributes, type Span } from "@opentelemetry/api";

type JSON = Record<string, any>;

const SCALARS = new Set(["string", "number", "boolean"]);

/**
 * A `fetch` that records each chat completion, with its messages and tools, as a span of the attempt it is made in. Of
 * a streamed answer it records the request alone.
 *
 *     const client = new OpenAI({ fetch: recordingFetch() });
 */
export function recordingFetch(inner: typeof fetch = fetch): typeof fetch {
  return async (input, init) => {
    const request = chatRequest(input, init);
    if (!request) return inner(input, init);
    const attributes = requestAttributes(request);
    const tracer = trace.getTracer("agentlightning.chat");
    return tracer.startActiveSpan("openai.chat.completion", { kind: SpanKind.CLIENT, attributes }, async (span) => {
      try {
        const response = await inner(input, init);
        await record(span, response, request.stream === true).catch((error) => {
          // No completion: the client will say so.
          span.setStatus({ code: SpanStatusCode.ERROR, message: `not recorded: ${error}` });
        });
        return response;
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) });
        throw error;
      } finally {
        span.end();
      }
    });
  };
}

function chatRequest(input: Parameters<typeof fetch>[0], init?: RequestInit): JSON | undefined {
  const url = new URL(input instanceof Request ? input.url : input);
  const isChat = init?.method?.toUpperCase() === "POST" && url.pathname.endsWith("/chat/completions");
  return isChat && typeof init.body === "string" ? JSON.parse(init.body) : undefined;
}

async function record(span: Span, response: Response, streams: boolean): Promise<void> {
  const { ok, status, statusText } = response;
  if (!ok) span.setStatus({ code: SpanStatusCode.ERROR, message: `${status} ${statusText}` });
  else if (!streams) span.setAttributes(responseAttributes((await response.clone().json()) as JSON));
}

function requestAttributes({ messages = [], tools, ...parameters }: JSON): Attributes {
  const plain = Object.entries(parameters).filter(([, value]) => SCALARS.has(typeof value));
  return {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    ...Object.fromEntries(plain.map(([name, value]) => [`gen_ai.request.${name}`, value])),
    "gen_ai.input.messages": JSON.stringify(messages.map(messageOf)),
    ...(tools && { "gen_ai.tool.definitions": JSON.stringify(tools) }),
  };
}

function responseAttributes({ id, model, choices = [], usage }: JSON): Attributes {
  const answers = choices.map(({ message, finish_reason }: JSON) => ({ ...messageOf(message), finish_reason }));
  return {
    "gen_ai.response.id": id,
    "gen_ai.response.model": model,
    "gen_ai.response.finish_reasons": choices.map((choice: JSON) => String(choice.finish_reason)),
    "gen_ai.usage.input_tokens": usage?.prompt_tokens,
    "gen_ai.usage.output_tokens": usage?.completion_tokens,
    "gen_ai.output.messages": JSON.stringify(answers),
  };
}

function messageOf({ role, content, tool_calls: calls, tool_call_id: answered }: JSON): JSON {
  if (role === "tool") return { role, parts: [{ type: "tool_call_response", id: answered, response: content }] };
  const texts = typeof content === "string" ? [{ type: "text", text: content }] : content ?? [];
  return { role, parts: [...texts.map(partOf), ...(calls ?? []).map(callOf)] };
}

function partOf(part: JSON): JSON {
  return part.type === "text" ? { type: "text", content: part.text } : part;
}

function callOf({ id, function: called }: JSON): JSON {
  return { type: "tool_call", id, name: called?.name, arguments: called?.arguments };
}
