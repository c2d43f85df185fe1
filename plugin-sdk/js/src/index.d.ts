/**
 * Write Coglex plugins in JavaScript: gateway apps that answer HTTP requests, and
 * functions that clients call by name.
 *
 * ```js
 * import { app, apiKey, problem, storage } from "coglex";
 *
 * app.get("/api/items/{id}", { guards: [apiKey()] }, (request) => {
 *   const item = storage.get("items", request.param("id"));
 *   if (item === null) throw problem(404, "there is no such item");
 *   return item;
 * });
 * ```
 *
 * The module runs once, when `coglex build` makes the component; each request is
 * then answered by a fresh copy of what it left behind. There is no state to share
 * between requests. Calls of the server return their result; nothing is awaited.
 *
 * Beside the language itself there are `console` (into the server's log),
 * `crypto.getRandomValues`, `crypto.randomUUID`, `TextEncoder` and `TextDecoder`.
 */

/** A JSON value, with MongoDB's Extended JSON where a type needs it: `{ "$oid": "…" }`, `{ "$date": "…" }`. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
/** A document, as objects are. */
export type Document = { [name: string]: any };
/** An `_id`: an ObjectId, a string, or another JSON value. */
export type Id = { $oid: string } | string | Json;

/** A condition that the server checks before the app is even started. */
export type Guard = { tag: "api-key" } | { tag: "authenticated"; val: string } | { tag: "role"; val: { collection: string; name: string } };
/** The request carries the server's API key, else it is answered with 401. */
export function apiKey(): Guard;
/** The caller is signed in as a user of this collection, else the request is answered with 401. */
export function authenticated(collection: string): Guard;

/** The caller is a user of this collection whose document has the name in `roles`; without a session 401, without the role 403. */
export function role(collection: string, name: string): Guard;

/** A type that a value is checked against. */
export type TypeName = "string" | "number" | "integer" | "boolean" | "array" | "object" | "any";
/** A field: its type; and whether it may be left out (or null, which is the same), or what it is then. */
export type Field = TypeName | { type?: TypeName; optional?: boolean; default?: Json };
/** What an object has to look like. A field that is not named here is refused. */
export type Shape = { [name: string]: Field };

type TypeOf<T> = T extends "string" ? string
  : T extends "number" | "integer" ? number
  : T extends "boolean" ? boolean
  : T extends "array" ? any[]
  : T extends "object" ? Document
  : any;
type FieldOf<F> = F extends TypeName ? TypeOf<F>
  : F extends { type: infer T; optional: true } ? TypeOf<T> | undefined
  : F extends { type: infer T } ? TypeOf<T>
  : any;
/** The object that fits a shape. */
export type Shaped<S extends Shape> = { [Name in keyof S]: FieldOf<S[Name]> };

/** What a route declares beside its path. */
export interface RouteOptions {
  /** All must hold; they are checked in order. */
  guards?: Guard[];
  /** The largest body that the route takes, in bytes, below the server's own limit. A larger one is answered with 413. */
  bodyLimit?: number;
  /** What a body may be, e.g. `image/png`, `text/*`; another is answered with 415. */
  mediaTypes?: string[];
  /** How often the route may be asked: more is answered with 429. By default each caller is counted alone. */
  rate?: { requests: number; seconds: number; per?: "caller" | "address" | "everyone" };
  /** What caches may do with good answers to GET: keep them for `maxAge` seconds, and for whom. */
  cache?: { maxAge: number; shared?: boolean };
  /** One sentence for listings. */
  summary?: string;
  /** A JSON Schema of the body; what does not fit is answered with 422 before the app is started. */
  bodySchema?: object;
  /** A JSON Schema of the query, an object with a property for each parameter; likewise. */
  querySchema?: object;
  /** A JSON Schema of the body of good answers, for readers and tools. */
  outputSchema?: object;
}

/**
 * Answers a request with a {@link Response}, a text, a JSON value, or nothing (204).
 * A thrown {@link Problem} is what the client gets to read; any other error is a 500,
 * and its text goes to the log.
 */
