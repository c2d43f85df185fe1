// For tests that need a server: `coglex plugin test` runs the files in tests/,
// each test in an instance of its own with a whole server of its own. Types and
// documentation are in testing.d.ts.

import { need } from "./bindings.js";
import { Problem, shown } from "./errors.js";
import { Request } from "./request.js";
import { Response } from "./response.js";
import { decodeUtf8 } from "./utf8.js";

const tests = new Map();

export function test(name, body) {
  if (tests.has(name)) throw new Error(`there are two tests named ${name}`);
  tests.set(name, body);
}

/** What the component with the tests exports; for the generated entry. */
export const exportedSuite = {
  list: () => [...tests.keys()],
  run(name) {
    try {
      const body = tests.get(name);
      if (body === undefined) throw new Error(`there is no test named ${name}`);
      const ended = body();
      if (ended instanceof Promise) throw new Error("a test is a plain function, not an async one");
    } catch (error) {
      // As the interface has it: a text.
      throw shown(error);
    }
  },
};

export function equal(actual, expected, message = "these are not equal") {
  const [left, right] = [plain(actual), plain(expected)];
  if (left !== right) throw new Error(`${message}\n  actual:   ${left}\n  expected: ${right}`);
}

export function ok(value, message = "this is not true") {
  if (!value) throw new Error(`${message}: ${plain(value)}`);
}

export function throws(body, message = "this throws nothing") {
  try {
    body();
  } catch (error) {
    return error;
  }
  throw new Error(message);
}

/** A value as text that is the same for the same value, whatever the order of names. */
function plain(value) {
  const sorted = (_, inner) => {
    if (inner instanceof Uint8Array) return { bytes: [...inner] };
    if (inner === null || typeof inner !== "object" || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  };
  return JSON.stringify(value, sorted) ?? String(value);
}

export function setTime(date) {
  host().setTime(date.getTime());
}

export function advance(seconds) {
  host().advance(Math.ceil(seconds * 1000));
}

export function asClient() {
  host().asClient();
}

export function asAnonymous() {
  host().asAnonymous();
}

export function asUser(collection, key, document = {}) {
  return JSON.parse(host().asUser(collection, key, JSON.stringify(document)));
}

export function request(method, target, options = {}) {
  const { headers, body } = new Request(method, target, options);
  return received(host().send({ method, target, headers, body }));
}

export function call(name, args = [], kwargs = {}) {
  const answer = request("POST", `/service/execution/v1/execute/${name}/`, { body: { args, kwargs } });
  if (answer.status === 200) return answer.json();
  const { code, detail } = answer.json();
  throw new Problem(answer.status, detail, code);
}

export function logs() {
  return host()
    .logs()
    .map(({ level, message, fields }) => ({ level, message, fields: Object.fromEntries(fields) }));
}

export function setSetting(name, value) {
  host().setSetting(name, typeof value === "string" ? value : JSON.stringify(value));
}

export function setSecret(name, value) {
  host().setSecret(name, value);
}

/** A response with what a client would do with it. */
class Received extends Response {
  text() {
    return decodeUtf8(this.body);
  }

  json() {
    return JSON.parse(this.text());
  }
}

function received({ status, headers, body }) {
  // The static `text` and `json` of responses make ones, these read one.
  return new Received(status, Uint8Array.from(body), headers);
}

function host() {
  return need("testing", "`coglex plugin test` has it, for the files in tests/");
}
