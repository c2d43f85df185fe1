//! The request that a handler answers.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::User;
use crate::error::{Error, OrStatus, Problem, Result, clip};

/// An HTTP request whose route and guards the server has already checked.
///
/// What a client got wrong comes back as a [`Problem`] that names it, so `?` in
/// a handler answers them properly. `X-API-Key`, session cookies and session
/// tokens never arrive here; [`auth`](crate::auth) tells who is calling.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) route: String,
    pub(crate) query: Option<String>,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Parameters that arguments of the handler have taken.
    pub(crate) taken: Cell<usize>,
    /// The collection of the users whom the route's guards let in.
    pub(crate) realm: Option<Cow<'static, str>>,
    /// Who a test says is signed in.
    pub(crate) user: Option<User>,
}

impl Request {
    /// A request for tests of your handlers; see [`App::respond`](crate::App::respond).
    /// The path may have a query.
    ///
    /// ```
    /// use coglex_sdk::Request;
    ///
    /// let request = Request::new("GET", "/api/items?page=2");
    /// assert_eq!(request.query_param::<u32>("page")?, Some(2));
    /// # Ok::<(), coglex_sdk::Error>(())
    /// ```
    pub fn new(method: impl Into<String>, path_and_query: &str) -> Self {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Self {
            method: method.into(),
            path: path.to_owned(),
            query,
            ..Self::default()
        }
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the body, for tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a JSON body and its content type, for tests.
    pub fn with_json<T: Serialize + ?Sized>(self, body: &T) -> Result<Self> {
        let body = serde_json::to_vec(body)?;
        Ok(self
            .with_header("content-type", "application/json")
            .with_body(body))
    }

    /// Says who is signed in, for tests: [`User`] as an argument of a handler.
    #[must_use]
    pub fn signed_in(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// The method in upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path as the client sent it, percent-encoded, without the query and
    /// without a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The pattern of the route that matched, e.g. `/api/items/{id}`.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The raw query string without `?`.
    #[must_use]
    pub fn query_string(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The path's parameters, percent-decoded, in order.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.params)
    }

    /// A parameter of the path, percent-decoded and parsed. A value that does
    /// not parse is answered with 400.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// fn show(request: Request) -> Result<Response> {
    ///     let id: Id = request.param("id")?;
    ///     let item: Value = storage::get("items", id)?.or_status(404, "there is no such item")?;
    ///     Response::json(&item)
    /// }
    /// ```
    pub fn param<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let value = find(&self.params, name).ok_or_else(|| {
            Error::other(format!(
                "the route {} has no parameter `{name}`",
                self.route
            ))
        })?;
        parse(value, "path parameter", name)
    }

    /// The query as a struct. A field that is missing or does not parse is
    /// answered with 400 naming it.
    ///
    /// ```
    /// # use coglex_sdk::Request;
    /// #[derive(serde::Deserialize)]
    /// struct Page {
    ///     #[serde(default)]
    ///     skip: u64,
    ///     limit: Option<u64>,
    /// }
    ///
    /// let page: Page = Request::new("GET", "/items?limit=20").query()?;
    /// assert_eq!((page.skip, page.limit), (0, Some(20)));
    /// # Ok::<(), coglex_sdk::Error>(())
    /// ```
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        serde_urlencoded::from_str(self.query.as_deref().unwrap_or_default()).map_err(|error| {
            Error::status(
                400,
                clip(format!("the query is not as it should be: {error}")),
            )
        })
    }

    /// A parameter of the query, decoded and parsed; the first when it repeats.
    /// A value that does not parse is answered with 400.
    pub fn query_param<T>(&self, name: &str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        form_urlencoded::parse(self.query.as_deref().unwrap_or_default().as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| parse(&value, "query parameter", name))
            .transpose()
    }

    /// Names (in lower case) and values of the headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.headers)
    }

    /// A header's value; the first when it repeats. The case of the name does
    /// not matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as text. Anything but UTF-8 is answered with 400.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).or_status(400, "the body is not UTF-8 text")
    }

    /// The body as JSON. Another content type is answered with 415, a body that
    /// does not fit with 400 saying where.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// #[derive(Serialize, Deserialize)]
    /// struct NewItem {
    ///     title: String,
    /// }
    ///
    /// fn create(request: Request) -> Result<Response> {
    ///     let item: NewItem = request.json()?;
    ///     let id = storage::insert("items", &item)?;
    ///     Ok(Response::json(&id)?.status(201))
    /// }
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.header("content-type").is_some_and(is_json) {
            return Err(Error::status(415, "the body must be application/json"));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Problem::new(
                400,
                clip(format!("the body is not as it should be: {error}")),
            )
            .code("invalid_body")
            .into()
        })
    }
}

fn pairs(list: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    list.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn find<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs(list)
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn parse<T>(value: &str, kind: &str, name: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    value.parse().map_err(|error| {
        Error::status(
            400,
            clip(format!("the {kind} `{name}` is not valid: {error}")),
        )
    })
}

/// `application/json`, or any `+json` type, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(error: Error) -> u16 {
        error.to_problem().status
    }

    #[test]
    fn query_parameters_are_decoded_and_parsed() {
        let request = Request::new("GET", "/x?name=a%20b+c&n=7&n=8&empty=");
        assert_eq!(request.path(), "/x");
        assert_eq!(
            request.query_param::<String>("name").unwrap().unwrap(),
            "a b c"
        );
        assert_eq!(request.query_param::<u8>("n").unwrap(), Some(7));
        assert_eq!(request.query_param::<String>("empty").unwrap().unwrap(), "");
        assert_eq!(request.query_param::<String>("absent").unwrap(), None);
        let error = request.query_param::<u8>("name").unwrap_err();
        assert!(error.to_string().contains("`name`"), "{error}");
        assert_eq!(status(error), 400);
    }

    #[test]
    fn a_parameter_that_the_route_lacks_is_our_fault() {
        assert_eq!(
            status(Request::new("GET", "/x").param::<String>("id").unwrap_err()),
            500
        );
    }

    #[test]
    fn json_bodies_need_their_content_type() {
        let body = Request::new("POST", "/x").with_body(r#"{"a":1}"#);
        assert_eq!(status(body.json::<Value>().unwrap_err()), 415);
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.x+json",
        ] {
            let value: Value = body
                .clone()
                .with_header("Content-Type", good)
                .json()
                .unwrap();
            assert_eq!(value, json!({"a": 1}));
        }
        for bad in [
            "text/json",
            "application/jsonx",
            "text/plain; x=application/json",
            "",
        ] {
            assert_eq!(
                status(
                    body.clone()
                        .with_header("content-type", bad)
                        .json::<Value>()
                        .unwrap_err()
                ),
                415,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_json_body_that_does_not_fit_says_where() {
        #[derive(Debug, serde::Deserialize)]
        struct Item {
            #[allow(dead_code, reason = "only its absence matters")]
            title: String,
        }
        let error = Request::new("POST", "/x")
            .with_json(&json!({}))
            .unwrap()
            .json::<Item>()
            .unwrap_err();
        assert!(
            error.to_string().contains("missing field `title`"),
            "{error}"
        );
        assert_eq!(status(error), 400);
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let request = Request::new("GET", "/").with_header("X-Thing", "1");
        assert_eq!(request.header("x-thing"), Some("1"));
        assert_eq!(request.header("X-THING"), Some("1"));
        assert_eq!(request.header("x-other"), None);
    }
}
