// The resources of a rollout, from the store or remembered: a version never changes.
import { TemplateEngine, type Resources as Message } from "./gen/agentlightning/v1/resources_pb.js";
import type { Rollout } from "./gen/agentlightning/v1/rollout_pb.js";
import { StoreService } from "./gen/agentlightning/v1/store_service_pb.js";
import { PromptTemplate, type Engine } from "./prompt.js";
import type { Store } from "./store.js";

const REMEMBERED = 64;
const ENGINES = new Map<TemplateEngine, Engine>([[TemplateEngine.JINJA, "jinja"], [TemplateEngine.POML, "poml"]]);

/** A model that is served somewhere. */
export interface LLM {
  endpoint: string;
  model: string;
  apiKey: string;
  samplingParameters: Record<string, unknown>;
}

/** The agent asks for something that its rollout was not given. */
export class MissingResourceError extends Error {
  override readonly name = "MissingResourceError";
}

/** What an agent is given, by name and in its maker's order. */
export class Resources {
  readonly promptTemplates = new Map<string, PromptTemplate>();
  readonly llms = new Map<string, LLM>();
  readonly customs = new Map<string, unknown>();

  constructor(message?: Message) {
    for (const { name, kind } of message?.resources ?? []) {
      if (kind.case === "promptTemplate") {
        this.promptTemplates.set(name, new PromptTemplate(kind.value.template, ENGINES.get(kind.value.engine)));
      } else if (kind.case === "llm") {
        const { endpoint, model, apiKey, samplingParametersJson: json } = kind.value;
        this.llms.set(name, { endpoint, model, apiKey, samplingParameters: JSON.parse(json || "{}") });
      } else if (kind.case === "customJson") {
        this.customs.set(name, JSON.parse(kind.value));
      }
    }
  }

  /** The prompt template of a name, or the first. */
  promptTemplate(name?: string): PromptTemplate {
    return pick(this.promptTemplates, "prompt template", name);
  }

  /** The model of a name, or the first. */
  llm(name?: string): LLM {
    return pick(this.llms, "model", name);
  }
}

/** Reads the resources of rollouts, and remembers the versions read last. */
export class ResourceReader {
  readonly #versions = new Map<string, Resources>();

  constructor(readonly store: Store) {}

  async read(rollout: Rollout, signal: AbortSignal): Promise<Resources> {
    const { resourcesId, resourcesVersion: version } = rollout;
    if (!resourcesId) return new Resources();
    const key = `${resourcesId}@${version}`;
    const remembered = this.#versions.get(key);
    if (remembered) return remembered;
    const answer = await this.store.settle(StoreService.method.getResources, { resourcesId, version }, { signal });
    const resources = new Resources(answer.resources);
    if (version) this.#remember(key, resources);
    return resources;
  }

  #remember(key: string, resources: Resources): void {
    this.#versions.set(key, resources);
    const [oldest] = this.#versions.keys();
    if (this.#versions.size > REMEMBERED) this.#versions.delete(oldest!);
  }
}

function pick<T>(resources: ReadonlyMap<string, T>, kind: string, name?: string): T {
  const [first] = resources.keys();
  const found = resources.get(name ?? first ?? "");
  if (found !== undefined) return found;
  const given = [...resources.keys()].join(", ") || "none";
  throw new MissingResourceError(`the agent asks for the ${kind} ${name ?? "that comes first"}; given: ${given}`);
}
