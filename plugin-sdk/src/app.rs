//! Gateway apps: the table of routes, and the way from it to the component's
//! exports.
//!
//! `describe` and `handle` are both answered from one [`App`], so what the
//! server knows about a route and what answers it cannot disagree.

use std::borrow::Cow;

use crate::bindings::gateway::exports::coglex::gateway::{app as wit, handler as wit_handler};
use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::{auth, log};

/// A table of routes. An instance builds it for each request, so registering a
/// route costs next to nothing and handlers keep no state.
#[derive(Default)]
pub struct App {
    routes: Vec<Route>,
}

type Handler = Box<dyn Fn(Request) -> Result<Response>>;

struct Route {
    method: Option<&'static str>,
    path: Cow<'static, str>,
    guards: Vec<Guard>,
    body_limit: Option<u64>,
    summary: Option<Cow<'static, str>>,
    handler: Handler,
}

/// A condition that the server checks before the app is even started; see
/// [`api_key`] and [`authenticated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard(GuardKind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum GuardKind {
    ApiKey,
    Authenticated(Cow<'static, str>),
}

/// The request carries the server's API key, else it is answered with 401.
#[must_use]
pub fn api_key() -> Guard {
    Guard(GuardKind::ApiKey)
}

/// The caller is signed in as a user of this collection, else the request is
/// answered with 401. [`auth::require`] then tells who it is, for free.
pub fn authenticated(collection: impl Into<Cow<'static, str>>) -> Guard {
    Guard(GuardKind::Authenticated(collection.into()))
}

macro_rules! methods {
    ($($name:ident $method:literal $doc:literal)*) => {$(
        #[doc = $doc]
        pub fn $name(&mut self, path: impl Into<Cow<'static, str>>) -> RouteBuilder<'_> {
            self.route(Some($method), path.into())
        }
    )*};
}

impl App {
    methods! {
        get "GET" "Answers GET, and HEAD without the body."
        post "POST" "Answers POST."
        put "PUT" "Answers PUT."
        patch "PATCH" "Answers PATCH."
        delete "DELETE" "Answers DELETE."
    }

    /// Answers every method that no other route of the same path answers.
    pub fn any(&mut self, path: impl Into<Cow<'static, str>>) -> RouteBuilder<'_> {
        self.route(None, path.into())
    }

    /// Begins a route. Its path matches with and without a trailing slash; it is
    /// declared without, as the server reports it back.
    fn route(&mut self, method: Option<&'static str>, path: Cow<'static, str>) -> RouteBuilder<'_> {
        let path = match path {
            Cow::Borrowed(path) => Cow::Borrowed(without_slash(path)),
            Cow::Owned(path) => Cow::Owned(without_slash(&path).to_owned()),
        };
        RouteBuilder {
            app: self,
            method,
            path,
            guards: Vec::new(),
            body_limit: None,
            summary: None,
        }
    }

    /// Answers a request as the server would have it answered, guards apart, for
    /// tests that run without a server.
    ///
    /// ```
    /// use coglex_sdk::prelude::*;
    ///
    /// fn routes(app: &mut App) {
    ///     app.get("/hello/{name}").to(|request: Request| {
    ///         let name: String = request.param("name")?;
    ///         Ok::<_, Error>(format!("Hello, {name}!"))
    ///     });
    /// }
    ///
    /// let mut app = App::default();
    /// routes(&mut app);
    /// assert_eq!(app.respond(Request::new("GET", "/hello/Ann")).body(), b"Hello, Ann!");
    /// assert_eq!(app.respond(Request::new("GET", "/bye")).status_code(), 404);
    /// ```
    #[must_use]
    pub fn respond(&self, mut request: Request) -> Response {
        let path = without_slash(&request.path).to_owned();
        if let Some((route, params)) = self.routes.iter().find_map(|route| {
            let params = capture(&route.path, &path)?;
            route.answers(&request.method).then_some((route, params))
        }) {
            request.route = route.path.clone().into_owned();
            request.params = params;
        }
        self.dispatch(request)
            .unwrap_or_else(|error| Response::problem(&error.to_problem(), None))
    }

    /// Hands the request to the route that the server says has matched.
    fn dispatch(&self, request: Request) -> Result<Response> {
        let matched = without_slash(&request.route);
        let mut same_path = self
            .routes
            .iter()
            .filter(|route| route.path == matched)
            .peekable();
        if same_path.peek().is_none() {
            return Err(Error::status(404, "there is nothing here"));
        }
        let mut fallback = None;
        for route in same_path {
            match route.method {
                None => fallback = fallback.or(Some(route)),
                Some(_) if route.answers(&request.method) => return (route.handler)(request),
                Some(_) => {}
            }
        }
        match fallback {
            Some(route) => (route.handler)(request),
            None => Err(Error::status(405, "this method is not answered here")),
        }
    }

    fn manifest(self) -> wit::Manifest {
        let routes = self.routes.into_iter().map(|route| wit::Route {
            methods: route.method.map(str::to_owned).into_iter().collect(),
            path: route.path.into_owned(),
            guards: route.guards.into_iter().map(Guard::into_wit).collect(),
            body_limit: route.body_limit,
            summary: route.summary.map(Cow::into_owned),
        });
        wit::Manifest {
            routes: routes.collect(),
        }
    }
}

impl Guard {
    fn into_wit(self) -> wit::Guard {
        match self.0 {
            GuardKind::ApiKey => wit::Guard::ApiKey,
            GuardKind::Authenticated(collection) => {
                wit::Guard::Authenticated(collection.into_owned())
            }
        }
    }
}

impl Route {
    fn answers(&self, method: &str) -> bool {
        match self.method {
            None => true,
            Some("GET") => method == "GET" || method == "HEAD",
            Some(own) => own == method,
        }
    }
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

impl RouteBuilder<'_> {
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

fn without_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(rest) => rest,
    }
}

