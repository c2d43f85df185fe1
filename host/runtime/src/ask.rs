//! What a plugin asks for, and what the operator answers.
//!
//! A plugin carries its `coglex.toml` inside itself, as a custom section of its
//! core module (the SDK puts it there), or has it beside it as `NAME.toml`,
//! which wins. The operator's policy decides; grants are the intersection.

use std::collections::BTreeMap;

use coglex_services::grants::Grants;
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

use crate::budget::{Budget, BudgetOverrides};
use crate::error::LoadError;

/// A manifest is a page of text; whatever is larger is something else.
const MAX_BYTES: usize = 64 * 1024;

/// What a plugin asks for: its `coglex.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// What it wants to touch.
    pub grants: Grants,
    /// What it needs beyond, or can do with less than, the default budget.
    pub budget: BudgetOverrides,
}

impl Ask {
    /// The custom section that holds a plugin's `coglex.toml`, as UTF-8.
    pub const SECTION: &str = "coglex:manifest";

    /// Reads a `coglex.toml`.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        if text.len() > MAX_BYTES {
            return Err(LoadError::Ask(format!(
                "it is longer than {MAX_BYTES} bytes"
            )));
        }
        toml::from_str(text)
            .map_err(|error| LoadError::Ask(error.to_string().trim_end().to_owned()))
    }

    /// What a component asks for: by the text beside it, or else by the one that
    /// it carries; nothing without either.
    pub fn of(wasm: &[u8], beside: Option<&str>) -> Result<Self, LoadError> {
        match beside {
            Some(text) => Self::parse(text),
            None => match Self::embedded(wasm)? {
                Some(text) => Self::parse(&text),
                None => Ok(Self::default()),
            },
        }
    }

    /// The text that a component carries, if it carries one.
    pub fn embedded(wasm: &[u8]) -> Result<Option<String>, LoadError> {
        let mut found: Option<&[u8]> = None;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(|error| LoadError::Compile(error.into()))?;
            let Payload::CustomSection(section) = payload else {
                continue;
            };
            if section.name() != Self::SECTION {
                continue;
            }
            if found.is_some_and(|other| other != section.data()) {
                return Err(LoadError::Ask(format!(
                    "it holds two different {} sections",
                    Self::SECTION
                )));
            }
            found = Some(section.data());
        }
        let Some(bytes) = found else { return Ok(None) };
        if bytes.len() > MAX_BYTES {
            return Err(LoadError::Ask(format!(
                "it is longer than {MAX_BYTES} bytes"
            )));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(LoadError::Ask(format!(
                "the section {} is not UTF-8",
                Self::SECTION
            ))),
        }
    }
}

/// What the operator lets a plugin have of what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allow {
    /// Nothing.
    #[default]
    Nothing,
    /// All of it: for development, where the author is the operator.
    Everything,
    /// Whatever is in here too.
    Grants(Grants),
}

impl Allow {
    /// What a plugin that asks for this is granted.
    pub fn grant(&self, asked: &Grants) -> Grants {
        match self {
            Allow::Nothing => Grants::default(),
            // With itself: in the form that all grants have.
            Allow::Everything => asked.intersect(asked),
            Allow::Grants(allowed) => asked.intersect(allowed),
        }
    }
}

/// A text for a plugin that nobody else may see. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct PluginSecret(String);

impl PluginSecret {
    /// The text, for the plugin that it is meant for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for PluginSecret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for PluginSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What the operator says about one plugin.
#[derive(Clone, Default, PartialEq)]
pub struct Policy {
    /// Which of its asks are granted.
    pub allow: Allow,
    /// Its settings, as `coglex:config` shows them: strings as they are, other
    /// values as JSON text.
    pub settings: BTreeMap<String, String>,
    /// Its secrets, of which it may read those that it is granted.
    pub secrets: BTreeMap<String, PluginSecret>,
    /// Its budget, where the operator wants another than it asks for.
    pub budget: Option<BudgetOverrides>,
    /// The default budget, where it has changed since the runtime was made.
    pub default_budget: Option<Budget>,
    /// What it can ask for at most, where that has changed.
    pub max_budget: Option<Budget>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings hold secrets: names only.
        f.debug_struct("Policy")
            .field("allow", &self.allow)
            .field("settings", &self.settings.keys().collect::<Vec<_>>())
            .field("secrets", &self.secrets)
            .field("budget", &self.budget)
            .finish()
    }
}

