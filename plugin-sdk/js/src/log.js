// The server's structured log. Without a server, lines go to the console.

import { lookUp } from "./bindings.js";

// QuickJS has none: globals.js makes one that writes here.
const native = globalThis.console;

export const trace = at("trace");
export const debug = at("debug");
export const info = at("info");
export const warn = at("warn");
export const error = at("error");

function at(level) {
  return (message, fields = {}) => {
    const pairs = Object.entries(fields).map(([name, value]) => [name, shown(value)]);
    const logging = lookUp("logging");
    if (logging !== undefined) logging.log(level, String(message), pairs);
    else native?.error(`${level}: ${message}`, ...pairs.map(([name, value]) => `${name}=${value}`));
  };
}

function shown(value) {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
}
