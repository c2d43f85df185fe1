//! Sign-in by identity providers, asked of the real binary: the test is the browser and
//! the page, the providers are `oauth2-mock-server` (npm), which checks PKCE and whose
//! tokens can be made wrong, and `oidc-provider-mock` (PyPI), which has people who may
//! say no, and codes that count once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use reqwest::Method;
use serde_json::{Value, json};

use crate::auth_tokens::session;
use crate::mongodb;
use crate::support::{API_KEY, PATIENCE, Reply, Send as _, TestServer, with_query};

const OAUTH: &str = "/service/auth/v1/oauth/users/";
const PAGE: &str = "https://app.example/in?x=1";
const OTHER_PAGE: &str = "https://app.example/other";

/// `oauth2-mock-server`.
struct Mock {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    issuer: String,
}

impl Mock {
    /// None where the tests were told to do without.
    fn start() -> Option<Self> {
        let Some(packages) = std::env::var_os("COGLEX_TEST_PACKAGES") else {
            eprintln!("skipped: COGLEX_TEST_PACKAGES is not set; `cargo xtask test` sets it");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/oauth2_mock.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut issuer = String::new();
        output.read_line(&mut issuer).unwrap();
        let issuer = issuer.trim().to_owned();
        assert!(issuer.starts_with("http://"), "{issuer:?}");
        Some(Self {
            child,
            input,
            output,
            issuer,
        })
    }

    /// Has tokens differ from now on.
    fn says(&mut self, change: Value) {
        writeln!(self.input, "{change}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "ok");
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `oidc-provider-mock`.
struct People {
    child: Child,
    issuer: String,
}

impl People {
    fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("COGLEX_TEST_PYTHON") else {
            eprintln!("skipped: COGLEX_TEST_PYTHON is not set; `cargo xtask test` sets it");
            return None;
        };
        // Closed again, or it would be taken.
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let verified = r#"{"sub": "bob", "email": "bob@example.org", "email_verified": true}"#;
        let child = Command::new(python)
            .args(["-W", "ignore", "-m", "oidc_provider_mock"])
            .args(["--port", &port.to_string(), "--user-claims", verified])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let people = Self {
            child,
            issuer: format!("http://127.0.0.1:{port}"),
        };
        let start = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "the provider does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(people)
    }
}

impl Drop for People {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server whose users sign in by these providers.
fn server(mock: &str, people: &str, adjust: impl FnOnce(&mut Command)) -> TestServer {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        [auth]
        redirect_urls = ["{PAGE}", "{OTHER_PAGE}", "org.example.app:/in"]
        [auth.providers.mock]
        issuer = "{mock}"
        client_id = "us"
        client_secret = "s:cret"
        [auth.providers.people]
        issuer = "{people}"
        client_id = "us"
        [auth.providers.gone]
        issuer = "http://127.0.0.1:1"
        client_id = "us"
        [auth.realms.users]
        providers = ["mock", "people", "gone"]
        [auth.realms.closed]
        providers = ["mock"]
        sign_up = "closed"
        "#
    );
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
        command.env("COGLEX_PROVIDER_SECRET_PEOPLE", "from the environment");
        adjust(command);
    })
}

/// A browser that follows nothing by itself.
fn http() -> reqwest::blocking::Client {
    let none = reqwest::redirect::Policy::none();
    let client = reqwest::blocking::Client::builder().redirect(none);
    client.timeout(PATIENCE).build().unwrap()
}

/// A browser that was sent to a provider.
struct Away {
    url: String,
    cookie: String,
}

fn away(reply: &Reply, url: &str) -> Away {
    let cookie = reply.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    assert_eq!(reply.header("cache-control"), "no-store");
    Away {
        url: url.to_owned(),
        cookie: cookie.split(';').next().unwrap().to_owned(),
    }
}

fn begin(server: &TestServer, provider: &str, params: &[(&str, &str)]) -> Away {
    let path = with_query(&format!("{OAUTH}{provider}/"), params);
    let reply = server.anonymous().get(&path);
    assert_eq!(reply.status, 303, "{}", reply.text());
    let url = reply.header("location").to_owned();
    away(&reply, &url)
}

/// What the provider sends the browser back with.
fn agree(url: &str) -> String {
    let reply = http().get(url).send().unwrap();
    reply.headers()["location"].to_str().unwrap().to_owned()
}

/// The same of a provider with people.
fn agree_as(url: &str, who: &str) -> String {
    let form = match who {
        "" => "action=deny".to_owned(),
        who => format!("sub={who}"),
    };
    let request = http().post(url).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let reply = request.send().unwrap();
    let to = reply.headers().get("location");
    to.unwrap_or_else(|| panic!("{}", reply.status()))
        .to_str()
        .unwrap()
        .to_owned()
}

fn back(url: &str, cookie: &str) -> Reply {
    http().get(url).header("cookie", cookie).reply()
}

/// What a page is told, by the name of the parameter.
fn told(reply: &Reply, page: &str) -> (String, String) {
    assert_eq!(reply.status, 303, "{}", reply.text());
    let location = reply.header("location");
    let rest = location
        .strip_prefix(page)
        .unwrap_or_else(|| panic!("{location}"));
    let (name, value) = rest[1..].split_once('=').unwrap();
    assert!(
        !location.contains("cgrt_") && !location.contains("eyJ"),
        "{location}"
    );
    (name.to_owned(), value.to_owned())
}

fn exchange(server: &TestServer, code: &str) -> Reply {
    let body = json!({ "_code": code });
    server.anonymous().post(&format!("{OAUTH}exchange/"), &body)
}

/// The whole way by the mock, up to what the page is told.
fn by_mock(server: &TestServer) -> (String, String) {
    let away = begin(server, "mock", &[]);
    told(&back(&agree(&away.url), &away.cookie), PAGE)
}

fn sign_in(server: &TestServer) -> Value {
    let (name, code) = by_mock(server);
    assert_eq!(name, "_code", "{code}");
    exchange(server, &code).json()
}

fn own(server: &TestServer, method: Method, path: &str, token: &Value, body: &Value) -> Reply {
    let request = server
        .anonymous()
        .request(method, &format!("{OAUTH}{path}"));
    let request = request.bearer_auth(token.as_str().unwrap());
    match body {
        Value::Null => request.reply(),
        body => request.json(body).reply(),
    }
}

fn link(server: &TestServer, token: &Value, body: &Value) -> (String, String) {
    let reply = own(server, Method::POST, "mock/link/", token, body);
    let url = reply.json()["url"].as_str().unwrap().to_owned();
    let away = away(&reply, &url);
    told(&back(&agree(&away.url), &away.cookie), PAGE)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The whole walk, whatever the store.
fn somebody_signs_up_and_in_by_a_provider(server: &TestServer, mock: &mut Mock) {
    let listed = server.anonymous().get(OAUTH).json();
    assert_eq!(
        listed[0],
        json!({ "name": "mock", "url": format!("{OAUTH}mock/") })
    );
    let away = begin(server, "mock", &[("redirect", OTHER_PAGE)]);
    for part in [
        "response_type=code",
        "code_challenge_method=S256",
        "state=",
        "nonce=",
    ] {
        assert!(away.url.contains(part), "{}", away.url);
    }
    let url = agree(&away.url);
    let done = back(&url, &away.cookie);
    assert_eq!(done.header("referrer-policy"), "no-referrer");
    let (name, code) = told(&done, OTHER_PAGE);
    assert_eq!(name, "_code");
    // What came back once does not count again, nor does the page's code.
    back(&url, &away.cookie).problem(400, "oauth_state_invalid");
    let user = exchange(server, &code);
    assert!(user.header("set-cookie").starts_with("coglex_users="));
    let user = user.json();
    exchange(server, &code).problem(401, "oauth_code_invalid");
    assert_eq!(user["_key"], "ann@example.org");
    assert_eq!(user.get("_coglex"), None);
    assert_eq!(session(&server.api(), &user["_token"])["_id"], user["_id"]);
    // The same person is the same user, whatever the address is by now.
    mock.says(json!({ "payload": { "email": "smith@example.org" } }));
    assert_eq!(sign_in(server)["_id"], user["_id"]);
    // Another person is another.
    mock.says(
        json!({ "payload": { "sub": "eve", "email": "eve@example.org", "email_verified": false } }),
    );
    let eve = sign_in(server);
    assert_eq!(eve["_key"], "mock:eve");
    // Who claims the first one's address has not got it.
    mock.says(json!({ "payload": { "sub": "mallory", "email_verified": false } }));
    let mallory = sign_in(server);
    assert_eq!(mallory["_key"], "mock:mallory");
    mock.says(json!({}));

    // Eve cannot have Ann's identity, and not lose her own, by which alone she gets in.
    let taken = link(server, &eve["_token"], &json!({}));
    assert_eq!(taken, ("error".into(), "identity_taken".into()));
    let list = own(
        server,
        Method::GET,
        "identities/",
        &eve["_token"],
        &Value::Null,
    )
    .json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["provider"], "mock");
    let unlink = format!("identities/{}/unlink/", list[0]["id"].as_str().unwrap());
    own(server, Method::POST, &unlink, &eve["_token"], &json!({})).problem(409, "last_way_in");
    own(server, Method::POST, &unlink, &user["_token"], &json!({})).problem(404, "not_found");

    // Somebody with a password links, and unlinks again.
    let body = json!({ "_key": "carl", "_password": "correct horse" });
    server
        .api()
        .post("/service/auth/v1/signup/users/", &body)
        .json();
    let carl = server
        .api()
        .post("/service/auth/v1/signin/users/", &body)
        .json();
    let token = &carl["_token"];
    own(server, Method::POST, "mock/link/", token, &json!({})).problem(403, "wrong_password");
    mock.says(json!({ "payload": { "sub": "carl", "email": "carl@example.org" } }));
    let proof = json!({ "_password": "correct horse" });
    let linked = link(server, token, &proof);
    assert_eq!(linked, ("_linked".into(), "mock".into()));
    assert_eq!(link(server, token, &proof), linked);
    assert_eq!(sign_in(server)["_id"], carl["_id"]);
    let list = own(server, Method::GET, "identities/", token, &Value::Null).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let unlink = format!("identities/{}/unlink/", list[0]["id"].as_str().unwrap());
    own(server, Method::POST, &unlink, token, &json!({})).problem(403, "wrong_password");
    assert_eq!(
        own(server, Method::POST, &unlink, token, &proof).json(),
        true
    );
    assert_ne!(sign_in(server)["_id"], carl["_id"]);
    mock.says(json!({}));

    // The identities' index is the server's own.
    let path = "/service/storage/v1/users/indexes/?name=_coglex_identities";
    server.api().delete(path).problem(403, "forbidden");
}

#[test]
fn providers_on_the_embedded_store() {
    let Some(mut mock) = Mock::start() else {
        return;
    };
    let server = server(&mock.issuer, "http://127.0.0.1:1", |_| {});
    somebody_signs_up_and_in_by_a_provider(&server, &mut mock);
}

#[test]
fn providers_on_mongodb_and_on_every_host_of_it() {
    let (Some(address), Some(mut mock)) = (mongodb::database_address(), Mock::start()) else {
        return;
    };
    let database = format!("coglex_oauth_{}", std::process::id());
    let issuer = mock.issuer.clone();
    let host = || {
        server(&issuer, "http://127.0.0.1:1", |command| {
            command
                .env(
                    "COGLEX_AUTH_SIGNING_KEY",
                    "the-same-signing-key-on-all-hosts",
                )
                .env("COGLEX_SERVER_PUBLIC_URL", "http://localhost:9999")
                .env(
                    "MONGODB_URI",
                    format!("mongodb://{address}/?directConnection=true"),
                )
                .env("MONGODB_DATABASE", &database);
        })
    };
    let (one, two) = (host(), host());
    // What a provider is told is the operator's address; a proxy in front takes it from
    // there to any host.
    let away = begin(&one, "mock", &[]);
    let url = agree(&away.url);
    let path = url
        .strip_prefix("http://localhost:9999")
        .unwrap_or_else(|| panic!("{url}"));
    let (name, code) = told(&back(&format!("{}{path}", two.url), &away.cookie), PAGE);
    assert_eq!(name, "_code");
    back(&format!("{}{path}", one.url), &away.cookie).problem(400, "oauth_state_invalid");
    let user = exchange(&one, &code).json();
    exchange(&two, &code).problem(401, "oauth_code_invalid");
    assert_eq!(
        session(&two.api(), &user["_token"])["_key"],
        "ann@example.org"
    );
    drop((one, two));
    let database = format!("{database}_walk");
    let server = server(&issuer, "http://127.0.0.1:1", |command| {
        command
            .env(
                "MONGODB_URI",
                format!("mongodb://{address}/?directConnection=true"),
            )
            .env("MONGODB_DATABASE", &database);
    });
    somebody_signs_up_and_in_by_a_provider(&server, &mut mock);
}

#[test]
fn tokens_that_are_not_as_they_should_be_sign_nobody_in() {
    let Some(mut mock) = Mock::start() else {
        return;
    };
    let server = server(&mock.issuer, "http://127.0.0.1:1", |_| {});
    let failed = ("error".to_owned(), "provider_failed".to_owned());
    for change in [
        json!({ "payload": { "iss": "https://evil.example" } }),
        json!({ "payload": { "exp": now() - 120 } }),
        json!({ "payload": { "iat": now() + 600 } }),
        json!({ "payload": { "aud": "them" } }),
        json!({ "payload": { "azp": "them" } }),
        json!({ "payload": { "nonce": "another" } }),
        json!({ "payload": { "sub": "" } }),
        json!({ "header": { "kid": "unknown" } }),
    ] {
        mock.says(change.clone());
        assert_eq!(by_mock(&server), failed, "{change}");
    }
    mock.says(json!({}));
    sign_in(&server);
    // A verifier that is not the one of the challenge: another flow's code.
    let (one, other) = (begin(&server, "mock", &[]), begin(&server, "mock", &[]));
    let (url, others) = (agree(&one.url), agree(&other.url));
    let code = |url: &str| {
        let rest = url.split_once("code=").unwrap().1;
        rest.split('&').next().unwrap().to_owned()
    };
    let mixed = url.replace(&code(&url), &code(&others));
    assert_eq!(told(&back(&mixed, &one.cookie), PAGE), failed);
    // A new key of the provider's is fetched; asked for it is no more often than every
    // ten seconds.
    std::thread::sleep(Duration::from_secs(10));
    mock.says(json!({ "rotate": true }));
    sign_in(&server);
}

#[test]
fn only_the_browser_that_left_comes_back_and_only_to_our_pages() {
    let Some(mock) = Mock::start() else {
        return;
    };
    let server = server(&mock.issuer, "http://127.0.0.1:1", |_| {});
    let open = server.anonymous();
    for page in [
        "https://evil.example/",
        "https://app.example/in",
        "//evil.example",
        "",
    ] {
        let path = with_query(&format!("{OAUTH}mock/"), &[("redirect", page)]);
        open.get(&path).problem(400, "invalid_input");
    }
    let away = begin(&server, "mock", &[]);
    let url = agree(&away.url);
    let other = begin(&server, "mock", &[]);
    for cookie in ["", &other.cookie, &format!("{}x", away.cookie)] {
        back(&url, cookie).problem(400, "oauth_state_invalid");
    }
    let state = url
        .split_once("state=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap();
    let wrong = url.replace(state, &format!("{}xx", &state[..state.len() - 2]));
    back(&wrong, &away.cookie).problem(400, "oauth_state_invalid");
    back(&url.replace("/users/", "/closed/"), &away.cookie).problem(400, "oauth_state_invalid");
    // Nothing of that has used it up.
    assert_eq!(told(&back(&url, &away.cookie), PAGE).0, "_code");

    // Some providers have the browser post what others have it ask.
    let posted = begin(&server, "mock", &[]);
    let url = agree(&posted.url);
    let (path, form) = url.split_once('?').unwrap();
    let post = |cookie: &str| {
        let request = http().post(path).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("cookie", cookie).reply()
    };
    post(&other.cookie).problem(400, "oauth_state_invalid");
    assert_eq!(told(&post(&posted.cookie), PAGE).0, "_code");
    // Of two answers it cannot be said which is meant.
    let twice = begin(&server, "mock", &[]);
    let url = agree(&twice.url);
    let state = url
        .split_once("state=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap();
    back(&format!("{url}&state={state}"), &twice.cookie).problem(400, "oauth_state_invalid");

    // Realms and providers that were not let.
    for path in ["users/nobody/", "admins/mock/", "closed/people/"] {
        open.get(&format!("/service/auth/v1/oauth/{path}"))
            .problem(404, "not_found");
    }
    open.get(&format!("{OAUTH}gone/"))
        .problem(502, "provider_failed");
    let away = {
        let reply = open.get("/service/auth/v1/oauth/closed/mock/");
        let url = reply.header("location").to_owned();
        self::away(&reply, &url)
    };
    let closed = told(&back(&agree(&away.url), &away.cookie), PAGE);
    assert_eq!(closed, ("error".into(), "sign_up_closed".into()));

    // Who names another host is not told that it is ours.
    let request = http().get(format!("{}{OAUTH}mock/", server.url));
    request
        .header("host", "evil.example")
        .reply()
        .problem(503, "public_url_required");

    // A page can have its code bound to itself; an app of a phone has to.
    let apps = [("redirect", "org.example.app:/in")];
    open.get(&with_query(&format!("{OAUTH}mock/"), &apps))
        .problem(400, "invalid_input");
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let bound = || {
        let params = [apps[0], ("code_challenge", challenge)];
        let away = begin(&server, "mock", &params);
        told(&back(&agree(&away.url), &away.cookie), apps[0].1).1
    };
    let code = bound();
    exchange(&server, &code).problem(401, "oauth_code_invalid");
    let with = |code: &str, verifier: &str| {
        let body = json!({ "_code": code, "code_verifier": verifier });
        open.post(&format!("{OAUTH}exchange/"), &body)
    };
    // That one was used up by the attempt.
    with(&code, verifier).problem(401, "oauth_code_invalid");
    with(&bound(), &BASE64.encode("another")).problem(401, "oauth_code_invalid");
    with(&bound(), verifier).json();
}

#[test]
fn an_account_with_the_same_address_is_given_to_nobody_who_has_not_shown_it() {
    let Some(mock) = Mock::start() else {
        return;
    };
    let server = server(&mock.issuer, "http://127.0.0.1:1", |_| {});
    // Somebody has signed up with Ann's address before she comes.
    let body = json!({ "_key": "ann@example.org", "_password": "correct horse" });
    server
        .api()
        .post("/service/auth/v1/signup/users/", &body)
        .json();
    assert_eq!(by_mock(&server), ("error".into(), "account_exists".into()));
    // The way to it is by what it has.
    let ann = server
        .api()
        .post("/service/auth/v1/signin/users/", &body)
        .json();
    let proof = json!({ "_password": "correct horse" });
    assert_eq!(link(&server, &ann["_token"], &proof).0, "_linked");
    assert_eq!(sign_in(&server)["_id"], ann["_id"]);
    // A session that is over links nothing.
    let reply = own(&server, Method::POST, "mock/link/", &ann["_token"], &proof);
    let url = reply.json()["url"].as_str().unwrap().to_owned();
    let away = away(&reply, &url);
    let url = agree(&away.url);
    let out = server
        .anonymous()
        .request(Method::POST, "/service/auth/v1/signout/users/");
    out.bearer_auth(ann["_token"].as_str().unwrap())
        .reply()
        .json();
    let ended = told(&back(&url, &away.cookie), PAGE);
    assert_eq!(ended, ("error".into(), "sign_in_again".into()));
    own(
        &server,
        Method::GET,
        "identities/",
        &ann["_token"],
        &Value::Null,
    )
    .problem(401, "session_required");
}

#[test]
fn a_provider_does_not_spare_the_second_factor() {
    let Some(mock) = Mock::start() else {
        return;
    };
    let server = server(&mock.issuer, "http://127.0.0.1:1", |_| {});
    let user = sign_in(&server);
    crate::auth_totp::enable(&server, &user["_token"]);
    let (_, code) = by_mock(&server);
    exchange(&server, &code).problem(401, "second_factor_required");
    exchange(&server, &code).problem(401, "oauth_code_invalid");
}

#[test]
fn people_may_say_no_and_their_codes_count_once() {
    let Some(people) = People::start() else {
        return;
    };
    let server = server("http://127.0.0.1:1", &people.issuer, |_| {});
    let go = |who: &str| {
        let away = begin(&server, "people", &[]);
        let mut url = agree_as(&away.url, who);
        if who.is_empty() {
            // It forgets the state, which it has to send (RFC 6749, section 4.1.2.1).
            let state = away.url.split_once("state=").unwrap().1;
            url = format!("{url}&state={}", state.split('&').next().unwrap());
        }
        (url.clone(), told(&back(&url, &away.cookie), PAGE))
    };
    assert_eq!(go("").1, ("error".into(), "access_denied".into()));
    let (url, (name, code)) = go("bob");
    assert_eq!(name, "_code", "{code}");
    let bob = exchange(&server, &code).json();
    assert_eq!(bob["_key"], "bob@example.org");
    // An address that the provider has not verified is no key.
    let (_, (_, code)) = go("carol@example.org");
    assert_eq!(
        exchange(&server, &code).json()["_key"],
        "people:carol@example.org"
    );
    // Bob's code, in a flow of somebody else's.
    let away = begin(&server, "people", &[]);
    let fresh = agree_as(&away.url, "dave");
    let part = |url: &str, name: &str| {
        let rest = url.split_once(&format!("{name}=")).unwrap().1;
        rest.split('&').next().unwrap().to_owned()
    };
    let replayed = fresh.replace(&part(&fresh, "code"), &part(&url, "code"));
    let failed = told(&back(&replayed, &away.cookie), PAGE);
    assert_eq!(failed, ("error".into(), "provider_failed".into()));
}

#[test]
fn settings_of_providers_that_cannot_work_stop_the_start() {
    let start = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
        let mut command = crate::support::coglex(dir.path());
        let output = command
            .args(["serve", "--server-port", "0"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (config, says) in [
        (
            "[auth.realms.users]\nproviders = [\"x\"]",
            "auth.providers.x",
        ),
        (
            "[auth.providers.google]\nclient_id = \"a\"\n[auth.realms.users]\nproviders = [\"google\"]",
            "redirect_urls",
        ),
        ("[auth.providers.x]\nclient_id = \"a\"", "issuer"),
        (
            "[auth.providers.x]\nclient_id = \"a\"\nissuer = \"http://x.example\"",
            "https",
        ),
        ("[auth.providers.Bad]\nclient_id = \"a\"", "name"),
        ("[auth.providers.exchange]\nclient_id = \"a\"", "name"),
        (
            "[auth.providers.apple]\nclient_id = \"a\"\nclient_secret = \"hidden\"",
            "private_key",
        ),
        (
            "[auth.providers.x]\nclient_id = \"a\"\npreset = \"y\"",
            "preset",
        ),
        (
            "[auth]\nredirect_urls = [\"http://x.example/\"]",
            "redirect_urls",
        ),
        (
            "[auth]\nredirect_urls = [\"https://x.example/#a\"]",
            "redirect_urls",
        ),
    ] {
        let said = start(config);
        assert!(
            said.contains(says) && !said.contains("hidden"),
            "{config}\n{said}"
        );
    }
}
