// PocketBase's side of `cargo xtask bench`: the same answer by a hook in JavaScript.
routerAdd("GET", "/bench/hello", (e) => e.string(200, "Hello, world!"));
