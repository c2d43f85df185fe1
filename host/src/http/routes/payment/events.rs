//! `/admin/v1/payment/events`: what Stripe has sent, and telling it again.

use axum::Json;
use axum::extract::State;
use coglex_payment::{EventQuery, EventState, EventView};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, Path, Query};

/// Which events.
#[derive(Deserialize)]
pub(crate) struct ListParams {
    r#type: Option<String>,
    state: Option<String>,
    before: Option<String>,
    limit: Option<u64>,
}

/// `GET events`: the newest first, with a link to those before.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
    Query(params): Query<ListParams>,
) -> Result<(HeaderMap, Json<Vec<EventView>>), ApiError> {
    let wanted = params.state.as_deref().map(|name| {
        EventState::of_name(name).ok_or_else(|| ApiError::invalid("`state` must be new or done."))
    });
    let limit = params.limit.unwrap_or(100);
    let query = EventQuery {
        kind: params.r#type.clone(),
        state: wanted.transpose()?,
        before: params.before,
        limit,
    };
    let (events, more) = state.payments.events(query).await?;
    let mut headers = HeaderMap::new();
    if let Some(last) = events.last().filter(|_| more) {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut link = format!(
            "</admin/v1/payment/events?limit={limit}&before={}",
            encoded(&last.id)
        );
        for (name, value) in [("type", params.r#type), ("state", params.state)] {
            if let Some(value) = value {
                link.push_str(&format!("&{name}={}", encoded(&value)));
            }
        }
        let link = HeaderValue::try_from(link + ">; rel=\"next\"");
        headers.extend(link.ok().map(|link| (header::LINK, link)));
    }
    Ok((headers, Json(events)))
}

/// `GET events/<id>`: one, with what Stripe has sent.
pub(crate) async fn show(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(event): Path<String>,
) -> Result<Json<EventView>, ApiError> {
    Ok(Json(state.payments.event(&event).await?))
}

/// `POST events/<id>/replay`: tells it again, to whoever wants it now.
pub(crate) async fn replay(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(event): Path<String>,
) -> Result<Json<EventView>, ApiError> {
    Ok(Json(state.payments.replay(&event).await?))
}