/// Matches a path against a pattern, for [`App::respond`]. In production the
/// server has done it.
fn capture(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
    let mut params = Vec::new();
    let mut rest = path.split('/');
    for want in pattern.split('/') {
        let name = want
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        match name {
            Some(name) if name.starts_with('*') => {
                let tail: Vec<&str> = rest.collect();
                let tail = tail.join("/");
                return (!tail.is_empty()).then(|| {
                    params.push((name.trim_start_matches('*').to_owned(), tail));
                    params
                });
            }
            Some(name) => {
                let value = rest.next().filter(|value| !value.is_empty())?;
                params.push((name.to_owned(), value.to_owned()));
            }
            None if rest.next() == Some(want) => {}
            None => return None,
        }
    }
    rest.next().is_none().then_some(params)
}

/// Implemented by [`app!`](crate::app!).
#[doc(hidden)]
pub trait DefineApp {
    fn define(app: &mut App);
}

impl<T: DefineApp> wit::Guest for T {
    fn describe() -> wit::Manifest {
        let mut app = App::default();
        T::define(&mut app);
        app.manifest()
    }
}

impl<T: DefineApp> wit_handler::Guest for T {
    fn handle(request: wit_handler::Request) -> wit_handler::Response {
        let mut app = App::default();
        T::define(&mut app);
        let response = app.dispatch(request.into()).unwrap_or_else(|error| {
            if error.is_ours() {
                log::failure("a handler failed", &error);
            }
            Response::problem(&error.to_problem(), Some(&auth::request_id()))
        });
        wit_handler::Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }
    }
}

impl From<wit_handler::Request> for Request {
    fn from(request: wit_handler::Request) -> Self {
        Self {
            method: request.method,
            path: request.path,
            route: request.route,
            query: request.query,
            params: request.params,
            headers: request.headers,
            body: request.body,
        }
    }
}