export type Handler = (request: Request) => Response | string | Json | Document | void;

/** A table of routes. A path has literal segments, `{name}` for one segment and `{*name}` for the rest. */
export class App {
  /** Answers GET, and HEAD without the body. */
  get(path: string, handler: Handler): this;
  get(path: string, options: RouteOptions, handler: Handler): this;
  post(path: string, handler: Handler): this;
  post(path: string, options: RouteOptions, handler: Handler): this;
  put(path: string, handler: Handler): this;
  put(path: string, options: RouteOptions, handler: Handler): this;
  patch(path: string, handler: Handler): this;
  patch(path: string, options: RouteOptions, handler: Handler): this;
  delete(path: string, handler: Handler): this;
  delete(path: string, options: RouteOptions, handler: Handler): this;
  /** Answers every method that no other route of the same path answers. */
  any(path: string, handler: Handler): this;
  any(path: string, options: RouteOptions, handler: Handler): this;
  /** Answers a request as the server would have it answered, guards apart: for tests in Node. */
  respond(request: Request): Response;
}
/** The component's app. */
export const app: App;

/** An HTTP request whose route and guards the server has already checked. */
export class Request {
  /** A request for tests; a body that is neither text nor bytes is sent as JSON. */
  constructor(method: string, pathAndQuery: string, options?: {
    headers?: Record<string, string> | [string, string][];
    body?: string | Uint8Array | Json | Document;
  });
  /** The method in upper case. */
  readonly method: string;
  /** The percent-encoded path as the client sent it, without the query and without a trailing slash. */
  readonly path: string;
  /** The query without `?`; empty without one. */
  readonly queryString: string;
  /** The pattern of the route that matched, e.g. `/api/items/{id}`. */
  readonly route: string;
  /** The body, whole. */
  readonly body: Uint8Array;
  /** Names (in lower case) and values of the headers, in order. */
  readonly headers: [string, string][];
  /** A header's value, whatever the case of its name; the first when it repeats. */
  header(name: string): string | undefined;
  /** A parameter of the path, percent-decoded. */
  param(name: string): string;
  /** A parameter of the query, decoded; the first when it repeats. */
  query(name: string): string | undefined;
  /** Every value of a parameter of the query. */
  queryAll(name: string): string[];
  /** The body as text. One that is not UTF-8 is answered with 400. */
  text(): string;
  /** The body as JSON. Another content type is answered with 415, a body that does not fit the shape with 400 saying where. */
  json(): any;
  json<S extends Shape>(shape: S): Shaped<S>;
}

/** An HTTP response. */
export class Response {
  constructor(status?: number, body?: string | Uint8Array, headers?: [string, string][]);
  static json(value: Json | Document, status?: number): Response;
  static text(text: string, status?: number): Response;
  static html(html: string, status?: number): Response;
  /** A 204. */
  static noContent(): Response;
  /** A 303: the client goes on with a GET of `location`. */
  static redirect(location: string, status?: number): Response;
  status: number;
  body: Uint8Array;
  headers: [string, string][];
  /** Adds a header; the same name may be added again (`set-cookie`). */
  header(name: string, value: string | number): this;
}

/** What a client is told: a status, a stable code and a sentence. */
export class Problem extends Error {
  constructor(status: number, detail: string, code?: string);
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}
/** A {@link Problem} to throw: `throw problem(404, "there is no such item")`. */
export function problem(status: number, detail: string, code?: string): Problem;
/** A function's own failure, to throw: a stable code in snake_case and a sentence. The client gets 422. */
export function failure(code: string, message: string): Problem;

/** Why the server did not do something. Uncaught, a `conflict` is answered with 409, what passes by itself (`timeout`, `unavailable`, `overloaded`, `contended`, `deadline`) with 503, the others with 500. */
export class ServerError extends Error {
  /** The case of the WIT error, e.g. `access-denied`. */
  readonly kind: string;
}

