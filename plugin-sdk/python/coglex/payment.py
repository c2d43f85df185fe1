"""Payments through the server's account at Stripe, whose keys no plugin sees. Needs
a grant: `payment = ["checkout", "entitlements"]`."""

from __future__ import annotations

import json
from typing import Any, Optional

from .bindings import need
from .errors import calling


def checkout(order: dict[str, Any], *, key: Optional[str] = None) -> dict[str, Any]:
    """Makes a Checkout session; answers with Stripe's, whose `url` is where the
    customer pays. The order is the body of `POST /service/payment/v1/checkout/`. The
    same `key` with the same order gives the same session."""
    return json.loads(calling(lambda: _payments().create_checkout(json.dumps(order), key)))


def session(id: str) -> dict[str, Any]:
    """A Checkout session as it is at Stripe now."""
    return json.loads(calling(lambda: _payments().checkout_session(id)))


def entitlements(who: str) -> dict[str, Any]:
    """What somebody (an email address, or a customer's id) has paid for."""
    return json.loads(calling(lambda: _payments().entitlements(who)))


def is_entitled(who: str, what: str) -> bool:
    """Whether somebody has paid for it: an active subscription of this price, product
    or lookup key, or a payment whose metadata names it under `entitlement`."""
    return calling(lambda: _payments().is_entitled(who, what))


def _payments() -> Any:
    return need("payments", "it takes a server, and a grant of payment in coglex.toml")
