//! Files that belong to users, and quotas of each.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ROOT, form, list, multipart, send};
use crate::support::{ADMIN_KEY, API_KEY, Client, Reply, Send as _, TestServer};

fn send_as(client: &Client, token: &str, bytes: &[u8]) -> Reply {
    let request = client.request(Method::POST, &format!("{ROOT}/upload/avatars/"));
    let request = request.header("authorization", format!("Bearer {token}"));
    multipart(request, form("a", "a/b", bytes)).reply()
}

#[test]
fn each_user_has_a_quota() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[archive.collections.avatars]\nowners = 'users'\nowner_quota = 100\n";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let api = server.api();
    let sign_in = |key: &str| {
        let account = json!({"_key": key, "_password": "correct horse"});
        let id = api.post("/service/auth/v1/signup/users/", &account).json();
        let user = api.post("/service/auth/v1/signin/users/", &account).json();
        (id, user["_token"].as_str().unwrap().to_owned())
    };
    let ((ann, ann_token), (_, bob_token)) = (sign_in("ann"), sign_in("bob"));
    send(&api, "avatars", "a", "a/b", b"x").problem(401, "session_required");
    send_as(&api, "nonsense", b"x").problem(401, "session_required");
    send_as(&api, &ann_token, &[1; 80]).json();
    send_as(&api, &ann_token, &[1; 21]).problem(413, "quota_exceeded");
    send_as(&api, &bob_token, &[1; 80]).json();
    send_as(&api, &ann_token, &[1; 20]).json();
    let owned = list(&api, "avatars");
    let of_ann = |file: &&Value| file["_owner"] == ann || file["_owner"]["$oid"] == ann;
    assert_eq!(owned.iter().filter(of_ann).count(), 2);
    assert_eq!(owned.len(), 3);
}

#[test]
fn a_user_of_another_realm_owns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[archive.collections.avatars]\nowners = 'users'\nowner_quota = 100\n";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
        command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
    });
    let api = server.api();
    let sign_in = |realm: &str| {
        let account = json!({"_id": "same", "_key": "ann", "_password": "correct horse"});
        api.post(&format!("/service/auth/v1/signup/{realm}/"), &account)
            .json();
        let user = api.post(&format!("/service/auth/v1/signin/{realm}/"), &account);
        user.json()["_token"].as_str().unwrap().to_owned()
    };
    let (user, guest) = (sign_in("users"), sign_in("guests"));
    let rules = json!({"users": {"create": true}, "guests": {"create": true}});
    let set = server
        .admin()
        .request(Method::PUT, "/admin/v1/collections/avatars/rules/")
        .json(&rules)
        .reply();
    assert_eq!(set.json(), rules);
    // Both may insert; files are the users' alone.
    let anonymous = server.anonymous();
    send_as(&anonymous, &guest, b"x").problem(401, "session_required");
    send_as(&anonymous, &user, b"x").json();
    let owners: Vec<Value> = list(&api, "avatars")
        .iter()
        .map(|file| file["_owner"].clone())
        .collect();
    assert_eq!(owners.len(), 1);
    assert_ne!(owners[0], Value::Null);
}
