//! Starting: settings, keys, and what is said about mistakes.

use std::fs;
use std::process::Output;

use crate::support::{Send as _, TestServer, coglex};

fn run(files: &[(&str, &str)], environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    coglex(dir.path())
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn refusal(files: &[(&str, &str)], environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run(files, environment, arguments);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_server_without_a_secret_makes_one_and_tells_it_once() {
    let first = TestServer::start_in(tempfile::tempdir().unwrap(), &[], |_| {});
    let data = first.dir.path().join("coglex-data");
    let key = fs::read_to_string(data.join("secret"))
        .unwrap()
        .trim()
        .to_owned();
    assert!(
        first.announced.iter().any(|line| line.contains(&key)),
        "{:?}",
        first.announced
    );
    let signing = fs::read_to_string(data.join("signing-key")).unwrap();
    assert!(
        !first
            .announced
            .iter()
            .any(|line| line.contains(signing.trim()))
    );
    let list = |server: &TestServer, key: &str| {
        server
            .anonymous()
            .request(reqwest::Method::GET, "/service/storage/v1/")
            .header("X-API-Key", key)
            .reply()
            .status
    };
    assert_eq!((list(&first, &key), list(&first, "")), (200, 401));
    let second = TestServer::start_in(first.kill(), &[], |_| {});
    assert_eq!(second.announced.len(), 1, "{:?}", second.announced);
    assert_eq!(list(&second, &key), 200);
}

#[test]
fn the_admin_key_is_made_and_told_once_and_is_not_the_api_key() {
    let first = TestServer::start_in(tempfile::tempdir().unwrap(), &[], |_| {});
    let kept = |name: &str| {
        let path = first.dir.path().join("coglex-data").join(name);
        fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let (admin, api) = (kept("admin-key"), kept("secret"));
    let told = first.announced.iter().filter(|line| line.contains(&admin));
    assert_eq!(told.count(), 1, "{:?}", first.announced);
    assert_ne!(admin, api);
    let one = "a-key-of-the-operator";
    for same in [
        &["--server-secret", one, "--admin-key", one][..],
        &["--server-secret", one, "--admin-key", "too-short"],
    ] {
        let refusal = refusal(&[], &[], &[&["serve", "--server-port", "0"], same].concat());
        assert!(refusal.contains("admin.key"), "{refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
        assert!(!refusal.contains(one), "{refusal}");
    }
}

#[cfg(unix)]
#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &[], |_| {});
    let mode = |name: &str| {
        let path = server.dir.path().join("coglex-data").join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("secret"), mode("signing-key")),
        (0o700, 0o600, 0o600)
    );
    assert_eq!(mode("admin-key"), 0o600);
}

#[test]
fn bad_settings_stop_the_start_with_one_sentence() {
    let check = |refusal: String, expected: &str| {
        assert_eq!(refusal, format!("error: {expected}\n"));
    };
    check(
        refusal(&[], &[("SERVER_PORT", "http")], &["serve"]),
        "the setting server.port (SERVER_PORT in the environment) must be a whole number from 0 to 65535, not \"http\"",
    );
    check(
        refusal(&[], &[], &["serve", "--server-body-limit", "-1"]),
        "the setting server.body_limit (--server-body-limit) must be a number of bytes such as 4096, 64 KiB or 16 MiB, not \"-1\"",
    );
    check(
        refusal(&[("coglex.toml", "[server]\nprot = 1\n")], &[], &["serve"]),
        "coglex.toml sets server.prot, which is no setting; `coglex serve --help` lists them all",
    );
    check(
        refusal(
            &[],
            &[("MONGODB_URI", "postgres://user:hunter2@db/")],
            &["serve"],
        ),
        "the setting mongodb.uri cannot be used: An invalid argument was provided: unsupported connection string scheme: postgres",
    );
    check(
        refusal(
            &[],
            &[],
            &[
                "serve",
                "--server-port",
                "0",
                "--server-cors-origins",
                "app.example",
            ],
        ),
        "the setting server.cors_origins holds \"app.example\", which is no origin such as https://app.example",
    );
    let filter = refusal(&[], &[], &["serve", "--log-filter", "a=b=c"]);
    assert!(
        filter.contains("log.filter") && filter.lines().count() == 1,
        "{filter}"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let server = TestServer::start();
    let port = server.address().rsplit_once(':').unwrap().1;
    let refusal = refusal(&[], &[], &["serve", "--server-port", port]);
    assert!(
        refusal.contains(port) && refusal.contains("server.port"),
        "{refusal}"
    );
}

#[test]
fn two_servers_cannot_share_a_data_folder() {
    let server = TestServer::start();
    let data = server.dir.path().join("coglex-data");
    let data = data.to_str().unwrap();
    let refusal = refusal(
        &[],
        &[],
        &["serve", "--server-port", "0", "--data-dir", data],
    );
    assert!(
        refusal.starts_with("error: cannot open the store"),
        "{refusal}"
    );
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    assert_eq!(server.anonymous().get("/readyz").status, 200);
}

#[test]
fn the_effective_configuration_is_printed_with_its_origins() {
    let output = run(
        &[
            ("coglex.toml", "[server]\nport = 81\n"),
            (".env", "SERVER_SECRET=hunter2\n"),
        ],
        &[("COGLEX_LOG_FORMAT", "json")],
        &["config", "--data-dir", "elsewhere"],
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    for line in [
        "port = 81 # coglex.toml",
        "secret = \"***\" # SERVER_SECRET in .env",
        "format = \"json\" # COGLEX_LOG_FORMAT in the environment",
        "dir = \"elsewhere\" # --data-dir",
        "host = \"127.0.0.1\" # default",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!printed.contains("hunter2"));
}

#[test]
fn help_tells_the_first_steps_and_every_setting() {
    let story = String::from_utf8(run(&[], &[], &["--help"]).stdout).unwrap();
    assert!(
        story.contains("coglex serve") && story.contains("X-API-Key"),
        "{story}"
    );
    let settings = String::from_utf8(run(&[], &[], &["serve", "--help"]).stdout).unwrap();
    for part in [
        "--server-port",
        "COGLEX_SERVER_PORT",
        "--plugins-budget-cpu",
        "--config",
    ] {
        assert!(settings.contains(part), "{part}\n{settings}");
    }
    let version = String::from_utf8(run(&[], &[], &["--version"]).stdout).unwrap();
    assert_eq!(
        version.trim(),
        format!("coglex {}", env!("CARGO_PKG_VERSION"))
    );
}
