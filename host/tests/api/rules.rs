//! Access rules, asked of the real binary as browsers do: with a user's token and
//! without a key.

use reqwest::Method;
use serde_json::{Value, json};

use crate::both::{database, on_both_stores, on_mongodb};
use crate::mongodb::database_address;
use crate::support::{Send as _, TestServer, with_query};

const NOTES: &str = "/service/storage/v1/notes/";
const RULES: &str = "/admin/v1/collections/notes/rules/";

/// Signs a user up and in; answers with the access token and the `_id`.
fn user(server: &TestServer, realm: &str, key: &str) -> (String, Value) {
    let account = json!({"_key": key, "_password": "correct horse"});
    let api = server.api();
    api.post(&format!("/service/auth/v1/signup/{realm}/"), &account)
        .json();
    let user = api
        .post(&format!("/service/auth/v1/signin/{realm}/"), &account)
        .json();
    (
        user["_token"].as_str().unwrap().to_owned(),
        user["_id"].clone(),
    )
}

fn set(server: &TestServer, rules: &Value) {
    let set = server
        .admin()
        .request(Method::PUT, RULES)
        .json(rules)
        .reply();
    assert_eq!(set.json(), *rules);
}

#[test]
fn a_user_without_a_key_does_what_the_rules_say() {
    on_both_stores(&[], |server| {
        let (ann, ann_id) = user(server, "users", "ann");
        let (bob, _) = user(server, "users", "bob");
        let (guest, _) = user(server, "guests", "carl");
        let anonymous = server.anonymous();
        let ask = |token: &str, method: Method, path: &str| {
            anonymous.request(method, path).bearer_auth(token)
        };
        // Off by default, in the words in which it was before there were rules.
        ask(&ann, Method::GET, NOTES)
            .reply()
            .problem(401, "api_key_required");
        let own = json!({"owner": "$caller._id"});
        set(
            server,
            &json!({"users": {"read": own, "create": own, "update": own, "delete": own, "readonly": ["stars"]}}),
        );
        let post = |token: &str, document: Value| {
            ask(token, Method::POST, NOTES)
                .json(&json!({"document": document}))
                .reply()
        };
        assert_eq!(post(&ann, json!({"_id": "a", "n": 1})).json(), "a");
        assert_eq!(post(&bob, json!({"_id": "b", "n": 2})).json(), "b");
        post(&bob, json!({"owner": ann_id})).problem(403, "forbidden");
        post(&bob, json!({"stars": 5})).problem(403, "forbidden");
        assert_eq!(
            ask(&ann, Method::GET, NOTES).reply().json(),
            json!({"_id": "a", "n": 1, "owner": ann_id})
        );
        ask(&ann, Method::GET, &format!("{NOTES}b/"))
            .reply()
            .problem(404, "not_found");
        assert_eq!(
            ask(&ann, Method::GET, &format!("{NOTES}count/"))
                .reply()
                .json(),
            1
        );
        let change = |token: &str, id: &str, document: Value| {
            ask(token, Method::PATCH, &format!("{NOTES}{id}/"))
                .json(&json!({"document": document}))
                .reply()
        };
        assert_eq!(change(&ann, "a", json!({"n": 3})).json(), 1);
        change(&ann, "b", json!({"n": 3})).problem(404, "not_found");
        change(&ann, "a", json!({"owner": "bob"})).problem(403, "forbidden");
        change(&ann, "a", json!({"$inc": {"stars": 1}})).problem(403, "forbidden");
        ask(&ann, Method::DELETE, &format!("{NOTES}b/"))
            .reply()
            .problem(404, "not_found");
        let all = with_query(NOTES, &[("query", "{}")]);
        assert_eq!(ask(&bob, Method::DELETE, &all).reply().json(), 1);
        // Somebody of another realm, of no realm, and who is signed out.
        ask(&guest, Method::GET, NOTES)
            .reply()
            .problem(401, "session_required");
        ask("nonsense", Method::GET, NOTES)
            .reply()
            .problem(401, "session_required");
        anonymous.get(NOTES).problem(401, "api_key_required");
        ask(&bob, Method::POST, "/service/auth/v1/signout/users/")
            .reply()
            .json();
        ask(&bob, Method::GET, NOTES)
            .reply()
            .problem(401, "session_required");
        // A wrong key is not made good by a token.
        ask(&ann, Method::GET, NOTES)
            .header("X-API-Key", "wrong")
            .reply()
            .problem(401, "api_key_required");
        // What is not storage stays closed.
        for path in [
            "/service/storage/v1/",
            "/service/auth/v1/session/users/",
            "/service/execution/v1/jobs/",
        ] {
            ask(&ann, Method::GET, path)
                .reply()
                .problem(401, "api_key_required");
        }
        ask(&ann, Method::GET, &format!("{NOTES}indexes/"))
            .reply()
            .problem(403, "forbidden");
        ask(&ann, Method::GET, "/service/storage/v1/other/")
            .reply()
            .problem(401, "api_key_required");
        let join = json!({"pipeline": [{"$lookup": {"from": "users", "pipeline": [], "as": "u"}}]});
        ask(&ann, Method::POST, &format!("{NOTES}aggregate/"))
            .json(&join)
            .reply()
            .problem(403, "forbidden");
        server.admin().delete(RULES).json();
        ask(&ann, Method::GET, NOTES)
            .reply()
            .problem(401, "api_key_required");
    });
}

