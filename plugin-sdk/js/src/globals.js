// What JavaScript outside of a browser usually has and QuickJS has not:
// `console`, `TextEncoder`, `TextDecoder`; and randomness that is random.
//
// A component starts from a snapshot that was taken when it was built. The seed
// of `Math.random` is in it, so every call would see the same numbers.

import { lookUp } from "./bindings.js";
import { decodeUtf8, encodeUtf8 } from "./utf8.js";
import * as log from "./log.js";

const inQuickJs = typeof globalThis.console === "undefined";

if (inQuickJs) {
  const shown = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof Error) return value.stack ? `${value}\n${value.stack}` : String(value);
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  };
  const at = (write) => (...values) => write(values.map(shown).join(" "));
  globalThis.console = {
    log: at(log.info),
    info: at(log.info),
    debug: at(log.debug),
    trace: at(log.trace),
    warn: at(log.warn),
    error: at(log.error),
  };

  globalThis.TextEncoder = class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return encodeUtf8(String(text));
    }
  };
  globalThis.TextDecoder = class TextDecoder {
    constructor(label = "utf-8") {
      if (!/^utf-?8$/i.test(label)) throw new RangeError(`the encoding ${label} is not known here`);
    }
    get encoding() {
      return "utf-8";
    }
    decode(bytes = new Uint8Array()) {
      return decodeUtf8(bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes);
    }
  };

  const random = (length) => {
    const source = lookUp("random");
    if (source === undefined) throw new Error("there is no randomness while a component is built");
    return source.getRandomBytes(length);
  };
  globalThis.crypto = {
    getRandomValues(array) {
      const bytes = random(array.byteLength);
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(bytes);
      return array;
    },
    randomUUID() {
      const bytes = Uint8Array.from(random(16));
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
  };
  // 53 random bits, as many as a number in [0, 1) can show.
  Math.random = () => {
    const bytes = random(7);
    let bits = bytes[0] & 0x1f;
    for (let i = 1; i < 7; i += 1) bits = bits * 256 + bytes[i];
    return bits / 2 ** 53;
  };
}
