//! Files that belong to users, and quotas of each.

use reqwest::Method;
use serde_json::json;

use super::{ROOT, form, list, multipart, send};
use crate::support::{API_KEY, Client, Reply, Send as _, TestServer};

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
    let of_ann = |file: &&serde_json::Value| file["_owner"] == ann || file["_owner"]["$oid"] == ann;
    assert_eq!(owned.iter().filter(of_ann).count(), 2);
    assert_eq!(owned.len(), 3);
}
