// Paths and patterns. The server does the matching in production; this is what
// is left of it here, for `App.respond`.

/** Routes match with and without a trailing slash, and are compared without. */
export function withoutSlash(path) {
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}

/** The values of the pattern's parameters, or undefined when it does not match. */
export function capture(pattern, path) {
  const params = [];
  const rest = path.split("/");
  for (const want of pattern.split("/")) {
    const name = /^\{(\*?)(.*)\}$/.exec(want);
    if (name?.[1] === "*") {
      const tail = rest.join("/");
      return tail === "" ? undefined : [...params, [name[2], tail]];
    }
    const segment = rest.shift();
    if (name !== null) {
      if (!segment) return undefined;
      params.push([name[2], segment]);
    } else if (segment !== want) {
      return undefined;
    }
  }
  return rest.length === 0 ? params : undefined;
}

/** Sorts patterns as the server prefers them: a literal segment before a
 * parameter, that before the rest. */
export function vagueness(pattern) {
  const digit = (segment) => (segment.startsWith("{*") ? "2" : segment.startsWith("{") ? "1" : "0");
  return pattern.split("/").map(digit).join("");
}
