// Functions that clients call by name.

import { Problem, ServerError, clip, shown, toProblem } from "./errors.js";
import * as log from "./log.js";
import { fieldsOf, fits, typeOf } from "./shape.js";

export class Functions {
  #functions = new Map();

  add(name, ...rest) {
    const [options, body] = rest.length > 1 ? rest : [{}, rest[0]];
    if (typeof body !== "function") throw new TypeError(`the function ${name} has no body`);
    if (this.#functions.has(name)) throw new TypeError(`there are two functions ${name}`);
    const declaration = declarationOf(name, options);
    // A hook is called with one argument, the write.
    const params = options.params ?? (declaration?.hooks.length > 0 ? { write: "object" } : undefined);
    const fields = params === undefined ? undefined : fieldsOf(params);
    const only = options.params === undefined && params !== undefined ? "write" : undefined;
    this.#functions.set(name, { summary: options.summary, fields, only, body, declaration });
    return this;
  }

  /** Calls a function as a client would; answers with its value. */
  call(name, args = [], kwargs = {}, invocationId = "") {
    const found = this.#functions.get(name);
    if (found === undefined) throw new Problem(404, "there is no such function");
    const context = { name, invocationId, args, kwargs };
    let bound = found.fields === undefined ? kwargs : bindArguments(found.fields, args, kwargs);
    if (found.only !== undefined) bound = bound[found.only];
    const value = found.body(bound, context);
    if (typeof value?.then === "function") {
      throw new TypeError("a function returned a promise; the server's functions do not wait, so it need not be async");
    }
    return value ?? null;
  }

  /** What the component exports as `describe`. */
  describe() {
    return Array.from(this.#functions, ([name, { summary }]) => ({ name, summary: summary ?? null }));
  }

  /** What the component exports as `declare`. */
  declare() {
    return Array.from(this.#functions.values(), ({ declaration }) => declaration).filter((one) => one !== undefined);
  }

  /** What the component exports as `run`: a JSON text, or a thrown WIT error. */
  run(call) {
    let text;
    try {
      text = JSON.stringify(this.call(call.name, JSON.parse(call.args), JSON.parse(call.kwargs), call.invocationId));
    } catch (error) {
      throw witError(error);
    }
    return text;
  }
}

function witError(error) {
  const { problem } = toProblem(error);
  if (problem.status === 503) {
    log.error("a function failed", { error: shown(error) });
    return { tag: "unavailable" };
  }
  // The host logs the text.
  if (problem.status >= 500) return { tag: "internal", val: shown(error) };
  const message = error instanceof ServerError ? problem.detail : error.message;
  return { tag: "failure", val: { code: problem.code, message } };
}

/** What the server should know of a function beside its name; undefined if nothing. */
function declarationOf(name, { schema = {}, schedule, before, after }) {
  const text = (value) => (value === undefined ? null : JSON.stringify(value));
  const list = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
  const schedules = list(schedule).map((one) => {
    const { cron, args, kwargs } = typeof one === "string" ? { cron: one } : one;
    return { cron, args: text(args), kwargs: text(kwargs) };
  });
  const hooks = [["before", before], ["after", after]].flatMap(([moment, wanted]) =>
    list(wanted).flatMap(({ on, collection, order = 0, onFailure = "refuse" }) =>
      list(on).map((operation) => {
        if (!["insert", "update", "delete"].includes(operation)) {
          throw new TypeError(`the function ${name} has a hook on ${operation}, which is no insert, update or delete`);
        }
        if (!["refuse", "proceed"].includes(onFailure)) {
          throw new TypeError(`the function ${name} has a hook with onFailure ${onFailure}, which is neither "refuse" nor "proceed"`);
        }
        return { moment, operation, collection, order, onFailure };
      })));
  const schemas = { argsSchema: text(schema.args), kwargsSchema: text(schema.kwargs), resultSchema: text(schema.result) };
  const nothing = schedules.length === 0 && hooks.length === 0 && Object.values(schemas).every((one) => one === null);
  return nothing ? undefined : { name, ...schemas, schedules, hooks };
}

/** One object of arguments: by position in the order of the parameters, or by name. */
function bindArguments(fields, args, kwargs) {
  const wrong = (message) => new Problem(422, clip(message), "invalid_argument");
  if (args.length > fields.length) {
    throw wrong(`there are ${args.length} positional arguments where at most ${fields.length} fit`);
  }
  const named = new Map(Object.entries(kwargs));
  const bound = {};
  fields.forEach((field, position) => {
    const byName = named.has(field.name);
    const byPosition = position < args.length;
    if (byName && byPosition) throw wrong(`the argument \`${field.name}\` is given twice, by position and by name`);
    if (!byName && !byPosition) {
      if (field.hasDefault) bound[field.name] = field.fallback;
      else if (!field.optional) throw wrong(`the argument \`${field.name}\` is missing`);
      return;
    }
    const value = byPosition ? args[position] : named.get(field.name);
    named.delete(field.name);
    if (!fits(field, value)) {
      throw wrong(`the argument \`${field.name}\` is of type ${typeOf(value)}, expected ${field.type}`);
    }
    // null says the same as nothing.
    if (value !== null || !field.optional) bound[field.name] = value;
  });
  for (const name of named.keys()) throw wrong(`there is no parameter \`${name}\``);
  return bound;
}

/** The component's functions. */
export const functions = new Functions();
