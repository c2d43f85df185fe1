//! Functions that are told of payment events.

use std::sync::Weak;

use arc_swap::ArcSwap;
use coglex_payment::{Subscriber, Subscribers};

use super::Generation;

/// What serves. Weak: plugins, which a generation holds, hold the services that ask here.
pub(super) struct Table(pub(super) Weak<ArcSwap<Generation>>);

impl Subscribers for Table {
    fn of(&self, kind: &str) -> Vec<Subscriber> {
        let Some(current) = self.0.upgrade() else {
            return Vec::new();
        };
        let generation = current.load();
        let mut found = Vec::new();
        for plugin in generation.plugins() {
            for function in plugin.functions() {
                if function.events.iter().any(|wanted| covers(wanted, kind)) {
                    found.push(Subscriber {
                        plugin: plugin.name().to_owned(),
                        function: function.name.clone(),
                    });
                }
            }
        }
        found
    }
}

/// Whether a function that wants the first is told of the second: the same, all, or all
/// that begin so.
fn covers(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => wanted == kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_covers_what_begins_so() {
        for (wanted, kind, expected) in [
            ("charge.refunded", "charge.refunded", true),
            ("charge.refunded", "charge.refund.updated", false),
            (
                "customer.subscription.*",
                "customer.subscription.deleted",
                true,
            ),
            ("customer.subscription.*", "customer.created", false),
            ("*", "anything.at_all", true),
        ] {
            assert_eq!(covers(wanted, kind), expected, "{wanted} {kind}");
        }
    }
}
