"""Documents, with MongoDB's query language. The collections are those that
coglex.toml asks for and the operator allows.

Documents, filters, updates and projections are plain dicts in Extended JSON: an
ObjectId is `{"$oid": "…"}`, a date `{"$date": "…"}`. Whatever has been written
is durable when the call returns."""

from __future__ import annotations

import json
from typing import Any, Iterator, Optional

from .bindings import need
from .errors import calling
from .ids import to_id

Document = dict[str, Any]

_BATCH = 256
"""Documents that one round trip to the server brings."""

def find(
    collection: str,
    filter: Optional[Document] = None,
    *,
    projection: Optional[Document] = None,
    sort: Optional[Document] = None,
    skip: int = 0,
    limit: Optional[int] = None,
) -> list[Document]:
    """Every match, in a list."""
    return list(each(collection, filter, projection=projection, sort=sort, skip=skip, limit=limit))


def each(
    collection: str,
    filter: Optional[Document] = None,
    *,
    projection: Optional[Document] = None,
    sort: Optional[Document] = None,
    skip: int = 0,
    limit: Optional[int] = None,
) -> Iterator[Document]:
    """The matches one after the other, read in batches."""
    documents = _documents()
    options = documents.FindOptions(
        filter=_json(filter or {}),
        projection=None if projection is None else _json(projection),
        sort=None if sort is None else _json(sort),
        skip=skip,
        limit=limit,
    )
    batch = _BATCH if limit is None else min(_BATCH, limit)
    yield from _drain(calling(lambda: documents.find(collection, options)), batch)


def aggregate(collection: str, pipeline: list[Document]) -> list[Document]:
    """What a pipeline of stages makes of a collection, in a list."""
    documents = _documents()
    stages = [_json(stage) for stage in pipeline]
    return list(_drain(calling(lambda: documents.aggregate(collection, stages)), _BATCH))


def distinct(collection: str, path: str, filter: Optional[Document] = None) -> list[Any]:
    """The different values at a path of the documents that match; of an array its elements."""
    documents = _documents()
    return [json.loads(text) for text in calling(lambda: documents.distinct(collection, path, _json(filter or {})))]


def _drain(cursor: Any, batch: int) -> Iterator[Document]:
    with cursor:
        while texts := calling(lambda: cursor.next(batch)):
            for text in texts:
                yield json.loads(text)


def find_one(collection: str, filter: Optional[Document] = None, **options: Any) -> Optional[Document]:
    """The first match, or None. Options as of `find`."""
    return next(iter(find(collection, filter, limit=1, **options)), None)


def get(collection: str, id: Any) -> Optional[Document]:
    """The document with this `_id`, or None."""
    documents = _documents()
    text = calling(lambda: documents.get(collection, _json(to_id(id))))
    return None if text is None else json.loads(text)


def count(collection: str, filter: Optional[Document] = None) -> int:
    """How many documents match."""
    documents = _documents()
    return calling(lambda: documents.count(collection, _json(filter or {})))


def insert(collection: str, document: Document) -> Any:
    """Inserts a document; answers with its `_id`."""
    return insert_many(collection, [document])[0]


def insert_many(collection: str, all: list[Document]) -> list[Any]:
    """Inserts all or none; answers with their `_id`s in order."""
    documents = _documents()
    texts = [_json(document) for document in all]
    return [json.loads(id) for id in calling(lambda: documents.insert(collection, texts))]


class Updated:
    """How many documents an update met."""

    def __init__(self, matched: int, modified: int, upserted_id: Any = None) -> None:
        self.matched = matched
        self.modified = modified
        self.upserted_id = upserted_id


def update(
    collection: str,
    filter: Document,
    change: Document,
    *,
    many: bool = False,
    upsert: bool = False,
    array_filters: Optional[list[Document]] = None,
) -> Updated:
    """Applies a MongoDB update to the first match, or to every match with `many`.

    `array_filters` say which elements `$[name]` in a path means.
    """
    documents = _documents()
    texts = [_json(each) for each in array_filters or []]
    options = documents.UpdateOptions(many=many, upsert=upsert, array_filters=texts)
    return _updated(calling(lambda: documents.update(collection, _json(filter), _json(change), options)))


def replace(collection: str, filter: Document, document: Document, *, upsert: bool = False) -> Updated:
    """Puts a document in the place of the first match, whose `_id` it keeps."""
    documents = _documents()
    return _updated(calling(lambda: documents.replace(collection, _json(filter), _json(document), upsert)))


def _updated(outcome: Any) -> Updated:
    upserted = None if outcome.upserted_id is None else json.loads(outcome.upserted_id)
    return Updated(outcome.matched, outcome.modified, upserted)


def update_by_id(collection: str, id: Any, change: Document) -> Updated:
    """Applies a MongoDB update to the document with this `_id`."""
    return update(collection, {"_id": to_id(id)}, change)


def delete(collection: str, filter: Document, *, many: bool = False) -> int:
    """Deletes the first match, or every match with `many`; answers how many."""
    documents = _documents()
    return calling(lambda: documents.delete(collection, _json(filter), many))


def delete_by_id(collection: str, id: Any) -> bool:
    """Deletes the document with this `_id`; tells whether there was one."""
    return delete(collection, {"_id": to_id(id)}) > 0


def _documents() -> Any:
    return need("documents", "it takes a server, and a storage grant in coglex.toml")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
