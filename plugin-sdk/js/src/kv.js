// Keys and values that outlive a call, with a time to live.

import { need } from "./bindings.js";
import { calling } from "./errors.js";
import { decodeUtf8, encodeUtf8 } from "./utf8.js";

export function get(key) {
  const bytes = getBytes(key);
  return bytes === null ? null : decodeUtf8(bytes);
}

export function getBytes(key) {
  const bytes = call((store) => store.get(key));
  return bytes === null || bytes === undefined ? null : Uint8Array.from(bytes);
}

export function set(key, value, { ttl } = {}) {
  call((store) => store.set(key, toBytes(value), toMillis(ttl)));
}

export function remove(key) {
  return call((store) => store.delete(key));
}

export function increment(key, by = 1, { ttl } = {}) {
  return Number(call((store) => store.increment(key, by, toMillis(ttl))));
}

export function compareAndSet(key, expected, value, { ttl } = {}) {
  const before = expected === null ? null : toBytes(expected);
  return call((store) => store.compareAndSet(key, before, toBytes(value), toMillis(ttl)));
}

export function keys(prefix = "", { after, limit = 1000 } = {}) {
  return call((store) => store.keys(prefix, after ?? null, limit));
}

function toBytes(value) {
  return typeof value === "string" ? encodeUtf8(value) : value;
}

/** Seconds to the milliseconds that the server counts in. */
function toMillis(ttl) {
  return ttl === undefined ? null : Math.ceil(ttl * 1000);
}

function call(work) {
  const store = need("store", "it takes a server, and `kv = true` among the grants in coglex.toml");
  return calling(() => work(store));
}
