// Mail, through the server's SMTP account.

import { need } from "./bindings.js";
import { calling } from "./errors.js";

export function send(to, subject, text, { html, replyTo, key } = {}) {
  return call((outbox) => outbox.send(to, { subject, text, html }, { replyTo, key }));
}

export function sendTemplate(to, template, values = {}, { replyTo, key } = {}) {
  return call((outbox) => outbox.sendTemplate(to, template, JSON.stringify(values), { replyTo, key }));
}

function call(work) {
  const outbox = need("outbox", "it takes a server, and a grant of mail in coglex.toml");
  return calling(() => work(outbox));
}