/// The budget that a plugin gets: the default, changed as it asks but not above
/// the ceiling, changed as the operator says.
pub(crate) fn effective_budget(
    default: &Budget,
    ceiling: Option<&Budget>,
    asked: &BudgetOverrides,
    operator: Option<&BudgetOverrides>,
) -> Budget {
    let budget = default
        .clone()
        .with(asked)
        .at_most(ceiling.unwrap_or(default));
    match operator {
        Some(overrides) => budget.with(overrides),
        None => budget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_names_collections_verbs_and_budget() {
        let ask = Ask::parse(
            r#"
            [grants]
            storage = [{ collection = "notes", verbs = ["read", "insert"] }]
            [budget]
            memory_mib = 64
            "#,
        )
        .unwrap();
        assert_eq!(ask.grants.storage.len(), 1);
        assert_eq!(ask.budget.memory_mib, Some(64));
        assert_eq!(Ask::parse("").unwrap(), Ask::default());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let refused = |text: &str, name: &str| {
            let error = Ask::parse(text).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refused("[grant]\n", "grant");
        refused("[grants]\nstorages = []", "storages");
        refused("[budget]\nmemory = 1", "memory");
        refused(
            "[grants]\nstorage = [{ collection = \"a\", verbs = [\"drop\"] }]",
            "drop",
        );
    }

    #[test]
    fn the_manifest_is_found_in_a_nested_module() {
        let wasm = wat::parse_str(
            r#"(component (core module (@custom "coglex:manifest" "[budget]\nhost_calls = 7")))"#,
        )
        .unwrap();
        let text = Ask::embedded(&wasm).unwrap().unwrap();
        assert_eq!(Ask::parse(&text).unwrap().budget.host_calls, Some(7));
        let without = wat::parse_str("(component (core module))").unwrap();
        assert_eq!(Ask::embedded(&without).unwrap(), None);
    }

    #[test]
    fn two_different_manifests_are_refused() {
        let wasm = wat::parse_str(
            r#"(component (core module (@custom "coglex:manifest" "a")) (core module (@custom "coglex:manifest" "b")))"#,
        )
        .unwrap();
        assert!(Ask::embedded(&wasm).is_err());
    }

    #[test]
    fn a_plugin_cannot_ask_its_way_above_the_ceiling() {
        let default = Budget::default();
        let asked = BudgetOverrides {
            memory_mib: Some(4096),
            ..BudgetOverrides::default()
        };
        assert_eq!(effective_budget(&default, None, &asked, None), default);
        let ceiling = default.clone().with(&BudgetOverrides {
            memory_mib: Some(512),
            ..BudgetOverrides::default()
        });
        let budget = effective_budget(&default, Some(&ceiling), &asked, None);
        assert_eq!(budget.memory_bytes, ceiling.memory_bytes);
        let operator = BudgetOverrides {
            memory_mib: Some(1024),
            ..BudgetOverrides::default()
        };
        let budget = effective_budget(&default, Some(&ceiling), &asked, Some(&operator));
        assert_eq!(budget.memory_bytes, 1024 << 20);
    }

    #[test]
    fn the_order_of_an_ask_does_not_matter() {
        let ask = Ask::parse(
            "[grants]\nfunctions = [\"b\", \"a\"]\nstorage = [{ collection = \"b\", verbs = [\"update\", \"read\"] }]",
        );
        let ask = ask.unwrap().grants;
        let granted = Allow::Grants(ask.clone()).grant(&ask);
        assert_eq!(Allow::Everything.grant(&ask), granted);
        assert_eq!(
            granted.to_string(),
            "b: read, update; function a; function b"
        );
    }

    #[test]
    fn settings_are_not_printed() {
        let mut policy = Policy::default();
        policy
            .settings
            .insert("stripe_key".to_owned(), "sk_live_1".to_owned());
        let printed = format!("{policy:?}");
        assert!(printed.contains("stripe_key") && !printed.contains("sk_live_1"));
    }
}
