"""Functions that clients call by name."""

from __future__ import annotations

import inspect
import json
import typing
from typing import Any, Callable, Optional, TypeVar

from .errors import Problem, clip
from .fitting import fit

Body = TypeVar("Body", bound=Callable[..., Any])


class Functions:
    """A table of functions."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}

    def add(self, body: Callable[..., Any], name: Optional[str] = None) -> None:
        """Adds a function under its own name, or another."""
        name = name or body.__name__
        if name in self._functions:
            raise ValueError(f"there are two functions {name}")
        self._functions[name] = body

    def listed(self) -> list[tuple[str, Optional[str]]]:
        """Names and summaries, for the server's listings. A summary is the first
        line of the function's documentation."""
        return [
            (name, next(iter((body.__doc__ or "").strip().splitlines()), None))
            for name, body in self._functions.items()
        ]

    def call(self, name: str, args: Optional[list] = None, kwargs: Optional[dict] = None) -> Any:
        """Calls a function as a client would."""
        body = self._functions.get(name)
        if body is None:
            raise Problem(404, "there is no such function")
        return _call(body, args or [], kwargs or {})

    def run(self, name: str, args: str, kwargs: str) -> str:
        """The same from JSON to JSON, as the server calls it."""
        value = self.call(name, json.loads(args), json.loads(kwargs))
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


functions = Functions()
"""The component's functions."""


def function(body: Optional[Body] = None, *, name: Optional[str] = None) -> Any:
    """Makes a function callable by clients.

        @function
        def greet(name: str, greeting: str = "Hello") -> str:
            return f"{greeting}, {name}!"

    Arguments bind by position and by name, and are checked against the
    annotations; one that does not fit is answered with 422 naming it."""

    def add(body: Body) -> Body:
        functions.add(body, name)
        return body

    return add if body is None else add(body)


def _wrong(message: str) -> Problem:
    return Problem(422, clip(message), "invalid_argument")


def _call(body: Callable[..., Any], args: list, kwargs: dict) -> Any:
    hints = typing.get_type_hints(body)
    parameters = inspect.signature(body).parameters
    rest = dict(kwargs)
    bound = {}
    if len(args) > len(parameters):
        raise _wrong(f"there are {len(args)} positional arguments where at most {len(parameters)} fit")
    for position, (name, parameter) in enumerate(parameters.items()):
        by_position = position < len(args)
        if by_position and name in rest:
            raise _wrong(f"the argument `{name}` is given twice, by position and by name")
        if by_position or name in rest:
            value = args[position] if by_position else rest.pop(name)
            bound[name] = fit(hints.get(name, Any), value, f"the argument `{name}`", _wrong)
        elif parameter.default is inspect.Parameter.empty:
            raise _wrong(f"the argument `{name}` is missing")
    for name in rest:
        raise _wrong(f"there is no parameter `{name}`")
    return body(**bound)
