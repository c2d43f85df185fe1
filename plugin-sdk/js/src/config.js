// Settings that the operator gives to this plugin.

import { need } from "./bindings.js";
import { calling } from "./errors.js";

export function get(name) {
  return need("settings", "it takes a server").get(name) ?? undefined;
}

export function getJson(name) {
  const text = get(name);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`the setting \`${name}\` is not JSON: ${error.message}`);
  }
}

export function secret(name) {
  const secrets = need("secrets", "it takes a server, and a grant of secrets in coglex.toml");
  return calling(() => secrets.get(name)) ?? undefined;
}

export function require(name) {
  const value = get(name);
  if (value === undefined) throw new Error(`the setting \`${name}\` is missing`);
  return value;
}
