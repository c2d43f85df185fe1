//! Whose secrets those of the environment are.

use crate::guests::{Host, component};

/// A component that is mounted under its own name, so that two of it get along.
const GUEST: &str = "fixture-hostile-wasi";

#[test]
fn plugins_that_share_the_names_of_variables_are_not_both_given_secrets() {
    let host = Host::with(
        &[],
        "[plugins.allow.my-app]\nsecrets = [\"*\"]\n[plugins.allow.my_app]\nsecrets = [\"*\"]\n",
    );
    let wasm = component(GUEST);
    let asks = "[grants]\nsecrets = [\"token\"]\n";
    let beside = |name: &str| host.plugins().join(format!("{name}.toml"));

    std::fs::write(beside("my-app"), asks).unwrap();
    host.deploy("my-app", &wasm);
    host.logged(&["\"plugin.name\":\"my-app\"", "plugin loaded"]);
    std::fs::write(beside("my_app"), asks).unwrap();
    host.deploy("my_app", &wasm);
    host.logged(&[
        "my_app",
        "my-app",
        "COGLEX_PLUGIN_SECRET_MY_APP__",
        "rename one",
    ]);

    // Without secrets there is nothing to mix up.
    std::fs::write(beside("my_app"), "").unwrap();
    host.logged(&["\"plugin.name\":\"my_app\"", "plugin loaded"]);
}
