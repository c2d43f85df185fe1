//! What accounts do by mail, through the real binary and a real SMTP server.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::mongodb::database_address;
use crate::support::smtp::{MailServer, token};
use crate::support::{API_KEY, Client, Reply, Send as _, TestServer};

const ANN: &str = "ann@example.org";
const PASSWORD: &str = "correct horse";

fn path(flow: &str) -> String {
    format!("/service/auth/v1/{flow}/users/")
}

fn confirm(server: &TestServer, flow: &str, body: &Value) -> Reply {
    // Nobody's key is needed: what was mailed is the proof.
    let path = format!("/service/auth/v1/{flow}/users/confirm/");
    server.anonymous().post(&path, body)
}

fn sign_up(api: &Client, key: &str) {
    let body = json!({ "_key": key, "_password": PASSWORD });
    api.post(&path("signup"), &body).json();
}

fn sign_in(api: &Client, key: &str, password: &str) -> Reply {
    api.post(
        &path("signin"),
        &json!({ "_key": key, "_password": password }),
    )
}

fn with_token(
    client: &Client,
    method: Method,
    path: &str,
    token: &Value,
    body: Option<&Value>,
) -> Reply {
    let request = client
        .request(method, path)
        .bearer_auth(token.as_str().unwrap());
    match body {
        Some(body) => request.json(body).reply(),
        None => request.reply(),
    }
}

/// A server that sends through `mail`, on the embedded store.
fn embedded(mail: &MailServer, flags: &[&str]) -> TestServer {
    let own = mail.flags();
    let all: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(flags.iter().copied())
        .collect();
    TestServer::with(&all)
}

/// The same on a database of the test's own, if there is one to be had.
fn on_mongodb(mail: &MailServer, name: &str, flags: &[&str]) -> Option<TestServer> {
    let address = database_address()?;
    let own = mail.flags();
    let all: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(flags.iter().copied())
        .collect();
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &all, |command| {
        let uri = format!("mongodb://{address}/?directConnection=true");
        command
            .env("SERVER_SECRET", API_KEY)
            .env("COGLEX_ADMIN_KEY", crate::support::ADMIN_KEY)
            .env(
                "COGLEX_AUTH_SIGNING_KEY",
                "the-same-signing-key-on-all-hosts",
            )
            .env("MONGODB_URI", uri)
            .env(
                "MONGODB_DATABASE",
                format!("coglex_mail_{name}_{}", std::process::id()),
            );
    });
    Some(server)
}

