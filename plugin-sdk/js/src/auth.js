// Who is calling. The server has verified what this module says.

import { need } from "./bindings.js";
import { toId } from "./id.js";
import { Problem, calling } from "./errors.js";

export function user(collection) {
  return read(calling(() => caller().signedIn(collection)));
}

export function require(collection) {
  const found = user(collection);
  if (found === null) throw new Problem(401, "sign in first");
  return found;
}

export function hasApiKey() {
  return caller().hasApiKey();
}

export function requestId() {
  return caller().requestId();
}

export function lookUp(collection, key) {
  return read(calling(() => accounts().lookup(collection, key)));
}

export function lookUpById(collection, id) {
  return read(calling(() => accounts().lookupById(collection, JSON.stringify(toId(id)))));
}

export function signUp(collection, key, password, document = {}) {
  return JSON.parse(calling(() => accounts().signUp(collection, key, password, JSON.stringify(document))));
}

export function verify(collection, key, password) {
  return read(calling(() => accounts().verify(collection, key, password)));
}

/** A user as the server gives it, with its JSON read. */
function read(found) {
  if (found === null || found === undefined) return null;
  return {
    collection: found.collection,
    id: JSON.parse(found.id),
    key: found.key,
    document: JSON.parse(found.document),
  };
}

function accounts() {
  return need("accounts", "it takes a server, and an auth grant in coglex.toml");
}

function caller() {
  return need("caller", "it takes a server");
}