/** What a function declares beside its name. */
export interface FunctionOptions<S extends Shape = Shape> {
  /** One sentence for listings. */
  summary?: string;
  /** Its parameters in order. Arguments bind by position and by name; one that does not fit is answered with 422 naming it. */
  params?: S;
  /** JSON Schemas of the arguments, by position and by name, which the server checks before each call, and of the result. */
  schema?: { args?: Json | Document; kwargs?: Json | Document; result?: Json | Document };
  /** When it runs by itself, in UTC, once for all servers: `"0 3 * * *"`, or with arguments. */
  schedule?: string | Schedule | (string | Schedule)[];
  /** The writes that it is called before, and may change or refuse. Without `params` it gets a `Write`. Needs the grant `hook`. */
  before?: BeforeHook | BeforeHook[];
  /** The writes after which it is run as a job. */
  after?: AfterHook | AfterHook[];
}
/** A time at which a function runs by itself. */
export interface Schedule {
  /** Minute, hour, day of the month, month, day of the week. */
  cron: string;
  args?: Json[];
  kwargs?: Document;
}
export type Operation = "insert" | "update" | "delete";
/** A kind of write in a collection. */
export interface AfterHook {
  on: Operation | Operation[];
  collection: string;
}
export interface BeforeHook extends AfterHook {
  /** Hooks run by this number, lowest first. */
  order?: number;
  /** What becomes of the write when the function traps, takes too long or cannot run: `"refuse"` unless said. */
  onFailure?: "refuse" | "proceed";
}
/**
 * A write, as a hook is told of it. Before the write a hook may answer with it, changed: its `documents`, `change` or
 * `replacement` are then written instead. One that answers nothing lets it be, one that throws a `Problem` refuses it.
 */
export interface Write {
  moment: "before" | "after";
  operation: "insert" | "update" | "upsert" | "replace" | "delete";
  collection: string;
  caller: { kind: "api_key"; key?: string } | { kind: "user"; users: { collection: string; id: Json }[] } | { kind: "plugin"; plugin: string; users: { collection: string; id: Json }[] };
  depth: number;
  documents?: Document[];
  filter?: Document;
  change?: Document;
  replacement?: Document;
  array_filters?: Document[];
  many?: boolean;
  upsert?: boolean;
  /** After a write. Absent when the server ended before it knew: then it may have happened, or not. */
  outcome?: { ids?: Json[]; matched?: number; modified?: number; upserted_id?: Json; deleted?: number };
}
/** What is known of a call beside its arguments. */
export interface CallContext {
  readonly name: string;
  /** Unique for each call, for logs and idempotency. */
  readonly invocationId: string;
  readonly args: Json[];
  readonly kwargs: Document;
}
/** A table of functions. */
export class Functions {
  /** Adds a function, which gets its arguments as one object. Without `params` it gets `kwargs` as they are. */
  add(name: string, body: (kwargs: Document, call: CallContext) => Json | Document | void): this;
  add<S extends Shape>(name: string, options: FunctionOptions<S>, body: (args: Shaped<S>, call: CallContext) => Json | Document | void): this;
  /** Calls a function as a client would: for tests in Node. */
  call(name: string, args?: Json[], kwargs?: Document, invocationId?: string): any;
}
/** The component's functions. */
export const functions: Functions;

/** The id that a text stands for: 24 hex digits are an ObjectId, other texts themselves. */
export function toId(text: string): Id;
/** An id as a text for people and paths. */
export function idText(id: Id): string;

