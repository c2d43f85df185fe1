//! JSON Schemas that plugins declare: compiled once at load, checked before a
//! guest runs. The schema is a plugin's and the value a client's, so both are
//! hostile: what a check can cost is bounded from both sides.
//!
//! The language is draft 2020-12 without what reaches out of a schema or turns
//! back into it: `$id`, anchors, dynamic references, and `$ref` to anything but
//! a part of the same schema that does not contain the reference. A schema thus
//! has a size once its references are written out, and a check costs at most
//! that size times the value's.

mod query;
mod size;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::CallError;

pub use query::QuerySchema;

/// The text of a schema is a page or two.
pub(crate) const MAX_TEXT: usize = 64 * 1024;
/// Subschemas, references written out.
const MAX_SIZE: u64 = 2_000;
/// Subschemas times parts of the value. Some 50 ns each, so half a second at most.
const MAX_WORK: u64 = 10_000_000;
/// Up to here all mismatches are collected, which takes some hundred bytes for
/// each; where more could be wrong, the first is all that is looked for.
const MAX_COLLECTED: u64 = 20_000;
/// What is checked on the spot; more goes to the blocking pool.
const WORK_ASIDE: u64 = 50_000;
/// As [`WORK_ASIDE`], for parsing.
const PARSE_ASIDE: usize = 64 * 1024;
/// Compiled, a pattern takes at most this much.
const MAX_PATTERN: usize = 256 * 1024;
/// Mismatches that a client is told of.
const MAX_MISMATCHES: usize = 10;
const MAX_DETAIL: usize = 300;
/// How long a large check waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Turns at large checks, for the whole process: parsed, a body takes up to some
/// thirty times its bytes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Where a value does not fit a schema, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// A JSON pointer (RFC 6901) into the value: `/address/zip`; empty for all of it.
    pub path: String,
    /// The keyword of the schema: `required`.
    pub rule: String,
    /// A sentence, without the value.
    pub detail: String,
}

/// A compiled schema, cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    source: Value,
    size: u64,
    /// Whether there is a keyword whose one error is made of several.
    several: bool,
    validator: Validator,
}

impl Schema {
    /// Reads and compiles a schema; else the rest of the sentence "a schema …".
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("of more than {MAX_TEXT} bytes"));
        }
        let source: Value =
            serde_json::from_str(text).map_err(|error| format!("that is not JSON: {error}"))?;
        let size = size::of(&source)?.size;
        if size > MAX_SIZE {
            return Err(format!(
                "of more than {MAX_SIZE} subschemas, references written out"
            ));
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            // Takes time in proportion to the text, whatever the pattern.
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN)
                    .dfa_size_limit(MAX_PATTERN),
            )
            .build(&source)
            .map_err(|error| {
                let at = error.instance_path().to_string();
                clip(format!("that is not valid at {at:?}: {}", error.masked()))
            })?;
        let plain = source.to_string();
        let several = ["\"anyOf\"", "\"oneOf\"", "\"unevaluated"];
        let several = several.iter().any(|name| plain.contains(name));
        Ok(Self(Arc::new(Inner {
            source,
            size,
            several,
            validator,
        })))
    }

    /// The schema as it was declared.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.0.source
    }

    /// Where the value does not fit: nowhere, or the first few places. Fails
    /// when the value is too large to be checked against this schema.
    pub fn mismatches(&self, value: &Value) -> Result<Vec<Mismatch>, CallError> {
        if self.work(value) > MAX_WORK {
            return Err(CallError::PayloadTooLarge);
        }
        Ok(self.find(value))
    }

    /// Checks a request's body, aside where that takes long.
    pub(crate) async fn check_body(&self, body: Vec<u8>) -> (Vec<u8>, Result<(), CallError>) {
        if body.len() <= PARSE_ASIDE {
            let checked = self.parse_and_check(&body, WORK_ASIDE);
            if let Some(checked) = checked {
                return (body, checked);
            }
        }
        let schema = self.clone();
        let aside = aside(move || {
            let checked = schema.parse_and_check(&body, MAX_WORK);
            (body, checked.unwrap_or(Err(CallError::PayloadTooLarge)))
        });
        aside.await.unwrap_or_else(|error| (Vec::new(), Err(error)))
    }

    /// Nothing where it would be more work than `limit`.
    fn parse_and_check(&self, body: &[u8], limit: u64) -> Option<Result<(), CallError>> {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => {
                return Some(Err(CallError::NotJson(clip(format!(
                    "The body is not JSON: {error}."
                )))));
            }
        };
        if self.work(&value) > limit {
            return None;
        }
        let mismatches = self.find(&value);
        Some(if mismatches.is_empty() {
            Ok(())
        } else {
            Err(CallError::Mismatch(mismatches))
        })
    }

    fn find(&self, value: &Value) -> Vec<Mismatch> {
        let validator = &self.0.validator;
        if validator.is_valid(value) {
            return Vec::new();
        }
        let told = |error: ValidationError<'_>| Mismatch {
            path: error.instance_path().to_string(),
            rule: error.kind().keyword().to_owned(),
            detail: clip(error.masked_with("the value").to_string()),
        };
        // The iterator has collected all errors before it gives the first.
        if self.work(value) <= MAX_COLLECTED {
            let errors = validator.iter_errors(value);
            return errors.take(MAX_MISMATCHES).map(told).collect();
        }
        let first = match self.0.several {
            true => None,
            false => validator.validate(value).err().map(told),
        };
        vec![first.unwrap_or_else(|| Mismatch {
            path: String::new(),
            rule: "schema".to_owned(),
            detail: "it is too large to say where".to_owned(),
        })]
    }

    fn work(&self, value: &Value) -> u64 {
        self.0.size.saturating_mul(size::parts(value))
    }
}

