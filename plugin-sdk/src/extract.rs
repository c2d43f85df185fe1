//! Arguments of handlers: what a handler says in its signature is taken from the
//! request before it runs, and what cannot be is answered for it.
//!
//! ```
//! use coglex_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Page {
//!     #[serde(default)]
//!     skip: u64,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct NewItem {
//!     title: String,
//! }
//!
//! fn list(Query(page): Query<Page>) -> String {
//!     format!("from {}", page.skip)
//! }
//!
//! fn rename(Path(id): Path<u32>, Json(item): Json<NewItem>) -> String {
//!     format!("{id} is {}", item.title)
//! }
//!
//! let mut app = App::default();
//! app.get("/items").to(list);
//! app.put("/items/{id}").to(rename);
//!
//! let ask = |request| String::from_utf8(app.respond(request).body().to_vec()).unwrap();
//! assert_eq!(ask(Request::new("GET", "/items?skip=20")), "from 20");
//! let item = Request::new("PUT", "/items/7").with_json(&json!({"title": "new"}))?;
//! assert_eq!(ask(item), "7 is new");
//! assert_eq!(app.respond(Request::new("GET", "/items?skip=x")).status_code(), 400);
//! # Ok::<(), Error>(())
//! ```

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::auth::{self, User};
use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::{IntoResponse, Json, Response};

/// What can be an argument of a handler wherever it stands. Implement it for
/// types of your own; what it fails with is the answer.
///
/// ```
/// use coglex_sdk::prelude::*;
/// use coglex_sdk::FromRequestParts;
///
/// struct Language(String);
///
/// impl FromRequestParts for Language {
///     fn from_request_parts(request: &Request) -> Result<Self> {
///         Ok(Self(request.header("accept-language").unwrap_or("en").to_owned()))
///     }
/// }
///
/// fn greet(Language(language): Language) -> String {
///     if language.starts_with("de") { "Hallo!" } else { "Hello!" }.to_owned()
/// }
/// # let mut app = App::default();
/// # app.get("/greet").to(greet);
/// # let german = Request::new("GET", "/greet").with_header("accept-language", "de");
/// # assert_eq!(app.respond(german).body(), b"Hallo!");
/// ```
pub trait FromRequestParts: Sized {
    /// Takes it from the request.
    fn from_request_parts(request: &Request) -> Result<Self>;
}

/// What can be the last argument of a handler: it may use the request up, as
/// [`Request`] itself and [`Json`] do.
pub trait FromRequest<M = Whole>: Sized {
    /// Takes it from the request.
    fn from_request(request: Request) -> Result<Self>;
}

/// Marks the [`FromRequest`] of what uses a request up.
#[derive(Debug)]
pub enum Whole {}

/// Marks the [`FromRequest`] of what only looks at one.
#[derive(Debug)]
pub enum Parts {}

impl<T: FromRequestParts> FromRequest<Parts> for T {
    fn from_request(request: Request) -> Result<Self> {
        Self::from_request_parts(&request)
    }
}

impl FromRequest for Request {
    fn from_request(request: Request) -> Result<Self> {
        Ok(request)
    }
}

/// The body; see [`Request::json`].
impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: Request) -> Result<Self> {
        request.json().map(Self)
    }
}

/// A parameter of the path, parsed: the first `Path` of a handler takes the
/// pattern's first parameter, the second its second, and so on. A value that does
/// not parse is answered with 400.
///
/// ```
/// # use coglex_sdk::prelude::*;
/// fn show(Path(year): Path<u16>, Path(name): Path<String>) -> String {
///     format!("{name} of {year}")
/// }
/// # let mut app = App::default();
/// app.get("/albums/{year}/{name}").to(show);
/// # assert_eq!(app.respond(Request::new("GET", "/albums/1971/Blue")).body(), b"Blue of 1971");
/// # assert_eq!(app.respond(Request::new("GET", "/albums/x/Blue")).status_code(), 400);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T> FromRequestParts for Path<T>
where
    T: FromStr,
    T::Err: Display,
{
    fn from_request_parts(request: &Request) -> Result<Self> {
        let taken = request.taken.replace(request.taken.get() + 1);
        match request.params().nth(taken) {
            Some((name, _)) => request.param(name).map(Self),
            None => Err(Error::other(format!(
                "the handler takes more parameters than the {taken} of {}",
                request.route()
            ))),
        }
    }
}

/// The query as a struct; see [`Request::query`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts for Query<T> {
    fn from_request_parts(request: &Request) -> Result<Self> {
        request.query().map(Self)
    }
}

