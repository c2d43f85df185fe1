//! `GET /static/<path>`: the files of one folder, open to everybody. Types,
//! ranges, ETags and conditional requests are tower-http's; what is here is what
//! it would show beyond that: hidden files, and folders.

use std::path::Path;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

use crate::app::AppState;
use crate::http::error::ApiError;

/// Answers with a file of the static folder.
pub(crate) async fn serve(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    serve_from(&state.config.server.static_dir, request).await
}

async fn serve_from(dir: &Path, request: Request) -> Result<Response, ApiError> {
    let inside = request
        .uri()
        .path()
        .strip_prefix("/static")
        .unwrap_or_default();
    if !is_visible(inside) {
        return Err(missing());
    }
    let uri: Uri = inside.parse().map_err(|_| missing())?;
    let (mut parts, _) = request.into_parts();
    parts.uri = uri;
    let files = ServeDir::new(dir).append_index_html_on_directories(false);
    let request = Request::from_parts(parts, Body::empty());
    let mut response = match files.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    match response.status() {
        StatusCode::NOT_FOUND => Err(missing()),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let range = response.headers_mut().remove(header::CONTENT_RANGE);
            Err(ApiError::range_not_satisfiable(range))
        }
        status if status.is_client_error() && status != StatusCode::PRECONDITION_FAILED => Err(
            ApiError::bad_request("invalid_path", "The path cannot be that of a file."),
        ),
        _ => {
            // Kept by caches, but asked about each time: a file that was
            // replaced is seen at once, and one that was not costs a 304.
            let headers = response.headers_mut();
            name_charset(headers);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            Ok(response.map(Body::new).into_response())
        }
    }
}

/// Texts are UTF-8, and a browser that is not told so takes them for something
/// else.
fn name_charset(headers: &mut HeaderMap) {
    let bare = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.starts_with("text/") && !value.contains("charset"));
    let named = bare.map(|value| HeaderValue::try_from(format!("{value}; charset=utf-8")));
    if let Some(Ok(value)) = named {
        headers.insert(header::CONTENT_TYPE, value);
    }
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such file.")
}

/// Whether no part of the path is hidden. Dot files are other programs' secrets
/// (`.env`, `.git`) that stand in a folder by accident.
fn is_visible(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    !decoded.split(['/', '\\']).any(|part| part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_are_recognised_in_every_spelling() {
        for path in ["/a.txt", "/a/b.css", "/a%20b", "/x..y"] {
            assert!(is_visible(path), "{path}");
        }
        for path in [
            "/.env",
            "/%2eenv",
            "/a/.git/config",
            "/../x",
            "/%2e%2e%2fx",
            "/a/..%5c.env",
        ] {
            assert!(!is_visible(path), "{path}");
        }
    }
}
