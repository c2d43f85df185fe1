"""Who is calling. The server has verified what this module says; no header that
a client sends can forge it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from .bindings import need
from .errors import Problem, StorageError


@dataclass
class User:
    """A signed-in user."""

    collection: str
    id: Any
    key: str
    document: dict[str, Any] = field(repr=False)
    """What the account holds, without its password."""


def user(collection: str) -> Optional[User]:
    """The signed-in user of a collection, or None. Free behind a guard with the
    same collection."""
    try:
        found = _caller().signed_in(collection)
    except Exception as error:
        if type(getattr(error, "value", None)).__name__ == "Error_Unavailable":
            raise StorageError("unavailable") from None
        raise
    if found is None:
        return None
    return User(found.collection, json.loads(found.id), found.key, json.loads(found.document))


def require(collection: str) -> User:
    """The signed-in user of a collection; without one the request is answered
    with 401."""
    found = user(collection)
    if found is None:
        raise Problem(401, "sign in first")
    return found


def has_api_key() -> bool:
    """Whether the request carried a valid API key."""
    return _caller().has_api_key()


def request_id() -> str:
    """The id of the request, as in the `X-Request-Id` header and the server's log."""
    return _caller().request_id()


def _caller() -> Any:
    return need("caller", "it takes a server")
