//! Whether Stripe has sent a webhook: the header `Stripe-Signature` over the raw bytes.
//! <https://docs.stripe.com/webhooks#verify-manually>

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::{PaymentError, Result};

/// How old, or how far ahead, a signature may be: what it guards is not sent again later
/// by somebody who has overheard it.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Longer headers are not Stripe's, and signatures beyond these are not looked at.
const MAX_HEADER: usize = 4096;
const MAX_SIGNATURES: usize = 16;

/// Checks a header against any of the secrets, `now` in Unix seconds.
pub(crate) fn verify(
    header: Option<&str>,
    payload: &[u8],
    secrets: &[String],
    now: i64,
) -> Result<()> {
    let no = |code, message| Err(PaymentError::Untrusted { code, message });
    let Some(header) = header.filter(|header| header.len() <= MAX_HEADER) else {
        return no(
            "signature_missing",
            "The header Stripe-Signature is required.",
        );
    };
    let Some((timestamp, signatures)) = parse(header) else {
        return no(
            "signature_malformed",
            "The header Stripe-Signature has no timestamp or no v1 signature.",
        );
    };
    let believed = signatures.iter().any(|signature| {
        secrets
            .iter()
            .any(|secret| matches(secret, timestamp, payload, signature))
    });
    if !believed {
        return no(
            "signature_mismatch",
            "The signature is not one of this webhook's secrets.",
        );
    }
    // After the signature, so that only Stripe learns about our clock.
    let Ok(seconds) = timestamp.parse::<i64>() else {
        return no(
            "signature_malformed",
            "The timestamp of the signature is no number.",
        );
    };
    if now.abs_diff(seconds) > TOLERANCE.as_secs() {
        return no(
            "signature_expired",
            "The signature is too old, or the clocks differ.",
        );
    }
    Ok(())
}

/// The timestamp as it was signed, and the signatures of scheme v1. Others are of test
/// events, or of schemes to come, and never count.
fn parse(header: &str) -> Option<(&str, Vec<Vec<u8>>)> {
    let (mut timestamp, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", value) if timestamp.is_none() => timestamp = Some(value),
            // Two of them, and nobody knows which was signed.
            ("t", _) => return None,
            ("v1", value) if signatures.len() < MAX_SIGNATURES => {
                signatures.extend(hex::decode(value));
            }
            _ => {}
        }
    }
    let timestamp = timestamp?;
    (!signatures.is_empty()).then_some((timestamp, signatures))
}

/// Compared in constant time.
fn matches(secret: &str, timestamp: &str, payload: &[u8], signature: &[u8]) -> bool {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(payload);
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stripe_webhook::Webhook;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const PAYLOAD: &str = r#"{"id": "evt_1"}"#;

    fn check(header: &str, secrets: &[&str]) -> std::result::Result<(), &'static str> {
        let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
        match verify(Some(header), PAYLOAD.as_bytes(), &secrets, NOW) {
            Ok(()) => Ok(()),
            Err(PaymentError::Untrusted { code, .. }) => Err(code),
            Err(other) => panic!("{other}"),
        }
    }

    fn header(secret: &str, at: i64) -> String {
        Webhook::generate_test_header(PAYLOAD, secret, Some(at))
    }

    #[test]
    fn signatures_of_the_bindings_are_believed_and_no_others() {
        let good = header("whsec_a", NOW);
        assert_eq!(check(&good, &["whsec_a"]), Ok(()));
        // Rotation: any of several.
        assert_eq!(check(&good, &["whsec_b", "whsec_a"]), Ok(()));
        assert_eq!(check(&good, &["whsec_b"]), Err("signature_mismatch"));
        assert_eq!(check(&good, &[]), Err("signature_mismatch"));
        let both = format!(
            "{good},{}",
            header("whsec_c", NOW).split_once(',').unwrap().1
        );
        assert_eq!(check(&both, &["whsec_c"]), Ok(()));
        let wrong = verify(
            Some(&good),
            b"{\"id\": \"evt_2\"}",
            &["whsec_a".into()],
            NOW,
        );
        assert!(wrong.is_err());
        assert!(verify(None, b"", &["whsec_a".into()], NOW).is_err());
    }

    #[test]
    fn old_signatures_and_those_of_the_future_are_refused() {
        for (at, expected) in [
            (NOW - 300, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 301, Err("signature_expired")),
            (NOW + 301, Err("signature_expired")),
            (i64::MIN, Err("signature_expired")),
        ] {
            assert_eq!(
                check(&header("whsec_a", at), &["whsec_a"]),
                expected,
                "{at}"
            );
        }
    }

    #[test]
    fn headers_that_say_less_or_too_much_are_refused() {
        let good = header("whsec_a", NOW);
        let v0 = good.replace("v1=", "v0=");
        let moved = good.replace(&format!("t={NOW}"), &format!("t={}", NOW + 1));
        let twice = format!("t={},{good}", NOW + 1);
        for (bad, code) in [
            ("", "signature_malformed"),
            ("t=1", "signature_malformed"),
            ("v1=00", "signature_malformed"),
            (v0.as_str(), "signature_malformed"),
            (twice.as_str(), "signature_malformed"),
            (moved.as_str(), "signature_mismatch"),
            ("t=x,v1=00", "signature_mismatch"),
        ] {
            assert_eq!(check(bad, &["whsec_a"]), Err(code), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_believe(header in ".{0,200}") {
            prop_assert!(check(&header, &["whsec_a"]).is_err());
        }
    }
}
