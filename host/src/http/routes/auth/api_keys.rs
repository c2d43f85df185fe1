//! `/service/auth/v1/keys`: scoped API keys. Who makes and revokes them has the server's
//! own API key, which opens all that they can, or the admin key, as operators do.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use bson::{Bson, DateTime};
use coglex_services::json;
use coglex_services::keys::{KeyScope, ListedKey, NewKey, address_range};
use http::request::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::private;
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, ApiKey, JsonText, Path};

/// Who may make and revoke keys.
pub(crate) struct Keeper {
    by: &'static str,
}

impl FromRequestParts<AppState> for Keeper {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if AdminKey::from_request_parts(parts, state).await.is_ok() {
            return Ok(Self { by: "admin_key" });
        }
        ApiKey::from_request_parts(parts, state).await?;
        Ok(Self { by: "api_key" })
    }
}

/// A key that is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order<'a> {
    name: String,
    #[serde(flatten)]
    scope: KeyScope,
    #[serde(default, borrow)]
    expires: Option<&'a RawValue>,
    #[serde(default)]
    addresses: Vec<String>,
}

/// `POST keys/`: makes a key; answers with what `GET` tells of it, and, this once, with
/// the key itself as `key`.
pub(crate) async fn create(
    keeper: Keeper,
    State(state): State<AppState>,
    noted: Noted,
    JsonText(body): JsonText,
) -> Result<Response, ApiError> {
    let (made, key) = state.keys.create(order(&body)?.key(keeper.by)?).await?;
    noted.by(keeper.by);
    noted.target(&made.id);
    let mut view = view(&made)?;
    if let Value::Object(view) = &mut view {
        view.insert("key".to_owned(), key.into());
    }
    Ok(private(Json(view).into_response()))
}

/// `GET keys/`: all keys, the newest first, without the keys themselves.
pub(crate) async fn list(
    _keeper: Keeper,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    let keys = state.keys.list().await?;
    let views: Vec<Value> = keys.iter().map(view).collect::<Result<_, _>>()?;
    Ok(private(Json(views).into_response()))
}

/// `GET keys/{id}/`.
pub(crate) async fn show(
    _keeper: Keeper,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let key = state.keys.get(&id).await?.ok_or_else(unknown)?;
    Ok(private(Json(view(&key)?).into_response()))
}

/// `DELETE keys/{id}/`: ends it at once; answers 1.
pub(crate) async fn revoke(
    keeper: Keeper,
    State(state): State<AppState>,
    Path(id): Path<String>,
    noted: Noted,
) -> Result<Json<u8>, ApiError> {
    noted.by(keeper.by);
    match state.keys.revoke(&id).await? {
        true => Ok(Json(1)),
        false => Err(unknown()),
    }
}

fn unknown() -> ApiError {
    ApiError::not_found("There is no API key of this id.")
}

fn order(body: &[u8]) -> Result<Order<'_>, ApiError> {
    let not_an_object = || ApiError::bad_request("invalid_json", "The body is not a JSON object.");
    // serde would take a list for an object, its items in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(not_an_object());
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        // It quotes names and words of the body, which is the client's own.
        serde_json::error::Category::Data => ApiError::invalid(format!(
            "The key cannot be made: {error}. A key has `name`, `grants`, `routes`, `expires` and `addresses`."
        )),
        _ => not_an_object(),
    })
}

impl Order<'_> {
    fn key(self, by: &str) -> Result<NewKey, ApiError> {
        let expires = self.expires.map(date).transpose()?.flatten();
        let addresses = self.addresses.iter().map(|text| {
            address_range(text).ok_or_else(|| {
                ApiError::invalid(
                    "`addresses` are addresses or ranges such as 192.0.2.0/24 and 2001:db8::/32.",
                )
            })
        });
        Ok(NewKey {
            addresses: addresses.collect::<Result<_, _>>()?,
            name: self.name,
            scope: self.scope,
            expires,
            by: by.to_owned(),
        })
    }
}

/// `{"$date": …}`, its RFC 3339 alone, or null.
fn date(raw: &RawValue) -> Result<Option<DateTime>, ApiError> {
    let time = match json::parse_value(raw.get().as_bytes(), 4) {
        Ok(Bson::Null) => return Ok(None),
        Ok(Bson::DateTime(time)) => Some(time),
        Ok(Bson::String(text)) => DateTime::parse_rfc3339_str(&text).ok(),
        _ => None,
    };
    let time = time.ok_or_else(|| {
        ApiError::invalid(
            "`expires` must be a time such as \"2030-01-31T12:00:00Z\", or a `$date` of it.",
        )
    });
    time.map(Some)
}

/// A key as operators see it.
fn view(key: &ListedKey) -> Result<Value, ApiError> {
    let date = |time: Option<DateTime>| match time {
        Some(time) => json!({ "$date": time.try_to_rfc3339_string().unwrap_or_default() }),
        None => Value::Null,
    };
    let addresses: Vec<String> = key.addresses.iter().map(ToString::to_string).collect();
    Ok(json!({
        "id": key.id,
        "name": key.name,
        "grants": serde_json::to_value(&key.scope.grants).map_err(ApiError::internal)?,
        "routes": key.scope.routes,
        "addresses": addresses,
        "created": date(Some(key.created)),
        "created_by": key.by,
        "expires": date(key.expires),
        "used": date(key.used),
        "used_from": key.used_from,
    }))
}
