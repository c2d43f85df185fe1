"""The request that a handler answers."""

from __future__ import annotations

import json
from typing import Any, Optional
from urllib.parse import parse_qsl

from .errors import Problem, clip
from .fitting import fit_object


class Request:
    """An HTTP request whose route and guards the server has already checked."""

    method: str
    """The method in upper case."""
    path: str
    """The percent-encoded path as the client sent it, without the query and
    without a trailing slash."""
    query_string: str
    """The query without `?`; empty without one."""
    route: str
    """The pattern of the route that matched, e.g. `/api/items/{id}`."""
    params: dict[str, str]
    """The path's parameters, percent-decoded."""
    headers: list[tuple[str, str]]
    """Names (in lower case) and values of the headers, in order."""
    body: bytes
    """The body, whole."""

    def __init__(
        self,
        method: str,
        path_and_query: str,
        headers: Optional[dict[str, str]] = None,
        body: bytes | str = b"",
        json_body: Any = None,
    ) -> None:
        """A request for tests. `json_body` sets a body and its content type."""
        self.method = method
        self.path, _, self.query_string = path_and_query.partition("?")
        self.route = ""
        self.params = {}
        self.headers = [(name.lower(), value) for name, value in (headers or {}).items()]
        self.body = body.encode() if isinstance(body, str) else body
        if json_body is not None:
            self.body = json.dumps(json_body).encode()
            self.headers.append(("content-type", "application/json"))

    @classmethod
    def received(cls, record: Any) -> Request:
        """The request that the server hands over."""
        request = cls(record.method, record.path)
        request.query_string = record.query or ""
        request.route = record.route
        request.params = dict(record.params)
        request.headers = record.headers
        request.body = record.body
        return request

    def header(self, name: str) -> Optional[str]:
        """A header's value, whatever the case of its name; the first when it repeats."""
        wanted = name.lower()
        return next((value for header, value in self.headers if header == wanted), None)

    def param(self, name: str) -> str:
        """A parameter of the path, percent-decoded."""
        if name not in self.params:
            raise KeyError(f"the route {self.route} has no parameter `{name}`")
        return self.params[name]

    def query(self, name: str) -> Optional[str]:
        """A parameter of the query, decoded; the first when it repeats."""
        return next(iter(self.query_all(name)), None)

    def query_all(self, name: str) -> list[str]:
        """Every value of a parameter of the query."""
        try:
            pairs = parse_qsl(self.query_string, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise Problem(400, "the query is not valid UTF-8 once decoded") from None
        return [value for key, value in pairs if key == name]

    def text(self) -> str:
        """The body as text. One that is not UTF-8 is answered with 400."""
        try:
            return bytes(self.body).decode()
        except UnicodeDecodeError:
            raise Problem(400, "the body is not UTF-8", "invalid_body") from None

    def json(self, kind: Any = None) -> Any:
        """The body as JSON, or as an instance of a dataclass that it fits. Another
        content type is answered with 415, a body that does not fit with 400
        saying where."""
        if not _is_json(self.header("content-type") or ""):
            raise Problem(415, "the body must be application/json")

        def wrong(why: str) -> Problem:
            return Problem(400, clip(f"the body is not as it should be: {why}"), "invalid_body")

        try:
            value = json.loads(self.text())
        except (ValueError, RecursionError) as error:
            raise wrong(str(error)) from None
        return value if kind is None else fit_object(kind, value, wrong)


def _is_json(content_type: str) -> bool:
    """`application/json`, or any `+json` type, with or without parameters."""
    essence = content_type.split(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))
