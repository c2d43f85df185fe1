//! The outbox and the SMTP server: what is kept, tried again, refused and told.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::mongodb::database_address;
use crate::support::smtp::{MailServer, certificate};
use crate::support::{ADMIN_KEY, API_KEY, PATIENCE, TestServer, coglex};

const RESET: &str = "/service/auth/v1/reset/users/";

fn ann(server: &TestServer) {
    let body = json!({ "_key": "ann@example.org", "_password": "correct horse" });
    server
        .api()
        .post("/service/auth/v1/signup/users/", &body)
        .json();
}

fn ask(server: &TestServer) {
    let body = json!({ "_key": "ann@example.org" });
    assert_eq!(server.api().post(RESET, &body).json(), true);
}

fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn a_letter_outlives_the_servers_that_have_it() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let port = mail.port.to_string();
    let flags = mail.flags();
    drop(mail);
    let server = TestServer::with(&texts(&flags));
    ann(&server);
    ask(&server);
    // Nobody is there to take it; it is said so, and tried again.
    let begun = Instant::now();
    let outbox = loop {
        let outbox = server.admin().get("/admin/v1/mail/").json();
        if outbox[0]["error"]["code"] == "smtp" {
            break outbox;
        }
        assert!(begun.elapsed() < PATIENCE, "{outbox}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        (&outbox[0]["state"], &outbox[0]["line"]),
        (&json!("waiting"), &json!("reset"))
    );
    // Neither whose nor which link.
    let text = outbox.to_string();
    assert!(!text.contains("ann") && !text.contains("cgmt_"), "{text}");
    let dir = server.kill();
    let mail = MailServer::start(&["--port", &port, "--busy", "1"]).unwrap();
    let _server = TestServer::start_in(dir, &texts(&flags), |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    mail.letter_to("ann@example.org", "new password");
    mail.is_silent(Duration::from_millis(500));
}

#[test]
fn what_is_refused_for_good_is_kept_for_operators() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let server = TestServer::with(&texts(&mail.flags()));
    let body = json!({ "_key": "nobody@example.org", "_password": "correct horse" });
    server
        .api()
        .post("/service/auth/v1/signup/users/", &body)
        .json();
    server
        .api()
        .post(RESET, &json!({ "_key": "nobody@example.org" }))
        .json();
    let begun = Instant::now();
    let letter = loop {
        let failed = server.admin().get("/admin/v1/mail/?state=failed").json();
        if let Some(letter) = failed.get(0) {
            break letter.clone();
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        (&letter["error"]["code"], &letter["attempts"]),
        (&json!("refused"), &json!(1))
    );
    let path = format!("/admin/v1/mail/{}/retry/", letter["id"].as_str().unwrap());
    assert_eq!(
        server.admin().post(&path, &json!({})).json()["state"],
        "waiting"
    );
    server
        .api()
        .get("/admin/v1/mail/")
        .problem(401, "admin_key_required");
    server
        .admin()
        .get("/admin/v1/mail/?state=odd")
        .problem(400, "invalid_input");
    // Clients see neither the letters nor where they are.
    let jobs = server.api().get("/service/execution/v1/jobs/").json();
    assert_eq!(jobs, json!([]));
    server
        .api()
        .get("/service/storage/v1/_coglex_mail/")
        .problem(403, "forbidden");
}

#[test]
fn letters_go_over_starttls_and_tls_to_who_has_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(dir.path());
    for mode in ["starttls", "tls"] {
        let options = [
            "--tls",
            mode,
            "--certificate",
            &certificate,
            "--key",
            &key,
            "--user",
            "acme",
            "--password",
            "s3cret",
        ];
        let Some(mail) = MailServer::start(&options) else {
            return;
        };
        let port = mail.port.to_string();
        let flags = |password: &'static str, more: &[&'static str]| {
            let mut flags = vec![
                "--mail-host",
                "localhost",
                "--mail-tls",
                mode,
                "--mail-username",
                "acme",
                "--mail-from",
                "acme@example.org",
                "--server-public-url",
                "https://api.example",
                "--mail-password",
                password,
            ];
            flags.extend_from_slice(more);
            flags.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let own = |flags: Vec<String>, trusted: bool| {
            let mut flags = flags;
            flags.extend(["--mail-port".to_owned(), port.clone()]);
            if trusted {
                flags.extend(["--mail-authorities".to_owned(), certificate.clone()]);
            }
            flags
        };
        let server = TestServer::with(&texts(&own(flags("s3cret", &[]), true)));
        ann(&server);
        ask(&server);
        let letter = mail.letter_to("ann@example.org", "new password");
        assert_eq!(
            (&letter["encrypted"], &letter["authenticated"]),
            (&json!(true), &json!(true))
        );
        // A wrong password, and a certificate that nobody knows: no letter, and a reason.
        for (password, trusted) in [("wrong", true), ("s3cret", false)] {
            let server = TestServer::with(&texts(&own(flags(password, &[]), trusted)));
            ann(&server);
            ask(&server);
            let begun = Instant::now();
            loop {
                let outbox = server.admin().get("/admin/v1/mail/").json();
                if outbox[0]["error"]["code"] == "smtp" {
                    assert!(!outbox.to_string().contains("s3cret"), "{outbox}");
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{outbox}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        mail.is_silent(Duration::from_millis(200));
    }
}

#[test]
fn many_hosts_send_a_letter_once() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let Some(address) = database_address() else {
        return;
    };
    let flags = mail.flags();
    let host = || {
        TestServer::start_in(tempfile::tempdir().unwrap(), &texts(&flags), |command| {
            command
                .env("SERVER_SECRET", API_KEY)
                .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
                .env(
                    "COGLEX_AUTH_SIGNING_KEY",
                    "the-same-signing-key-on-all-hosts",
                )
                .env(
                    "MONGODB_URI",
                    format!("mongodb://{address}/?directConnection=true"),
                )
                .env(
                    "MONGODB_DATABASE",
                    format!("coglex_mail_hosts_{}", std::process::id()),
                );
        })
    };
    let (one, two) = (host(), host());
    ann(&one);
    for _ in 0..2 {
        ask(&one);
        ask(&two);
    }
    let mut ids = Vec::new();
    for _ in 0..4 {
        let letter = mail.letter_to("ann@example.org", "new password");
        ids.push(letter["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    mail.is_silent(Duration::from_secs(2));
}

#[test]
fn without_a_mail_server_flows_say_so() {
    let server = TestServer::start();
    ann(&server);
    for flow in ["verification", "reset"] {
        let path = format!("/service/auth/v1/{flow}/users/");
        server
            .api()
            .post(&path, &json!({ "_key": "ann@example.org" }))
            .problem(503, "mail_not_configured");
    }
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    // Nor is there a link to an address that a request has made up.
    let port = mail.port.to_string();
    let server = TestServer::with(&[
        "--mail-host",
        "127.0.0.1",
        "--mail-port",
        &port,
        "--mail-tls",
        "none",
        "--mail-from",
        "a@example.org",
    ]);
    ann(&server);
    server
        .api()
        .post(RESET, &json!({ "_key": "ann@example.org" }))
        .problem(503, "mail_not_configured");
}

#[test]
fn in_development_letters_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = coglex(dir.path())
        .args(["dev", "--server-port", "0", "--auth-codes=true"])
        .env("SERVER_SECRET", API_KEY)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let other = sender.clone();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.for_each(|line| drop(other.send(line)));
    });
    std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.for_each(|line| drop(sender.send(line)));
    });
    let until = |wanted: &str| loop {
        let line = lines.recv_timeout(PATIENCE).expect(wanted);
        if line.contains(wanted) {
            return line;
        }
    };
    let line = until("listening on ");
    let url = line.split("listening on ").nth(1).unwrap().to_owned();
    let http = reqwest::blocking::Client::new();
    let post = |path: &str, body: serde_json::Value| {
        let answer = http
            .post(format!("{url}{path}"))
            .header("X-API-Key", API_KEY)
            .json(&body)
            .send();
        assert_eq!(answer.unwrap().status(), 200, "{path}");
    };
    let user = json!({ "_key": "ann@example.org", "_password": "correct horse" });
    post("/service/auth/v1/signup/users/", user);
    post(
        "/service/auth/v1/code/users/",
        json!({ "_key": "ann@example.org" }),
    );
    until("Your code to sign in to Coglex is");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What `coglex` says that cannot start.
fn refusal(dir: &std::path::Path, arguments: &[&str]) -> String {
    let ended = coglex(dir).args(arguments).output().unwrap();
    assert!(!ended.status.success(), "{arguments:?}");
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn mistakes_in_settings_and_templates_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |more: &[&str]| {
        let all = [
            &[
                "serve",
                "--server-port",
                "0",
                "--mail-from",
                "a@example.org",
            ],
            more,
        ]
        .concat();
        refusal(dir.path(), &all)
    };
    let plain = ["--mail-host", "mail.example.org", "--mail-tls", "none"];
    let said = serve(&plain);
    assert!(
        said.contains("mail.tls") && said.contains("in the clear"),
        "{said}"
    );
    let said = serve(&["--mail-host", "mail.example.org", "--mail-username", "acme"]);
    assert!(said.contains("mail.password"), "{said}");
    let said = refusal(dir.path(), &["serve", "--mail-host", "mail.example.org"]);
    assert!(said.contains("mail.from"), "{said}");
    let templates = dir.path().join("templates/mail");
    std::fs::create_dir_all(&templates).unwrap();
    std::fs::write(
        templates.join("reset.txt"),
        "Subject: Hi\n\nGo to {{ lnk }}.\n",
    )
    .unwrap();
    let said = serve(&["--mail-host", "mail.example.org"]);
    assert!(
        said.contains("reset.txt:3") && said.contains("undefined"),
        "{said}"
    );
}

#[test]
fn letters_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let templates = dir.path().join("templates/mail");
    std::fs::create_dir_all(&templates).unwrap();
    std::fs::write(
        templates.join("code.txt"),
        "Subject: {{ code }}!\n\nFrom {{ app }}\n",
    )
    .unwrap();
    let shown = |arguments: &[&str]| {
        let done = coglex(dir.path()).args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(
        shown(&["mail", "preview", "code"]),
        "Subject: 123456!\n\nFrom Acme\n"
    );
    assert!(shown(&["mail", "preview", "code", "--html"]).starts_with("<!doctype html>"));
    assert!(shown(&["mail", "templates"]).contains("password-changed\n"));
    assert!(refusal(dir.path(), &["mail", "preview", "nothing"]).contains("nothing"));

    let server = TestServer::start_in(dir, &[], |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY);
    });
    let admin = server.admin();
    let letter = admin.get("/admin/v1/mail/templates/code/").json();
    assert_eq!(
        (&letter["subject"], &letter["text"]),
        (&json!("123456!"), &json!("From Acme\n"))
    );
    admin
        .get("/admin/v1/mail/templates/nothing/")
        .problem(404, "not_found");
    let file = server.dir.path().join("templates/mail/code.txt");
    std::fs::write(file, "Subject: x\n\n{% if %}").unwrap();
    let said = admin
        .get("/admin/v1/mail/templates/code/")
        .problem(422, "template_broken");
    assert!(said.contains("code.txt:3"), "{said}");
}
