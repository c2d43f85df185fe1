//! HTTP: the route table, and what surrounds it. Reads top to bottom as a
//! request travels: `server` accepts, `front` wraps, `router` decides, a
//! handler in `routes` answers. Knows services by their methods, plugins only
//! by `crate::gateway`.
//!
//! Around every route, in `front`: request id, one trailing slash
//! taken off, time limit, panics, problem bodies, `nosniff`. Around all routes,
//! here: CORS when configured. In extractors: the API key, body size and time.

mod audit;
mod credentials;
mod cross_site;
pub mod error;
pub mod extract;
pub mod front;
pub(crate) mod guard;
pub(crate) mod limits;
mod routes;
pub(crate) mod scope;
pub mod server;
mod stall;

use axum::handler::Handler as _;
use axum::routing::{delete, get, head, patch, post};
use axum::{Router, middleware};
use coglex_services::Caller;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::error::ApiError;
use self::extract::AdminKey;
use self::routes::{admin, archive, auth, execution, health, jobs, payment, storage};
use crate::app::AppState;
use crate::{gateway, static_files};

/// The whole server as a service of requests.
pub fn front(state: AppState) -> anyhow::Result<front::Front> {
    let timeout = state.config.server.request_timeout;
    // What is layered around the router, or shown to developers, is for apps, too.
    let bare = state.config.server.cors_origins.is_empty() && !state.development;
    let apps = bare.then(|| state.clone());
    let limited = state.config.limits.is_any().then(|| state.clone());
    let uploads = state.config.archive.upload_timeout;
    let front = front::Front::new(router(state)?, apps, timeout).with_uploads(uploads);
    Ok(match limited {
        Some(state) => front.limited(state),
        None => front,
    })
}

/// Every path that is the server's own; the rest is for gateway apps. A path whose
/// first segment is not one that `gateway::is_for_apps` leaves to the router would
/// never be found here. Paths are written whole: a nested router costs each request
/// a URI without its prefix, some 2 µs.
fn router(state: AppState) -> anyhow::Result<Router> {
    let cors = cors(&state.config.server.cors_origins)?;
    let watched = middleware::from_fn_with_state(state.clone(), audit::watch);
    let router = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/static/{*path}", get(static_files::serve))
        .route("/.well-known/jwks.json", get(auth::keys::public))
        .merge(admin_routes().route_layer(watched.clone()))
        .merge(auth_routes().merge(flow_routes()).route_layer(watched))
        .merge(storage_routes())
        .merge(archive_routes())
        .merge(execution_routes())
        .merge(payment_routes())
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
        .route(
            "/admin/v1/auth/totp/{realm}/{id}",
            delete(auth::totp::reset),
        )
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
        .route("/admin/v1/payment/events", get(payment::events::list))
        .route(
            "/admin/v1/payment/events/{event}",
            get(payment::events::show),
        )
        .route(
            "/admin/v1/payment/events/{event}/replay",
            post(payment::events::replay),
        )
        .route("/admin/v1/mail", get(admin::mail::list))
        .route("/admin/v1/mail/{id}", delete(admin::mail::cancel))
        .route("/admin/v1/mail/{id}/retry", post(admin::mail::retry))
        .route("/admin/v1/mail/templates", get(admin::mail::templates))
        .route("/admin/v1/mail/templates/{name}", get(admin::mail::preview))
        .route("/admin/v1/rules", get(admin::rules::list))
        .route("/admin/v1/audit", get(admin::audit::list))
        .route(
            "/admin/v1/collections/{collection}/rules",
            get(admin::rules::show)
                .put(admin::rules::set)
                .delete(admin::rules::delete),
        )
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
        .route("/service/execution/v1/jobs", get(jobs::list::<Caller>))
        .route(
            "/service/execution/v1/jobs/{job}",
            get(jobs::show::<Caller>)
                .post(jobs::enqueue)
                .delete(jobs::cancel::<Caller>),
        )
        .route(
            "/service/execution/v1/jobs/{job}/cancel",
            post(jobs::cancel::<Caller>),
        )
        .route(
            "/service/execution/v1/jobs/{job}/retry",
            post(jobs::retry::<Caller>),
        )
}

