// Who is calling. The server has verified what this module says.

import { need } from "./bindings.js";
import { Problem, StorageError } from "./errors.js";

export function user(collection) {
  let found;
  try {
    found = caller().signedIn(collection);
  } catch (error) {
    throw typeof error?.payload === "string" || error?.payload?.tag ? new StorageError("unavailable") : error;
  }
  if (found === null || found === undefined) return null;
  return {
    collection: found.collection,
    id: JSON.parse(found.id),
    key: found.key,
    document: JSON.parse(found.document),
  };
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

function caller() {
  return need("caller", "it takes a server");
}
