//! What query strings and bodies of storage requests say, in the service's terms.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use coglex_services::json;
use coglex_services::storage::{Change, Update};
use http::{HeaderValue, Uri};
use serde::Deserialize;

use crate::config::StorageConfig;
use crate::http::error::ApiError;

/// Parameters of reads, as they came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FindParams {
    query: Option<String>,
    keys: Option<String>,
    sort: Option<String>,
    skip: Option<String>,
    limit: Option<String>,
    many: Option<String>,
    count: Option<String>,
}

/// Parameters of writes, as they came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WriteParams {
    query: Option<String>,
    upsert: Option<String>,
}

/// What a read asks for.
#[derive(Debug, PartialEq)]
pub(in crate::http::routes) struct Asked {
    pub(in crate::http::routes) filter: Document,
    pub(in crate::http::routes) projection: Option<Document>,
    pub(in crate::http::routes) sort: Option<Document>,
    pub(in crate::http::routes) skip: u64,
    /// At most the configured page.
    pub(in crate::http::routes) limit: u64,
    /// A list, however many match.
    pub(in crate::http::routes) many: bool,
    /// The client expects pages: more matches than `limit` are no surprise.
    pub(in crate::http::routes) paged: bool,
    /// Count all matches too.
    pub(in crate::http::routes) count: bool,
}

impl FindParams {
    pub(in crate::http::routes) fn read(&self, limits: &StorageConfig) -> Result<Asked, ApiError> {
        let many = switch("many", self.many.as_deref())?;
        let limit = match number("limit", self.limit.as_deref())? {
            None => limits.page_limit,
            Some(limit) if (1..=limits.page_limit).contains(&limit) => limit,
            Some(_) => {
                return Err(ApiError::invalid(format!(
                    "`limit` must be from 1 to {}.",
                    limits.page_limit
                )));
            }
        };
        let sort = optional("sort", self.sort.as_deref(), limits.depth_limit)?;
        Ok(Asked {
            filter: self.filter(limits.depth_limit)?,
            projection: self.projection(limits.depth_limit)?,
            sort: sort.map(|sort| object("sort", sort)).transpose()?,
            skip: number("skip", self.skip.as_deref())?.unwrap_or(0),
            limit,
            many,
            paged: many || self.limit.is_some(),
            count: switch("count", self.count.as_deref())?,
        })
    }

    /// The filter; none matches everything.
    pub(super) fn filter(&self, depth: usize) -> Result<Document, ApiError> {
        match optional("query", self.query.as_deref(), depth)? {
            Some(filter) => object("query", filter),
            None => Ok(Document::new()),
        }
    }

    /// The projection: a document, or a list of the fields to show.
    pub(super) fn projection(&self, depth: usize) -> Result<Option<Document>, ApiError> {
        let Some(keys) = optional("keys", self.keys.as_deref(), depth)? else {
            return Ok(None);
        };
        match keys {
            Bson::Document(projection) => Ok(Some(projection)),
            Bson::Array(names) => {
                let names = names.into_iter().map(|name| match name {
                    Bson::String(name) => Ok((name, Bson::Int32(1))),
                    _ => Err(ApiError::invalid(
                        "`keys` must be a document or a list of names.",
                    )),
                });
                names.collect::<Result<_, _>>().map(Some)
            }
            _ => Err(ApiError::invalid(
                "`keys` must be a document or a list of names.",
            )),
        }
    }
}

impl WriteParams {
    /// The filter. Required, and `{}` is all: that a whole collection is changed
    /// must not follow from a parameter that got lost on its way.
    pub(super) fn filter(&self, depth: usize) -> Result<Document, ApiError> {
        match self.query.as_deref().map(str::trim) {
            None | Some("") => Err(ApiError::invalid(
                "`query` is required; {} stands for every document.",
            )),
            Some(text) => object("query", parse("query", text, depth)?),
        }
    }

    pub(super) fn upsert(&self) -> Result<bool, ApiError> {
        switch("upsert", self.upsert.as_deref())
    }
}

