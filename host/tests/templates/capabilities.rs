//! What guests in JavaScript and Python can use beside documents: the log, random
//! numbers, accounts, settings, secrets, keys and values.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::guests::Host;
use crate::support::Client;
use crate::tools::{LOADING, build, without};

/// What both plugins ask for.
const ASKS: &str = r#"
[grants]
kv = true
secrets = ["token"]
auth = [{ collection = "users", verbs = ["lookup", "signup", "verify"] }]
payment = ["checkout", "entitlements"]
"#;

/// A server that allows it to a plugin.
fn host(plugin: &str) -> Host {
    Host::with(
        &[],
        &format!(
            r#"
            [plugins.settings.{plugin}]
            greeting = "Hi"
            [plugins.secrets.{plugin}]
            token = "s3cret"
            other = "not for it"
            [plugins.allow.{plugin}]
            kv = true
            secrets = ["token"]
            auth = [{{ collection = "users", verbs = ["lookup", "signup", "verify"] }}]
            payment = ["checkout", "entitlements"]
            "#
        ),
    )
}

/// The same answers in both languages, whose apps are mounted at different roots.
fn capabilities_answer(api: &Client, root: &str) {
    let get = |path: &str| api.get(&format!("{root}/{path}")).json();
    // Not the numbers of the moment when the component was built.
    let (first, second) = (get("random"), get("random"));
    assert_ne!(first["number"], second["number"]);
    assert_ne!(first["uuid"], second["uuid"]);
    let uuid = first["uuid"].as_str().unwrap();
    assert!(uuid.len() == 36 && uuid.as_bytes()[14] == b'4', "{uuid}");
    assert!(first["now"].as_f64().unwrap() > 1.7e9);

    let own = get("self");
    assert_eq!(
        own,
        json!({"key": true, "user": null, "setting": "Hi", "absent": null})
    );
    let secrets = get("secrets");
    assert_eq!(secrets, json!({"own": "s3cret", "other": "access-denied"}));
    let kv = get("kv");
    assert_eq!(
        kv,
        json!({"value": "x", "sums": [1, 3], "swapped": [true, false], "keys": ["a", "n"], "gone": [true, false], "none": null})
    );
    // Nobody has paid at a server without an account at Stripe.
    let payment = get("payment");
    assert_eq!(
        payment,
        json!({"entitled": false, "active": false, "sale": "not-configured"})
    );
    let accounts = get("accounts");
    assert_eq!(
        accounts,
        json!({"right": "Ann", "wrong": null, "key": "ann", "absent": null})
    );
    // The key is taken now.
    api.get(&format!("{root}/accounts"))
        .problem(409, "conflict");
}

