//! `coglex dev` with other languages than Rust, and what it shows of builds that
//! fail.

use std::fs;

use reqwest::Method;

use crate::capabilities::write_js;
use crate::guests::Host;
use crate::support::{Reply, Send as _};
use crate::tools::{LOADING, without};

fn app(path: &str, answer: &str) -> String {
    format!("import {{ app }} from \"coglex\";\napp.get({path:?}, () => {answer:?});\n")
}

/// As a browser asks when a person opens a page.
fn opened(host: &Host, path: &str) -> Reply {
    host.server
        .anonymous()
        .request(Method::GET, path)
        .header("sec-fetch-mode", "navigate")
        .header("accept", "text/html")
        .reply()
}

#[test]
fn a_saved_javascript_source_serves_and_a_broken_one_is_shown_beside_the_last_good() {
    if without("node") {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    let save = |code: &str| fs::write(project.path().join("src/app.js"), code).unwrap();
    write_js(project.path(), &app("/js", "first"));
    let host = Host::dev(project.path());
    let anonymous = host.server.anonymous();
    assert_eq!(anonymous.get("/js").text(), "first");
    assert_eq!(anonymous.get("/js").header("x-coglex-build-error"), "");

    save(&app("/js", "second"));
    host.answers_within("/js", "second", LOADING);

    save("import { app } from \"coglex\";\nmissing<T>();\n");
    host.logged_within(&["js-guest", "does not build"], LOADING);
    let reply = anonymous.get("/js");
    assert_eq!(reply.text(), "second", "the last good version serves");
    assert_eq!(reply.header("x-coglex-build-error"), "js-guest");
    let page = opened(&host, "/js");
    assert_eq!(page.status, 500);
    assert!(page.header("content-type").starts_with("text/html"));
    let html = page.text();
    assert!(html.contains("js-guest does not build"), "{html}");
    assert!(html.contains("/src/app.js:2"), "{html}");
    // Only the plugin's own routes.
    anonymous.get("/elsewhere").problem(404, "not_found");

    save(&app("/js", "third"));
    host.answers_within("/js", "third", LOADING);
    assert_eq!(anonymous.get("/js").header("x-coglex-build-error"), "");
    assert_eq!(opened(&host, "/js").text(), "third");
}

#[test]
fn a_plugin_that_has_never_been_built_shows_why() {
    if without("node") {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    write_js(project.path(), "throw new Error(\"at <the> start\");\n");
    let host = Host::dev(project.path());
    let detail = host
        .server
        .anonymous()
        .get("/js")
        .problem(500, "plugin_build_failed");
    assert!(detail.contains("js-guest does not build"), "{detail}");
    assert!(detail.contains("at <the> start"), "{detail}");
    let html = opened(&host, "/js").text();
    assert!(html.contains("at &lt;the&gt; start"), "{html}");
    // The server's own paths are its own.
    host.server
        .anonymous()
        .get("/service/nothing")
        .problem(404, "not_found");
    assert_eq!(host.server.anonymous().get("/healthz").status, 200);

    fs::write(project.path().join("src/app.js"), app("/js", "mended")).unwrap();
    host.answers_within("/js", "mended", LOADING);
}
