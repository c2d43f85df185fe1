// Checks JSON against a shape: `{ title: "string", done: { type: "boolean",
// default: false } }`. For bodies of requests and arguments of functions.

import { clip } from "./errors.js";

const CHECKS = {
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isSafeInteger(value),
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  any: () => true,
};

/** The shape's fields, each as `{ name, type, optional, hasDefault, fallback }`. */
export function fieldsOf(shape) {
  return Object.entries(shape).map(([name, rule]) => {
    const { type = "any", optional = false, ...rest } = typeof rule === "string" ? { type: rule } : rule;
    if (!Object.hasOwn(CHECKS, type)) {
      throw new TypeError(`\`${name}\` has the unknown type ${type}; there are ${Object.keys(CHECKS).join(", ")}`);
    }
    return { name, type, optional, hasDefault: Object.hasOwn(rest, "default"), fallback: rest.default };
  });
}

/** Whether a value has a field's type. What is optional may be null. */
export function fits(field, value) {
  return (value === null && field.optional) || CHECKS[field.type](value);
}

/** A value's type, for messages. */
export function typeOf(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** The object with defaults filled in; `wrong(sentence)` makes the error. */
export function checked(shape, value, wrong) {
  if (!CHECKS.object(value)) throw wrong(`expected an object, not ${typeOf(value)}`);
  const rest = new Map(Object.entries(value));
  const result = {};
  for (const field of fieldsOf(shape)) {
    if (rest.has(field.name)) {
      const given = rest.get(field.name);
      if (!fits(field, given)) {
        throw wrong(`the field \`${field.name}\` is of type ${typeOf(given)}, expected ${field.type}`);
      }
      rest.delete(field.name);
      // null says the same as nothing.
      if (given !== null || !field.optional) result[field.name] = given;
    } else if (field.hasDefault) {
      result[field.name] = field.fallback;
    } else if (!field.optional) {
      throw wrong(`the field \`${field.name}\` is missing`);
    }
  }
  for (const name of rest.keys()) throw wrong(clip(`there is no field \`${name}\``));
  return result;
}
