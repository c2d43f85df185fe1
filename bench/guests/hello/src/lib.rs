//! What `bench/native` does, as a gateway app: one open route.

use coglex_sdk::prelude::*;

coglex_sdk::app! { |app| {
    app.get("/bench/hello").to(hello);
}}

fn hello(_: Request) -> &'static str {
    "Hello, world!"
}
