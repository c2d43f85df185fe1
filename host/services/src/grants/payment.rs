//! What may be done with payments.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be done with payments. The keys of Stripe are no part of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentVerb {
    /// Make Checkout sessions, look at them and at prices.
    Checkout,
    /// Make and end subscriptions, open the billing portal. For clients: no guest has
    /// a call for it.
    Subscriptions,
    /// Give money back. For clients, too.
    Refund,
    /// Ask what somebody has paid for.
    Entitlements,
    /// Be told of events. For functions of plugins.
    Events,
}

impl fmt::Display for PaymentVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PaymentVerb::Checkout => "checkout",
            PaymentVerb::Subscriptions => "subscriptions",
            PaymentVerb::Refund => "refund",
            PaymentVerb::Entitlements => "entitlements",
            PaymentVerb::Events => "events",
        })
    }
}

/// What both lists have, in order.
pub(super) fn intersect(asked: &[PaymentVerb], allowed: &[PaymentVerb]) -> Vec<PaymentVerb> {
    let both: BTreeSet<PaymentVerb> = asked
        .iter()
        .filter(|verb| allowed.contains(verb))
        .copied()
        .collect();
    both.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_sides_name_is_granted() {
        use PaymentVerb::{Checkout, Events, Refund};
        assert_eq!(
            intersect(&[Refund, Checkout, Checkout], &[Checkout, Events]),
            [Checkout]
        );
        assert_eq!(intersect(&[Refund], &[]), []);
    }
}
