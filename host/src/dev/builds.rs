//! Which sources do not build at the moment, and what their tools say.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The builds that failed. Reading takes no lock: every request does it.
#[derive(Debug, Default)]
pub struct Builds {
    /// By plugin, what its tool said.
    failed: ArcSwap<BTreeMap<String, String>>,
}

impl Builds {
    /// A build was good.
    pub(super) fn good(&self, plugin: &str) {
        self.failed.rcu(|failed| {
            let mut failed = BTreeMap::clone(failed);
            failed.remove(plugin);
            failed
        });
    }

    /// A build failed, with these words.
    pub(super) fn failed(&self, plugin: &str, text: String) {
        self.failed.rcu(|failed| {
            let mut failed = BTreeMap::clone(failed);
            failed.insert(plugin.to_owned(), text.clone());
            failed
        });
    }

    /// Those that failed now.
    pub(super) fn current(&self) -> Arc<BTreeMap<String, String>> {
        self.failed.load_full()
    }
}