/// The signed-in user whom the route's guard has let in: of the collection of its
/// first [`authenticated`](crate::authenticated) or [`role`](crate::role).
///
/// ```
/// # use coglex_sdk::prelude::*;
/// use coglex_sdk::auth::User;
///
/// fn me(user: User) -> String {
///     user.key().to_owned()
/// }
///
/// let mut app = App::default();
/// app.get("/me").guard(authenticated("users")).to(me);
///
/// // A test says who is signed in.
/// let ann = User::new("users", "7", "ann", &json!({"name": "Ann"}))?;
/// assert_eq!(app.respond(Request::new("GET", "/me").signed_in(ann)).body(), b"ann");
/// # Ok::<(), Error>(())
/// ```
impl FromRequestParts for User {
    fn from_request_parts(request: &Request) -> Result<Self> {
        let Some(realm) = &request.realm else {
            return Err(Error::other(format!(
                "the handler of {} takes a user, but the route has no guard that lets one in",
                request.route()
            )));
        };
        match &request.user {
            Some(user) if user.collection() == realm => Ok(user.clone()),
            _ => auth::require(realm),
        }
    }
}

/// What answers a route: a function or closure of up to six arguments, all of
/// which are [`FromRequestParts`] but the last, which may be a [`FromRequest`].
/// `M` is worked out by the compiler.
pub trait Handler<M>: 'static {
    /// Answers a request.
    fn call(&self, request: Request) -> Result<Response>;
}

impl<F, R> Handler<()> for F
where
    F: Fn() -> R + 'static,
    R: IntoResponse,
{
    fn call(&self, _: Request) -> Result<Response> {
        self().into_response()
    }
}

macro_rules! handlers {
    ($([$($part:ident)*] $last:ident;)*) => {$(
        #[allow(non_snake_case, reason = "an argument is named as its type")]
        impl<F, R, M, $($part,)* $last> Handler<(M, $($part,)* $last)> for F
        where
            F: Fn($($part,)* $last) -> R + 'static,
            R: IntoResponse,
            $($part: FromRequestParts,)*
            $last: FromRequest<M>,
        {
            fn call(&self, request: Request) -> Result<Response> {
                $(let $part = $part::from_request_parts(&request)?;)*
                let $last = $last::from_request(request)?;
                self($($part,)* $last).into_response()
            }
        }
    )*};
}

handlers! {
    [] A;
    [A] B;
    [A B] C;
    [A B C] D;
    [A B C D] E;
    [A B C D E] G;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{App, Id, authenticated};
    use serde_json::{Value, json};

    fn status(app: &App, request: Request) -> u16 {
        app.respond(request).status_code()
    }

    #[test]
    fn arguments_are_taken_in_their_order() {
        let mut app = App::default();
        app.post("/{a}/{b}")
            .to(|Path(a): Path<u8>, Path(b): Path<Id>, request: Request| {
                format!("{a} {b} {}", request.method())
            });
        app.get("/nothing").to(|| "nothing");
        assert_eq!(
            app.respond(Request::new("POST", "/1/x")).body(),
            b"1 x POST"
        );
        assert_eq!(status(&app, Request::new("POST", "/256/x")), 400);
        assert_eq!(
            app.respond(Request::new("GET", "/nothing")).body(),
            b"nothing"
        );
    }

    #[test]
    fn a_body_is_json_or_an_answer_that_says_so() {
        let mut app = App::default();
        app.post("/")
            .to(|Json(value): Json<Value>| value.to_string());
        let post = |body: &str| {
            let request = Request::new("POST", "/").with_body(body);
            request.with_header("content-type", "application/json")
        };
        assert_eq!(status(&app, post("[1]")), 200);
        assert_eq!(status(&app, post("[1")), 400);
        assert_eq!(
            status(&app, Request::new("POST", "/").with_body("[1]")),
            415
        );
    }

    #[test]
    fn a_user_is_whom_the_guard_let_in() {
        let mut app = App::default();
        let key = |user: User| user.key().to_owned();
        app.get("/guarded").guard(authenticated("users")).to(key);
        app.get("/open").to(key);
        let ann = User::new("users", "7", "ann", &json!({})).unwrap();
        let ask = |path: &str| app.respond(Request::new("GET", path).signed_in(ann.clone()));
        assert_eq!(ask("/guarded").body(), b"ann");
        assert_eq!(ask("/open").status_code(), 500);
    }

    #[test]
    fn a_parameter_that_the_pattern_lacks_is_our_fault() {
        let mut app = App::default();
        app.get("/{a}")
            .to(|Path(a): Path<String>, Path(b): Path<String>| a + &b);
        assert_eq!(status(&app, Request::new("GET", "/x")), 500);
    }
}
