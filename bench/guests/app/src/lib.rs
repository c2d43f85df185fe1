//! What `cargo xtask bench` calls beside `bench-hello`: `GET /bench/document/{id}`
//! reads one document, as the storage route does, and `bench_hello` is a function.

use coglex_sdk::prelude::*;
use coglex_sdk::serde_json::value::RawValue;

coglex_sdk::manifest!("coglex.toml");

coglex_sdk::app! { |app| {
    app.get("/bench/document/{id}").guard(api_key()).to(document);
}}

coglex_sdk::functions! {
    /// Says hello.
    fn bench_hello() -> Result<&'static str> {
        Ok("Hello, world!")
    }
}

fn document(request: Request) -> Result<Response> {
    let id: Id = request.param("id")?;
    // As its text, which is passed on as it is: the route does no more.
    Ok(match storage::get::<Box<RawValue>>("bench", id)? {
        Some(document) => Response::json(&document)?,
        None => Response::new(404),
    })
}
