//! JSON as Stripe's forms: `{"items": [{"price": "p"}]}` is `items[0][price]=p`.
//! <https://docs.stripe.com/api/expanding_objects>
//!
//! What clients put into `linedata` and `items` goes to Stripe as they wrote it, so
//! everything here is hostile: depth and size have an end, and a name cannot reach out
//! of the place where it stands.

use form_urlencoded::Serializer;
use serde_json::Value;

use crate::error::{PaymentError, Result};

/// Deeper than anything that Stripe takes.
const MAX_DEPTH: usize = 10;
/// Bytes of a form.
const MAX_FORM: usize = 256 * 1024;

/// The form of an object. `null` is left out.
pub(crate) fn encode(value: &Value) -> Result<String> {
    let mut form = Serializer::new(String::new());
    let mut size = 0;
    add(&mut form, String::new(), value, 0, &mut size)?;
    Ok(form.finish())
}

fn add(
    form: &mut Serializer<'_, String>,
    name: String,
    value: &Value,
    depth: usize,
    size: &mut usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(invalid("what is to be sent to Stripe is nested too deeply"));
    }
    let leaf = match value {
        Value::Null => return Ok(()),
        Value::Object(members) => {
            for (member, value) in members {
                if member.is_empty() || member.contains(['[', ']']) {
                    return Err(invalid(
                        "names for Stripe are not empty and have no brackets",
                    ));
                }
                let inner = match name.is_empty() {
                    true => member.clone(),
                    false => format!("{name}[{member}]"),
                };
                add(form, inner, value, depth + 1, size)?;
            }
            return Ok(());
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                add(form, format!("{name}[{index}]"), value, depth + 1, size)?;
            }
            return Ok(());
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    *size += name.len() + leaf.len();
    if *size > MAX_FORM {
        return Err(invalid("what is to be sent to Stripe is too large"));
    }
    form.append_pair(&name, &leaf);
    Ok(())
}

fn invalid(sentence: &str) -> PaymentError {
    PaymentError::Invalid(sentence.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_becomes_a_form() {
        let check = |value: Value, expected: &str| {
            let form = encode(&value).unwrap();
            let pairs = form_urlencoded::parse(form.as_bytes());
            let shown: Vec<String> = pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            assert_eq!(shown.join("&"), expected);
        };
        check(json!({}), "");
        check(
            json!({"a": 1, "b": true, "c": null, "d": "x & y=z"}),
            "a=1&b=true&d=x & y=z",
        );
        check(
            json!({"items": [{"price": "p", "quantity": 2}], "m": {"k": "v"}}),
            "items[0][price]=p&items[0][quantity]=2&m[k]=v",
        );
    }

    #[test]
    fn names_cannot_reach_out_and_size_has_an_end() {
        for bad in [
            json!({"metadata": {"a][b": "1"}}),
            json!({"metadata": {"": "1"}}),
            json!({"metadata": {"a": "x".repeat(MAX_FORM)}}),
            (0..20).fold(json!("x"), |inner, _| json!({"a": inner})),
        ] {
            assert!(matches!(encode(&bad), Err(PaymentError::Invalid(_))));
        }
    }
}
