//! One open route that answers with a few words. `cargo xtask soak` and `bench`
//! write other texts of the same length over these two in the component, so that
//! one build makes as many plugins, and as many versions of them, as are wanted.

use std::hint::black_box;

use coglex_sdk::prelude::*;

/// Where it answers.
static PATH: &str = "/numbered/plugin-0000";
/// What it answers.
static ANSWER: &str = "the-answer-is-00000000";

coglex_sdk::app! { |app| {
    // Hidden from the optimiser, which would write the texts some other way.
    app.get(black_box(PATH)).to(answer);
}}

fn answer(_: Request) -> &'static str {
    black_box(ANSWER)
}