/// What a body asks to be changed: `document` holds fields to set, or update
/// operators if every key is one; `array_filters` say which elements a path with
/// `$[name]` means. The rest is for the caller to fill in.
pub(super) fn update(mut body: Document) -> Result<Update, ApiError> {
    let asked = match body.remove("document") {
        Some(value) => object("document", value)?,
        None => return Err(ApiError::invalid("`document` is missing.")),
    };
    let array_filters = match body.remove("array_filters") {
        None | Some(Bson::Null) => Vec::new(),
        Some(Bson::Array(filters)) => filters
            .into_iter()
            .map(|filter| object("array_filters", filter))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(ApiError::invalid("`array_filters` must be a list.")),
    };
    let operators = asked.keys().filter(|key| key.starts_with('$')).count();
    let operators = match operators {
        0 => doc! { "$set": asked },
        _ if operators == asked.len() => asked,
        _ => {
            return Err(ApiError::invalid(
                "`document` must hold either fields to set or update operators, not both.",
            ));
        }
    };
    Ok(Update {
        filter: Document::new(),
        change: Change::Operators(operators),
        many: false,
        upsert: false,
        array_filters,
    })
}

/// The documents that a body brings, and whether it brings a list.
pub(super) fn documents(mut body: Document) -> Result<(Vec<Document>, bool), ApiError> {
    match (body.remove("document"), body.remove("documents")) {
        (Some(one), None) => Ok((vec![object("document", one)?], false)),
        (None, Some(Bson::Array(list))) => {
            let list = list.into_iter().map(|one| object("documents", one));
            Ok((list.collect::<Result<_, _>>()?, true))
        }
        (None, Some(_)) => Err(ApiError::invalid("`documents` must be a list.")),
        (Some(_), Some(_)) => Err(ApiError::invalid(
            "The body must hold `document` or `documents`, not both.",
        )),
        (None, None) => Err(ApiError::invalid("`document` is missing.")),
    }
}

/// The ids that a path segment can mean, the likely one first.
pub(in crate::http::routes) fn ids(segment: &str) -> Vec<Bson> {
    let text = Bson::String(segment.to_owned());
    match ObjectId::parse_str(segment) {
        Ok(id) => vec![Bson::ObjectId(id), text],
        Err(_) => vec![text],
    }
}

/// `Link` to the page after this one: the same request with another `skip`.
pub(in crate::http::routes) fn next_link(uri: &Uri, skip: u64, limit: u64) -> Option<HeaderValue> {
    let kept: String = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !matches!(pair.split('=').next(), Some("skip" | "limit" | "")))
        .map(|pair| format!("{pair}&"))
        .collect();
    HeaderValue::try_from(format!(
        "<{}?{kept}skip={skip}&limit={limit}>; rel=\"next\"",
        uri.path()
    ))
    .ok()
}

/// A JSON parameter, where empty, `null`, `{}`, `[]`, `0` and `false` mean none.
fn optional(name: &str, text: Option<&str>, depth: usize) -> Result<Option<Bson>, ApiError> {
    match text.map(str::trim) {
        None | Some("" | "null" | "{}" | "[]" | "0" | "false") => Ok(None),
        Some(text) => {
            let value = parse(name, text, depth)?;
            let empty = matches!(&value, Bson::Document(document) if document.is_empty());
            Ok((!empty).then_some(value))
        }
    }
}

fn parse(name: &str, text: &str, depth: usize) -> Result<Bson, ApiError> {
    json::parse_value(text.as_bytes(), depth).map_err(|error| match error {
        coglex_services::Error::Invalid(reason) => ApiError::invalid(format!("`{name}`: {reason}")),
        other => other.into(),
    })
}

