"""Fits JSON to annotations: for bodies of requests and arguments of functions.

Of annotations it knows `str`, `int`, `float`, `bool`, `list`, `dict`, `Any` and
`None`, unions and `Optional` of these, and dataclasses. What else is annotated
takes any value."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Callable

Wrong = Callable[[str], Exception]

_NAMES = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def name_of(value: Any) -> str:
    """What a JSON value is, for messages."""
    return _NAMES.get(type(value), type(value).__name__)


def fit(annotation: Any, value: Any, what: str, wrong: Wrong) -> Any:
    """The value as the annotation wants it; `what` names it in the error."""
    choices = _choices(annotation)
    if choices is None:
        return value
    for choice in choices:
        if dataclasses.is_dataclass(choice):
            if isinstance(value, dict):
                return fit_object(choice, value, wrong)
        # A bool is an int to Python, but not to JSON; an integer is a number.
        elif type(value) is choice or (choice is float and type(value) is int):
            return value
    expected = " or ".join(_NAMES.get(choice, "an object") for choice in choices)
    raise wrong(f"{what} is {name_of(value)}, expected {expected}")


def fit_object(kind: Any, value: Any, wrong: Wrong) -> Any:
    """A dataclass made of an object. A field that it lacks is refused."""
    if not isinstance(value, dict):
        raise wrong(f"expected an object, not {name_of(value)}")
    hints = typing.get_type_hints(kind)
    rest = dict(value)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in rest:
            given[field.name] = fit(hints[field.name], rest.pop(field.name), f"the field `{field.name}`", wrong)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise wrong(f"the field `{field.name}` is missing")
    for name in rest:
        raise wrong(f"there is no field `{name}`")
    return kind(**given)


def _choices(annotation: Any) -> list[Any] | None:
    """The types that a value may have; None: any."""
    if annotation is None:
        return [type(None)]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        found = []
        for argument in typing.get_args(annotation):
            choices = _choices(argument)
            if choices is None:
                return None
            found.extend(choices)
        return found
    kind = origin or annotation
    if kind in _NAMES or dataclasses.is_dataclass(kind):
        return [kind]
    return None
