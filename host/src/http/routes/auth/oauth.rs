//! Sign-in by identity providers. Not behind the API key: a browser is sent here by a
//! link. What it goes on with is in a cookie of its own, and what a page gets is a code
//! that it trades with a POST.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bson::{Bson, doc};
use coglex_services::accounts::{Client, OAuthAnswer, OAuthBegun, OAuthRequest, OwnIdentity};
use coglex_services::caller::Credentials;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::totp::optional_text;
use super::{private, signed_in, text};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::credentials::{flow_cookie, set_flow_cookie};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path, read_body};
use crate::http::routes::json_value;

const PATH: &str = "/service/auth/v1/oauth";
/// Bytes of what a provider has a browser post: a code, a state, a name.
const MAX_POST: usize = 64 << 10;
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

/// `GET oauth/<c>`: the providers that there are for this collection's users.
pub(crate) async fn list(
    State(state): State<AppState>,
    Path(realm): Path<String>,
) -> Result<Response, ApiError> {
    let names = state.services.accounts.providers_of(&realm);
    let list = names.into_iter().map(|name| {
        let url = format!("{PATH}/{}/{name}/", encoded(&realm));
        Bson::from(doc! { "name": name, "url": url })
    });
    json_value(&Bson::Array(list.collect()))
}

/// `GET oauth/<c>/<provider>`: sends the browser to the provider; or tells where it is
/// to go, to who prefers JSON.
pub(crate) async fn begin(
    State(state): State<AppState>,
    Path((realm, provider)): Path<(String, String)>,
    headers: HeaderMap,
    uri: http::Uri,
) -> Result<Response, ApiError> {
    let callback = callback_url(&state, &headers, &realm, &provider)?;
    let query = parameters(uri.query().unwrap_or_default().as_bytes());
    let request = OAuthRequest {
        callback: &callback,
        redirect: query.get("redirect"),
        challenge: query.get("code_challenge"),
    };
    let accounts = &state.services.accounts;
    let begun = accounts.begin_oauth(&realm, &provider, &request).await?;
    let accepts = headers.get(header::ACCEPT);
    let accepts = accepts.and_then(|value| value.to_str().ok());
    let accepts = accepts.unwrap_or_default();
    let response = match accepts.contains("application/json") && !accepts.contains("text/html") {
        true => json_value(&Bson::Document(doc! { "url": &begun.url }))?,
        false => see_other(&begun.url)?,
    };
    sent_off(&state, response, &begun)
}

/// `POST oauth/<c>/<provider>/link`: the same, to link an identity to who is signed in.
/// Tells where the browser is to go.
pub(crate) async fn link(
    State(state): State<AppState>,
    Path((realm, provider)): Path<(String, String)>,
    credentials: Credentials,
    client: Client,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let callback = callback_url(&state, &headers, &realm, &provider)?;
    let redirect = optional_text(&mut body, "redirect")?;
    let challenge = optional_text(&mut body, "code_challenge")?;
    let password = optional_text(&mut body, "_password")?;
    let request = OAuthRequest {
        callback: &callback,
        redirect: redirect.as_deref(),
        challenge: challenge.as_deref(),
    };
    let begun = state.services.accounts.begin_oauth_link(
        &realm,
        &provider,
        &request,
        &credentials,
        password.as_deref(),
        &client,
    );
    let begun = begun
        .await?
        .ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let response = json_value(&Bson::Document(doc! { "url": &begun.url }))?;
    sent_off(&state, response, &begun)
}

