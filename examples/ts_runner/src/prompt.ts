// Prompt templates as the store has them, filled in. Knows neither store nor agents.

/** A template that cannot be filled in. */
export class PromptTemplateError extends Error {
  override readonly name = "PromptTemplateError";
}

export type Engine = "f-string" | "jinja" | "poml";

/** An instruction with placeholders. */
export class PromptTemplate {
  constructor(readonly template: string, readonly engine: Engine = "f-string") {}

  /**
   * Fills in the placeholders: `{name}`, and `{{` and `}}` for braces.
   *
   *     new PromptTemplate("A room at {time} with {needs}.").format({ time: "10:00", needs: ["camera"] });
   *     // A room at 10:00 with [camera].
   */
  format(values: Readonly<Record<string, unknown>>): string {
    if (this.engine !== "f-string") {
      throw new PromptTemplateError(`engine '${this.engine}' is rendered by the agent: use .template`);
    }
    return this.template.replace(/\{\{|\}\}|\{([^{}]*)\}|[{}]/g, (found, name?: string) => {
      if (found === "{{" || found === "}}") return found[0]!;
      if (name === undefined) throw new PromptTemplateError(`the template has a single '${found}': write {{ and }}`);
      return written(valueOf(name, values));
    });
  }
}

function valueOf(name: string, values: Readonly<Record<string, unknown>>): unknown {
  if (!/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) {
    throw new PromptTemplateError(`{${name}} is more than a name: write {name}, or {{ and }} for braces`);
  }
  if (Object.hasOwn(values, name)) return values[name];
  const given = Object.keys(values).sort().join(", ") || "nothing";
  throw new PromptTemplateError(`the template asks for '${name}', but only ${given} is given`);
}

/** Lists as Python writes those of numbers, and objects as JSON. */
function written(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}
