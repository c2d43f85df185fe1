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
    const fields = options.params === undefined ? undefined : fieldsOf(options.params);
    this.#functions.set(name, { summary: options.summary, fields, body });
    return this;
  }

  /** Calls a function as a client would; answers with its value. */
  call(name, args = [], kwargs = {}, invocationId = "") {
    const found = this.#functions.get(name);
    if (found === undefined) throw new Problem(404, "there is no such function");
    const context = { name, invocationId, args, kwargs };
    const value = found.body(found.fields === undefined ? kwargs : bindArguments(found.fields, args, kwargs), context);
    if (typeof value?.then === "function") {
      throw new TypeError("a function returned a promise; the server's functions do not wait, so it need not be async");
    }
    return value ?? null;
  }

  /** What the component exports as `describe`. */
  describe() {
    return Array.from(this.#functions, ([name, { summary }]) => ({ name, summary: summary ?? null }));
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
