// Documents, with MongoDB's query language. Documents, filters, updates and
// projections are plain objects in Extended JSON.

import { need } from "./bindings.js";
import { calling } from "./errors.js";
import { toId } from "./id.js";

/** Documents that one round trip to the server brings. */
const BATCH = 256;

export function find(collection, options) {
  return Array.from(each(collection, options));
}

export function* each(collection, { filter = {}, projection, sort, skip = 0, limit } = {}) {
  const cursor = call((documents) =>
    documents.find(collection, {
      filter: JSON.stringify(filter),
      projection: projection === undefined ? null : JSON.stringify(projection),
      sort: sort === undefined ? null : JSON.stringify(sort),
      skip,
      limit: limit ?? null,
    }),
  );
  yield* drain(cursor, Math.min(BATCH, limit ?? BATCH));
}

export function aggregate(collection, pipeline) {
  const stages = pipeline.map((stage) => JSON.stringify(stage));
  return Array.from(drain(call((documents) => documents.aggregate(collection, stages)), BATCH));
}

export function distinct(collection, path, filter = {}) {
  const texts = call((documents) => documents.distinct(collection, path, JSON.stringify(filter)));
  return texts.map((text) => JSON.parse(text));
}

function* drain(cursor, batch) {
  try {
    for (;;) {
      const texts = call(() => cursor.next(batch));
      if (texts.length === 0) return;
      for (const text of texts) yield JSON.parse(text);
    }
  } finally {
    cursor[Symbol.dispose]?.();
  }
}

export function findOne(collection, filter = {}, options = {}) {
  return find(collection, { ...options, filter, limit: 1 })[0] ?? null;
}

export function get(collection, id) {
  const text = call((documents) => documents.get(collection, idJson(id)));
  return text === null || text === undefined ? null : JSON.parse(text);
}

export function count(collection, filter = {}) {
  return Number(call((documents) => documents.count(collection, JSON.stringify(filter))));
}

export function insert(collection, document) {
  return insertMany(collection, [document])[0];
}

export function insertMany(collection, all) {
  const texts = all.map((document) => JSON.stringify(document));
  return call((documents) => documents.insert(collection, texts)).map((id) => JSON.parse(id));
}

export function update(collection, filter, change, { many = false, upsert = false, arrayFilters = [] } = {}) {
  const options = { many, upsert, arrayFilters: arrayFilters.map((each) => JSON.stringify(each)) };
  return updated(
    call((documents) => documents.update(collection, JSON.stringify(filter), JSON.stringify(change), options)),
  );
}

export function replace(collection, filter, document, { upsert = false } = {}) {
  return updated(
    call((documents) => documents.replace(collection, JSON.stringify(filter), JSON.stringify(document), upsert)),
  );
}

function updated({ matched, modified, upsertedId }) {
  const outcome = { matched: Number(matched), modified: Number(modified) };
  return upsertedId ? { ...outcome, upsertedId: JSON.parse(upsertedId) } : outcome;
}

export function updateById(collection, id, change) {
  return update(collection, { _id: toId(id) }, change);
}

export function remove(collection, filter, { many = false } = {}) {
  return Number(call((documents) => documents.delete(collection, JSON.stringify(filter), many)));
}

export function removeById(collection, id) {
  return remove(collection, { _id: toId(id) }) > 0;
}

function idJson(id) {
  return JSON.stringify(toId(id));
}

function call(work) {
  const documents = need("documents", "it takes a server, and a storage grant in coglex.toml");
  return calling(() => work(documents));
}
