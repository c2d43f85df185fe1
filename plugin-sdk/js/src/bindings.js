// The server's interfaces, once the component's entry has handed them in. They
// come from there, and not from `import` lines in these modules, because a
// component imports only what its coglex.toml asks for, and because nothing has
// to be faked to load these modules in Node.

const bound = {};

/** Hands interfaces in, by name. Called by the generated entry. */
export function bind(interfaces) {
  Object.assign(bound, interfaces);
}

/** An interface, or undefined. */
export function lookUp(name) {
  return bound[name];
}

/** An interface that what follows cannot do without. */
export function need(name, hint) {
  const found = bound[name];
  if (found === undefined) throw new Error(`${name} is not there: ${hint}`);
  return found;
}