/// An address is verified, a password set anew, and the address changed.
fn addresses_and_passwords(server: &TestServer, mail: &MailServer) {
    let (api, open) = (server.api(), server.anonymous());
    sign_up(&api, ANN);
    open.post(&path("verification"), &json!({ "_key": ANN }))
        .problem(401, "api_key_required");

    // Nobody and somebody are told the same; somebody gets a letter.
    for key in ["nobody@else.example", ANN] {
        assert_eq!(
            api.post(&path("verification"), &json!({ "_key": key }))
                .json(),
            true
        );
    }
    let letter = mail.letter_to(ANN, "Confirm your address for Acme");
    assert_eq!(letter["from"], "Acme <acme@example.org>");
    let text = letter["text"].as_str().unwrap();
    assert!(
        text.contains(
            "https://api.example/service/auth/v1/verification/users/confirm/#token=cgmt_"
        ),
        "{text}"
    );
    let verify = token(&letter);
    let signed_in = sign_in(&api, ANN, PASSWORD).json();
    let session = &signed_in["_token"];
    let state =
        |session: &Value| with_token(&open, Method::GET, &path("verification"), session, None);
    assert_eq!(
        state(session).json(),
        json!({ "email": ANN, "verified": false })
    );
    open.get(&path("verification"))
        .problem(401, "session_required");
    // Of another flow or another collection it is none.
    confirm(
        server,
        "reset",
        &json!({ "token": verify, "_password": "another horse" }),
    )
    .problem(400, "token_invalid");
    open.post(
        "/service/auth/v1/verification/admins/confirm/",
        &json!({ "token": verify }),
    )
    .problem(400, "token_invalid");
    assert_eq!(
        confirm(server, "verification", &json!({ "token": verify })).json(),
        true
    );
    confirm(server, "verification", &json!({ "token": verify })).problem(400, "token_invalid");
    assert_eq!(
        state(session).json(),
        json!({ "email": ANN, "verified": true })
    );

    // A new password; the first link is dead when the second is there.
    let ask = || api.post(&path("reset"), &json!({ "_key": ANN })).json();
    ask();
    let first = token(&mail.letter_to(ANN, "new password"));
    ask();
    let second = token(&mail.letter_to(ANN, "new password"));
    let set = |token: &str, password: &str| {
        confirm(
            server,
            "reset",
            &json!({ "token": token, "_password": password }),
        )
    };
    set(&first, "another horse").problem(400, "token_invalid");
    // One that is not good enough does not use the link up.
    set(&second, "password").problem(400, "invalid_input");
    assert_eq!(set(&second, "another horse").json(), true);
    set(&second, "third horse").problem(400, "token_invalid");
    mail.letter_to(ANN, "was changed");
    state(session).problem(401, "session_required");
    sign_in(&api, ANN, PASSWORD).problem(404, "not_found");
    let signed_in = sign_in(&api, ANN, "another horse").json();
    let session = &signed_in["_token"];

    // A link dies with the password that it would have replaced.
    ask();
    let stale = token(&mail.letter_to(ANN, "new password"));
    let change = json!({ "_key": ANN, "document": { "_password": "fourth horse" } });
    assert_eq!(
        api.request(Method::PATCH, &path("refresh"))
            .bearer_auth(session.as_str().unwrap())
            .json(&change)
            .reply()
            .json(),
        1
    );
    set(&stale, "fifth horse").problem(400, "token_invalid");

    // Another address, which is the key.
    let new = "ann.new@example.org";
    let email = |body: &Value| with_token(&open, Method::POST, &path("email"), session, Some(body));
    open.post(&path("email"), &json!({ "email": new }))
        .problem(401, "session_required");
    email(&json!({ "email": new })).problem(403, "wrong_password");
    email(&json!({ "email": new, "_password": "wrong horse" })).problem(403, "wrong_password");
    email(&json!({ "email": "a@b.example\r\nBcc: eve@example.org", "_password": "fourth horse" }))
        .problem(400, "invalid_input");
    assert_eq!(
        email(&json!({ "email": new, "_password": "fourth horse" })).json(),
        true
    );
    let change = token(&mail.letter_to(new, "new address"));
    assert_eq!(sign_in(&api, ANN, "fourth horse").status, 200);
    assert_eq!(
        confirm(server, "email", &json!({ "token": change })).json(),
        true
    );
    let notice = mail.letter_to(ANN, "was changed");
    assert!(notice["text"].as_str().unwrap().contains(new), "{notice}");
    sign_in(&api, ANN, "fourth horse").problem(404, "not_found");
    let user = sign_in(&api, new, "fourth horse").json();
    assert_eq!(
        state(&user["_token"]).json(),
        json!({ "email": new, "verified": true })
    );
    assert_eq!(user["_id"], signed_in["_id"]);

    // One that is another user's by then is refused, to who can read its mail.
    sign_up(&api, "bob@example.org");
    let session = &user["_token"];
    let body = json!({ "email": "bob@example.org", "_password": "fourth horse" });
    assert_eq!(
        with_token(&open, Method::POST, &path("email"), session, Some(&body)).json(),
        true
    );
    let taken = token(&mail.letter_to("bob@example.org", "new address"));
    confirm(server, "email", &json!({ "token": taken })).problem(409, "conflict");

    for body in [
        json!({}),
        json!({ "token": 1 }),
        json!({ "token": "" }),
        json!({ "token": "cgmt_x.y" }),
    ] {
        assert_eq!(confirm(server, "verification", &body).status, 400, "{body}");
    }
    let secrets = api.get("/service/storage/v1/users/?many=true").text();
    for secret in ["_coglex", "hash", "flows"] {
        assert!(!secrets.contains(secret), "{secrets}");
    }
}

#[test]
fn addresses_and_passwords_on_the_embedded_store() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    addresses_and_passwords(&embedded(&mail, &[]), &mail);
}

