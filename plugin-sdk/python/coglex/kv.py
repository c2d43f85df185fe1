"""A key-value store of this plugin's own, durable and with a time to live in
seconds. Needs a grant: `kv = true`."""

from __future__ import annotations

import math
from typing import Any, Optional

from .bindings import need
from .errors import calling


def get(key: str) -> Optional[bytes]:
    """The value of a key, or None."""
    value = calling(lambda: _store().get(key))
    return None if value is None else bytes(value)


def set(key: str, value: bytes | str, *, ttl: Optional[float] = None) -> None:
    """Sets a key, for `ttl` seconds or for good."""
    calling(lambda: _store().set(key, _bytes(value), _millis(ttl)))


def delete(key: str) -> bool:
    """Removes a key; tells whether it was there."""
    return calling(lambda: _store().delete(key))


def increment(key: str, by: int = 1, *, ttl: Optional[float] = None) -> int:
    """Adds to a counter, atomically; answers with the sum. Its time to live is
    that of its first call."""
    return calling(lambda: _store().increment(key, by, _millis(ttl)))


def compare_and_set(key: str, expected: bytes | str | None, value: bytes | str, *, ttl: Optional[float] = None) -> bool:
    """Sets a key if it holds what is expected (None: if it is not there),
    atomically; tells whether it did."""
    before = None if expected is None else _bytes(expected)
    return calling(lambda: _store().compare_and_set(key, before, _bytes(value), _millis(ttl)))


def keys(prefix: str = "", *, after: Optional[str] = None, limit: int = 1000) -> list[str]:
    """Keys that begin with a prefix, in order, after `after`; at most 1,000 at
    once."""
    return calling(lambda: _store().keys(prefix, after, limit))


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _millis(ttl: Optional[float]) -> Optional[int]:
    return None if ttl is None else math.ceil(ttl * 1000)


def _store() -> Any:
    return need("store", "it takes a server, and `kv = true` among the grants in coglex.toml")
