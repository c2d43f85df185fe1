"""Functions that clients call by name."""

from __future__ import annotations

import inspect
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Sequence, TypeVar, Union

from .errors import Problem, clip
from .fitting import fit

Body = TypeVar("Body", bound=Callable[..., Any])


OPERATIONS = ("insert", "update", "delete")


@dataclass(frozen=True)
class Schedule:
    """When a function runs by itself, in UTC, once for all servers: minute, hour,
    day of the month, month, day of the week."""

    cron: str
    args: Optional[list] = None
    kwargs: Optional[dict] = None


@dataclass(frozen=True)
class Hook:
    """A kind of write that a function is called at; see `before` and `after`."""

    moment: str
    operation: str
    collection: str
    order: int = 0
    proceed: bool = False


def before(operation: str, collection: str, *, order: int = 0, proceed: bool = False) -> Hook:
    """A hook before `"insert"`, `"update"` or `"delete"`: the function may change
    or refuse the write. Hooks run by `order`, lowest first; with `proceed` the
    write goes on when the function breaks or takes too long. Needs the grant
    `hook` on the collection."""
    return _hook(Hook("before", operation, collection, order, proceed))


def after(operation: str, collection: str) -> Hook:
    """A hook after a write that has succeeded: the function is run as a job."""
    return _hook(Hook("after", operation, collection))


def _hook(hook: Hook) -> Hook:
    if hook.operation not in OPERATIONS:
        raise ValueError(f"a hook is on insert, update or delete, not on {hook.operation}")
    return hook


@dataclass(frozen=True)
class Declaration:
    """What the server should know of a function beside its name."""

    schedules: Sequence[Schedule] = field(default=())
    hooks: Sequence[Hook] = field(default=())
    args_schema: Optional[Any] = None
    kwargs_schema: Optional[Any] = None
    result_schema: Optional[Any] = None


class Functions:
    """A table of functions."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        self._declarations: dict[str, Declaration] = {}

    def add(
        self,
        body: Callable[..., Any],
        name: Optional[str] = None,
        declaration: Declaration = Declaration(),
    ) -> None:
        """Adds a function under its own name, or another."""
        name = name or body.__name__
        if name in self._functions:
            raise ValueError(f"there are two functions {name}")
        self._functions[name] = body
        if declaration != Declaration():
            self._declarations[name] = declaration

    def declared(self) -> list[tuple[str, Declaration]]:
        """What was declared of functions, for the server."""
        return list(self._declarations.items())

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


def function(
    body: Optional[Body] = None,
    *,
    name: Optional[str] = None,
    schedule: Union[str, Schedule, Sequence[Union[str, Schedule]]] = (),
    hooks: Union[Hook, Sequence[Hook]] = (),
    args_schema: Optional[Any] = None,
    kwargs_schema: Optional[Any] = None,
    result_schema: Optional[Any] = None,
) -> Any:
    """Makes a function callable by clients.

        @function
        def greet(name: str, greeting: str = "Hello") -> str:
            return f"{greeting}, {name}!"

    Arguments bind by position and by name, and are checked against the
    annotations; one that does not fit is answered with 422 naming it.

    It may run by itself too, or watch writes (see `before` and `after`), and the
    server checks calls against JSON Schemas:

        @function(schedule="0 3 * * *")
        def tidy() -> int:
            return storage.delete("drafts", {"stale": True}, many=True)

        @function(hooks=before("insert", "orders"))
        def check_order(write: dict) -> dict:
            for order in write["documents"]:
                if "total" not in order:
                    raise failure("no_total", "an order needs a total")
                order["state"] = "new"
            return write

    A hook that answers None lets the write be."""

    def listed(value: Any, kind: tuple) -> tuple:
        return (value,) if isinstance(value, kind) else tuple(value)

    schedules = listed(schedule, (str, Schedule))
    declaration = Declaration(
        schedules=tuple(Schedule(each) if isinstance(each, str) else each for each in schedules),
        hooks=listed(hooks, (Hook,)),
        args_schema=args_schema,
        kwargs_schema=kwargs_schema,
        result_schema=result_schema,
    )

    def add(body: Body) -> Body:
        functions.add(body, name, declaration)
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
