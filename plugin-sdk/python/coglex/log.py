"""The server's structured log: lines with the plugin's name and the request id.

    log.warn("some rows were skipped", rows=12, file="a.csv")

Without a server, lines go to standard error."""

import sys
from typing import Any

from .bindings import look_up


def trace(message: str, **fields: Any) -> None:
    """Every step, for the author."""
    _write("TRACE", message, fields)


def debug(message: str, **fields: Any) -> None:
    """Details that help to find a fault."""
    _write("DEBUG", message, fields)


def info(message: str, **fields: Any) -> None:
    """What happened, in the normal course."""
    _write("INFO", message, fields)


def warn(message: str, **fields: Any) -> None:
    """Something odd that was survived."""
    _write("WARN", message, fields)


def error(message: str, **fields: Any) -> None:
    """Something failed."""
    _write("ERROR", message, fields)


def _write(level: str, message: str, fields: dict[str, Any]) -> None:
    pairs = [(name, str(value)) for name, value in fields.items()]
    logging = look_up("logging")
    if logging is None:
        print(f"{level.lower()}: {message}", *(f"{name}={value}" for name, value in pairs), file=sys.stderr)
    else:
        logging.log(getattr(logging.Level, level), message, pairs)
