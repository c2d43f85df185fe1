"""Errors, and what of them a client gets to know.

The same table as the Rust SDK's: a Problem is written for the client, a conflict
is 409, a store that is away 503, and everything else is ours to fix: 500, and
its text in the log."""

from __future__ import annotations

import re
import traceback
from typing import Any, Callable, Optional

_NAMES = {
    400: ("Bad Request", "bad_request"),
    401: ("Unauthorized", "unauthorized"),
    403: ("Forbidden", "forbidden"),
    404: ("Not Found", "not_found"),
    405: ("Method Not Allowed", "method_not_allowed"),
    409: ("Conflict", "conflict"),
    410: ("Gone", "gone"),
    413: ("Content Too Large", "payload_too_large"),
    415: ("Unsupported Media Type", "unsupported_media_type"),
    422: ("Unprocessable Content", "unprocessable"),
    429: ("Too Many Requests", "too_many_requests"),
    500: ("Internal Server Error", "internal_error"),
    503: ("Service Unavailable", "unavailable"),
}


def names(status: int) -> tuple[str, str]:
    """The title and the usual code of a status."""
    other = ("Client Error", "client_error") if status < 500 else ("Server Error", "server_error")
    return _NAMES.get(status, other)


class Problem(Exception):
    """What a client is told: a status, a stable code and a sentence."""

    def __init__(self, status: int, detail: str, code: Optional[str] = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code if code is not None else names(status)[1]


def failure(code: str, message: str) -> Problem:
    """A function's own failure, to raise: a stable code in snake_case and a
    sentence. The client gets 422."""
    return Problem(422, message, code)


class ServerError(Exception):
    """Why the server did not do something. `kind` is the case of the WIT error,
    e.g. `access-denied`. Uncaught, a `conflict` is answered with 409, what passes
    by itself (`timeout`, `unavailable`, `overloaded`, `contended`, `deadline`)
    with 503, the others with 500."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


_AWAY = {"timeout", "unavailable", "overloaded", "contended", "deadline"}
"""Kinds of errors that pass by themselves."""


def calling(work: Callable[[], Any]) -> Any:
    """Calls the server. Its errors are raised as `componentize_py_types.Err`
    around a variant's case: an instance of a generated class, whose name says
    which, e.g. `Error_AccessDenied`."""
    try:
        return work()
    except Exception as error:
        case = getattr(error, "value", None)
        variant, _, name = type(case).__name__.partition("_")
        if variant != "Error" or not name:
            raise
        value = getattr(case, "value", None)
        if name in ("Failure", "Refused"):
            # What a function, or a bank, says of itself is for whoever called it.
            raise Problem(422, value.message, value.code) from None
        kind = re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()
        raise ServerError(kind, value if isinstance(value, str) else "") from None


def to_problem(error: BaseException) -> tuple[Problem, bool]:
    """What a client may know of an error, and whether it belongs in the log."""
    if isinstance(error, Problem):
        return error, False
    if isinstance(error, ServerError):
        if error.kind == "conflict":
            return Problem(409, "It exists already."), False
        if error.kind in _AWAY:
            return Problem(503, "The service is unavailable, try again later."), True
    return Problem(500, "The app failed to answer."), True


def shown(error: BaseException) -> str:
    """An error as the log shows it: with its causes, and where they came from."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def clip(text: str) -> str:
    """Cuts a text that may repeat what a client sent."""
    return text if len(text) <= 300 else text[:300] + "…"
