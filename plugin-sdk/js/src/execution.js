// Calls functions of other plugins.

import { need } from "./bindings.js";
import { calling } from "./errors.js";

export function call(name, args = [], kwargs = {}) {
  const calls = need("calls", "it takes a server, and a grant of functions in coglex.toml");
  return JSON.parse(calling(() => calls.call(name, JSON.stringify(args), JSON.stringify(kwargs))));
}
