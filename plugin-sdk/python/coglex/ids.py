"""Ids. An ObjectId is `{"$oid": "…"}` in Extended JSON, and 24 hex digits to
people; any other string is itself."""

import json
import re
from typing import Any

_HEX = re.compile(r"[0-9a-fA-F]{24}")


def to_id(value: Any) -> Any:
    """The id that a text stands for: 24 hex digits are an ObjectId."""
    if isinstance(value, str) and _HEX.fullmatch(value):
        return {"$oid": value.lower()}
    return value


def id_text(value: Any) -> str:
    """An id as a text for people and paths."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("$oid"), str):
        return value["$oid"]
    return json.dumps(value)