/// Makes this crate a gateway app. Once per component.
///
/// ```
/// use coglex_sdk::prelude::*;
///
/// fn hello(_: Request) -> &'static str {
///     "Hello!"
/// }
///
/// coglex_sdk::app! { |app| {
///     app.get("/hello").to(hello);
///     app.post("/items").guard(api_key()).guard(authenticated("users")).to(create);
/// }}
///
/// fn create(request: Request) -> Result<Response> {
///     let item: Value = request.json()?;
///     Ok(Response::json(&storage::insert("items", &item)?)?.status(201))
/// }
/// # fn main() {}
/// ```
///
/// The name of a function that takes `&mut App` will do as well, which lets
/// tests build the same app: `coglex_sdk::app!(routes);`
#[macro_export]
macro_rules! app {
    ($define:expr $(,)?) => {
        const _: () = {
            fn define(app: &mut $crate::App) {
                let define: fn(&mut $crate::App) = $define;
                define(app)
            }

            // Counts the handlers as used where nothing is exported: in a
            // native build, for tests and lints.
            const _: fn(&mut $crate::App) = define;

            #[cfg(target_arch = "wasm32")]
            const _: () = {
                struct Component;

                impl $crate::__private::DefineApp for Component {
                    fn define(app: &mut $crate::App) {
                        define(app)
                    }
                }

                $crate::__private::gateway::export_gateway_app!(
                    Component with_types_in $crate::__private::gateway
                );
            };
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        let mut app = App::default();
        app.get("/items/").to(|_: Request| "list");
        app.post("/items")
            .guard(api_key())
            .guard(authenticated("users"))
            .body_limit(10)
            .summary("Adds one.")
            .to(|_: Request| "add");
        app.any("/items/{id}")
            .to(|request: Request| format!("any {}", request.param::<String>("id").unwrap()));
        app.get("/items/{id}")
            .to(|request: Request| request.param::<u8>("id").map(|id| format!("item {id}")));
        app.get("/files/{*path}")
            .to(|request: Request| request.param::<String>("path"));
        app.get("/").to(|_: Request| "root");
        app
    }

    fn ask(method: &str, path: &str) -> (u16, String) {
        let response = app().respond(Request::new(method, path));
        (
            response.status_code(),
            String::from_utf8(response.body().to_vec()).unwrap(),
        )
    }

    #[test]
    fn requests_reach_the_handler_of_their_route_and_method() {
        for (method, path, answer) in [
            ("GET", "/items", "list"),
            ("HEAD", "/items/", "list"),
            ("POST", "/items", "add"),
            ("GET", "/items/7", "item 7"),
            ("HEAD", "/items/7", "item 7"),
            ("DELETE", "/items/7", "any 7"),
            ("GET", "/files/a/b.txt", "a/b.txt"),
            ("GET", "/", "root"),
        ] {
            assert_eq!(
                ask(method, path),
                (200, answer.to_owned()),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn what_no_route_answers_is_a_problem() {
        assert_eq!(ask("GET", "/nothing").0, 404);
        assert_eq!(ask("GET", "/files").0, 404);
        assert_eq!(ask("GET", "/items/7/more").0, 404);
        assert_eq!(ask("GET", "/items/x").0, 400);
    }

    #[test]
    fn a_known_route_with_another_method_is_405() {
        let mut request = Request::new("PUT", "/items");
        request.route = "/items/".to_owned();
        let error = app().dispatch(request).unwrap_err();
        assert_eq!(error.to_problem().status, 405);
    }

    #[test]
    fn the_manifest_lists_every_route_as_it_is_answered() {
        let manifest = app().manifest();
        assert_eq!(manifest.routes.len(), 6);
        let add = manifest
            .routes
            .iter()
            .find(|route| route.methods == ["POST"])
            .unwrap();
        assert_eq!(add.path, "/items");
        assert!(
            matches!(add.guards.as_slice(), [wit::Guard::ApiKey, wit::Guard::Authenticated(users)] if users == "users")
        );
        assert_eq!(add.body_limit, Some(10));
        assert_eq!(add.summary.as_deref(), Some("Adds one."));
        assert!(
            manifest
                .routes
                .iter()
                .any(|route| route.methods.is_empty() && route.path == "/items/{id}")
        );
    }

    #[test]
    fn internal_errors_are_not_told_to_clients() {
        let mut app = App::default();
        app.get("/x").to(|_: Request| {
            Err::<Response, _>(Error::AccessDenied("collection `secrets`".to_owned()))
        });
        let response = app.respond(Request::new("GET", "/x"));
        assert_eq!(response.status_code(), 500);
        assert!(!String::from_utf8_lossy(response.body()).contains("secrets"));
    }
}
