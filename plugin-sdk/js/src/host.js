// For the entry that `coglex build` writes: what a component exports, made of
// what the plugin's module has put into `app` and `functions`. Not for plugins.

import { app } from "./app.js";
import { functions } from "./functions.js";

export { bind } from "./bindings.js";

export const exportedApp = { describe: () => app.manifest() };
export const exportedHandler = { handle: (request) => app.handle(request) };
export const exportedFunctions = { describe: () => functions.describe(), run: (call) => functions.run(call) };
export const exportedDeclarations = { declare: () => functions.declare() };
