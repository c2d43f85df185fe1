// Has functions of other plugins run later, as jobs.

import { need } from "./bindings.js";
import { calling, ServerError } from "./errors.js";

export function enqueue(name, args = [], kwargs = {}, { at, maxAttempts, key } = {}) {
  const options = {
    runAt: at === undefined ? undefined : BigInt(Math.max(0, Math.ceil(Number(at)))),
    maxAttempts,
    key,
  };
  return call((jobs) => jobs.enqueue(name, JSON.stringify(args), JSON.stringify(kwargs), options));
}

export function get(id) {
  let job;
  try {
    job = call((jobs) => jobs.get(id));
  } catch (error) {
    if (error instanceof ServerError && error.kind === "not-found") return null;
    throw error;
  }
  const { result, failure, ...rest } = job;
  const told = { ...rest, failure: failure ?? null };
  return result === undefined || result === null ? told : { ...told, result: JSON.parse(result) };
}

export function cancel(id) {
  call((jobs) => jobs.cancel(id));
}

function call(work) {
  const jobs = need("jobs", "it takes a server, and a grant of functions in coglex.toml");
  return calling(() => work(jobs));
}
