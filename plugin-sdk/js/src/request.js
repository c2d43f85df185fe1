// The request that a handler answers.

import { Problem, clip } from "./errors.js";
import { checked } from "./shape.js";
import { decodeUtf8, encodeUtf8 } from "./utf8.js";

export class Request {
  #params;
  #headers;

  constructor(method, pathAndQuery, { headers = {}, body } = {}) {
    const question = pathAndQuery.indexOf("?");
    this.method = method;
    this.path = question < 0 ? pathAndQuery : pathAndQuery.slice(0, question);
    this.queryString = question < 0 ? "" : pathAndQuery.slice(question + 1);
    this.route = "";
    this.#params = new Map();
    const pairs = Array.isArray(headers) ? headers : Object.entries(headers);
    this.#headers = pairs.map(([name, value]) => [name.toLowerCase(), value]);
    if (body === undefined) {
      this.body = new Uint8Array();
    } else if (typeof body === "string") {
      this.body = encodeUtf8(body);
    } else if (body instanceof Uint8Array) {
      this.body = body;
    } else {
      this.body = encodeUtf8(JSON.stringify(body));
      this.#headers.push(["content-type", "application/json"]);
    }
  }

  /** The request that the server hands over. */
  static received(record) {
    const request = new Request(record.method, record.path, { headers: record.headers, body: record.body });
    request.queryString = record.query ?? "";
    return request.matched(record.route, record.params);
  }

  /** Says which route answers it. */
  matched(route, params) {
    this.route = route;
    this.#params = new Map(params);
    return this;
  }

  get headers() {
    return this.#headers;
  }

  header(name) {
    const wanted = name.toLowerCase();
    return this.#headers.find(([header]) => header === wanted)?.[1];
  }

  param(name) {
    if (!this.#params.has(name)) throw new Error(`the route ${this.route} has no parameter \`${name}\``);
    return this.#params.get(name);
  }

  query(name) {
    return this.queryAll(name)[0];
  }

  queryAll(name) {
    const values = [];
    for (const pair of this.queryString.split("&")) {
      const equals = pair.indexOf("=");
      const key = equals < 0 ? pair : pair.slice(0, equals);
      if (pair !== "" && unquote(key) === name) values.push(equals < 0 ? "" : unquote(pair.slice(equals + 1)));
    }
    return values;
  }

  text() {
    try {
      return decodeUtf8(this.body);
    } catch {
      throw new Problem(400, "the body is not UTF-8", "invalid_body");
    }
  }

  json(shape) {
    if (!isJson(this.header("content-type"))) throw new Problem(415, "the body must be application/json");
    const wrong = (why) => new Problem(400, clip(`the body is not as it should be: ${why}`), "invalid_body");
    const text = this.text();
    let value;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw wrong(error.message);
    }
    return shape === undefined ? value : checked(shape, value, wrong);
  }
}

function unquote(text) {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    throw new Problem(400, "the query is not valid UTF-8 once decoded");
  }
}

/** `application/json`, or any `+json` type, with or without parameters. */
function isJson(contentType = "") {
  return /^application\/([^;]+\+)?json$/i.test(contentType.split(";")[0].trim());
}
