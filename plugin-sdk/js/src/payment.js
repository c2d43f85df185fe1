// Payments through the server's account at Stripe, whose keys no plugin sees.

import { need } from "./bindings.js";
import { calling } from "./errors.js";

export function checkout(order, { key } = {}) {
  return JSON.parse(call((payments) => payments.createCheckout(JSON.stringify(order), key)));
}

export function session(id) {
  return JSON.parse(call((payments) => payments.checkoutSession(id)));
}

export function entitlements(who) {
  return JSON.parse(call((payments) => payments.entitlements(who)));
}

export function isEntitled(who, what) {
  return call((payments) => payments.isEntitled(who, what));
}

function call(work) {
  const payments = need("payments", "it takes a server, and a grant of payment in coglex.toml");
  return calling(() => work(payments));
}
