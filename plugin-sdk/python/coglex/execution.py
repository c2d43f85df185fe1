"""Calls functions of other plugins, which needs a grant: `functions =
["send_invoice"]`. And which call this is, which needs none."""

from __future__ import annotations

import json
from typing import Any, Optional

from .bindings import need
from .errors import calling


_invocation: Optional[str] = None


def invocation_id() -> Optional[str]:
    """The id of the call that is run, 32 hex digits; nothing outside of functions.

    A function that is run as a job may be run again, when its server has ended
    before it was through: then the id is the same. Write under it to do the work
    once."""
    return _invocation


def begin(invocation: Optional[str]) -> None:
    """Notes the call that is run; for `host`."""
    global _invocation
    _invocation = invocation


def call(name: str, args: Optional[list[Any]] = None, kwargs: Optional[dict[str, Any]] = None) -> Any:
    """Calls a function and waits for its value. Its own failure is raised as a
    `Problem`."""
    calls = need("calls", "it takes a server, and a grant of functions in coglex.toml")
    positional, named = json.dumps(args or []), json.dumps(kwargs or {})
    return json.loads(calling(lambda: calls.call(name, positional, named)))