/** Documents, with MongoDB's query language. The collections are those that coglex.toml asks for and the operator allows. */
export namespace storage {
  interface FindOptions {
    /** MongoDB query filter, e.g. `{ type: "important" }`. */
    filter?: Document;
    /** Fields to include or exclude. */
    projection?: Document;
    /** Sort document, e.g. `{ created: -1 }`. */
    sort?: Document;
    skip?: number;
    limit?: number;
  }
  /** Every match, in a list. */
  function find(collection: string, options?: FindOptions): any[];
  /** The matches one after the other, read in batches. */
  function each(collection: string, options?: FindOptions): Generator<any>;
  /** The first match, or null. */
  function findOne(collection: string, filter?: Document, options?: FindOptions): any | null;
  /** The document with this `_id`, or null. */
  function get(collection: string, id: Id): any | null;
  /** How many documents match. */
  function count(collection: string, filter?: Document): number;
  /** Inserts a document; answers with its `_id`. Durable when it returns, as all writes are. */
  function insert(collection: string, document: Document): Id;
  /** Inserts all or none; answers with their `_id`s in order. */
  function insertMany(collection: string, documents: Document[]): Id[];
  /** What a pipeline of stages makes of a collection, in a list. */
  function aggregate(collection: string, pipeline: Document[]): any[];
  /** The different values at a path of the documents that match; of an array its elements. */
  function distinct(collection: string, path: string, filter?: Document): any[];
  /**
   * Applies a MongoDB update to the first match, or to every match with `many`.
   * `arrayFilters` say which elements `$[name]` in a path means.
   */
  function update(collection: string, filter: Document, change: Document, options?: { many?: boolean; upsert?: boolean; arrayFilters?: Document[] }): { matched: number; modified: number; upsertedId?: Id };
  /** Puts a document in the place of the first match, whose `_id` it keeps. */
  function replace(collection: string, filter: Document, document: Document, options?: { upsert?: boolean }): { matched: number; modified: number; upsertedId?: Id };
  /** Applies a MongoDB update to the document with this `_id`. */
  function updateById(collection: string, id: Id, change: Document): { matched: number; modified: number };
  /** Deletes the first match, or every match with `many`; answers how many. */
  function remove(collection: string, filter: Document, options?: { many?: boolean }): number;
  /** Deletes the document with this `_id`; tells whether there was one. */
  function removeById(collection: string, id: Id): boolean;
}

/** Who is calling. The server has verified it. */
export namespace auth {
  /** A signed-in user; `document` is what the account holds, without its password. */
  interface User {
    collection: string;
    id: Id;
    key: string;
    document: Document;
  }
  /** The signed-in user of a collection, or null. Free behind a guard with the same collection. */
  function user(collection: string): User | null;
  /** The signed-in user of a collection; without one the request is answered with 401. */
  function require(collection: string): User;
  /** The user with this `_key`, or null. This and what follows needs a grant: `auth = [{ collection = "users", verbs = ["lookup", "signup", "verify"] }]`. */
  function lookUp(collection: string, key: string): User | null;
  /** The user with this `_id`, or null. */
  function lookUpById(collection: string, id: Id): User | null;
  /** Makes a user; answers with its `_id`. */
  function signUp(collection: string, key: string, password: string, document?: Document): Id;
  /** The user with this `_key` if the password is right, else null. It opens no session. */
  function verify(collection: string, key: string, password: string): User | null;
  /** Whether the request carried a valid API key. */
  function hasApiKey(): boolean;
  /** The id of the request, as in the `X-Request-Id` header and the server's log. */
  function requestId(): string;
}

/** Settings that the operator gives to this plugin, in `[plugins.settings.<name>]`. */
export namespace config {
  /** A setting as text, or undefined when the operator has not set it. */
  function get(name: string): string | undefined;
  /** A setting that is a number, a boolean, a list or a table. */
  function getJson(name: string): any;
  /** A secret, or undefined when the operator has not set it. Needs a grant: `secrets = ["stripe_key"]`. */
  function secret(name: string): string | undefined;
  /** A setting that this plugin cannot do without. */
  function require(name: string): string;
}

/** Calls functions of other plugins. Needs a grant: `functions = ["send_invoice"]`. */
export namespace execution {
  /** Calls a function and waits for its value. Its own failure is thrown as a {@link Problem}. */
  function call(name: string, args?: Json[], kwargs?: Document): any;
}

