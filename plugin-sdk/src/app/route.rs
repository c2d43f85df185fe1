//! One route: what the server has to know about it, and what answers it.

use std::borrow::Cow;

use super::App;
use super::pattern::without_slash;
use crate::error::Result;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// A condition that the server checks before the app is even started; see
/// [`api_key`] and [`authenticated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard(pub(super) GuardKind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuardKind {
    ApiKey,
    Authenticated(Cow<'static, str>),
}

/// The request carries the server's API key, else it is answered with 401.
#[must_use]
pub fn api_key() -> Guard {
    Guard(GuardKind::ApiKey)
}

/// The caller is signed in as a user of this collection, else the request is
/// answered with 401. [`auth::require`](crate::auth::require) then tells who it is, for free.
pub fn authenticated(collection: impl Into<Cow<'static, str>>) -> Guard {
    Guard(GuardKind::Authenticated(collection.into()))
}

/// A route that is not in the table until it is told what answers it.
#[must_use = "a route does nothing until `.to(handler)`"]
pub struct RouteBuilder<'a> {
    app: &'a mut App,
    method: Option<&'static str>,
    path: Cow<'static, str>,
    guards: Vec<Guard>,
    body_limit: Option<u64>,
    summary: Option<Cow<'static, str>>,
}

impl<'a> RouteBuilder<'a> {
    /// Begins a route. Its path is declared without a trailing slash, as the
    /// server reports it back.
    pub(super) fn new(
        app: &'a mut App,
        method: Option<&'static str>,
        path: Cow<'static, str>,
    ) -> Self {
        let path = match path {
            Cow::Borrowed(path) => Cow::Borrowed(without_slash(path)),
            Cow::Owned(path) => Cow::Owned(without_slash(&path).to_owned()),
        };
        Self {
            app,
            method,
            path,
            guards: Vec::new(),
            body_limit: None,
            summary: None,
        }
    }

    /// Adds a guard. All must hold; they are checked in order.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// The largest body that the route takes, in bytes, below the server's own
    /// limit. A larger one is answered with 413.
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// One sentence for listings.
    pub fn summary(mut self, summary: impl Into<Cow<'static, str>>) -> Self {
        self.summary = Some(summary.into());
        self
    }

    /// Puts the route into the table.
    pub fn to<R: IntoResponse>(self, handler: impl Fn(Request) -> R + 'static) {
        self.app.routes.push(Route {
            method: self.method,
            path: self.path,
            guards: self.guards,
            body_limit: self.body_limit,
            summary: self.summary,
            // A function or a closure without captures has no size, so boxing it
            // does not allocate.
            handler: Box::new(move |request| handler(request).into_response()),
        });
    }
}

type Handler = Box<dyn Fn(Request) -> Result<Response>>;

/// A row of the table.
pub(super) struct Route {
    pub(super) method: Option<&'static str>,
    pub(super) path: Cow<'static, str>,
    pub(super) guards: Vec<Guard>,
    pub(super) body_limit: Option<u64>,
    pub(super) summary: Option<Cow<'static, str>>,
    pub(super) handler: Handler,
}

impl Route {
    /// Whether this row answers the method. `HEAD` comes with `GET`.
    pub(super) fn answers(&self, method: &str) -> bool {
        match self.method {
            None => true,
            Some("GET") => method == "GET" || method == "HEAD",
            Some(own) => own == method,
        }
    }
}