#[test]
fn addresses_and_passwords_on_mongodb() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let Some(server) = on_mongodb(&mail, "addresses", &[]) else {
        return;
    };
    addresses_and_passwords(&server, &mail);
}

/// Who has not verified the address is not signed in.
fn required(server: &TestServer, mail: &MailServer) {
    let api = server.api();
    let nobody = json!({ "_key": "ann", "_password": PASSWORD });
    api.post(&path("signup"), &nobody)
        .problem(400, "invalid_input");
    sign_up(&api, ANN);
    let link = token(&mail.letter_to(ANN, "Confirm your address"));
    // Only who knows the password is told.
    sign_in(&api, ANN, "wrong horse").problem(404, "not_found");
    sign_in(&api, ANN, PASSWORD).problem(403, "email_not_verified");
    confirm(server, "verification", &json!({ "token": link })).json();
    sign_in(&api, ANN, PASSWORD).json();
    // An address that others have changed is not verified.
    let change = json!({ "_key": ANN, "document": { "_key": "ann@other.example" } });
    assert_eq!(api.patch(&path("refresh"), &change).json(), 1);
    sign_in(&api, "ann@other.example", PASSWORD).problem(403, "email_not_verified");
}

#[test]
fn verification_is_required_where_that_is_said() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let flags = ["--auth-verification", "required"];
    required(&embedded(&mail, &flags), &mail);
    if let Some(server) = on_mongodb(&mail, "required", &flags) {
        required(&server, &mail);
    }
}

fn code_of(letter: &Value) -> String {
    let subject = letter["subject"].as_str().unwrap();
    subject.split(' ').next().unwrap().to_owned()
}

fn codes(server: &TestServer, mail: &MailServer) {
    let api = server.api();
    sign_up(&api, ANN);
    let ask = |key: &str| api.post(&path("code"), &json!({ "_key": key })).json();
    let enter = |key: &str, challenge: &Value, code: &str| {
        let body = json!({ "_key": key, "challenge": challenge, "code": code });
        api.post("/service/auth/v1/code/users/confirm/", &body)
    };
    // Of nobody's code nothing is told but what is told of somebody's.
    let nobody = ask("nobody@example.org");
    let asked = ask(ANN);
    assert_eq!(
        nobody.as_object().unwrap().keys().collect::<Vec<_>>(),
        asked.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    let code = code_of(&mail.letter_to(ANN, "is your code for Acme"));
    assert!(
        code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()),
        "{code}"
    );
    enter("nobody@example.org", &nobody["challenge"], &code).problem(403, "wrong_code");
    // Another's challenge, or none, does not go with it.
    enter(ANN, &nobody["challenge"], &code).problem(403, "wrong_code");
    enter(ANN, &json!(""), &code).problem(403, "wrong_code");

    let before = sign_in(&api, ANN, PASSWORD).json();
    let user = enter(
        ANN,
        &asked["challenge"],
        &format!("{} {}", &code[..3], &code[3..]),
    );
    assert!(
        user.header("set-cookie").contains("coglex_users="),
        "{user:?}"
    );
    let user = user.json();
    assert_eq!(user["_key"], ANN);
    enter(ANN, &asked["challenge"], &code).problem(403, "wrong_code");
    // Whoever has signed up with the address has shown nothing: the first proof ends it.
    let session =
        |token: &Value| with_token(&api, Method::GET, &path("session"), token, None).json();
    assert_eq!(session(&before["_token"]), Value::Null);
    assert_eq!(session(&user["_token"])["_key"], ANN);
    sign_in(&api, ANN, PASSWORD).problem(404, "not_found");

    // Five tries, and not one more; also many at once.
    let asked = ask(ANN);
    let code = code_of(&mail.letter_to(ANN, "is your code"));
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        let answer = enter(ANN, &asked["challenge"], wrong);
        assert!(answer.status == 403 || answer.status == 429, "{answer:?}");
    }
    assert_ne!(enter(ANN, &asked["challenge"], &code).status, 200);
}

