//! Every way to fail; run by `coglex plugin test`.

use coglex_sdk::prelude::*;
use coglex_sdk::testing;

#[test]
fn panics() {
    println!("printed before");
    assert_eq!(1 + 1, 3, "arithmetic is broken");
}

#[test]
fn returns_an_error() -> Result<()> {
    Err(Error::status(418, "a teapot"))
}

#[test]
fn loops() {
    loop {
        std::hint::black_box(0);
    }
}

#[test]
fn asks_for_all_the_memory() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1u8; 1 << 20]);
    }
}

#[test]
fn asks_another_server() {
    let _ = testing::request(Request::new("GET", "http://example.com/"));
}

#[test]
fn signs_up_whom_nobody_can_be() {
    testing::as_user("users", "", &json!({}));
}

#[test]
fn passes_all_the_same() {}
