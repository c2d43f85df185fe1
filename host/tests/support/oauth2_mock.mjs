// A provider of OpenID Connect for tests: npm's oauth2-mock-server, which checks PKCE.
// Prints its issuer. Each line of its input is JSON and says how the tokens from then on
// differ: {"payload": {…}, "header": {…}}, or {"rotate": true} for a new key. Answers "ok".
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const entry = `${process.argv[2]}/node_modules/oauth2-mock-server/dist/index.mjs`;
const { OAuth2Server } = await import(pathToFileURL(entry));
const server = new OAuth2Server();
let { kid } = await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');

const usual = { sub: 'ann', name: 'Ann', email: 'ann@example.org', email_verified: true };
let change = {};
server.issuer.on('beforeSigning', ({ header, payload }) => {
  Object.assign(payload, usual, change.payload);
  Object.assign(header, change.header);
});
console.log(server.issuer.url);

for await (const line of createInterface({ input: process.stdin })) {
  change = JSON.parse(line);
  if (change.rotate) {
    const old = kid;
    ({ kid } = await server.issuer.keys.generate('RS256'));
    // Keys take turns: the old one has had its.
    server.issuer.keys.get(old);
  }
  console.log('ok');
}
process.exit(0);
