//! HTTP: the route table, and what surrounds it. Reads top to bottom as a
//! request travels: `server` accepts, `front` wraps, `router` decides, a
//! handler in `routes` answers. Knows services by their methods, plugins only
//! by `crate::gateway`.
//!
//! Around every route, in `front`: request id, one trailing slash
//! taken off, time limit, panics, problem bodies, `nosniff`. Around all routes,
//! here: CORS when configured. In extractors: the API key, body size and time.

mod credentials;
mod cross_site;
pub mod error;
pub mod extract;
pub mod front;
mod routes;
pub(crate) mod scope;
pub mod server;
mod stall;

use axum::handler::Handler as _;
use axum::routing::{delete, get, patch, post};
use axum::{Router, middleware};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::error::ApiError;
use self::extract::{AdminKey, ApiKey};
use self::routes::{admin, auth, execution, health, jobs, storage};
use crate::app::AppState;
use crate::{gateway, static_files};

/// The whole server as a service of requests.
pub fn front(state: AppState) -> anyhow::Result<front::Front> {
    let timeout = state.config.server.request_timeout;
    // What is layered around the router, or shown to developers, is for apps, too.
    let bare = state.config.server.cors_origins.is_empty() && !state.development;
    let apps = bare.then(|| state.clone());
    Ok(front::Front::new(router(state)?, apps, timeout))
}

