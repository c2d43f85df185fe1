//! The yardsticks of `cargo xtask bench`: one route in plain axum, with the
//! server's allocator and the runtime's defaults, and nothing around it; and,
//! when `MONGODB_URI` is set, three routes that do nothing but call MongoDB's
//! driver and write JSON.

mod documents;

use std::io::Write as _;

use axum::Router;
use axum::routing::get;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut app = Router::new().route("/bench/hello", get(|| async { "Hello, world!" }));
    if let Ok(uri) = std::env::var("MONGODB_URI") {
        app = app.merge(documents::routes(&uri).await?);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(
        std::io::stdout(),
        "listening on http://{}",
        listener.local_addr()?
    )?;
    Ok(axum::serve(listener, app).await?)
}
