"""The server's interfaces, once the component's entry has handed them in.

They come from there, and not from imports in these modules, because a component
imports only what its coglex.toml asks for, and because nothing has to be faked
to load these modules elsewhere."""

from typing import Any

_bound: dict[str, Any] = {}


def bind(**interfaces: Any) -> None:
    """Hands interfaces in, by name. Called by the generated entry."""
    _bound.update(interfaces)


def look_up(name: str) -> Any:
    """An interface, or None."""
    return _bound.get(name)


def need(name: str, hint: str) -> Any:
    """An interface that what follows cannot do without."""
    found = _bound.get(name)
    if found is None:
        raise RuntimeError(f"{name} is not there: {hint}")
    return found
