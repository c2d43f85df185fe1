//! The admin API's guard; what it does to plugins is tested with plugins.

use reqwest::Method;
use serde_json::json;

use crate::support::{ADMIN_KEY, API_KEY, Send as _, TestServer};

#[test]
fn only_the_admin_key_opens_the_admin_api() {
    let server = TestServer::start();
    let list = |header: &str, key: &str, path: &str| {
        let request = server.anonymous().request(Method::GET, path);
        request.header(header, key).reply()
    };
    for path in ["/admin/v1/plugins", "/admin/v1/plugins/"] {
        assert_eq!(list("X-Admin-Key", ADMIN_KEY, path).json(), json!([]));
        for (header, key) in [
            ("X-Admin-Key", ""),
            ("X-Admin-Key", API_KEY),
            ("X-Admin-Key", "an admin key of the test"),
            ("X-API-Key", ADMIN_KEY),
            ("X-API-Key", API_KEY),
        ] {
            let reply = list(header, key, path);
            reply.problem(401, "admin_key_required");
            assert_eq!(reply.header("www-authenticate"), "AdminKey");
        }
    }
    let reply = server.api().delete("/admin/v1/plugins/");
    reply.problem(405, "method_not_allowed");
    server
        .api()
        .get("/admin/v1/nothing")
        .problem(404, "not_found");
}

#[test]
fn the_admin_key_opens_nothing_else() {
    let server = TestServer::start();
    let request = server
        .anonymous()
        .request(Method::GET, "/service/storage/v1/");
    let reply = request.header("X-API-Key", ADMIN_KEY).reply();
    reply.problem(401, "api_key_required");
}
