//! A real SMTP server (PyPI `aiosmtpd`) as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/smtp.py");

/// The server; ends with the test.
pub struct MailServer {
    child: Child,
    letters: Receiver<Value>,
    pub port: u16,
}

impl MailServer {
    /// A server that takes everything. None where the test command has not said which
    /// Python there is.
    pub fn start(options: &[&str]) -> Option<Self> {
        let Ok(python) = std::env::var("COGLEX_TEST_PYTHON") else {
            eprintln!("skipped: COGLEX_TEST_PYTHON is not set; `cargo xtask test` sets it");
            return None;
        };
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let (sender, letters) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Self {
            child,
            letters,
            port,
        })
    }

    /// The flags by which Coglex sends through it, without TLS.
    pub fn flags(&self) -> Vec<String> {
        let port = self.port.to_string();
        [
            ("--mail-host", "127.0.0.1"),
            ("--mail-port", port.as_str()),
            ("--mail-tls", "none"),
            ("--mail-from", "Acme <acme@example.org>"),
            ("--mail-app-name", "Acme"),
            ("--server-public-url", "https://api.example"),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect()
    }

    /// The next letter.
    #[track_caller]
    pub fn letter(&self) -> Value {
        let letter = self.letters.recv_timeout(PATIENCE);
        letter.expect("a letter is sent")
    }

    /// The next letter, which has to be to this address and have this in its subject.
    #[track_caller]
    pub fn letter_to(&self, address: &str, subject: &str) -> Value {
        let letter = self.letter();
        assert_eq!(letter["to"], serde_json::json!([address]), "{letter}");
        let given = letter["subject"].as_str().unwrap();
        assert!(given.contains(subject), "{letter}");
        letter
    }

    /// Checks that no letter comes.
    #[track_caller]
    pub fn is_silent(&self, time: Duration) {
        if let Ok(letter) = self.letters.recv_timeout(time) {
            panic!("nothing should be sent: {letter}");
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The token of a letter's link, which text and HTML must share.
#[track_caller]
pub fn token(letter: &Value) -> String {
    let text = letter["text"].as_str().unwrap();
    let (_, rest) = text.split_once("token=").expect("the letter has a link");
    let token = rest.split_whitespace().next().unwrap().to_owned();
    let html = letter["html"].as_str().unwrap();
    assert!(html.contains(&token), "{html}");
    token
}

/// A certificate for `localhost` in a folder: `(certificate, key)`.
pub fn certificate(dir: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    (text(certificate), text(key))
}
