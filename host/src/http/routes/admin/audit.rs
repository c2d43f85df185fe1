//! `/admin/v1/audit`: who did what, when and from where.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use bson::oid::ObjectId;
use bson::{Bson, DateTime};
use coglex_services::audit::{AuditQuery, MAX_LISTED};
use http::header;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, Query};
use crate::http::routes::json_value;

/// Entries of one listing, unless it says how many.
const LISTED: u64 = 100;

/// What of the log is wanted.
#[derive(Deserialize)]
pub(crate) struct ListParams {
    action: Option<String>,
    outcome: Option<String>,
    actor: Option<String>,
    realm: Option<String>,
    subject: Option<String>,
    target: Option<String>,
    address: Option<String>,
    since: Option<String>,
    until: Option<String>,
    before: Option<String>,
    limit: Option<u64>,
}

/// `GET audit/`: entries, the newest first; `Link: …; rel="next"` where there are more.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    Query(params): Query<ListParams>,
) -> Result<Response, ApiError> {
    let limit = params.limit.unwrap_or(LISTED);
    if !(1..=MAX_LISTED).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "`limit` must be from 1 to {MAX_LISTED}."
        )));
    }
    let (entries, more) = state.audit.list(params.query(limit)?).await?;
    let last = entries
        .last()
        .and_then(|entry| entry.get_object_id("_id").ok());
    let entries = entries.into_iter().map(|mut entry| {
        if let Some(Bson::ObjectId(id)) = entry.remove("_id") {
            entry.insert("id", id.to_hex());
        }
        Bson::Document(entry)
    });
    let mut response = json_value(&Bson::Array(entries.collect()))?;
    if let Some(last) = last.filter(|_| more) {
        let link = params.next_link(uri.path(), &last.to_hex(), limit).parse();
        let headers = response.headers_mut();
        headers.extend(link.ok().map(|link| (header::LINK, link)));
    }
    Ok(response)
}

impl ListParams {
    fn query(&self, limit: u64) -> Result<AuditQuery, ApiError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let time = |name: &str, text: &Option<String>| {
            let time = given(text).map(|text| DateTime::parse_rfc3339_str(&text));
            time.transpose().map_err(|_| {
                ApiError::invalid(format!(
                    "`{name}` must be a time such as 2030-01-31T12:00:00Z."
                ))
            })
        };
        let before = given(&self.before).map(|id| ObjectId::parse_str(&id));
        Ok(AuditQuery {
            action: given(&self.action),
            success: match given(&self.outcome).as_deref() {
                None => None,
                Some("success") => Some(true),
                Some("failure") => Some(false),
                Some(_) => {
                    return Err(ApiError::invalid("`outcome` is `success` or `failure`."));
                }
            },
            actor: given(&self.actor),
            realm: given(&self.realm),
            subject: given(&self.subject),
            target: given(&self.target),
            address: given(&self.address),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            before: before
                .transpose()
                .map_err(|_| ApiError::invalid("`before` must be the id of an entry."))?,
            limit,
        })
    }

    fn next_link(&self, path: &str, last: &str, limit: u64) -> String {
        let mut link = format!("<{path}?limit={limit}&before={last}");
        for (name, value) in [
            ("action", &self.action),
            ("outcome", &self.outcome),
            ("actor", &self.actor),
            ("realm", &self.realm),
            ("subject", &self.subject),
            ("target", &self.target),
            ("address", &self.address),
            ("since", &self.since),
            ("until", &self.until),
        ] {
            if let Some(value) = value {
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
                link.push_str(&format!("&{name}={value}"));
            }
        }
        link + ">; rel=\"next\""
    }
}
