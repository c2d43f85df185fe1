"""Who is calling. The server has verified what this module says; no header that
a client sends can forge it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from .bindings import need
from .errors import Problem, calling
from .ids import to_id


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
    return _read(calling(lambda: _caller().signed_in(collection)))


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


def look_up(collection: str, key: str) -> Optional[User]:
    """The user with this `_key`, or None. This and what follows needs a grant:
    `auth = [{ collection = "users", verbs = ["lookup", "signup", "verify"] }]`."""
    return _read(calling(lambda: _accounts().lookup(collection, key)))


def look_up_by_id(collection: str, id: Any) -> Optional[User]:
    """The user with this `_id`, or None."""
    return _read(calling(lambda: _accounts().lookup_by_id(collection, json.dumps(to_id(id)))))


def sign_up(collection: str, key: str, password: str, document: Optional[dict[str, Any]] = None) -> Any:
    """Makes a user; answers with its `_id`."""
    text = json.dumps(document or {})
    return json.loads(calling(lambda: _accounts().sign_up(collection, key, password, text)))


def verify(collection: str, key: str, password: str) -> Optional[User]:
    """The user with this `_key` if the password is right, else None. It opens no
    session."""
    return _read(calling(lambda: _accounts().verify(collection, key, password)))


def _read(found: Any) -> Optional[User]:
    """A user as the server gives it, with its JSON read."""
    if found is None:
        return None
    return User(found.collection, json.loads(found.id), found.key, json.loads(found.document))


def _accounts() -> Any:
    return need("accounts", "it takes a server, and an auth grant in coglex.toml")


def _caller() -> Any:
    return need("caller", "it takes a server")
