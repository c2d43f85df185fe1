// Gateway apps: the table of routes, and what answers a request.

import { lookUp } from "./bindings.js";
import { Problem, shown, toProblem } from "./errors.js";
import * as log from "./log.js";
import { capture, vagueness, withoutSlash } from "./pattern.js";
import { Request } from "./request.js";
import { Response, toResponse } from "./response.js";

export function apiKey() {
  return { tag: "api-key" };
}

export function authenticated(collection) {
  return { tag: "authenticated", val: collection };
}

export function role(collection, name) {
  return { tag: "role", val: { collection, name } };
}

export class App {
  #routes = [];

  get(path, ...rest) {
    return this.route("GET", path, ...rest);
  }

  post(path, ...rest) {
    return this.route("POST", path, ...rest);
  }

  put(path, ...rest) {
    return this.route("PUT", path, ...rest);
  }

  patch(path, ...rest) {
    return this.route("PATCH", path, ...rest);
  }

  delete(path, ...rest) {
    return this.route("DELETE", path, ...rest);
  }

  any(path, ...rest) {
    return this.route(null, path, ...rest);
  }

  route(method, path, ...rest) {
    const [options, handler] = rest.length > 1 ? rest : [{}, rest[0]];
    if (typeof handler !== "function") throw new TypeError(`the route ${method ?? "any"} ${path} has no handler`);
    this.#routes.push({ method, path: withoutSlash(path), options, handler });
    return this;
  }

  /** Answers a request as the server would have it answered, guards apart. */
  respond(request) {
    const path = withoutSlash(request.path);
    const matches = this.#routes
      .map((route) => ({ route, params: capture(route.path, path) }))
      .filter(({ params }) => params !== undefined)
      .sort((a, b) => (vagueness(a.route.path) < vagueness(b.route.path) ? -1 : 1));
    if (matches.length > 0) request.matched(matches[0].route.path, matches[0].params);
    return this.#answer(request);
  }

  /** The table as the server wants to know it. */
  manifest() {
    return {
      routes: this.#routes.map(({ method, path, options }) => ({
        methods: method === null ? [] : [method],
        path,
        guards: options.guards ?? [],
        bodyLimit: options.bodyLimit ?? null,
        mediaTypes: options.mediaTypes ?? [],
        rate: options.rate ? { per: "caller", ...options.rate } : null,
        cache: options.cache ? { shared: false, ...options.cache } : null,
        summary: options.summary ?? null,
        bodySchema: json(options.bodySchema),
        querySchema: json(options.querySchema),
        outputSchema: json(options.outputSchema),
      })),
    };
  }

  /** What the component exports as `coglex:gateway/handler`. */
  handle(record) {
    const { status, headers, body } = this.#answer(Request.received(record));
    return { status, headers, body };
  }

  #answer(request) {
    try {
      return toResponse(this.#handler(request)(request));
    } catch (error) {
      const { problem, ours } = toProblem(error);
      if (ours) log.error("a handler failed", { error: shown(error) });
      return Response.problem(problem, lookUp("caller")?.requestId());
    }
  }

  /** The handler of the route that the server says has matched. */
  #handler(request) {
    const route = withoutSlash(request.route);
    const samePath = this.#routes.filter(({ path }) => path === route);
    if (samePath.length === 0) throw new Problem(404, "there is nothing here");
    // `HEAD` comes with `GET`.
    const answers = (method) => method === request.method || (method === "GET" && request.method === "HEAD");
    const found = samePath.find(({ method }) => answers(method)) ?? samePath.find(({ method }) => method === null);
    if (found === undefined) throw new Problem(405, "this method is not answered here");
    return found.handler;
  }
}

function json(schema) {
  return schema === undefined ? null : JSON.stringify(schema);
}

/** The component's app. */
export const app = new App();
