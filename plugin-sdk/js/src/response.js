// The response that a handler gives.

import { names } from "./errors.js";
import { encodeUtf8 } from "./utf8.js";

export class Response {
  constructor(status = 200, body = new Uint8Array(), headers = []) {
    this.status = status;
    this.body = typeof body === "string" ? encodeUtf8(body) : body;
    this.headers = headers;
  }

  static json(value, status = 200) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`a ${typeof value} cannot be JSON`);
    return new Response(status, text).header("content-type", "application/json");
  }

  static text(text, status = 200) {
    return new Response(status, text).header("content-type", "text/plain; charset=utf-8");
  }

  static html(html, status = 200) {
    return new Response(status, html).header("content-type", "text/html; charset=utf-8");
  }

  static noContent() {
    return new Response(204);
  }

  static redirect(location, status = 303) {
    return new Response(status).header("location", location);
  }

  static problem(problem, requestId) {
    const body = {
      type: "about:blank",
      title: names(problem.status)[0],
      status: problem.status,
      detail: problem.detail,
      code: problem.code,
    };
    if (requestId !== undefined) body.request_id = requestId;
    return new Response(problem.status, JSON.stringify(body)).header("content-type", "application/problem+json");
  }

  header(name, value) {
    this.headers.push([name, String(value)]);
    return this;
  }
}

/** What a handler returned, as a response. */
export function toResponse(value) {
  if (value instanceof Response) return value;
  if (value === undefined) return Response.noContent();
  if (typeof value === "string") return Response.text(value);
  if (typeof value?.then === "function") {
    throw new TypeError("a handler returned a promise; the server's functions do not wait, so handlers need not be async");
  }
  return Response.json(value);
}