/// Behind the API key but for the webhook, which its signature shows to be Stripe's.
fn payment_routes() -> Router<AppState> {
    Router::new()
        .route("/service/payment/v1/checkout", post(payment::checkout))
        .route(
            "/service/payment/v1/session/{session}",
            get(payment::session),
        )
        .route("/service/payment/v1/subscription", post(payment::subscribe))
        .route(
            "/service/payment/v1/subscription/{subscription}",
            delete(payment::cancel),
        )
        .route("/service/payment/v1/portal", post(payment::portal))
        .route("/service/payment/v1/refund", post(payment::refund))
        .route("/service/payment/v1/prices", get(payment::prices))
        .route(
            "/service/payment/v1/entitlements/{who}",
            get(payment::entitlements),
        )
        .route(
            "/service/payment/v1/entitlements/{who}/{what}",
            get(payment::entitled),
        )
        .route("/service/payment/v1/webhook", post(payment::webhook))
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
        .merge(totp_routes())
        .merge(oauth_routes())
        .route(
            "/service/auth/v1/keys",
            get(auth::api_keys::list).post(auth::api_keys::create),
        )
        .route(
            "/service/auth/v1/keys/{id}",
            get(auth::api_keys::show).delete(auth::api_keys::revoke),
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

/// What is done by mail. Requests are behind the API key; what is mailed is its own
/// proof, and the pages behind links are for browsers.
fn flow_routes() -> Router<AppState> {
    Router::new()
        .route(
            "/service/auth/v1/verification/{realm}",
            get(auth::verification::show).post(auth::verification::request),
        )
        .route(
            "/service/auth/v1/verification/{realm}/confirm",
            get(auth::page::show).post(auth::verification::confirm),
        )
        .route("/service/auth/v1/reset/{realm}", post(auth::reset::request))
        .route(
            "/service/auth/v1/reset/{realm}/confirm",
            get(auth::page::show).post(auth::reset::confirm),
        )
        .route("/service/auth/v1/email/{realm}", post(auth::email::request))
        .route(
            "/service/auth/v1/email/{realm}/confirm",
            get(auth::page::show).post(auth::email::confirm),
        )
        .route("/service/auth/v1/code/{realm}", post(auth::codes::request))
        .route(
            "/service/auth/v1/code/{realm}/confirm",
            post(auth::codes::confirm),
        )
        .route(
            "/service/auth/v1/anonymous/{realm}",
            post(auth::anonymous::sign_in),
        )
        .route(
            "/service/auth/v1/anonymous/{realm}/promote",
            post(auth::anonymous::promote),
        )
}

/// Sign-in by identity providers: by browsers, and users themselves. Providers have no
/// name that is a word here.
fn oauth_routes() -> Router<AppState> {
    Router::new()
        .route("/service/auth/v1/oauth/{realm}", get(auth::oauth::list))
        .route(
            "/service/auth/v1/oauth/{realm}/exchange",
            post(auth::oauth::exchange),
        )
        .route(
            "/service/auth/v1/oauth/{realm}/identities",
            get(auth::oauth::identities),
        )
        .route(
            "/service/auth/v1/oauth/{realm}/identities/{id}/unlink",
            post(auth::oauth::unlink),
        )
        .route(
            "/service/auth/v1/oauth/{realm}/{provider}",
            get(auth::oauth::begin),
        )
        .route(
            "/service/auth/v1/oauth/{realm}/{provider}/link",
            post(auth::oauth::link),
        )
        .route(
            "/service/auth/v1/oauth/{realm}/{provider}/callback",
            get(auth::oauth::callback).post(auth::oauth::callback),
        )
}

/// The second factor: by users themselves, and by who has shown the first one.
fn totp_routes() -> Router<AppState> {
    Router::new()
        .route(
            "/service/auth/v1/totp/{realm}",
            get(auth::totp::show).post(auth::totp::begin),
        )
        .route(
            "/service/auth/v1/totp/{realm}/confirm",
            post(auth::totp::confirm),
        )
        .route(
            "/service/auth/v1/totp/{realm}/recovery",
            post(auth::totp::renew_codes),
        )
        .route(
            "/service/auth/v1/totp/{realm}/disable",
            post(auth::totp::disable),
        )
        .route(
            "/service/auth/v1/totp/{realm}/signin",
            post(auth::totp::sign_in),
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

/// Behind the API key, but for files of public collections and signed URLs. What
/// stands before a collection tells its files from its list.
fn archive_routes() -> Router<AppState> {
    Router::new()
        .route("/service/archive/v1/{collection}", get(archive::list))
        .route(
            "/service/archive/v1/upload/{collection}",
            post(archive::upload),
        )
        .route(
            "/service/archive/v1/download/{collection}/{reference}",
            get(archive::download),
        )
        .route(
            "/service/archive/v1/delete/{collection}/{reference}",
            delete(archive::delete),
        )
        .route("/service/archive/v1/sign/{collection}", post(archive::sign))
        .route(
            "/service/archive/v1/tus/{collection}",
            post(archive::create).options(archive::options),
        )
        .route(
            "/service/archive/v1/tus/{collection}/{id}",
            head(archive::progress)
                .patch(archive::append)
                .delete(archive::discard)
                .options(archive::options),
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
        .expose_headers(
            [
                header::LINK,
                header::LOCATION,
                header::ETAG,
                header::RETRY_AFTER,
                limits::RATE_LIMIT,
                limits::RATE_LIMIT_POLICY,
                HeaderName::from_static("x-request-id"),
                HeaderName::from_static("x-total-count"),
            ]
            .into_iter()
            .chain(archive::EXPOSED)
            .collect::<Vec<_>>(),
        );
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
