//! From the table of routes to the component's exports. All that an app exchanges
//! with the server passes through here.

use std::borrow::Cow;

use super::App;
use super::route::{Guard, GuardKind, Rate, RateScope};
use crate::bindings::gateway::exports::coglex::gateway::{app as wit, handler as wit_handler};
use crate::request::Request;
use crate::response::Response;
use crate::{auth, log};

/// Implemented by [`app!`](crate::app!).
#[doc(hidden)]
pub trait DefineApp {
    fn define(app: &mut App);
}

impl<T: DefineApp> wit::Guest for T {
    fn describe() -> wit::Manifest {
        let mut app = App::default();
        T::define(&mut app);
        manifest(app)
    }
}

impl<T: DefineApp> wit_handler::Guest for T {
    fn handle(request: wit_handler::Request) -> wit_handler::Response {
        let mut app = App::wanting(&request.route);
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
            ..Self::default()
        }
    }
}

/// The table as the server wants to know it.
pub(super) fn manifest(app: App) -> wit::Manifest {
    let routes = app.routes.into_iter().map(|route| {
        let details = route.details.unwrap_or_default();
        wit::Route {
            methods: route.method.map(str::to_owned).into_iter().collect(),
            path: route.path.into_owned(),
            guards: details.guards.into_iter().map(guard).collect(),
            body_limit: details.body_limit,
            media_types: details
                .media_types
                .into_iter()
                .map(Cow::into_owned)
                .collect(),
            rate: details.rate.map(rate),
            cache: details.cache.map(|cache| wit::CacheHints {
                max_age: cache.max_age,
                shared: cache.shared,
            }),
            summary: details.summary.map(Cow::into_owned),
            body_schema: details.body.map(|schema| schema().to_string()),
            query_schema: details.query.map(|schema| schema().to_string()),
            output_schema: details.output.map(|schema| schema().to_string()),
        }
    });
    wit::Manifest {
        routes: routes.collect(),
    }
}

fn guard(guard: Guard) -> wit::Guard {
    match guard.0 {
        GuardKind::ApiKey => wit::Guard::ApiKey,
        GuardKind::Authenticated(collection) => wit::Guard::Authenticated(collection.into_owned()),
        GuardKind::Role(collection, name) => wit::Guard::Role(wit::Role {
            collection: collection.into_owned(),
            name: name.into_owned(),
        }),
    }
}

fn rate(rate: Rate) -> wit::RateLimit {
    wit::RateLimit {
        requests: rate.requests,
        seconds: rate.seconds,
        per: match rate.per {
            RateScope::Caller => wit::RateScope::Caller,
            RateScope::Address => wit::RateScope::Address,
            RateScope::Everyone => wit::RateScope::Everyone,
        },
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
