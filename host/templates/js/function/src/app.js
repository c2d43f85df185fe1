// Functions that clients call by name.

import { failure, functions } from "coglex";

functions.add(
  "greet",
  { summary: "Greets somebody.", params: { name: "string", greeting: { type: "string", default: "Hello" } } },
  ({ name, greeting }) => {
    if (name === "") throw failure("no_name", "whom shall I greet?");
    return `${greeting}, ${name}!`;
  },
);
