// Errors, and what of them a client gets to know. The same table as the Rust
// SDK's: a Problem is written for the client, a conflict is 409, a store that is
// away 503, and everything else is ours to fix: 500, and its text in the log.

const NAMES = {
  400: ["Bad Request", "bad_request"],
  401: ["Unauthorized", "unauthorized"],
  403: ["Forbidden", "forbidden"],
  404: ["Not Found", "not_found"],
  405: ["Method Not Allowed", "method_not_allowed"],
  409: ["Conflict", "conflict"],
  410: ["Gone", "gone"],
  413: ["Content Too Large", "payload_too_large"],
  415: ["Unsupported Media Type", "unsupported_media_type"],
  422: ["Unprocessable Content", "unprocessable"],
  429: ["Too Many Requests", "too_many_requests"],
  500: ["Internal Server Error", "internal_error"],
  503: ["Service Unavailable", "unavailable"],
};

export function names(status) {
  return NAMES[status] ?? (status < 500 ? ["Client Error", "client_error"] : ["Server Error", "server_error"]);
}

export class Problem extends Error {
  constructor(status, detail, code = names(status)[1]) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.code = code;
  }

  get detail() {
    return this.message;
  }
}

export function problem(status, detail, code) {
  return new Problem(status, detail, code);
}

export function failure(code, message) {
  return new Problem(422, message, code);
}

/** Kinds of errors that pass by themselves. */
const AWAY = new Set(["timeout", "unavailable", "overloaded", "contended", "deadline"]);

export class ServerError extends Error {
  constructor(kind, detail) {
    super(detail ? `${kind}: ${detail}` : kind);
    this.name = "ServerError";
    this.kind = kind;
  }
}

/** Calls the server; its errors arrive wrapped, with the WIT variant inside. */
export function calling(work) {
  try {
    return work();
  } catch (error) {
    const payload = error?.payload;
    const { tag, val } = typeof payload === "string" ? { tag: payload } : (payload ?? {});
    if (typeof tag !== "string") throw error;
    // What a function, or a bank, says of itself is for whoever called it.
    if ((tag === "failure" || tag === "refused") && val !== null && typeof val === "object") throw new Problem(422, val.message, val.code);
    throw new ServerError(tag, typeof val === "string" ? val : "");
  }
}

/** What a client may know of an error, and whether it belongs in the log. */
export function toProblem(error) {
  if (error instanceof Problem) return { problem: error, ours: false };
  if (error instanceof ServerError) {
    if (error.kind === "conflict") return { problem: new Problem(409, "It exists already."), ours: false };
    if (AWAY.has(error.kind)) {
      return { problem: new Problem(503, "The service is unavailable, try again later."), ours: true };
    }
  }
  return { problem: new Problem(500, "The app failed to answer."), ours: true };
}

/** An error as the log shows it: the text and where it came from. */
export function shown(error) {
  if (!(error instanceof Error)) return String(error);
  return error.stack ? `${error}\n${error.stack}` : String(error);
}

/** Cuts a text that may repeat what a client sent. */
export function clip(text) {
  const MAX = 300;
  return text.length > MAX ? `${text.slice(0, MAX)}…` : text;
}
