"""The response that a handler gives."""

from __future__ import annotations

import json
from typing import Any, Optional

from .errors import Problem, names


class Response:
    """An HTTP response."""

    def __init__(self, status: int = 200, body: bytes | str = b"", headers: Optional[list[tuple[str, str]]] = None) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = headers if headers is not None else []

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Response:
        """The value as JSON."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return cls(status, text).header("content-type", "application/json")

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """Plain text."""
        return cls(status, text).header("content-type", "text/plain; charset=utf-8")

    @classmethod
    def html(cls, html: str, status: int = 200) -> Response:
        """HTML."""
        return cls(status, html).header("content-type", "text/html; charset=utf-8")

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> Response:
        """A 303: the client goes on with a GET of `location`."""
        return cls(status).header("location", location)

    @classmethod
    def problem(cls, problem: Problem, request_id: Optional[str]) -> Response:
        """A problem as RFC 9457 has it."""
        body = {
            "type": "about:blank",
            "title": names(problem.status)[0],
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
        }
        if request_id is not None:
            body["request_id"] = request_id
        response = cls(problem.status, json.dumps(body))
        return response.header("content-type", "application/problem+json")

    def header(self, name: str, value: str) -> Response:
        """Adds a header; the same name may be added again (`set-cookie`)."""
        self.headers.append((name, value))
        return self


def to_response(value: Any) -> Response:
    """What a handler returned: a response, a text, nothing (204) or a JSON value."""
    if isinstance(value, Response):
        return value
    if value is None:
        return Response(204)
    if isinstance(value, str):
        return Response.text(value)
    return Response.json(value)
