//! Write Coglex plugins in Rust: gateway apps that answer HTTP requests, and
//! functions that clients call by name. A plugin is a WebAssembly component; it
//! touches only what it was granted, and one that loops, panics or eats memory
//! hurts nobody but itself.
//!
//! # A gateway app
//!
//! ```
//! use coglex_sdk::prelude::*;
//!
//! coglex_sdk::app! { |app| {
//!     app.get("/api/items").guard(api_key()).to(list);
//!     app.get("/api/items/{id}").guard(api_key()).to(show);
//!     app.post("/api/items").guard(api_key()).guard(authenticated("users")).to(create);
//! }}
//!
//! fn list(request: Request) -> Result<Json<Vec<Value>>> {
//!     let skip = request.query_param("skip")?.unwrap_or(0);
//!     Ok(Json(storage::find("items").sort(json!({"title": 1})).skip(skip).limit(20).all()?))
//! }
//!
//! fn show(request: Request) -> Result<Json<Value>> {
//!     let id: Id = request.param("id")?;
//!     Ok(Json(storage::get("items", id)?.or_status(404, "there is no such item")?))
//! }
//!
//! fn create(request: Request) -> Result<Response> {
//!     let mut item: Value = request.json()?;
//!     item["owner"] = json!(auth::require("users")?.id());
//!     let id = storage::insert("items", &item)?;
//!     Ok(Response::json(&id)?.status(201).header("location", format!("/api/items/{id}")))
//! }
//! # fn main() {}
//! ```
//!
//! [`app!`] makes the component's exports from the table of routes. The server
//! matches paths and checks guards before it starts the app, in a fresh instance
//! for each request; there is no state to share and none to leak.
//!
//! # Functions
//!
//! ```
//! use coglex_sdk::prelude::*;
//!
//! coglex_sdk::functions! {
//!     /// Greets somebody.
//!     fn greet(name: String, greeting: String = "Hello".to_owned()) -> Result<String> {
//!         Ok(format!("{greeting}, {name}!"))
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A client posts `{"args": ["Ann"], "kwargs": {"greeting": "Hi"}}` to
//! `/service/execution/v1/execute/greet/` and gets `"Hi, Ann!"`. A function may
//! also run by the clock, and be called before or after documents are written:
//! `#[schedule("0 3 * * *")]`, `#[before(insert, "orders")]`. See [`functions!`] and
//! [`Write`].
//!
//! # What a plugin may use
//!
//! - [`storage`]: documents, with MongoDB's query language,
//! - [`auth`]: who is calling, and accounts,
//! - [`execution`]: functions of other plugins,
//! - [`jobs`]: the same, run later,
//! - [`kv`]: keys and values with a time to live,
//! - [`config`]: settings and secrets from the operator,
//! - [`client`]: requests to other servers,
//! - [`log`]: the server's structured log,
//! - the standard library's clocks, random numbers and standard output and error
//!   (which land in the log). There are no files and no sockets.
//!
//! What it needs of storage it asks for in a `coglex.toml`, which [`manifest!`]
//! embeds in the component:
//!
//! ```toml
//! [grants]
//! storage = [{ collection = "items", verbs = ["read", "insert"] }]
//! ```
//!
//! # Building
//!
//! The crate type is `cdylib`, the target `wasm32-wasip2`; the file that comes
//! out is the component.
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! coglex-sdk = { path = "../coglex/plugin-sdk" }
//! serde = "1" # for `#[derive(Serialize, Deserialize)]`
//! ```
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! # Testing
//!
//! Routing, extractors, responses and arguments are plain Rust: see
//! [`App::respond`], [`Request::signed_in`] and [`Functions::call`]. What calls the server ([`storage`],
//! [`auth`], [`config`], [`log`]) needs one, and panics in a native build: `coglex plugin test` runs such
//! tests, each with a server in memory. See [`testing`].
#![warn(missing_docs)]

mod app;
mod args;
pub mod auth;
mod bindings;
pub mod client;
pub mod config;
mod date_time;
mod error;
pub mod execution;
mod extract;
mod functions;
mod hooks;
mod id;
pub mod jobs;
pub mod kv;
pub mod log;
pub mod mail;
mod manifest;
pub mod payment;
mod request;
mod response;
pub mod storage;
pub mod testing;

pub use app::{App, Cache, Guard, Rate, RouteBuilder, api_key, authenticated, role};
pub use args::Args;
pub use date_time::{DateTime, NotADateTime};
pub use error::{Error, OrStatus, Problem, Result};
pub use extract::{FromRequest, FromRequestParts, Handler, Path, Query};
pub use functions::{Added, Functions};
pub use hooks::{
    Declared, Hook, Moment, Operation, Outcome, Schedule, Write, WriteKind, Writer, WriterUser,
};
pub use id::{Id, NotAnObjectId, ObjectId};
pub use request::Request;
pub use response::{IntoResponse, Json, Response};

pub use serde;
pub use serde_json;

/// Everything that a plugin usually needs: `use coglex_sdk::prelude::*;`
pub mod prelude {
    pub use crate::{
        App, Args, Cache, DateTime, Error, Functions, Id, Json, OrStatus, Path, Problem, Query,
        Rate, Request, Response, Result, Write, api_key, auth, authenticated, client, config,
        execution, jobs, kv, log, mail, payment, role, storage,
    };
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}

/// What the macros expand to. Not for use by hand, and free to change.
#[doc(hidden)]
pub mod __private {
    pub use crate::app::DefineApp;
    pub use crate::bindings::{function, gateway};
    pub use crate::functions::DefineFunctions;
}
