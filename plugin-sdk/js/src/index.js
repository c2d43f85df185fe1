// The SDK for JavaScript guests: everything that a plugin imports.
//
// It is plain JavaScript over the generated bindings, which `coglex build` hands
// in through ./host.js. So this module loads in Node as well, where routes and
// functions can be tested; only what needs the server says that it is missing.
// Types and documentation are in index.d.ts.

import "./globals.js";

export { App, app, apiKey, authenticated, role } from "./app.js";
export * as auth from "./auth.js";
export * as config from "./config.js";
export { ServerError, Problem, failure, problem } from "./errors.js";
export * as execution from "./execution.js";
export { Functions, functions } from "./functions.js";
export { idText, toId } from "./id.js";
export * as jobs from "./jobs.js";
export * as kv from "./kv.js";
export * as log from "./log.js";
export * as mail from "./mail.js";
export * as payment from "./payment.js";
export { Request } from "./request.js";
export { Response } from "./response.js";
export * as storage from "./storage.js";
