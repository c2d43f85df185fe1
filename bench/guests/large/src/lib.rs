//! A guest of about a megabyte of code, as one is that uses a few crates: it
//! reads TOML and searches by pattern. Its answer is patched by `cargo xtask
//! bench`, as that of `bench-numbered` is, so that each load meets a component that
//! nobody has compiled yet.

use std::hint::black_box;

use coglex_sdk::prelude::*;
use regex::Regex;

/// What `GET /large` answers.
static ANSWER: &str = "the-answer-is-00000000";

coglex_sdk::app! { |app| {
    app.get("/large").to(answer);
    app.post("/large/toml").summary("TOML as JSON").to(read);
    app.get("/large/search").summary("How often `pattern` is in `text`").to(search);
}}

fn answer(_: Request) -> &'static str {
    black_box(ANSWER)
}

fn read(request: Request) -> Result<Json<Value>> {
    let text: String = request.json()?;
    let value: toml::Value =
        toml::from_str(&text).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Json(json!(value)))
}

fn search(request: Request) -> Result<String> {
    let wanted = |name: &str| request.query_param::<String>(name);
    let pattern = wanted("pattern")?.unwrap_or_default();
    let text = wanted("text")?.unwrap_or_default();
    let regex = Regex::new(&pattern).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(regex.find_iter(&text).count().to_string())
}
