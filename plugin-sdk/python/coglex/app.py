"""Gateway apps: the table of routes, and what answers a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypeVar

from . import log
from .bindings import look_up
from .errors import Problem, shown, to_problem
from .pattern import capture, vagueness, without_slash
from .request import Request
from .response import Response, to_response

Handler = TypeVar("Handler", bound=Callable[[Request], Any])


@dataclass(frozen=True)
class Guard:
    """A condition that the server checks before the app is even started; see
    `api_key` and `authenticated`."""

    collection: Optional[str] = None
    """The collection of the user who is signed in; None is the API key."""
    role: Optional[str] = None
    """The role that the user has to have."""


def api_key() -> Guard:
    """The request carries the server's API key, else it is answered with 401."""
    return Guard()


def authenticated(collection: str) -> Guard:
    """The caller is signed in as a user of this collection, else the request is
    answered with 401."""
    return Guard(collection)


def role(collection: str, name: str) -> Guard:
    """The caller is a user of this collection whose document has the name in
    `roles`; without a session 401, without the role 403."""
    return Guard(collection, name)


@dataclass(frozen=True)
class Rate:
    """How often a route may be asked; more is answered with 429."""

    requests: int
    seconds: int
    per: str = "caller"
    """Whose requests are counted together: `caller`, `address` or `everyone`."""


@dataclass(frozen=True)
class Cache:
    """What caches may do with good answers to GET that say nothing themselves."""

    max_age: int
    """For how many seconds an answer may be used again without asking."""
    shared: bool = False
    """Whether caches that many clients share may keep it."""


@dataclass(frozen=True)
class Route:
    """A row of the table. Without a method it answers any."""

    method: Optional[str]
    path: str
    handler: Callable[[Request], Any]
    guards: list[Guard] = field(default_factory=list)
    body_limit: Optional[int] = None
    media_types: list[str] = field(default_factory=list)
    rate: Optional[Rate] = None
    cache: Optional[Cache] = None
    summary: Optional[str] = None
    body_schema: Optional[dict[str, Any]] = None
    query_schema: Optional[dict[str, Any]] = None
    output_schema: Optional[dict[str, Any]] = None

    def answers(self, method: str) -> bool:
        """Whether this row names the method. `HEAD` comes with `GET`."""
        return self.method == method or (self.method == "GET" and method == "HEAD")


class App:
    """A table of routes. A path has literal segments, `{name}` for one segment
    and `{*name}` for the rest.

    A handler answers with a `Response`, a text, a JSON value or None (204). A
    raised `Problem` is what the client gets to read; any other exception is a
    500, and its text goes to the log."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def route(self, method: Optional[str], path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Puts the decorated function into the table. Options:

        - `guards`: all must hold; they are checked in order.
        - `body_limit`: a body of more bytes is answered with 413.
        - `media_types`: what a body may be, e.g. `text/*`; another is answered
          with 415.
        - `rate`, a `Rate`, and `cache`, a `Cache`.
        - `summary`: one sentence for listings, by default the first line of the
          function's documentation.
        - `body_schema`, `query_schema`: JSON Schemas; what does not fit is
          answered with 422 before the app is started. `output_schema`: one of
          good answers, for readers and tools."""

        def add(handler: Handler) -> Handler:
            docs = (handler.__doc__ or "").strip().splitlines()
            options.setdefault("summary", next(iter(docs), None))
            self.routes.append(Route(method, without_slash(path), handler, **options))
            return handler

        return add

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers GET, and HEAD without the body. Options as of `route`."""
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers POST. Options as of `route`."""
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers PUT. Options as of `route`."""
        return self.route("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers PATCH. Options as of `route`."""
        return self.route("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers DELETE. Options as of `route`."""
        return self.route("DELETE", path, **options)

    def any(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Answers every method that no other route of the same path answers."""
        return self.route(None, path, **options)

    def respond(self, request: Request) -> Response:
        """Answers a request as the server would have it answered, guards apart,
        for tests that run without a server."""
        path = without_slash(request.path)
        matches = [(route, capture(route.path, path)) for route in self.routes]
        found = [(route, params) for route, params in matches if params is not None]
        if found:
            route, params = min(found, key=lambda match: vagueness(match[0].path))
            request.route, request.params = route.path, params
        return self.answer(request)

    def answer(self, request: Request) -> Response:
        """Answers a request whose route has been found."""
        try:
            return to_response(self._handler(request)(request))
        except Exception as error:
            problem, ours = to_problem(error)
            if ours:
                log.error("a handler failed", error=shown(error))
            caller = look_up("caller")
            return Response.problem(problem, caller.request_id() if caller else None)

    def _handler(self, request: Request) -> Callable[[Request], Any]:
        matched = without_slash(request.route)
        same_path = [route for route in self.routes if route.path == matched]
        if not same_path:
            raise Problem(404, "there is nothing here")
        for route in same_path:
            if route.answers(request.method):
                return route.handler
        for route in same_path:
            if route.method is None:
                return route.handler
        raise Problem(405, "this method is not answered here")


app = App()
"""The component's app."""
