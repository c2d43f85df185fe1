//! `coglex:testing/host`: what a test says about its world.

use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, doc};
use bytes::Bytes;
use coglex_services::caller::{API_KEY_HEADER, Credentials};
use coglex_services::{Error as ServiceError, json};
use http::header;

use super::Harness;
use super::bindings::coglex::testing::host::{Host, LogLine, Request, Response};
use super::harness::{Asking, Message};
use crate::interfaces::storage::write_value;
use crate::state::InstanceState;

/// What users are signed up with whom tests only name.
const PASSWORD: &str = "the password of a test's user";

impl Host for InstanceState {
    fn set_time(&mut self, unix_ms: u64) -> wasmtime::Result<()> {
        let millis = i64::try_from(unix_ms)?;
        self.harness()?.set_time(DateTime::from_millis(millis));
        Ok(())
    }

    fn advance(&mut self, ms: u64) -> wasmtime::Result<()> {
        self.harness()?.advance(Duration::from_millis(ms));
        Ok(())
    }

    fn as_client(&mut self) -> wasmtime::Result<()> {
        self.ask_as(true, None)
    }

    fn as_anonymous(&mut self) -> wasmtime::Result<()> {
        self.ask_as(false, None)
    }

    async fn as_user(
        &mut self,
        collection: String,
        key: String,
        document: String,
    ) -> wasmtime::Result<String> {
        let shared = Arc::clone(&self.shared);
        let services = &shared.services;
        let signed_in = async {
            let depth = services.documents.limits().depth;
            let document = json::parse_document(document.as_bytes(), depth)?;
            let accounts = &services.accounts;
            match accounts
                .sign_up(&collection, &key, PASSWORD, document)
                .await
            {
                // There already, by an earlier call; the sign-in will tell.
                Ok(_) | Err(ServiceError::Invalid(_)) => {}
                Err(error) => return Err(error),
            }
            accounts.sign_in(&collection, &key, PASSWORD, doc! {}).await
        };
        let signed_in = match signed_in.await {
            Ok(signed_in) => signed_in,
            Err(ServiceError::NotFound(_)) => {
                return Err(wasmtime::format_err!(
                    "{key:?} cannot become a user of {collection:?} here: the test has signed them up itself, with a password of its own"
                ));
            }
            Err(error) => {
                return Err(wasmtime::format_err!(
                    "{key:?} cannot become a user of {collection:?}: {error}"
                ));
            }
        };
        let id = write_value(&signed_in.user.id)?;
        self.ask_as(true, Some(signed_in.token))?;
        Ok(id)
    }

    async fn send(&mut self, request: Request) -> wasmtime::Result<Response> {
        let harness = Arc::clone(self.harness()?);
        let server = harness.server().ok_or_else(missing)?;
        let sent = build(request, &harness.asking(), &server.api_key)?;
        // A task of its own, so that what the plugin computes is not the test's.
        let answer = tokio::spawn((server.answer)(sent)).await?;
        let (parts, body) = answer.into_parts();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: pairs(&parts.headers),
            body: body.to_vec(),
        })
    }

    fn answer(&mut self, method: String, url: String, response: Response) -> wasmtime::Result<()> {
        let told = Message {
            head: response.status,
            headers: response.headers,
            body: response.body,
        };
        if !(200..600).contains(&told.head) {
            return Err(wasmtime::format_err!(
                "the status {} of the answer for {method} {url} is not between 200 and 599",
                told.head
            ));
        }
        self.harness()?.prepare(method, url, told);
        Ok(())
    }

    fn sent(&mut self) -> wasmtime::Result<Vec<Request>> {
        let sent = self.harness()?.sent().into_iter().map(|asked| Request {
            method: asked.head.0,
            target: asked.head.1,
            headers: asked.headers,
            body: asked.body,
        });
        Ok(sent.collect())
    }

    fn logs(&mut self) -> wasmtime::Result<Vec<LogLine>> {
        let lines = self.harness()?.lines().into_iter().map(|line| LogLine {
            level: line.level.as_str().to_ascii_lowercase(),
            message: line.message,
            fields: line.fields,
        });
        Ok(lines.collect())
    }

    fn set_setting(&mut self, name: String, value: String) -> wasmtime::Result<()> {
        self.harness()?.set_setting(name, value);
        Ok(())
    }

    fn set_secret(&mut self, name: String, value: String) -> wasmtime::Result<()> {
        self.harness()?.set_secret(name, value);
        Ok(())
    }
}

impl InstanceState {
    fn harness(&self) -> wasmtime::Result<&Arc<Harness>> {
        self.shared.harness.as_ref().ok_or_else(missing)
    }

    /// For what the test itself calls, and for what it sends to the server.
    fn ask_as(&mut self, api_key: bool, bearer: Option<String>) -> wasmtime::Result<()> {
        self.call.credentials = Credentials {
            api_key,
            bearer: bearer.clone(),
            ..Credentials::default()
        };
        self.call.users.clear();
        self.call.caller = None;
        self.harness()?.ask_as(Asking { api_key, bearer });
        Ok(())
    }
}

fn missing() -> wasmtime::Error {
    wasmtime::format_err!("there is no server under test here")
}

/// The request as a client would send it. Credentials that it has are its own.
fn build(
    request: Request,
    asking: &Asking,
    api_key: &str,
) -> wasmtime::Result<http::Request<Bytes>> {
    let (method, target) = (&request.method, &request.target);
    if !target.starts_with('/') {
        return Err(wasmtime::format_err!(
            "{method} {target}: a test asks its own server, by a path that begins with a slash"
        ));
    }
    let mut builder = http::Request::builder()
        .method(method.as_str())
        .uri(target)
        .header(header::HOST, "localhost");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let mut built = builder
        .body(Bytes::from(request.body))
        .map_err(|error| wasmtime::format_err!("{} {}: {error}", request.method, request.target))?;
    let length = built.body().len();
    let headers = built.headers_mut();
    if length > 0 {
        headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    if asking.api_key {
        headers.entry(API_KEY_HEADER).or_insert(api_key.parse()?);
    }
    if let Some(token) = &asking.bearer
        && !headers.contains_key(header::COOKIE)
    {
        let bearer = format!("Bearer {token}");
        headers
            .entry(header::AUTHORIZATION)
            .or_insert(bearer.parse()?);
    }
    Ok(built)
}

/// Values that are no UTF-8 are rare enough to be shown as what is left of them.
pub(crate) fn pairs(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    };
    headers.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }

    #[test]
    fn requests_carry_who_asks_unless_they_say_it_themselves() {
        let asking = Asking {
            api_key: true,
            bearer: Some("token".to_owned()),
        };
        let built = build(request("/a?b", &[]), &asking, "key").unwrap();
        assert_eq!(built.headers()[API_KEY_HEADER], "key");
        assert_eq!(built.headers()["authorization"], "Bearer token");
        let own = [("X-API-Key", "other"), ("Authorization", "Bearer mine")];
        let built = build(request("/", &own), &asking, "key").unwrap();
        assert_eq!(built.headers()[API_KEY_HEADER], "other");
        assert_eq!(built.headers()["authorization"], "Bearer mine");
        let nobody = Asking::default();
        let built = build(request("/", &[]), &nobody, "key").unwrap();
        assert!(!built.headers().contains_key(API_KEY_HEADER));
    }

    #[test]
    fn only_the_tests_own_server_is_asked() {
        for target in ["http://example.com/", "example.com", ""] {
            let error = build(request(target, &[]), &Asking::default(), "key").unwrap_err();
            assert!(error.to_string().contains("begins with a slash"), "{error}");
        }
    }
}
