/**
 * For tests that need a server. `coglex plugin test` runs the files in `tests/`:
 * each test in an instance of its own, with a whole server of its own that has an
 * empty store in memory and a clock that stands still. What a test calls of
 * `coglex` (`storage`, `kv`, `auth` …) acts on that server, as the plugin and with
 * what its `coglex.toml` asks for.
 *
 * ```js
 * import { storage } from "coglex";
 * import { asAnonymous, equal, request, test } from "coglex/testing";
 *
 * test("keeps notes", () => {
 *   equal(request("POST", "/api/notes", { body: { text: "Buy milk" } }).status, 201);
 *   equal(storage.find("notes").length, 1);
 *   asAnonymous();
 *   equal(request("GET", "/api/notes").status, 401);
 * });
 * ```
 */
import type { Document, Id, Json } from "coglex";

/** Adds a test. It is a plain function, not an `async` one, and fails by throwing. */
export function test(name: string, body: () => void): void;

/** Throws unless both are the same as JSON, whatever the order of names. */
export function equal(actual: unknown, expected: unknown, message?: string): void;
/** Throws unless the value is truthy. */
export function ok(value: unknown, message?: string): void;
/** Throws unless `body` does; answers with what it has thrown. */
export function throws(body: () => void, message?: string): unknown;

/** Sets the clock. It goes for `Date`, keys with a time to live, and sessions. */
export function setTime(date: Date): void;
/** Moves the clock on. */
export function advance(seconds: number): void;

/** From here on the test is the holder of the API key, with nobody signed in. So every test begins. */
export function asClient(): void;
/** From here on it is nobody: without the API key, without a session. */
export function asAnonymous(): void;
/**
 * From here on a user of this collection is signed in, and the API key is there as
 * well. The user is made if there is none with this key, with `document` as what
 * else is known of them (`{ roles: ["admin"] }`). Answers with their `_id`.
 */
export function asUser(collection: string, key: string, document?: Document): Id;

/** What the server under test has answered. */
export interface Received {
  status: number;
  headers: [string, string][];
  body: Uint8Array;
  /** The body as text. */
  text(): string;
  /** The body as JSON. */
  json(): any;
}

/**
 * Asks the server under test as a client would: the plugin's routes with their
 * guards, schemas and limits, and the whole HTTP API. A body that is neither text
 * nor bytes is sent as JSON. Who asks is what `asUser` and its like have said; a
 * credential among the headers takes its place.
 */
export function request(
  method: string,
  target: string,
  options?: { headers?: Record<string, string>; body?: unknown },
): Received;
/** Calls a function as a client would; any other answer than 200 is thrown as a `Problem`. */
export function call(name: string, args?: Json[], kwargs?: Document): any;

/** The lines that plugin and test have logged so far, oldest first. */
export function logs(): { level: string; message: string; fields: Record<string, string> }[];

/** Sets what `config` has as a setting: a text as it is, anything else as JSON. */
export function setSetting(name: string, value: unknown): void;
/** Sets what `config` has as a secret. The grant is needed all the same. */
export function setSecret(name: string, value: string): void;
