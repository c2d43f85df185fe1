"""Paths and patterns. The server does the matching in production; this is what
is left of it here, for `App.respond`."""

from typing import Optional


def without_slash(path: str) -> str:
    """Routes match with and without a trailing slash, and are compared without."""
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def capture(pattern: str, path: str) -> Optional[dict[str, str]]:
    """The values of the pattern's parameters, or None when it does not match."""
    params = {}
    rest = path.split("/")
    for want in pattern.split("/"):
        if want.startswith("{*"):
            tail = "/".join(rest)
            return {**params, want[2:-1]: tail} if tail else None
        if not rest:
            return None
        segment = rest.pop(0)
        if want.startswith("{"):
            if not segment:
                return None
            params[want[1:-1]] = segment
        elif segment != want:
            return None
    return None if rest else params


def vagueness(pattern: str) -> list[int]:
    """Sorts patterns as the server prefers them: a literal segment before a
    parameter, that before the rest."""
    return [2 if part.startswith("{*") else 1 if part.startswith("{") else 0 for part in pattern.split("/")]
