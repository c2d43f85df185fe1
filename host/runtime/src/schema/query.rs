//! A schema of the query string. Parameters are texts; where the schema names
//! another type for one, its text is read as that before it is checked.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::{MAX_WORK, Mismatch, Schema, WORK_ASIDE, aside};
use crate::error::CallError;

/// Parameters of one query.
const MAX_PARAMETERS: usize = 1_000;

/// A compiled schema of a query, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuerySchema(Schema);

impl QuerySchema {
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        Schema::compile(text).map(Self)
    }

    /// The schema as it was declared.
    #[must_use]
    pub fn source(&self) -> &Value {
        self.0.source()
    }

    /// Where the query (without `?`) does not fit. A path is `/` and the
    /// parameter's name. Fails when the query is too large to be checked.
    pub async fn mismatches(&self, query: &str) -> Result<Vec<Mismatch>, CallError> {
        let too_large =
            || CallError::InvalidRequest("The query is too large to be checked.".to_owned());
        let parameters = form_urlencoded::parse(query.as_bytes());
        if parameters.take(MAX_PARAMETERS + 1).count() > MAX_PARAMETERS {
            return Err(too_large());
        }
        let value = self.read(query);
        match self.0.work(&value) {
            0..=WORK_ASIDE => Ok(self.0.find(&value)),
            work if work <= MAX_WORK => {
                let schema = self.0.clone();
                aside(move || schema.find(&value)).await
            }
            _ => Err(too_large()),
        }
    }

    fn read(&self, query: &str) -> Value {
        let mut texts: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let values = texts.entry(name.into_owned()).or_default();
            values.push(value.into_owned());
        }
        let properties = self.source().get("properties");
        let members = texts.into_iter().map(|(name, mut values)| {
            let schema = properties.and_then(|all| all.get(&name));
            let value = if types(schema).any(|kind| kind == "array") || values.len() > 1 {
                let items = schema.and_then(|schema| schema.get("items"));
                values.iter().map(|text| as_typed(text, items)).collect()
            } else {
                as_typed(&values.pop().unwrap_or_default(), schema)
            };
            (name, value)
        });
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// What the schema's `type` names.
fn types(schema: Option<&Value>) -> impl Iterator<Item = &str> {
    let kinds = schema.and_then(|schema| schema.get("type"));
    let list = kinds.and_then(Value::as_array);
    let one = kinds.and_then(Value::as_str);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .chain(one)
}

/// The text as the first type that it can be; else as the text, which the check
/// then refuses.
fn as_typed(text: &str, schema: Option<&Value>) -> Value {
    let read = |kind: &str| match kind {
        "integer" => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .ok(),
        "number" => text
            .parse::<i64>()
            .map(Value::from)
            .ok()
            .or_else(|| Number::from_f64(text.parse().ok()?).map(Value::Number)),
        "boolean" => text.parse::<bool>().map(Value::Bool).ok(),
        _ => None,
    };
    types(schema)
        .find_map(read)
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> QuerySchema {
        let schema = json!({
            "type": "object",
            "properties": {
                "page": {"type": "integer", "minimum": 1},
                "done": {"type": "boolean"},
                "near": {"type": ["number", "null"]},
                "tag": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                "name": {"type": "string"},
            },
            "required": ["page"],
            "additionalProperties": false,
        });
        QuerySchema::compile(&schema.to_string()).unwrap()
    }

    #[test]
    fn parameters_are_read_as_their_types() {
        assert_eq!(
            schema().read("page=7&done=true&near=1.5&tag=a&tag=7&name=12"),
            json!({"page": 7, "done": true, "near": 1.5, "tag": ["a", "7"], "name": "12"})
        );
        assert_eq!(schema().read("tag=a%20b+c"), json!({"tag": ["a b c"]}));
    }

    #[tokio::test]
    async fn a_mismatch_names_the_parameter() {
        assert_eq!(schema().mismatches("page=1").await.unwrap(), []);
        for (query, path, rule) in [
            ("page=0", "/page", "minimum"),
            ("page=x", "/page", "type"),
            ("page=1&page=2", "/page", "type"),
            ("page=1&tag=a&tag=b&tag=c", "/tag", "maxItems"),
            ("page=1&other=1", "", "additionalProperties"),
            ("", "", "required"),
        ] {
            let found = schema().mismatches(query).await.unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.path.as_str(), one.rule.as_str()))
                .collect();
            assert_eq!(found, [(path, rule)], "{query}");
        }
    }

    #[tokio::test]
    async fn a_query_has_a_thousand_parameters_at_most() {
        let query = |count: usize| {
            let all: Vec<_> = (0..count).map(|n| format!("p{n}={n}")).collect();
            all.join("&")
        };
        let open = QuerySchema::compile("{}").unwrap();
        assert_eq!(open.mismatches(&query(MAX_PARAMETERS)).await, Ok(vec![]));
        let refused = open.mismatches(&query(MAX_PARAMETERS + 1)).await;
        assert!(matches!(refused, Err(CallError::InvalidRequest(_))));
    }

    #[tokio::test]
    async fn a_query_that_takes_long_waits_for_its_turn() {
        let many = vec![json!({"type": "string"}); 100];
        let schema = json!({"additionalProperties": {"allOf": many}});
        let schema = QuerySchema::compile(&schema.to_string()).unwrap();
        let all: Vec<_> = (0..MAX_PARAMETERS).map(|n| format!("p{n}={n}")).collect();
        let query = all.join("&");
        let turns = crate::schema::TURNS.acquire_many(2).await.unwrap();
        let check = schema.mismatches(&query);
        tokio::pin!(check);
        let wait = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, &mut check).await.is_err());
        assert_eq!(schema.mismatches("a=b").await, Ok(vec![]));
        drop(turns);
        assert_eq!(check.await, Ok(vec![]));
    }
}