#[test]
fn codes_open_sessions_once() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let flags = ["--auth-codes=true", "--auth-sign-in-failures", "0"];
    codes(&embedded(&mail, &flags), &mail);
    if let Some(server) = on_mongodb(&mail, "codes", &flags) {
        codes(&server, &mail);
    }
    // Where they are not wanted they are not there.
    let server = embedded(&mail, &[]);
    let body = json!({ "_key": ANN });
    server
        .api()
        .post(&path("code"), &body)
        .problem(403, "forbidden");
}

#[test]
fn guesses_at_a_code_are_bounded_however_many_come_at_once() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let flags = [
        "--auth-codes=true",
        "--auth-sign-in-failures",
        "0",
        "--auth-address-failures",
        "0",
    ];
    let server = embedded(&mail, &flags);
    sign_up(&server.api(), ANN);
    let asked = server
        .api()
        .post(&path("code"), &json!({ "_key": ANN }))
        .json();
    let code = code_of(&mail.letter_to(ANN, "is your code"));
    let right: u32 = code.parse().unwrap();
    std::thread::scope(|scope| {
        for guesser in 0..16 {
            let (server, asked) = (&server, &asked);
            scope.spawn(move || {
                let guess = format!("{:06}", (right + 1 + guesser) % 1_000_000);
                let body = json!({ "_key": ANN, "challenge": asked["challenge"], "code": guess });
                let answer = server
                    .api()
                    .post("/service/auth/v1/code/users/confirm/", &body);
                answer.problem(403, "wrong_code");
            });
        }
    });
    let body = json!({ "_key": ANN, "challenge": asked["challenge"], "code": code });
    let answer = server
        .api()
        .post("/service/auth/v1/code/users/confirm/", &body);
    answer.problem(403, "wrong_code");
}

fn anonymous(server: &TestServer) {
    let (api, open) = (server.api(), server.anonymous());
    let anonymous = path("anonymous");
    open.post(&anonymous, &json!({}))
        .problem(401, "api_key_required");
    let user = api
        .post(&anonymous, &json!({ "document": { "cart": [1] } }))
        .json();
    let key = user["_key"].as_str().unwrap();
    assert!(
        key.starts_with("anonymous-") && user["cart"] == json!([1]),
        "{user}"
    );
    sign_in(&api, key, PASSWORD).problem(404, "not_found");
    sign_up(&api, "taken@example.org");

    let promote_as = |client: &Client, token: &Value, body: &Value| {
        let path = "/service/auth/v1/anonymous/users/promote/";
        with_token(client, Method::POST, path, token, Some(body))
    };
    let promote = |token: &Value, key: &str, password: &str| {
        let body = json!({ "_key": key, "_password": password, "document": { "name": "Ann" } });
        promote_as(&api, token, &body)
    };
    // A token alone sets nothing but key and password.
    for field in ["roles", "roles.0", "name"] {
        let body = json!({ "_key": ANN, "_password": PASSWORD, "document": { field: "admin" } });
        promote_as(&open, &user["_token"], &body).problem(401, "api_key_required");
    }
    let other = api.post(&anonymous, &json!({})).json();
    let body = json!({ "_key": "plain@example.org", "_password": PASSWORD });
    assert_eq!(promote_as(&open, &other["_token"], &body).json(), true);
    let token = &user["_token"];
    promote(&json!("x"), ANN, PASSWORD).problem(401, "session_required");
    promote(token, ANN, "password").problem(400, "invalid_input");
    promote(token, "taken@example.org", PASSWORD).problem(409, "conflict");
    assert_eq!(promote(token, ANN, PASSWORD).json(), true);
    promote(token, "again@example.org", PASSWORD).problem(409, "conflict");
    let signed_in = sign_in(&api, ANN, PASSWORD).json();
    assert_eq!(signed_in["_id"], user["_id"]);
    assert_eq!(
        (&signed_in["name"], &signed_in["cart"]),
        (&json!("Ann"), &json!([1]))
    );
    // The session by which it was done goes on.
    let session = with_token(&api, Method::GET, &path("session"), token, None).json();
    assert_eq!(session["_key"], ANN);
}

#[test]
fn anonymous_users_are_promoted_and_keep_what_they_have() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    anonymous(&TestServer::with(&["--auth-anonymous=true"]));
    if let Some(server) = on_mongodb(&mail, "anonymous", &["--auth-anonymous=true"]) {
        anonymous(&server);
    }
    let closed = TestServer::start();
    closed
        .api()
        .post(&path("anonymous"), &json!({}))
        .problem(403, "forbidden");
}

