"""Settings that the operator gives to this plugin, in
`[plugins.settings.<name>]` of the server's configuration."""

import json
from typing import Any, Optional

from .bindings import need
from .errors import calling


def get(name: str) -> Optional[str]:
    """A setting as text, or None when the operator has not set it."""
    return need("settings", "it takes a server").get(name)


def get_json(name: str) -> Any:
    """A setting that is a number, a boolean, a list or a table."""
    text = get(name)
    return None if text is None else json.loads(text)


def secret(name: str) -> Optional[str]:
    """A secret, or None when the operator has not set it. Needs a grant:
    `secrets = ["stripe_key"]`."""
    secrets = need("secrets", "it takes a server, and a grant of secrets in coglex.toml")
    return calling(lambda: secrets.get(name))


def require(name: str) -> str:
    """A setting that this plugin cannot do without."""
    value = get(name)
    if value is None:
        raise RuntimeError(f"the setting `{name}` is missing")
    return value