#[test]
fn of_a_javascript_guest() {
    if without("node") {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    write_js(
        project.path(),
        r#"
        import { app, auth, config, kv, payment } from "coglex";
        app.get("/js/log", () => { console.log("seen", { a: 1 }); return "logged"; });
        app.get("/js/throw", () => { throw new Error("the secret cause"); });
        app.get("/js/random", () => ({ number: Math.random(), uuid: crypto.randomUUID(), now: Date.now() / 1000 }));
        app.get("/js/self", () => ({
            key: auth.hasApiKey(), user: auth.user("users"),
            setting: config.get("greeting"), absent: config.get("absent") ?? null,
        }));
        app.get("/js/secrets", () => {
            try {
                config.secret("other");
            } catch (error) {
                return { own: config.secret("token"), other: error.kind };
            }
        });
        app.get("/js/kv", () => {
            kv.set("a", "x", { ttl: 60 });
            return {
                value: kv.get("a"),
                sums: [kv.increment("n"), kv.increment("n", 2)],
                swapped: [kv.compareAndSet("a", "x", "y"), kv.compareAndSet("a", "x", "z")],
                keys: kv.keys(),
                gone: [kv.remove("a"), kv.remove("a")],
                none: kv.get("a"),
            };
        });
        app.get("/js/payment", () => {
            const entitled = payment.isEntitled("ann@example.com", "gold");
            const { active } = payment.entitlements("ann@example.com");
            try {
                payment.checkout({
                    success_url: "https://shop.example/", cancel_url: "https://shop.example/",
                    email: "ann@example.com", linedata: [{ price: "price_1", quantity: 1 }],
                });
            } catch (error) {
                return { entitled, active, sale: error.kind };
            }
        });
        app.get("/js/accounts", () => {
            auth.signUp("users", "ann", "correct horse", { name: "Ann" });
            return {
                right: auth.verify("users", "ann", "correct horse").document.name,
                wrong: auth.verify("users", "ann", "wrong horse"),
                key: auth.lookUp("users", "ann").key,
                absent: auth.lookUp("users", "bob"),
            };
        });
        "#,
    );
    fs::write(project.path().join("coglex.toml"), ASKS).unwrap();
    let host = host("js-guest");
    host.deploy("js-guest", &build(project.path()));
    host.answers_within("/js/log", "logged", LOADING);
    host.logged(&["js-guest", "seen {\\\"a\\\":1}"]);
    let api = host.server.api();
    let detail = api.get("/js/throw").problem(500, "internal_error");
    assert!(!detail.contains("secret"), "{detail}");
    host.logged(&["js-guest", "the secret cause"]);
    capabilities_answer(&api, "/js");
}

/// A JavaScript app with this code.
pub fn write_js(dir: &Path, code: &str) {
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(
        dir.join("package.json"),
        r#"{"name": "js-guest", "type": "module", "coglex": {"kind": "app"}}"#,
    )
    .unwrap();
    fs::write(dir.join("src/app.js"), code).unwrap();
}

#[test]
fn of_a_python_guest() {
    let project = tempfile::tempdir().unwrap();
    fs::write(
        project.path().join("pyproject.toml"),
        "[project]\nname = \"py-guest\"\n[tool.coglex]\nkind = \"app\"\n",
    )
    .unwrap();
    fs::write(
        project.path().join("app.py"),
        r#"
import random
import socket
import time
import uuid

from coglex import ServerError, app, auth, config, kv, payment


@app.get("/py/print")
def printing(request):
    print("seen", {"a": 1})
    return "printed"


@app.get("/py/raise")
def raising(request):
    raise ValueError("the secret cause")


@app.get("/py/random")
def numbers(request):
    return {"number": random.random(), "uuid": str(uuid.uuid4()), "now": time.time()}


@app.get("/py/self")
def own(request):
    return {
        "key": auth.has_api_key(), "user": auth.user("users"),
        "setting": config.get("greeting"), "absent": config.get("absent"),
    }


@app.get("/py/secrets")
def secrets(request):
    try:
        config.secret("other")
    except ServerError as error:
        return {"own": config.secret("token"), "other": error.kind}


@app.get("/py/kv")
def keys_and_values(request):
    kv.set("a", "x", ttl=60)
    return {
        "value": kv.get("a").decode(),
        "sums": [kv.increment("n"), kv.increment("n", 2)],
        "swapped": [kv.compare_and_set("a", "x", "y"), kv.compare_and_set("a", "x", "z")],
        "keys": kv.keys(),
        "gone": [kv.delete("a"), kv.delete("a")],
        "none": kv.get("a"),
    }


@app.get("/py/payment")
def payments(request):
    entitled = payment.is_entitled("ann@example.com", "gold")
    active = payment.entitlements("ann@example.com")["active"]
    try:
        payment.checkout({
            "success_url": "https://shop.example/", "cancel_url": "https://shop.example/",
            "email": "ann@example.com", "linedata": [{"price": "price_1", "quantity": 1}],
        })
    except ServerError as error:
        return {"entitled": entitled, "active": active, "sale": error.kind}


@app.get("/py/accounts")
def accounts(request):
    auth.sign_up("users", "ann", "correct horse", {"name": "Ann"})
    return {
        "right": auth.verify("users", "ann", "correct horse").document["name"],
        "wrong": auth.verify("users", "ann", "wrong horse"),
        "key": auth.look_up("users", "ann").key,
        "absent": auth.look_up("users", "bob"),
    }


@app.get("/py/socket")
def connect(request):
    try:
        socket.create_connection(("127.0.0.1", int(request.query("port"))), timeout=1)
    except OSError as error:
        return f"refused: {type(error).__name__}"
    return "connected"
"#,
    )
    .unwrap();
    fs::write(project.path().join("coglex.toml"), ASKS).unwrap();
    let host = host("py-guest");
    host.deploy("py-guest", &build(project.path()));
    host.answers_within("/py/print", "printed", LOADING);
    host.logged(&["py-guest", "seen {'a': 1}"]);
    let api = host.server.api();
    let detail = api.get("/py/raise").problem(500, "internal_error");
    assert!(!detail.contains("secret"), "{detail}");
    host.logged(&["py-guest", "the secret cause"]);
    capabilities_answer(&api, "/py");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = api.get(&format!("/py/socket?port={port}")).text();
    assert!(answer.starts_with("refused: "), "{answer}\n{}", host.log());
    assert!(listener.accept().is_err(), "somebody connected");
}
