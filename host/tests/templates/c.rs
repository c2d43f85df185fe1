//! A guest in a language without an SDK: `wit/` is enough.

use crate::guests::Host;
use crate::tools::{LOADING, root};

#[test]
fn an_app_in_c_answers_from_the_component_that_is_checked_in() {
    let component = std::fs::read(root().join("examples/greet-c/greet-c.wasm")).unwrap();
    let host = Host::with(&[], "");
    host.deploy("greet-c", &component);
    host.answers_within("/greet-c/Ann", "Hello, Ann!\n", LOADING);
    let anonymous = host.server.anonymous();
    assert_eq!(
        anonymous.get("/greet-c/J%C3%B8rgen%20B").text(),
        "Hello, Jørgen B!\n"
    );
    assert_eq!(anonymous.get("/greet-c").status, 404);
    host.logged(&["greet-c", "greeted", "J\u{f8}rgen B"]);
}
