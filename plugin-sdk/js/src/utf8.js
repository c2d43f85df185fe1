// UTF-8. QuickJS has neither TextEncoder nor TextDecoder, but `escape` and
// `encodeURIComponent`, native in both, make them up.

const CHUNK = 8192;

/** The bytes of a text. A lone surrogate becomes U+FFFD. */
export function encodeUtf8(text) {
  const binary = unescape(encodeURIComponent(text.toWellFormed?.() ?? text));
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** The text of bytes; throws a URIError when they are not UTF-8. */
export function decodeUtf8(bytes) {
  let binary = "";
  // `apply` takes a bounded number of arguments.
  for (let i = 0; i < bytes.length; i += CHUNK) {
    binary += String.fromCharCode.apply(null, bytes.subarray(i, i + CHUNK));
  }
  return decodeURIComponent(escape(binary));
}
