//! One route: what the server has to know about it, and what answers it.

use std::borrow::Cow;

use serde_json::Value;

use super::App;
use super::pattern::without_slash;
use crate::error::Result;
use crate::extract::Handler;
use crate::request::Request;
use crate::response::Response;

/// A condition that the server checks before the app is even started; see
/// [`api_key`] and [`authenticated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard(pub(super) GuardKind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuardKind {
    ApiKey,
    Authenticated(Cow<'static, str>),
    Role(Cow<'static, str>, Cow<'static, str>),
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

/// The caller is signed in as a user of this collection who has this role; else
/// the request is answered with 401, or with 403 where only the role is missing.
///
/// A user has the roles that the array of strings `roles` in their document
/// names, so whoever may write those documents gives roles: be careful whom you
/// let write a user's document as it comes.
///
/// ```
/// # use coglex_sdk::prelude::*;
/// # let mut app = App::default();
/// app.delete("/api/items/{id}").guard(role("users", "admin")).to(remove);
/// # fn remove(_: Request) {}
/// ```
pub fn role(collection: impl Into<Cow<'static, str>>, role: impl Into<Cow<'static, str>>) -> Guard {
    Guard(GuardKind::Role(collection.into(), role.into()))
}

/// How often a route may be asked: a bucket of requests that fills evenly over a
/// period. A request that finds it empty is answered with 429 and `Retry-After`.
///
/// ```
/// # use coglex_sdk::prelude::*;
/// # let mut app = App::default();
/// # fn search(_: Request) {}
/// app.get("/api/search").rate(Rate::per_minute(30)).to(search);
/// app.get("/api/report").rate(Rate::new(2, 3600).for_everyone()).to(search);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub(super) requests: u32,
    pub(super) seconds: u32,
    pub(super) per: RateScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateScope {
    Caller,
    Address,
    Everyone,
}

impl Rate {
    /// So many requests in so many seconds (1 to 86400), for each signed-in
    /// user; for each network address where no guard of the route knows a user.
    #[must_use]
    pub fn new(requests: u32, seconds: u32) -> Self {
        Self {
            requests,
            seconds,
            per: RateScope::Caller,
        }
    }

    /// So many requests in a minute.
    #[must_use]
    pub fn per_minute(requests: u32) -> Self {
        Self::new(requests, 60)
    }

    /// Counts by network address, whoever is signed in.
    #[must_use]
    pub fn for_each_address(self) -> Self {
        Self {
            per: RateScope::Address,
            ..self
        }
    }

    /// Counts all requests together.
    #[must_use]
    pub fn for_everyone(self) -> Self {
        Self {
            per: RateScope::Everyone,
            ..self
        }
    }
}

/// What caches may do with good answers (200 to GET) that say nothing about it
/// themselves. The server adds `Cache-Control` and an `ETag`, and answers 304 to
/// a client that has the answer already.
///
/// ```
/// # use coglex_sdk::prelude::*;
/// # let mut app = App::default();
/// # fn catalogue(_: Request) {}
/// app.get("/catalogue").cache(Cache::shared(300)).to(catalogue);
/// app.get("/me").guard(authenticated("users")).cache(Cache::private(0)).to(catalogue);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    pub(super) max_age: u32,
    pub(super) shared: bool,
}

impl Cache {
    /// The client alone may keep an answer, and use it for this many seconds
    /// without asking. With 0 it asks each time, which saves the body.
    #[must_use]
    pub fn private(max_age: u32) -> Self {
        Self {
            max_age,
            shared: false,
        }
    }

    /// Caches that many clients share may keep an answer too. Not for routes
    /// with guards.
    #[must_use]
    pub fn shared(max_age: u32) -> Self {
        Self {
            max_age,
            shared: true,
        }
    }
}

/// A route that is not in the table until it is told what answers it.
#[must_use = "a route does nothing until `.to(handler)`"]
pub struct RouteBuilder<'a> {
    app: &'a mut App,
    method: Option<&'static str>,
    path: Cow<'static, str>,
    /// Nothing where only the handler counts.
    details: Option<Details>,
    realm: Option<Cow<'static, str>>,
}

/// What the server is told of a route, beside method and path. Calls have no use
/// for it, so a schema is not written out before it is asked for.
#[derive(Default)]
pub(super) struct Details {
    pub(super) guards: Vec<Guard>,
    pub(super) body_limit: Option<u64>,
    pub(super) media_types: Vec<Cow<'static, str>>,
    pub(super) rate: Option<Rate>,
    pub(super) cache: Option<Cache>,
    pub(super) summary: Option<Cow<'static, str>>,
    pub(super) body: Option<Schema>,
    pub(super) query: Option<Schema>,
    pub(super) output: Option<Schema>,
}