/** Has functions run later, as jobs: kept by the server, run at least once. Needs a grant: `functions = ["send_invoice"]`. */
export namespace jobs {
  interface Options {
    /** Not before this time: a Date, or milliseconds since 1970. */
    at?: Date | number;
    /** How often it is tried, from 1 to 100; otherwise what the operator says. */
    maxAttempts?: number;
    /** 1 to 256 bytes. While the server keeps a job of this plugin's with the same function and key, it is the same job. */
    key?: string;
  }
  interface Job {
    /** 32 hex digits; the invocation id of every attempt. */
    id: string;
    function: string;
    state: "waiting" | "running" | "succeeded" | "failed" | "dead" | "cancelled";
    /** Attempts that were begun. */
    attempts: number;
    /** What the function has answered, where it has and the server keeps it. */
    result?: any;
    /** Why the last attempt came to nothing. */
    failure: { code: string; message: string } | null;
  }
  /** Takes a job in; answers with its id. It runs for nobody: not for the client that is served now. */
  function enqueue(name: string, args?: Json[], kwargs?: Document, options?: Options): string;
  /** A job that this plugin has enqueued, or null. */
  function get(id: string): Job | null;
  /** Cancels a job that this plugin has enqueued. */
  function cancel(id: string): void;
}

/** Mail, through the server's SMTP account. Needs a grant of whom to write to: `mail = ["@example.org"]`. */
export namespace mail {
  interface Options {
    /** Who gets the answers. */
    replyTo?: string;
    /** 1 to 256 bytes. A letter of this plugin's with the same key is sent once within a day. */
    key?: string;
  }
  /** Sends a letter to one address; answers with its id in the server's outbox. */
  function send(to: string, subject: string, text: string, options?: Options & { html?: string }): string;
  /** Sends what a template of the operator's makes of these values. */
  function sendTemplate(to: string, template: string, values?: Document, options?: Options): string;
}

/** Payments through the server's account at Stripe. Needs a grant: `payment = ["checkout", "entitlements"]`. */
export namespace payment {
  /** Makes a Checkout session; answers with Stripe's, whose `url` is where the customer pays. The order is the body of `POST /service/payment/v1/checkout/`; the same key with the same order gives the same session. */
  function checkout(order: Document, options?: { key?: string }): Document;
  /** A Checkout session as it is at Stripe now. */
  function session(id: string): Document;
  /** What somebody (an email address, or a customer's id) has paid for. */
  function entitlements(who: string): Document;
  /** Whether somebody has paid for it: a price, product or lookup key, or what a payment's metadata names under `entitlement`. */
  function isEntitled(who: string, what: string): boolean;
}

/** A key-value store of this plugin's own, durable and with a time to live, in seconds. Needs a grant: `kv = true`. */
export namespace kv {
  interface Ttl {
    /** For how many seconds; for good without. */
    ttl?: number;
  }
  /** The value of a key as text, or null. */
  function get(key: string): string | null;
  /** The value of a key, or null. */
  function getBytes(key: string): Uint8Array | null;
  function set(key: string, value: string | Uint8Array, options?: Ttl): void;
  /** Removes a key; tells whether it was there. */
  function remove(key: string): boolean;
  /** Adds to a counter, atomically; answers with the sum. Its time to live is that of its first call. */
  function increment(key: string, by?: number, options?: Ttl): number;
  /** Sets a key if it holds what is expected (null: if it is not there), atomically; tells whether it did. */
  function compareAndSet(key: string, expected: string | Uint8Array | null, value: string | Uint8Array, options?: Ttl): boolean;
  /** Keys that begin with a prefix, in order, after `after`; at most 1,000 at once. */
  function keys(prefix?: string, options?: { after?: string; limit?: number }): string[];
}

/** The server's structured log: lines with the plugin's name and the request id. */
export namespace log {
  function trace(message: string, fields?: Record<string, unknown>): void;
  function debug(message: string, fields?: Record<string, unknown>): void;
  function info(message: string, fields?: Record<string, unknown>): void;
  function warn(message: string, fields?: Record<string, unknown>): void;
  function error(message: string, fields?: Record<string, unknown>): void;
}