/// Every path that is the server's own; the rest is for gateway apps. A path whose
/// first segment is not one that `gateway::is_for_apps` leaves to the router would
/// never be found here. Paths are written whole: a nested router costs each request
/// a URI without its prefix, some 2 µs.
fn router(state: AppState) -> anyhow::Result<Router> {
    let cors = cors(&state.config.server.cors_origins)?;
    let router = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/static/{*path}", get(static_files::serve))
        .route("/.well-known/jwks.json", get(auth::keys::public))
        .merge(admin_routes())
        .merge(auth_routes())
        .merge(storage_routes())
        .merge(execution_routes())
        .method_not_allowed_fallback(method_not_allowed)
        .merge(apps(&state))
        .with_state(state);
    Ok(match cors {
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// Whatever is not the server's own. The authors of apps get to see builds that
/// failed, too.
fn apps(state: &AppState) -> Router<AppState> {
    if state.development {
        let show = middleware::from_fn_with_state(state.clone(), crate::dev::show_errors);
        Router::new().fallback(gateway::handle.layer(show))
    } else {
        Router::new().fallback(gateway::handle)
    }
}

/// All behind the admin key: each handler takes an `extract::AdminKey` first.
fn admin_routes() -> Router<AppState> {
    Router::new()
        .route("/admin/v1/plugins", get(admin::plugins::list))
        .route(
            "/admin/v1/plugins/{name}",
            get(admin::plugins::show)
                .put(admin::plugins::deploy)
                .delete(admin::plugins::remove),
        )
        .route(
            "/admin/v1/plugins/{name}/rollback",
            post(admin::plugins::roll_back),
        )
        .route(
            "/admin/v1/plugins/{name}/enable",
            post(admin::plugins::enable),
        )
        .route(
            "/admin/v1/plugins/{name}/disable",
            post(admin::plugins::disable),
        )
        .route("/admin/v1/plugins/{name}/logs", get(admin::plugins::logs))
        .route("/admin/v1/auth/keys", get(admin::keys::list))
        .route("/admin/v1/auth/keys/rotate", post(admin::keys::rotate))
        .route("/admin/v1/jobs", get(jobs::list::<AdminKey>))
        .route(
            "/admin/v1/jobs/{job}",
            get(jobs::show::<AdminKey>).delete(jobs::cancel::<AdminKey>),
        )
        .route(
            "/admin/v1/jobs/{job}/cancel",
            post(jobs::cancel::<AdminKey>),
        )
        .route("/admin/v1/jobs/{job}/retry", post(jobs::retry::<AdminKey>))
        .route("/admin/v1/schedules", get(admin::schedules::list))
        .route(
            "/admin/v1/collections/{collection}/schema",
            get(admin::schema::show)
                .put(admin::schema::set)
                .delete(admin::schema::delete),
        )
}

/// All behind the API key. What is posted is a function's name, and what is shown a
/// job's id: 32 hex digits.
fn execution_routes() -> Router<AppState> {
    Router::new()
        .route(
            "/service/execution/v1/execute/{function}",
            post(execution::execute),
        )
        .route("/service/execution/v1/jobs", get(jobs::list::<ApiKey>))
        .route(
            "/service/execution/v1/jobs/{job}",
            get(jobs::show::<ApiKey>)
                .post(jobs::enqueue)
                .delete(jobs::cancel::<ApiKey>),
        )
        .route(
            "/service/execution/v1/jobs/{job}/cancel",
            post(jobs::cancel::<ApiKey>),
        )
        .route(
            "/service/execution/v1/jobs/{job}/retry",
            post(jobs::retry::<ApiKey>),
        )
}

/// Behind the API key but for sign-out and what users do by themselves, with a token
/// of their own. `{realm}` is the users' collection.
fn auth_routes() -> Router<AppState> {
    Router::new()
        .route("/service/auth/v1/signup/{realm}", post(auth::sign_up))
        .route("/service/auth/v1/signin/{realm}", post(auth::sign_in))
        .route("/service/auth/v1/session/{realm}", get(auth::session))
        .route(
            "/service/auth/v1/signout/{realm}",
            get(auth::sign_out).post(auth::sign_out),
        )
        .route("/service/auth/v1/refresh/{realm}", patch(auth::refresh))
        .route("/service/auth/v1/token/{realm}", post(auth::own::renew))
        .route(
            "/service/auth/v1/password/{realm}",
            post(auth::own::change_password),
        )
        .route(
            "/service/auth/v1/sessions/{realm}",
            get(auth::own::list).delete(auth::own::end_others),
        )
        .route(
            "/service/auth/v1/sessions/{realm}/{id}",
            delete(auth::own::end),
        )
}

/// All behind the API key. `GET {collection}/count` counts. The words after a
/// collection hide documents of the same id, which a query finds.
fn storage_routes() -> Router<AppState> {
    Router::new()
        .route("/service/storage/v1", get(storage::collections))
        .route(
            "/service/storage/v1/{collection}",
            get(storage::find)
                .post(storage::insert)
                .patch(storage::update_many)
                .delete(storage::delete_many),
        )
        .route(
            "/service/storage/v1/{collection}/aggregate",
            post(storage::aggregate),
        )
        .route(
            "/service/storage/v1/{collection}/distinct",
            get(storage::distinct),
        )
        .route(
            "/service/storage/v1/{collection}/indexes",
            get(storage::indexes::list)
                .post(storage::indexes::create)
                .delete(storage::indexes::delete),
        )
        .route(
            "/service/storage/v1/{collection}/{id}",
            get(storage::get)
                .patch(storage::update_one)
                .delete(storage::delete_one),
        )
}

async fn method_not_allowed() -> ApiError {
    ApiError::wrong_method()
}

/// CORS for the configured origins; none: no CORS at all.
fn cors(origins: &[String]) -> anyhow::Result<Option<CorsLayer>> {
    if origins.is_empty() {
        return Ok(None);
    }
    let layer = CorsLayer::new()
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .expose_headers([
            header::LINK,
            header::LOCATION,
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("x-total-count"),
        ]);
    // Any site at all may not use the cookies of our users.
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Some(
            layer
                .allow_origin(AllowOrigin::any())
                .allow_headers(tower_http::cors::Any),
        ));
    }
    let origins = origins
        .iter()
        .map(|origin| {
            let well_formed = origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
            HeaderValue::from_str(origin).ok().filter(|_| well_formed).ok_or_else(|| {
                anyhow::anyhow!("the setting server.cors_origins holds {origin:?}, which is no origin such as https://app.example")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let layer = layer
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request());
    Ok(Some(layer))
}
