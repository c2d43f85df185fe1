//! Letters of plugins: to whom they were granted, as many as they may.

use std::time::Duration;

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::Reply;
use crate::support::smtp::MailServer;

const ALLOW: &str = "[plugins.allow.fixture-letters]\nmail = [\"@example.org\"]\n";

fn call(host: &Host, function: &str, kwargs: Value) -> Reply {
    let path = format!("/service/execution/v1/execute/{function}/");
    host.server.api().post(&path, &json!({ "kwargs": kwargs }))
}

fn write(host: &Host, to: &str, options: Value) -> Reply {
    let letter = json!({
        "to": to, "subject": "Grüße", "text": "Good day.\n.\nBye.", "options": options,
    });
    call(host, "write", letter)
}

#[test]
fn plugins_write_to_whom_they_were_granted() {
    let Some(mail) = MailServer::start(&[]) else {
        return;
    };
    let templates = tempfile::tempdir().unwrap();
    let file = templates.path().join("invoice.txt");
    std::fs::write(file, "Subject: Invoice {{ number }}\n\nFrom {{ app }}.\n").unwrap();
    let mut flags = mail.flags();
    flags.extend(["--mail-templates-dir", templates.path().to_str().unwrap()].map(str::to_owned));
    flags.extend(["--mail-plugin-letters", "3"].map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let host = Host::flags(&["fixture-letters"], ALLOW, &flags);

    // Once for a key, and with what was asked.
    let options = json!({ "key": "k", "reply_to": "shop@example.org", "html": "<b>Hi</b>" });
    let id = write(&host, "ann@example.org", options.clone()).json();
    assert_eq!(write(&host, "ann@example.org", options).json(), id);
    let letter = mail.letter_to("ann@example.org", "Grüße");
    let text = letter["text"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), "Good day.\n.\nBye.");
    assert_eq!(letter["html"].as_str().unwrap().trim_end(), "<b>Hi</b>");
    let headers = letter["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!("reply-to")) && !headers.contains(&json!("bcc")),
        "{letter}"
    );

    // By a template of the operator's; not by one of the server's own.
    let fill = |template: &str| {
        let values =
            json!({ "to": "bob@example.org", "template": template, "values": { "number": 7 } });
        call(&host, "fill", values)
    };
    fill("invoice").json();
    let letter = mail.letter_to("bob@example.org", "Invoice 7");
    assert_eq!(letter["text"].as_str().unwrap().trim_end(), "From Acme.");
    for template in ["reset", "code", "layout", "nothing", "../invoice"] {
        assert_ne!(fill(template).status, 200, "{template}");
    }

    // To nobody else, and with nothing that is no address or no subject.
    for to in [
        "ann@other.example",
        "ann@evilexample.org",
        "ann@example.org.evil.example",
    ] {
        let refused = write(&host, to, json!({}));
        assert_ne!(refused.status, 200, "{to}: {}", refused.text());
    }
    for to in [
        "",
        "ann",
        "ann@example.org\r\nBcc: eve@example.org",
        "a@b@example.org",
    ] {
        assert_ne!(write(&host, to, json!({})).status, 200, "{to}");
    }
    let odd = json!({ "to": "ann@example.org", "subject": "a\r\nBcc: eve@example.org", "text": "", "options": {} });
    assert_ne!(call(&host, "write", odd).status, 200);
    let odd = json!({ "reply_to": "eve@example.org\nBcc: x@example.org" });
    assert_ne!(write(&host, "ann@example.org", odd).status, 200);
    let large = json!({ "to": "ann@example.org", "subject": "s", "text": "x".repeat(300_000), "options": {} });
    assert_ne!(call(&host, "write", large).status, 200);

    // And no more than the operator says.
    write(&host, "ann@example.org", json!({})).json();
    mail.letter_to("ann@example.org", "Grüße");
    write(&host, "ann@example.org", json!({})).problem(422, "mail_quota");
    mail.is_silent(Duration::from_millis(500));
}

#[test]
fn without_a_grant_or_a_mail_server_there_are_none() {
    let host = Host::with(&["fixture-letters"], "");
    host.logged(&["fixture-letters", "mail"]);
    call(&host, "write", json!({})).problem(404, "not_found");
    let host = Host::with(&["fixture-letters"], ALLOW);
    write(&host, "ann@example.org", json!({})).problem(422, "mail_not_configured");
}
