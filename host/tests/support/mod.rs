//! The real server, started by a test in a folder of its own, and clients whose
//! name says who they are.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by test binaries, each of which uses a part of it"
)]

pub mod link;
pub mod shop;
pub mod smtp;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::Value;
use tempfile::TempDir;

/// The API key of every [`TestServer`] that is not told otherwise.
pub const API_KEY: &str = "key-of-the-tests";

/// The admin key of the same servers.
pub const ADMIN_KEY: &str = "admin-key-of-the-tests";

/// How long anything that should happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a start may take: `coglex dev` builds a plugin and the SDK first.
const START: Duration = Duration::from_secs(400);

/// The binary with nothing of this process's environment that could configure
/// it, in a fresh folder.
pub fn coglex(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coglex"));
    command.current_dir(dir).env_clear().stdin(Stdio::null());
    for kept in ["PATH", "TMPDIR", "SYSTEMROOT"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// A running server; ends with the test.
pub struct TestServer {
    child: Child,
    /// The working directory, with `coglex-data` in it.
    pub dir: TempDir,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    /// What it printed before it listened.
    pub announced: Vec<String>,
}

impl TestServer {
    /// A server with the defaults, a cheap password hash and [`API_KEY`].
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with more flags.
    pub fn with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags, |command| {
            command.env("SERVER_SECRET", API_KEY);
            command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
        })
    }

    /// A server in a folder that a test has prepared, or that another has left.
    pub fn start_in(dir: TempDir, flags: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        Self::run(dir, "serve", flags, adjust)
    }

    /// `coglex dev` in a folder, with the source of a plugin.
    pub fn dev_in(dir: TempDir, source: &Path, adjust: impl FnOnce(&mut Command)) -> Self {
        let source = source.to_str().unwrap();
        Self::run(dir, "dev", &["--source", source], adjust)
    }

    /// `coglex dev` without a plugin, with flags.
    pub fn dev_with(flags: &[&str]) -> Self {
        Self::run(tempfile::tempdir().unwrap(), "dev", flags, |command| {
            command.env("SERVER_SECRET", API_KEY);
            command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
        })
    }

    fn run(
        dir: TempDir,
        subcommand: &str,
        flags: &[&str],
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = coglex(dir.path());
        command
            .args([subcommand, "--server-port", "0"])
            // A test wants the hash to be right, not strong.
            .args([
                "--auth-argon2-memory",
                "64 KiB",
                "--auth-argon2-passes",
                "1",
            ])
            .args(flags)
            .stdout(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads to the end, so that the server never waits for its reader.
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)))
        });
        let mut announced = Vec::new();
        let url = loop {
            let line = lines
                .recv_timeout(START)
                .expect("the server prints its address");
            announced.push(line.clone());
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Self {
            child,
            dir,
            url,
            announced,
        }
    }

    /// A client without any credentials.
    pub fn anonymous(&self) -> Client {
        Client {
            http: http(),
            base: self.url.clone(),
            key: None,
        }
    }

    /// A client with the API key.
    pub fn api(&self) -> Client {
        Client {
            key: Some(("X-API-Key", API_KEY)),
            ..self.anonymous()
        }
    }

    /// A client with the admin key.
    pub fn admin(&self) -> Client {
        Client {
            key: Some(("X-Admin-Key", ADMIN_KEY)),
            ..self.anonymous()
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:<port>`, for tests that speak to the socket.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Asks the server to end, as an operator does.
    pub fn terminate(&self) {
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
    }

    /// Kills the server without warning and hands back its folder.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Waits for the server to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who asks.
pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    key: Option<(&'static str, &'static str)>,
}

impl Client {
    /// The same client that also keeps cookies, as a browser does.
    pub fn with_cookies(self) -> Self {
        let http = reqwest::blocking::Client::builder()
            .cookie_store(true)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { http, ..self }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some((header, key)) => request.header(*header, *key),
            None => request,
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path).reply()
    }

    /// GET with query parameters, each a name and a text.
    pub fn find(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        self.request(Method::GET, &with_query(path, params)).reply()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.request(Method::POST, path).json(body).reply()
    }

    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.request(Method::PATCH, path).json(body).reply()
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path).reply()
    }
}

/// `path?name=value…`, percent-encoded.
pub fn with_query(path: &str, params: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect::<String>()
    };
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

/// Sends a request and reads the whole answer.
pub trait Send {
    fn reply(self) -> Reply;
}

impl Send for RequestBuilder {
    fn reply(self) -> Reply {
        let mut response = self.send().unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        response.read_to_end(&mut body).unwrap();
        Reply {
            status,
            headers,
            body,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of a 200.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks that this is a whole problem document; answers with its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(
            problem["request_id"],
            self.header("x-request-id"),
            "{problem}"
        );
        assert_eq!(problem["type"], "about:blank");
        assert!(
            problem["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{problem}"
        );
        problem["detail"].as_str().unwrap().to_owned()
    }
}

fn http() -> reqwest::blocking::Client {
    reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}