#[test]
fn who_has_a_role_sees_more_and_cannot_give_it_to_himself() {
    on_both_stores(&[], |server| {
        let (ann, ann_id) = user(server, "users", "ann");
        let api = server.api();
        api.post(NOTES, &json!({"document": {"_id": "n"}})).json();
        set(
            server,
            &json!({"users": {"read": {"$caller.roles": "editor"}}}),
        );
        let me =
            json!({"users": {"read": {"_id": "$caller._id"}, "update": {"_id": "$caller._id"}}});
        let rules = "/admin/v1/collections/users/rules/";
        server
            .admin()
            .request(Method::PUT, rules)
            .json(&me)
            .reply()
            .json();
        let read = || {
            server
                .anonymous()
                .request(Method::GET, NOTES)
                .bearer_auth(&ann)
                .reply()
        };
        read().problem(403, "forbidden");
        let id = ann_id["$oid"].as_str().unwrap();
        let own = |document: Value| {
            let path = format!("/service/storage/v1/users/{id}/");
            let request = server
                .anonymous()
                .request(Method::PATCH, &path)
                .bearer_auth(&ann);
            request.json(&json!({"document": document})).reply()
        };
        assert_eq!(own(json!({"name": "Ann"})).json(), 1);
        own(json!({"roles": ["editor"]})).problem(403, "forbidden");
        own(json!({"$push": {"roles": "editor"}})).problem(403, "forbidden");
        own(json!({"_password": "x"})).problem(403, "forbidden");
        own(json!({"_key": "x"})).problem(403, "forbidden");
        let update = json!({"_key": "ann", "document": {"roles": ["editor"]}});
        api.patch("/service/auth/v1/refresh/users/", &update).json();
        assert_eq!(read().json(), json!({"_id": "n"}));
    });
}

#[test]
fn a_browsers_cookie_counts_but_not_for_writes_of_other_sites() {
    let server = TestServer::with(&["--server-cors-origins", "https://app.example"]);
    let browser = server.anonymous().with_cookies();
    let account = json!({"_key": "ann", "_password": "correct horse"});
    server
        .api()
        .post("/service/auth/v1/signup/users/", &account)
        .json();
    let sign_in = browser.request(Method::POST, "/service/auth/v1/signin/users/");
    sign_in
        .header("X-API-Key", crate::support::API_KEY)
        .json(&account)
        .reply()
        .json();
    set(&server, &json!({"users": {"read": true, "create": true}}));
    let from = |origin: &str| {
        let request = browser
            .request(Method::POST, NOTES)
            .header("Origin", origin);
        request
            .header("Sec-Fetch-Site", "cross-site")
            .json(&json!({"document": {}}))
            .reply()
    };
    from("https://evil.example").problem(403, "cross_site_request");
    let good = from("https://app.example");
    good.json();
    // The page may read the answer, and what it says of limits.
    assert_eq!(
        good.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(good.header("access-control-allow-credentials"), "true");
    let exposed = good.header("access-control-expose-headers").to_owned();
    assert!(
        exposed.contains("ratelimit") && exposed.contains("retry-after"),
        "{exposed}"
    );
    let preflight = server.anonymous().request(Method::OPTIONS, NOTES);
    let preflight = preflight
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "PATCH")
        .header(
            "Access-Control-Request-Headers",
            "authorization,content-type",
        )
        .reply();
    assert_eq!(preflight.status, 200);
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("authorization")
    );
}

#[test]
fn rules_are_operators_and_are_checked_when_they_are_set() {
    let server = TestServer::start();
    server.api().get(RULES).problem(401, "admin_key_required");
    let admin = server.admin();
    admin.get(RULES).problem(404, "not_found");
    admin.delete(RULES).problem(404, "not_found");
    for wrong in [
        json!({}),
        json!({"users": {"red": true}}),
        json!({"users": {"read": {"$where": "1"}}}),
        json!({"users": {"read": {"a": "$caller"}}}),
    ] {
        let set = admin.request(Method::PUT, RULES).json(&wrong).reply();
        set.problem(400, "invalid_input");
    }
    let reserved = "/admin/v1/collections/_coglex_rules/rules/";
    let set_reserved = admin
        .request(Method::PUT, reserved)
        .json(&json!({"users": {"read": true}}));
    set_reserved.reply().problem(403, "forbidden");
    set(
        &server,
        &json!({"users": {"read": true}, "admins": {"read": true, "hidden": ["x"]}}),
    );
    assert_eq!(
        admin.get("/admin/v1/rules/").json()["notes"]["admins"]["hidden"],
        json!(["x"])
    );
}

#[test]
fn rules_that_were_taken_away_are_gone_on_every_host_and_after_a_kill() {
    if let Some(address) = database_address() {
        let name = database();
        let (here, there) = (
            on_mongodb(&address, &name, &[]),
            on_mongodb(&address, &name, &[]),
        );
        let (ann, _) = user(&here, "users", "ann");
        let read = |server: &TestServer| {
            let request = server
                .anonymous()
                .request(Method::GET, &format!("{NOTES}count/"));
            request.bearer_auth(&ann).reply()
        };
        set(&here, &json!({"users": {"read": true}}));
        assert_eq!(
            (read(&here).json(), read(&there).json()),
            (json!(0), json!(0))
        );
        there.admin().delete(RULES).json();
        read(&here).problem(401, "api_key_required");
    }
    let server = TestServer::start();
    let (ann, _) = user(&server, "users", "ann");
    set(&server, &json!({"users": {"read": true}}));
    let folder = server.kill();
    let again = TestServer::start_in(folder, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
    });
    let read = again
        .anonymous()
        .request(Method::GET, &format!("{NOTES}count/"));
    assert_eq!(read.bearer_auth(&ann).reply().json(), 0);
}