/// `GET` and `POST oauth/<c>/<provider>/callback`: where the provider sends the browser
/// back to. Sends it on to the page.
pub(crate) async fn callback(
    State(state): State<AppState>,
    Path((realm, provider)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let given = match parts.method == Method::POST {
        true => {
            let timeout = state.config.server.body_timeout;
            parameters(&read_body(body, MAX_POST, timeout).await?)
        }
        false => parameters(parts.uri.query().unwrap_or_default().as_bytes()),
    };
    let text = |name: &str| given.get(name).map(str::to_owned);
    let answer = OAuthAnswer {
        state: text("state").unwrap_or_default(),
        code: text("code"),
        error: text("error"),
        issuer: text("iss"),
    };
    let https = state.config.server.is_https();
    let sealed = flow_cookie(&parts.headers, &answer.state, https);
    let accounts = &state.services.accounts;
    let page = accounts.finish_oauth(&realm, &provider, &answer, sealed.as_deref());
    let mut response = private(see_other(&page.await?)?);
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let gone = set_flow_cookie(&answer.state, "", 0, https, false);
    headers.extend(gone.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

/// `POST oauth/<c>/exchange`: trades the code that a page was given; answers as a
/// sign-in does.
pub(crate) async fn exchange(
    noted: Noted,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let code = text(&mut body, "_code")?;
    let verifier = optional_text(&mut body, "code_verifier")?;
    let accounts = &state.services.accounts;
    let opened = accounts.exchange_oauth(&realm, &code, verifier.as_deref(), &client);
    let opened = opened.await?;
    noted.subject(&opened.user.key);
    signed_in(&state, &realm, opened)
}

/// `GET oauth/<c>/identities`: the identities of who is signed in.
pub(crate) async fn identities(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Response, ApiError> {
    let found = state.services.accounts.identities(&realm, &credentials);
    let found = found
        .await?
        .ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let view = found.into_iter().map(|one: OwnIdentity| {
        let mut view = doc! { "id": one.id, "provider": one.provider, "linked": one.linked };
        let email = one.email;
        view.extend(email.map(|email| ("email".to_owned(), email.into())));
        Bson::Document(view)
    });
    json_value(&Bson::Array(view.collect())).map(private)
}

/// `POST oauth/<c>/identities/<id>/unlink`: takes one away.
pub(crate) async fn unlink(
    State(state): State<AppState>,
    Path((realm, id)): Path<(String, String)>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let password = optional_text(&mut body, "_password")?;
    let accounts = &state.services.accounts;
    let unlinked = accounts.unlink(&realm, &credentials, &id, password.as_deref(), &client);
    match unlinked.await? {
        Some(true) => Ok(Json(true).into_response()),
        Some(false) => Err(ApiError::not_found("You have no identity of this id.")),
        None => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

fn sent_off(
    state: &AppState,
    response: Response,
    begun: &OAuthBegun,
) -> Result<Response, ApiError> {
    let https = state.config.server.is_https();
    let cookie = set_flow_cookie(
        &begun.state,
        &begun.sealed,
        begun.seconds,
        https,
        begun.posts_back,
    );
    let mut response = private(response);
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

fn see_other(url: &str) -> Result<Response, ApiError> {
    let location = HeaderValue::try_from(url).map_err(ApiError::internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// Where the provider sends the browser back to: a path of the address that the operator
/// has named. Without one, a request may name it, if it is this very machine.
fn callback_url(
    state: &AppState,
    headers: &HeaderMap,
    realm: &str,
    provider: &str,
) -> Result<String, ApiError> {
    let known = state.config.server.public_url.trim_end_matches('/');
    let local = || {
        let host = headers.get(header::HOST)?.to_str().ok()?;
        let url = format!("http://{host}");
        let plain = host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".:[]-".contains(&b));
        (plain && coglex_oauth::is_safe_url(&url)).then_some(url)
    };
    let base = match known {
        "" => local(),
        known => Some(known.to_owned()),
    };
    let base = base.ok_or_else(|| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "public_url_required",
            "Sign-in by providers needs the setting server.public_url.",
        )
    })?;
    Ok(format!(
        "{base}{PATH}/{}/{provider}/callback",
        encoded(realm)
    ))
}

fn encoded(realm: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(realm, percent_encoding::NON_ALPHANUMERIC);
    encoded.to_string()
}

/// Parameters of a query or a form; of those that are there twice none, since it could
/// not be said which is meant (RFC 6749, section 3.1).
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, wanted: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(name, _)| name == wanted);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

fn parameters(text: &[u8]) -> Parameters {
    let pairs = form_urlencoded::parse(text);
    Parameters(pairs.into_owned().take(32).collect())
}
