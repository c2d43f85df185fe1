//! The first app to look at: one route, guarded twice, that reads a collection.

use coglex_sdk::prelude::*;

coglex_sdk::manifest!("coglex.toml");

coglex_sdk::app! { |app| {
    app.get("/api/myapi/v1/data/")
        .guard(api_key())
        .guard(authenticated("users"))
        .summary("The important documents of my_collection.")
        .to(data);
}}

/// One document when one matches, a list when several do, `null` when none does:
/// the shape that `find` has had since the first version of this API.
fn data(_: Request) -> Result<Response> {
    let found: Vec<Value> = storage::find("my_collection")
        .filter(json!({"type": "important"}))
        .all()?;
    match found.as_slice() {
        [] => Response::json(&Value::Null),
        [one] => Response::json(one),
        several => Response::json(several),
    }
}