/// Does a large check on the blocking pool, when it is its turn. The turn goes
/// along: a client that hangs up does not end what runs there.
async fn aside<T: Send + 'static>(
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CallError> {
    let turn = turn().await?;
    let checked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        check()
    });
    checked.await.map_err(|error| {
        tracing::error!(%error, "an input could not be checked");
        CallError::Unavailable
    })
}

async fn turn() -> Result<SemaphorePermit<'static>, CallError> {
    let turn = tokio::time::timeout(TURN_WAIT, TURNS.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or(CallError::Overloaded {
        retry_after: Duration::from_secs(1),
    })
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

/// A check's sentence may list what a client sent, such as unknown members.
fn clip(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        text.truncate(text.floor_char_boundary(MAX_DETAIL));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(value: Value) -> Schema {
        Schema::compile(&value.to_string()).unwrap()
    }

    #[test]
    fn a_mismatch_names_the_path_and_the_rule_and_not_the_value() {
        let schema = schema(json!({
            "type": "object",
            "properties": {"age": {"type": "integer", "minimum": 18}, "mail": {"format": "email"}},
            "required": ["name"],
        }));
        let found = schema
            .mismatches(&json!({"age": 7, "mail": "secret"}))
            .unwrap();
        let rules: Vec<_> = found
            .iter()
            .map(|one| (one.path.as_str(), one.rule.as_str()))
            .collect();
        assert!(rules.contains(&("/age", "minimum")), "{found:?}");
        assert!(rules.contains(&("/mail", "format")), "{found:?}");
        assert!(rules.contains(&("", "required")), "{found:?}");
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
        let fits = json!({"name": "Ann", "age": 18, "mail": "a@example.com"});
        assert_eq!(schema.mismatches(&fits).unwrap(), []);
    }

    #[test]
    fn schemas_that_could_hurt_the_server_are_refused() {
        let refused = |value: Value, part: &str| {
            let why = Schema::compile(&value.to_string()).unwrap_err();
            assert!(why.contains(part), "{value}: {why}");
        };
        refused(json!({"type": "no such type"}), "not valid");
        refused(json!({"format": "no-such-format"}), "not valid");
        refused(json!({"pattern": "("}), "not valid");
        refused(json!({"pattern": "(?:a{1000}){1000}"}), "not valid");
        refused(json!({"$ref": "https://example.com/schema"}), "$ref");
        refused(json!({"allOf": [{"$ref": "#"}]}), "contains");
        refused(json!({"$id": "https://example.com/"}), "$id");
        let doubling = (1..20).map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n - 1)});
            (format!("d{n}"), json!({"allOf": [next, next]}))
        });
        let mut definitions: serde_json::Map<_, _> = doubling.collect();
        definitions.insert("d0".into(), json!({"minimum": 1}));
        refused(
            json!({"$defs": definitions, "$ref": "#/$defs/d19"}),
            "subschemas",
        );
        assert!(Schema::compile("{").unwrap_err().contains("not JSON"));
        let long = json!({"const": "x".repeat(MAX_TEXT)});
        refused(long, "bytes");
        // Names of members are no keywords.
        schema(json!({"properties": {"$id": {"type": "string"}}, "const": {"$id": 1}}));
    }

    #[test]
    fn a_pattern_takes_time_in_proportion_to_the_text() {
        let schema = schema(json!({"pattern": "^(a+)+$"}));
        let text = format!("{}b", "a".repeat(10_000));
        assert_eq!(schema.mismatches(&json!(text)).unwrap().len(), 1);
    }

    #[test]
    fn a_value_that_is_too_much_work_is_too_large() {
        let many = vec![json!({"type": "integer"}); 900];
        let schema = schema(json!({"items": {"allOf": many}}));
        assert_eq!(schema.mismatches(&json!([1, 2, 3])).unwrap(), []);
        let long = Value::Array(vec![json!(1); 100_000]);
        assert_eq!(schema.mismatches(&long), Err(CallError::PayloadTooLarge));
    }

    #[test]
    fn of_a_large_value_only_the_first_mismatch_is_told() {
        let wrong = |length: usize| Value::Array(vec![json!("a"); length]);
        let plain = schema(json!({"items": {"type": "integer"}}));
        assert_eq!(plain.mismatches(&wrong(100)).unwrap().len(), MAX_MISMATCHES);
        let found = plain.mismatches(&wrong(100_000)).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&*found[0].path, &*found[0].rule), ("/0", "type"));
        // Telling the first would collect all of the alternatives.
        let either = schema(json!({"anyOf": [{"items": {"type": "integer"}}, {"type": "null"}]}));
        let found = either.mismatches(&wrong(100_000)).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].rule, "schema");
    }

    #[tokio::test]
    async fn large_checks_take_turns() {
        let turns = TURNS.acquire_many(2).await.unwrap();
        let schema = schema(json!({"items": {"type": "integer"}}));
        let large = serde_json::to_vec(&vec![1; 100_000]).unwrap();
        let check = schema.check_body(large);
        tokio::pin!(check);
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, &mut check).await.is_err());
        // Small ones do not wait.
        assert_eq!(schema.check_body(b"[1]".to_vec()).await.1, Ok(()));
        drop(turns);
        assert_eq!(check.await.1, Ok(()));
    }

    #[tokio::test]
    async fn bodies_are_checked_and_given_back_whatever_their_size() {
        let schema = schema(json!({"items": {"type": "integer"}}));
        for length in [1, 100_000] {
            let body = serde_json::to_vec(&vec![1; length]).unwrap();
            let (back, checked) = schema.check_body(body.clone()).await;
            assert_eq!((back, checked), (body, Ok(())));
        }
        let (_, checked) = schema.check_body(b"[1, \"a\"]".to_vec()).await;
        assert!(
            matches!(&checked, Err(CallError::Mismatch(list)) if list[0].path == "/1"),
            "{checked:?}"
        );
        let (_, checked) = schema.check_body(b"[1".to_vec()).await;
        assert!(matches!(checked, Err(CallError::NotJson(_))));
    }
}