#[test]
fn requests_for_letters_are_bounded() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let server = embedded(&mail, &[]);
    let api = server.api();
    sign_up(&api, ANN);
    for key in [ANN, "nobody@example.org"] {
        let ask = || api.post(&path("reset"), &json!({ "_key": key }));
        for _ in 0..5 {
            assert_eq!(ask().json(), true);
        }
        let refused = ask();
        refused.problem(429, "too_many_attempts");
        assert_eq!(refused.header("retry-after"), "1");
    }
    for _ in 0..5 {
        mail.letter_to(ANN, "new password");
    }
}

#[test]
fn an_address_can_be_in_a_field_of_its_own() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let server = embedded(
        &mail,
        &["--auth-reset-url", "https://app.example/{realm}/#/reset"],
    );
    let api = server.api();
    let body = json!({ "_key": "ann", "_password": PASSWORD, "document": { "email": ANN } });
    api.post(&path("signup"), &body).json();
    api.post(&path("reset"), &json!({ "_key": "ann" })).json();
    let letter = mail.letter_to(ANN, "new password");
    let text = letter["text"].as_str().unwrap();
    assert!(
        text.contains("https://app.example/users/#/reset?token=cgmt_"),
        "{text}"
    );
    // Whoever writes the field takes the link with it.
    let change = json!({ "_key": "ann", "document": { "email": "eve@example.org" } });
    api.patch(&path("refresh"), &change).json();
    let body = json!({ "token": token(&letter), "_password": "another horse" });
    confirm(&server, "reset", &body).problem(400, "token_invalid");
}

#[test]
fn the_page_behind_a_link_keeps_its_token() {
    let server = TestServer::start();
    for flow in ["verification", "reset", "email"] {
        let page = server
            .anonymous()
            .get(&format!("/service/auth/v1/{flow}/users/confirm/"));
        assert_eq!(page.status, 200);
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert!(page.text().contains("URLSearchParams"), "{}", page.text());
    }
}

#[test]
fn who_asks_for_nobody_waits_as_long_as_who_asks_for_somebody() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let flags = [
        "--auth-sign-in-failures",
        "0",
        "--auth-address-failures",
        "0",
    ];
    let server = embedded(&mail, &flags);
    let api = server.api();
    sign_up(&api, ANN);
    // A busy machine may disturb one of them; not always the same one.
    for last in [false, false, true] {
        let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
        for round in 0..80 {
            let key = [ANN, "nobody@example.org"][round % 2];
            let begun = std::time::Instant::now();
            api.post(&path("reset"), &json!({ "_key": key })).json();
            times[round % 2].push(begun.elapsed());
        }
        let [known, unknown] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        });
        let ratio = known / unknown;
        if (0.6..1.6).contains(&ratio) {
            break;
        }
        assert!(!last, "{known} {unknown}");
    }
}

#[test]
fn a_stolen_session_cannot_have_the_link_for_a_new_password() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let write = |server: &TestServer, field: &str| {
        let api = server.api();
        sign_up(&api, "ann");
        let user = sign_in(&api, "ann", PASSWORD).json();
        let me = json!({ "_id": "$caller._id" });
        let rules = server
            .admin()
            .request(Method::PUT, "/admin/v1/collections/users/rules/");
        let rules = rules.json(&json!({ "users": { "read": me, "update": me } }));
        assert_eq!(rules.reply().status, 200);
        let own = format!(
            "/service/storage/v1/users/{}/",
            user["_id"]["$oid"].as_str().unwrap()
        );
        let body = json!({ "document": { "$set": { field: "eve@example.org" } } });
        let open = server.anonymous();
        with_token(&open, Method::PATCH, &own, &user["_token"], Some(&body))
    };
    let server = embedded(&mail, &[]);
    write(&server, "email").problem(403, "forbidden");
    let named = embedded(&mail, &["--auth-email-field", "mail"]);
    write(&named, "mail").problem(403, "forbidden");
    // Where no mail is sent it is a field like any other.
    assert_eq!(write(&TestServer::start(), "email").status, 200);
}