type Schema = Box<dyn FnOnce() -> Value>;

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
        let details = app.wanted.is_none().then(Details::default);
        Self {
            app,
            method,
            path,
            details,
            realm: None,
        }
    }

    /// Adds a guard. All must hold; they are checked in order.
    pub fn guard(mut self, guard: Guard) -> Self {
        if self.realm.is_none() {
            self.realm = guard.realm().cloned();
        }
        if let Some(details) = &mut self.details {
            details.guards.push(guard);
        }
        self
    }

    /// The largest body that the route takes, in bytes, below the server's own
    /// limit. A larger one is answered with 413.
    pub fn body_limit(mut self, bytes: u64) -> Self {
        if let Some(details) = &mut self.details {
            details.body_limit = Some(bytes);
        }
        self
    }

    /// What a body may be, e.g. `image/png` or `text/*`; may be repeated. Without
    /// it anything may come, or JSON where [`input`](Self::input) describes it. A
    /// body of another type is answered with 415.
    pub fn accepts(mut self, media_type: impl Into<Cow<'static, str>>) -> Self {
        if let Some(details) = &mut self.details {
            details.media_types.push(media_type.into());
        }
        self
    }

    /// How often the route may be asked.
    pub fn rate(mut self, rate: Rate) -> Self {
        if let Some(details) = &mut self.details {
            details.rate = Some(rate);
        }
        self
    }

    /// What caches may do with answers.
    pub fn cache(mut self, cache: Cache) -> Self {
        if let Some(details) = &mut self.details {
            details.cache = Some(cache);
        }
        self
    }

    /// A JSON Schema (draft 2020-12) of the body. The server checks before the
    /// app is started: a body that does not fit is answered with 422 and the
    /// paths where it does not. The function is called when the app is loaded.
    ///
    /// ```
    /// # use coglex_sdk::prelude::*;
    /// # let mut app = App::default();
    /// # fn create(_: Request) {}
    /// app.post("/api/items")
    ///     .input(|| json!({
    ///         "type": "object",
    ///         "properties": {"title": {"type": "string", "minLength": 1}},
    ///         "required": ["title"],
    ///         "additionalProperties": false,
    ///     }))
    ///     .to(create);
    /// ```
    pub fn input(mut self, schema: impl FnOnce() -> Value + 'static) -> Self {
        if let Some(details) = &mut self.details {
            details.body = Some(Box::new(schema));
        }
        self
    }

    /// A JSON Schema of the query: an object with a property for each parameter.
    /// Its `type` says how the text is read (`integer`, `number`, `boolean`, or
    /// `array` for a parameter that repeats). A query that does not fit is
    /// answered with 422.
    pub fn query(mut self, schema: impl FnOnce() -> Value + 'static) -> Self {
        if let Some(details) = &mut self.details {
            details.query = Some(Box::new(schema));
        }
        self
    }

    /// A JSON Schema of good answers, for readers and tools. Under `coglex dev`
    /// an answer that does not fit is a warning in the log.
    pub fn output(mut self, schema: impl FnOnce() -> Value + 'static) -> Self {
        if let Some(details) = &mut self.details {
            details.output = Some(Box::new(schema));
        }
        self
    }

    /// One sentence for listings.
    pub fn summary(mut self, summary: impl Into<Cow<'static, str>>) -> Self {
        if let Some(details) = &mut self.details {
            details.summary = Some(summary.into());
        }
        self
    }

    /// Puts the route into the table. The handler's arguments are taken from the
    /// request: see [`Path`](crate::Path), [`Query`](crate::Query),
    /// [`Json`](crate::Json), [`User`](crate::auth::User) and [`Request`].
    pub fn to<M>(self, handler: impl Handler<M>) {
        if self
            .app
            .wanted
            .as_deref()
            .is_some_and(|wanted| wanted != self.path)
        {
            return;
        }
        self.app.routes.push(Route {
            method: self.method,
            path: self.path,
            details: self.details,
            // A function or a closure without captures has no size, so boxing it
            // does not allocate.
            realm: self.realm,
            handler: Box::new(move |request| handler.call(request)),
        });
    }
}

type Answer = Box<dyn Fn(Request) -> Result<Response>>;

/// A row of the table.
pub(super) struct Route {
    pub(super) method: Option<&'static str>,
    pub(super) path: Cow<'static, str>,
    pub(super) details: Option<Details>,
    pub(super) realm: Option<Cow<'static, str>>,
    pub(super) handler: Answer,
}

impl Guard {
    /// The collection of the users whom it lets in.
    fn realm(&self) -> Option<&Cow<'static, str>> {
        match &self.0 {
            GuardKind::ApiKey => None,
            GuardKind::Authenticated(realm) | GuardKind::Role(realm, _) => Some(realm),
        }
    }
}

impl Route {
    /// Answers a request that has matched.
    pub(super) fn answer(&self, mut request: Request) -> Result<Response> {
        request.realm.clone_from(&self.realm);
        (self.handler)(request)
    }

    /// Whether this row answers the method. `HEAD` comes with `GET`.
    pub(super) fn answers(&self, method: &str) -> bool {
        match self.method {
            None => true,
            Some("GET") => method == "GET" || method == "HEAD",
            Some(own) => own == method,
        }
    }
}
