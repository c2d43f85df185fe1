//! Which payment events a component's functions want to be told of.

use coglex_services::grants::{Grants, PaymentVerb};

use super::{FunctionInfo, declares, shown};
use crate::bindings::payment_events as wit;
use crate::error::LoadError;

/// Of one function.
const MAX_EVENTS: usize = 64;
/// Bytes of a type; Stripe's longest has some fifty.
const MAX_TYPE: usize = 128;

/// Adds to each function what it wants to be told.
pub(crate) fn add(
    functions: &mut [FunctionInfo],
    subscriptions: Vec<wit::Subscription>,
    granted: &Grants,
) -> Result<(), LoadError> {
    for wit::Subscription { function, event } in subscriptions {
        let known = functions.iter_mut().find(|known| known.name == function);
        let Some(known) = known else {
            return Err(declares(format!(
                "events for the function {:?}, which it does not have",
                shown(&function)
            )));
        };
        if !granted.allows_payment(PaymentVerb::Events) {
            return Err(LoadError::EventsNotGranted { function });
        }
        if !is_event(&event) {
            return Err(declares(format!(
                "the function {function} with events {:?}, which is no type of events",
                shown(&event)
            )));
        }
        if !known.events.contains(&event) {
            known.events.push(event);
        }
        if known.events.len() > MAX_EVENTS {
            return Err(declares(format!(
                "the function {function} with more than {MAX_EVENTS} types of events"
            )));
        }
    }
    Ok(())
}

/// Lower-case words with dots and `_`, and perhaps a star at the end.
fn is_event(event: &str) -> bool {
    let name = event.strip_suffix('*').unwrap_or(event);
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
    (1..=MAX_TYPE).contains(&event.len()) && name.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: &str, events: &[&str], granted: bool) -> Result<Vec<String>, String> {
        let mut functions = vec![FunctionInfo {
            name: "paid".to_owned(),
            ..FunctionInfo::default()
        }];
        let grants = Grants {
            payment: granted.then_some(PaymentVerb::Events).into_iter().collect(),
            ..Grants::default()
        };
        let wanted = events.iter().map(|event| wit::Subscription {
            function: function.to_owned(),
            event: (*event).to_owned(),
        });
        add(&mut functions, wanted.collect(), &grants).map_err(|error| error.to_string())?;
        Ok(functions.remove(0).events)
    }

    #[test]
    fn what_is_wanted_is_kept_once() {
        let wanted = ["charge.refunded", "customer.*", "*", "v2.thing", "*"];
        let kept = check("paid", &wanted, true).unwrap();
        assert_eq!(kept, ["charge.refunded", "customer.*", "*", "v2.thing"]);
        assert!(check("paid", &[], false).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        assert!(
            check("paid", &["*"], false)
                .unwrap_err()
                .contains("payment = [\"events\"]")
        );
        assert!(
            check("absent", &["*"], true)
                .unwrap_err()
                .contains("does not have")
        );
        for bad in ["", "a b", "A", "a*b", "**", &"a".repeat(200)] {
            assert!(
                check("paid", &[bad], true).unwrap_err().contains("no type"),
                "{bad}"
            );
        }
        let many: Vec<String> = (0..65).map(|n| format!("a.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            check("paid", &many, true)
                .unwrap_err()
                .contains("more than 64")
        );
    }
}
