//! Shows builds that failed where their author is looking: in the answers of the
//! plugins' own routes. Only under `coglex dev`.
//!
//! - A plugin that has never been built well has no routes, so what no other
//!   plugin answers is answered with the error: 500 `plugin_build_failed`.
//! - Of a plugin whose last good version serves, a browser that opens a page gets
//!   the error instead of the page; everything else gets the last good version's
//!   answer with the header `X-Coglex-Build-Error`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::plugins::Lookup;

const BUILD_ERROR: HeaderName = HeaderName::from_static("x-coglex-build-error");

/// Around the gateway.
pub(crate) async fn show_errors(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let failed = state.builds.current();
    if failed.is_empty() || is_reserved(request.uri().path()) {
        return next.run(request).await;
    }
    match state.plugins.route(request.method(), request.uri().path()) {
        Lookup::Found { entry, .. } => {
            let name = entry.plugin.name();
            let Some(text) = failed.get(name) else {
                return next.run(request).await;
            };
            if opens_a_page(request.headers()) {
                return page([(name, text.as_str())]);
            }
            let name = HeaderValue::from_str(name);
            let mut response = next.run(request).await;
            if let Ok(name) = name {
                response.headers_mut().insert(BUILD_ERROR, name);
            }
            response
        }
        Lookup::WrongMethod { .. } => next.run(request).await,
        Lookup::Missing => {
            let loaded = state.plugins.current();
            let never_built: BTreeMap<&str, &str> = failed
                .iter()
                .filter(|(name, _)| {
                    loaded
                        .plugins()
                        .all(|plugin| plugin.name() != name.as_str())
                })
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            if never_built.is_empty() {
                return next.run(request).await;
            }
            if opens_a_page(request.headers()) {
                return page(never_built);
            }
            problem(never_built)
        }
    }
}

/// Whether a path can belong to no plugin.
fn is_reserved(path: &str) -> bool {
    ["/service", "/admin", "/static"].iter().any(|own| {
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether a person is about to look at the answer: what browsers say of a page
/// that is opened, and neither scripts nor curl do.
/// (<https://www.w3.org/TR/fetch-metadata/>)
fn opens_a_page(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|own| own == value);
    is("sec-fetch-mode", "navigate")
}

fn problem<'a>(failed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Response {
    let mut detail = String::new();
    for (name, text) in failed {
        let _ = writeln!(detail, "{name} does not build:\n\n{text}");
    }
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "plugin_build_failed",
        detail,
    )
    .into_response()
}

/// Asks again by itself, so that the page comes when the source is mended.
fn page<'a>(failed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Response {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"refresh\" content=\"2\">\n<title>Build failed</title>\n\
         <style>body { font: 16px system-ui; margin: 2rem; color-scheme: light dark } \
         pre { font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap }</style>\n",
    );
    for (name, text) in failed {
        let _ = writeln!(
            html,
            "<h1>{} does not build</h1>\n<pre>{}</pre>",
            escaped(name),
            escaped(text)
        );
    }
    html.push_str("<p>Save the source, and this page looks again.</p>\n");
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (StatusCode::INTERNAL_SERVER_ERROR, headers, Html(html)).into_response()
}

/// A compiler quotes sources, which are full of angles.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_paths_are_left_alone() {
        for path in ["/service/x", "/static/a", "/admin", "/service"] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["/", "/api/x", "/services", "/administration"] {
            assert!(!is_reserved(path), "{path}");
        }
    }

    #[test]
    fn what_compilers_quote_is_escaped() {
        assert_eq!(
            escaped("Vec<&'a \"T\">"),
            "Vec&lt;&amp;'a &quot;T&quot;&gt;"
        );
    }
}
