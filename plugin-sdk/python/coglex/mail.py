"""Mail, through the server's SMTP account. Needs a grant that names who may be
written to: `mail = ["@example.org", "ann@partner.example"]`, or `"*"` for anybody.

A letter is kept by the server when these answer, and sent soon after."""

from __future__ import annotations

import json
from typing import Any, Optional

from .bindings import need
from .errors import calling


def send(
    to: str,
    subject: str,
    text: str,
    *,
    html: Optional[str] = None,
    reply_to: Optional[str] = None,
    key: Optional[str] = None,
) -> str:
    """Sends a letter to one address; answers with its id in the server's outbox. For
    one `key` (1 to 256 bytes) a letter is sent once within a day."""
    outbox = _outbox()
    letter = outbox.Letter(subject=subject, text=text, html=html)
    options = outbox.Options(reply_to=reply_to, key=key)
    return calling(lambda: outbox.send(to, letter, options))


def send_template(
    to: str,
    template: str,
    values: Optional[dict[str, Any]] = None,
    *,
    reply_to: Optional[str] = None,
    key: Optional[str] = None,
) -> str:
    """Sends what a template of the operator's makes of these values."""
    outbox = _outbox()
    options = outbox.Options(reply_to=reply_to, key=key)
    filled = json.dumps(values or {})
    return calling(lambda: outbox.send_template(to, template, filled, options))


def _outbox() -> Any:
    return need("outbox", "it takes a server, and a grant of mail in coglex.toml")