/// A value that has to be a document; `name` is for the sentence if it is not.
pub(super) fn object(name: &str, value: Bson) -> Result<Document, ApiError> {
    match value {
        Bson::Document(document) => Ok(document),
        _ if matches!(name, "documents" | "pipeline") => Err(ApiError::invalid(format!(
            "`{name}` must hold JSON objects."
        ))),
        _ => Err(ApiError::invalid(format!(
            "`{name}` must be a JSON object."
        ))),
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // Engines count in 63 bits.
    match text.parse::<u64>() {
        Ok(number) if number <= u64::MAX / 4 => Ok(Some(number)),
        _ => Err(ApiError::invalid(format!(
            "`{name}` must be a whole number."
        ))),
    }
}

fn switch(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text.map(str::trim) {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(ApiError::invalid(format!(
            "`{name}` must be true or false."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, String> {
        let limits = StorageConfig {
            page_limit: 50,
            result_limit: 1 << 20,
            document_limit: 1 << 20,
            depth_limit: 10,
        };
        let escaped = query
            .replace('{', "%7B")
            .replace('}', "%7D")
            .replace('"', "%22");
        let uri: Uri = format!("/?{escaped}").parse().unwrap();
        let axum::extract::Query(params) =
            axum::extract::Query::<FindParams>::try_from_uri(&uri).unwrap();
        params.read(&limits).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_means_nothing_asks_for_everything() {
        for none in ["", "null", "{}", "[]", "0", "false", "%20%7B%20%7D"] {
            let asked = asked(&format!("query={none}&keys={none}&sort={none}")).unwrap();
            assert_eq!(
                (asked.filter, asked.projection, asked.sort),
                (doc! {}, None, None),
                "{none}"
            );
        }
        let asked = asked("").unwrap();
        assert_eq!(
            (
                asked.skip,
                asked.limit,
                asked.many,
                asked.paged,
                asked.count
            ),
            (0, 50, false, false, false)
        );
    }

    #[test]
    fn keys_are_a_projection_or_a_list_of_names() {
        assert_eq!(
            asked("keys={\"a\":0}").unwrap().projection,
            Some(doc! { "a": 0 })
        );
        assert_eq!(
            asked("keys=[\"a\",\"b.c\"]").unwrap().projection,
            Some(doc! { "a": 1, "b.c": 1 })
        );
        assert!(asked("keys=[1]").is_err() && asked("keys=\"a\"").is_err());
    }

    #[test]
    fn pages_are_bounded_and_their_mistakes_are_named() {
        let check = |query: &str, part: &str| {
            let error = asked(query).unwrap_err();
            assert!(
                error.contains(part) && error.contains("400"),
                "{query}: {error}"
            );
        };
        assert_eq!(asked("limit=50&skip=7&many=true").unwrap().limit, 50);
        check("limit=51", "`limit` must be from 1 to 50.");
        check("limit=0", "`limit` must be from 1 to 50.");
        check("limit=-1", "`limit` must be a whole number.");
        check("skip=x", "`skip` must be a whole number.");
        check(
            "skip=18446744073709551615",
            "`skip` must be a whole number.",
        );
        check("many=maybe", "`many` must be true or false.");
        check("query={", "`query`: ");
        check("query=[1]", "`query` must be a JSON object.");
        check("sort=\"a\"", "`sort` must be a JSON object.");
    }

    #[test]
    fn a_write_needs_a_query_that_was_meant() {
        let filter = |query: Option<&str>| {
            WriteParams {
                query: query.map(str::to_owned),
                upsert: None,
            }
            .filter(10)
        };
        assert_eq!(filter(Some("{}")).unwrap(), doc! {});
        assert_eq!(filter(Some("{\"a\":1}")).unwrap(), doc! { "a": 1 });
        for lost in [
            None,
            Some(""),
            Some(" "),
            Some("null"),
            Some("[]"),
            Some("0"),
            Some("false"),
        ] {
            assert!(filter(lost).is_err(), "{lost:?}");
        }
    }

    #[test]
    fn a_change_is_fields_or_operators_and_never_both() {
        let change = |document: Document| match update(doc! { "document": document }) {
            Ok(Update {
                change: Change::Operators(operators),
                ..
            }) => Some(operators),
            _ => None,
        };
        assert_eq!(
            change(doc! { "a.b": 1 }),
            Some(doc! { "$set": { "a.b": 1 } })
        );
        assert_eq!(
            change(doc! { "$inc": { "a": 1 } }),
            Some(doc! { "$inc": { "a": 1 } })
        );
        assert_eq!(change(doc! { "$inc": { "a": 1 }, "b": 2 }), None);
    }

    #[test]
    fn array_filters_are_a_list_of_objects() {
        let filters = |value: Bson| {
            let body = doc! { "document": { "a": 1 }, "array_filters": value };
            update(body).map(|update| update.array_filters).ok()
        };
        let one = vec![doc! { "x": 1 }];
        assert_eq!(filters(bson::bson!([{ "x": 1 }])), Some(one));
        assert_eq!(filters(Bson::Null), Some(Vec::new()));
        assert_eq!(filters(bson::bson!([1])), None);
        assert_eq!(filters(bson::bson!({ "x": 1 })), None);
    }

    #[test]
    fn the_next_page_keeps_the_rest_of_the_request() {
        let check = |uri: &str, expected: &str| {
            assert_eq!(
                next_link(&uri.parse().unwrap(), 20, 10).unwrap(),
                expected,
                "{uri}"
            );
        };
        check("/c/", "</c/?skip=20&limit=10>; rel=\"next\"");
        check(
            "/c?limit=10&query=%7B%7D&skip=10",
            "</c?query=%7B%7D&skip=20&limit=10>; rel=\"next\"",
        );
    }
}
