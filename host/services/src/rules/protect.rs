//! What users do not write in their own documents, whatever the rules say: what rules
//! know them by, and the address that links for new passwords go to. Called by
//! [`RuleSet`] when rules are read. Which field has the address is the accounts' to
//! say; here it is only a name.

use std::collections::{BTreeMap, BTreeSet};

use super::{ROLES, Rule, RuleSet};
use crate::error::Result;
use crate::grants::Condition;

/// The field with the address of a realm's users, where mail is sent there.
pub(super) type AddressOf = dyn Fn(&str) -> Option<String> + Send + Sync;

impl RuleSet {
    /// Keeps users from changing what rules know them by: who could write `roles`, or
    /// the `team` that a rule asks for, into his own document would let himself in. And
    /// whoever has stolen a session must not keep the account by another address.
    pub(super) fn protect(&mut self, address_of: &AddressOf) -> Result<()> {
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for rules in self.collections.values().flatten() {
            let fields = known.entry(rules.realm.clone()).or_default();
            let conditions = rules.rules().into_iter().filter_map(Rule::condition);
            fields.extend(
                conditions
                    .flat_map(Condition::caller_fields)
                    .map(str::to_owned),
            );
            fields.insert(ROLES.to_owned());
        }
        for (collection, rules) in &mut self.collections {
            for rules in rules {
                if rules.realm == *collection {
                    rules
                        .readonly
                        .extend(known.remove(collection).unwrap_or_default());
                    rules.readonly.extend(address_of(collection));
                    // The store's and the accounts' own rules keep these two.
                    rules.readonly.remove("_id");
                    rules.readonly.remove("_key");
                }
                rules.mask()?;
            }
        }
        Ok(())
    }
}
