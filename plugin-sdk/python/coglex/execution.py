"""Calls functions of other plugins. Needs a grant: `functions = ["send_invoice"]`."""

from __future__ import annotations

import json
from typing import Any, Optional

from .bindings import need
from .errors import calling


def call(name: str, args: Optional[list[Any]] = None, kwargs: Optional[dict[str, Any]] = None) -> Any:
    """Calls a function and waits for its value. Its own failure is raised as a
    `Problem`."""
    calls = need("calls", "it takes a server, and a grant of functions in coglex.toml")
    positional, named = json.dumps(args or []), json.dumps(kwargs or {})
    return json.loads(calling(lambda: calls.call(name, positional, named)))
