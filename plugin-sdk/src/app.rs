//! Gateway apps: the table of routes, and what answers a request.
//!
//! The server asks for the table once (`describe`) and hands over requests with
//! the pattern that matched (`handle`). Both are answered from one [`App`], so
//! what the server knows about a route and what answers it cannot disagree.

mod export;
mod pattern;
mod route;

use std::borrow::Cow;

pub use export::DefineApp;
pub use route::{Cache, Guard, Rate, RouteBuilder, api_key, authenticated, role};

use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::Response;
use pattern::without_slash;
use route::Route;

/// A table of routes. An instance builds it for each request, so registering a
/// route costs next to nothing and handlers keep no state.
#[derive(Default)]
pub struct App {
    routes: Vec<Route>,
    /// The pattern that a request has matched: others need not be kept, and
    /// nothing about a route but what answers it.
    wanted: Option<String>,
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

    fn route(&mut self, method: Option<&'static str>, path: Cow<'static, str>) -> RouteBuilder<'_> {
        RouteBuilder::new(self, method, path)
    }

    /// A table for one request.
    fn wanting(route: &str) -> Self {
        Self {
            routes: Vec::new(),
            wanted: Some(without_slash(route).to_owned()),
        }
    }

    /// Answers a request as the server would have it answered, guards apart, for
    /// tests that run without a server. Parameters are not percent-decoded.
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
        let path = without_slash(&request.path);
        let matches = self
            .routes
            .iter()
            .filter_map(|route| Some((route, pattern::capture(&route.path, path)?)));
        if let Some((route, params)) =
            matches.min_by_key(|(route, _)| pattern::vagueness(&route.path))
        {
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
                Some(_) if route.answers(&request.method) => return route.answer(request),
                Some(_) => {}
            }
        }
        match fallback {
            Some(route) => route.answer(request),
            None => Err(Error::status(405, "this method is not answered here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::gateway::exports::coglex::gateway::app as wit;

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
        assert_eq!(ask("PUT", "/items").0, 405);
        assert_eq!(ask("POST", "/").0, 405);
    }

    #[test]
    fn the_most_specific_route_answers_whatever_the_order() {
        let mut app = App::default();
        app.get("/{*rest}").to(|_: Request| "rest");
        app.get("/{a}/{b}").to(|_: Request| "both");
        app.get("/{a}/new").to(|_: Request| "new");
        app.get("/items/{b}").to(|_: Request| "items");
        for (path, answer) in [
            ("/x/y", "both"),
            ("/x/new", "new"),
            ("/items/new", "items"),
            ("/x", "rest"),
            ("/x/y/z", "rest"),
        ] {
            assert_eq!(
                app.respond(Request::new("GET", path)).body(),
                answer.as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn the_manifest_lists_every_route_as_it_is_answered() {
        let manifest = export::manifest(app());
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
