// Ids. An ObjectId is `{"$oid": "…"}` in Extended JSON, and 24 hex digits to
// people; any other string is itself.

const HEX = /^[0-9a-fA-F]{24}$/;

export function toId(value) {
  return typeof value === "string" && HEX.test(value) ? { $oid: value.toLowerCase() } : value;
}

export function idText(id) {
  if (typeof id === "string") return id;
  if (id !== null && typeof id === "object" && typeof id.$oid === "string") return id.$oid;
  return JSON.stringify(id);
}
