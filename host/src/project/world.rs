//! The world that a guest in JavaScript or Python is built against.
//!
//! Their tools put every import of a world into the component, used or not, and
//! the server refuses one that imports what it was not granted. So each plugin is
//! given a world of its own: with what everybody may import, and what its
//! `coglex.toml` asks for.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use coglex_runtime::Ask;
use coglex_services::grants::{Grants, PaymentVerb};

use super::{Kind, embedded};

/// The world's name.
pub(super) const WORLD: &str = "plugin";

/// The interfaces that everybody may import: the name that they go by in the
/// SDKs, and the interface.
const OPEN: [(&str, &str); 3] = [
    ("caller", "coglex:auth/caller@0.1.0"),
    ("settings", "coglex:config/settings@0.1.0"),
    ("logging", "coglex:log/logging@0.1.0"),
];
/// One that comes with a grant, and whether a plugin asks for that.
type Gated = (&'static str, &'static str, fn(&Grants) -> bool);
const GATED: [Gated; 8] = [
    ("documents", "coglex:storage/documents@0.1.0", |grants| {
        grants.reaches_documents()
    }),
    ("accounts", "coglex:auth/accounts@0.1.0", |grants| {
        !grants.auth.is_empty()
    }),
    ("calls", "coglex:execution/calls@0.1.0", |grants| {
        !grants.functions.is_empty()
    }),
    ("jobs", "coglex:execution/jobs@0.1.0", |grants| {
        !grants.functions.is_empty()
    }),
    ("secrets", "coglex:config/secrets@0.1.0", |grants| {
        !grants.secrets.is_empty()
    }),
    ("store", "coglex:kv/store@0.1.0", |grants| grants.kv),
    ("payments", "coglex:payment/payments@0.1.0", |grants| {
        grants.allows_payment(PaymentVerb::Checkout)
            || grants.allows_payment(PaymentVerb::Entitlements)
    }),
    ("outbox", "coglex:mail/outbox@0.1.0", |grants| {
        !grants.mail.is_empty()
    }),
];
/// What tests may import beside what their plugin does.
pub(super) const TEST_HOST: (&str, &str) = ("testing", "coglex:testing/host@0.1.0");
/// For languages whose own randomness is part of the snapshot that they start from.
const RANDOM: (&str, &str) = ("random", "wasi:random/random@0.2.0");
const RANDOM_WIT: &str = "package wasi:random@0.2.0;

interface random {
  get-random-bytes: func(len: u64) -> list<u8>;
  get-random-u64: func() -> u64;
}
";

impl Kind {
    fn exports(self) -> &'static [&'static str] {
        match self {
            Self::App => &["coglex:gateway/app@0.1.0", "coglex:gateway/handler@0.1.0"],
            Self::Function => &[
                "coglex:function/functions@0.1.0",
                "coglex:function/declarations@0.1.0",
            ],
        }
    }
}

/// The interfaces that a plugin imports: the SDK's name, and the interface's.
pub(super) fn imports(ask: &Ask) -> Vec<(&'static str, &'static str)> {
    let mut imports = OPEN.to_vec();
    let asked = GATED.iter().filter(|(_, _, asks)| asks(&ask.grants));
    imports.extend(asked.map(|(name, interface, _)| (*name, *interface)));
    imports
}

/// The same, and random numbers.
pub(super) fn imports_with_random(ask: &Ask) -> Vec<(&'static str, &'static str)> {
    let mut imports = imports(ask);
    imports.push(RANDOM);
    imports
}

/// Writes the world and the packages that it is made of into a folder.
pub(super) fn write(to: &Path, imports: &[(&str, &str)], kind: Kind) -> io::Result<()> {
    write_exporting(to, imports, kind.exports())
}

/// The same for a component with a plugin's tests, which import
/// [`TEST_HOST`] beside what the plugin does.
pub(super) fn write_tests(to: &Path, imports: &[(&str, &str)]) -> io::Result<()> {
    write_exporting(to, imports, &["coglex:testing/suite@0.1.0"])
}

fn write_exporting(to: &Path, imports: &[(&str, &str)], exports: &[&str]) -> io::Result<()> {
    let mut world = format!("package local:plugin;\n\nworld {WORLD} {{\n");
    for (_, interface) in imports {
        let _ = writeln!(world, "  import {interface};");
    }
    for interface in exports {
        let _ = writeln!(world, "  export {interface};");
    }
    world.push_str("}\n");
    let mut files: Vec<(&str, &str)> = embedded::files("wit")
        .filter(|(inside, _)| inside.starts_with("deps/"))
        .collect();
    files.push(("plugin.wit", &world));
    files.push(("deps/wasi-random/random.wit", RANDOM_WIT));
    embedded::sync(to, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_one_that_plugins_can_have() {
        let world = embedded::file("wit/world.wit").unwrap();
        let gated = GATED.iter().map(|(_, interface, _)| interface);
        for interface in OPEN.iter().map(|(_, interface)| interface).chain(gated) {
            assert!(
                world.contains(&format!("import {interface};")),
                "{interface}"
            );
        }
        for interface in Kind::App.exports().iter().chain(Kind::Function.exports()) {
            assert!(
                world.contains(&format!("export {interface};")),
                "{interface}"
            );
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_imported() {
        let names = |text: &str| -> Vec<_> {
            imports(&Ask::parse(text).unwrap())
                .into_iter()
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(names("").len(), OPEN.len());
        for (name, grant) in [
            (
                "documents",
                "storage = [{ collection = \"a\", verbs = [\"read\"] }]",
            ),
            (
                "accounts",
                "auth = [{ collection = \"a\", verbs = [\"lookup\"] }]",
            ),
            ("calls", "functions = [\"a\"]"),
            ("secrets", "secrets = [\"a\"]"),
            ("store", "kv = true"),
            ("payments", "payment = [\"checkout\"]"),
        ] {
            let names = names(&format!("[grants]\n{grant}"));
            // Who may call functions may also have them run later.
            let comes_along = usize::from(name == "calls");
            assert_eq!(names.len(), OPEN.len() + 1 + comes_along, "{grant}");
            assert!(names.contains(&name), "{grant}");
            assert_eq!(names.contains(&"jobs"), name == "calls", "{grant}");
        }
    }

    #[test]
    fn the_world_names_imports_and_exports() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &OPEN, Kind::Function).unwrap();
        let world = std::fs::read_to_string(dir.path().join("plugin.wit")).unwrap();
        assert!(
            world.contains("import coglex:log/logging@0.1.0;"),
            "{world}"
        );
        assert!(
            world.contains("export coglex:function/functions@0.1.0;"),
            "{world}"
        );
        assert!(!world.contains("gateway"), "{world}");
        assert!(dir.path().join("deps/coglex-storage/storage.wit").is_file());
    }
}
