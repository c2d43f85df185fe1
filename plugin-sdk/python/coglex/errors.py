"""Errors, and what of them a client gets to know.

The same table as the Rust SDK's: a Problem is written for the client, a conflict
is 409, a store that is away 503, and everything else is ours to fix: 500, and
its text in the log."""

from __future__ import annotations

import traceback
from typing import Optional

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


class StorageError(Exception):
    """Why the server did not do something with documents. `kind` is one of
    `access-denied`, `invalid`, `conflict`, `too-large`, `timeout` and
    `unavailable`. Uncaught, a conflict is answered with 409, a timeout and an
    unavailable store with 503, the others with 500."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def to_problem(error: BaseException) -> tuple[Problem, bool]:
    """What a client may know of an error, and whether it belongs in the log."""
    if isinstance(error, Problem):
        return error, False
    if isinstance(error, StorageError):
        if error.kind == "conflict":
            return Problem(409, "It exists already."), False
        if error.kind in ("timeout", "unavailable"):
            return Problem(503, "The service is unavailable, try again later."), True
    return Problem(500, "The app failed to answer."), True


def shown(error: BaseException) -> str:
    """An error as the log shows it: with its causes, and where they came from."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def clip(text: str) -> str:
    """Cuts a text that may repeat what a client sent."""
    return text if len(text) <= 300 else text[:300] + "…"
