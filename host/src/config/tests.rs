//! Layers, names and messages.

use super::*;

/// A working directory with these files, and these environment variables.
struct Place {
    dir: tempfile::TempDir,
    inputs: Inputs,
}

fn place(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let inputs = Inputs {
        directory: dir.path().to_owned(),
        environment: environment.collect(),
        ..Inputs::default()
    };
    Place { dir, inputs }
}

fn refusal(files: &[(&str, &str)], environment: &[(&str, &str)]) -> String {
    let place = place(files, environment);
    let message = format!("{:#}", load(&place.inputs).unwrap_err());
    message.replace(&format!("{}/", place.dir.path().display()), "")
}

#[test]
fn without_any_input_every_setting_has_its_default() {
    let config = load(&place(&[], &[]).inputs).unwrap().config;
    assert_eq!(
        (config.server.host.as_str(), config.server.port),
        ("127.0.0.1", 5000)
    );
    assert!(config.server.secret.is_none());
    assert_eq!(config.server.body_limit, 16 << 20);
    assert!(config.server.cors_origins.is_empty());
    assert_eq!(config.plugins_dir(), PathBuf::from("./coglex-data/plugins"));
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let mut place = place(&[("coglex.toml", "[server]\nport = 1001\n")], &[]);
    let port = |place: &Place| {
        let loaded = load(&place.inputs).unwrap();
        (
            loaded.config.server.port,
            loaded.origin("server.port").unwrap(),
        )
    };
    assert_eq!(port(&place).0, 1001);
    fs::write(place.dir.path().join(".env"), "SERVER_PORT=1002\n").unwrap();
    assert_eq!(port(&place), (1002, "SERVER_PORT in .env".to_owned()));
    fs::write(
        place.dir.path().join(".env"),
        "SERVER_PORT=1002\nCOGLEX_SERVER_PORT=1003\n",
    )
    .unwrap();
    assert_eq!(
        port(&place),
        (1003, "COGLEX_SERVER_PORT in .env".to_owned())
    );
    place
        .inputs
        .environment
        .insert("COGLEX_SERVER_PORT".to_owned(), "1004".to_owned());
    assert_eq!(
        port(&place),
        (1004, "COGLEX_SERVER_PORT in the environment".to_owned())
    );
    place.inputs.flags.insert("server.port", "1005".to_owned());
    assert_eq!(port(&place), (1005, "--server-port".to_owned()));
}

#[test]
fn the_variables_of_the_original_are_understood() {
    let config = load(
        &place(
            &[],
            &[
                ("SERVER_SECRET", "s3cret"),
                ("SERVER_HOST", "0.0.0.0"),
                ("SERVER_PORT", "81"),
            ],
        )
        .inputs,
    )
    .unwrap()
    .config;
    assert_eq!(
        (config.server.host.as_str(), config.server.port),
        ("0.0.0.0", 81)
    );
    assert!(config.server.secret.unwrap().matches(b"s3cret"));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let config = load(
        &place(
            &[],
            &[("COGLEX_SERVER_SECRET", ""), ("COGLEX_SERVER_PORT", "")],
        )
        .inputs,
    )
    .unwrap()
    .config;
    assert!(config.server.secret.is_none());
    assert_eq!(config.server.port, 5000);
}

#[test]
fn lists_switches_sizes_and_periods_are_read_from_text() {
    let config = load(
        &place(
            &[],
            &[
                (
                    "COGLEX_SERVER_CORS_ORIGINS",
                    "https://a.example, https://b.example",
                ),
                ("COGLEX_PLUGINS_WATCH", "off"),
                ("COGLEX_SERVER_BODY_LIMIT", "1 MiB"),
                ("COGLEX_PLUGINS_BUDGET_CPU", "250ms"),
            ],
        )
        .inputs,
    )
    .unwrap()
    .config;
    assert_eq!(
        config.server.cors_origins,
        ["https://a.example", "https://b.example"]
    );
    assert!(!config.plugins.watch);
    assert_eq!(config.server.body_limit, 1 << 20);
    assert_eq!(config.plugins.budget.cpu.as_millis(), 250);
}

#[test]
fn plugins_have_tables_of_their_own() {
    let text = r#"
        [plugins.allow]
        myapi.storage = [{ collection = "my_collection", verbs = ["read"] }]
        [plugins.settings.myapi]
        greeting = "Hi"
        limit = 3
        [plugins.budgets.myapi]
        cpu_ms = 50
    "#;
    let config = load(&place(&[("coglex.toml", text)], &[]).inputs)
        .unwrap()
        .config;
    assert_eq!(
        config.plugins.allow["myapi"].storage[0].collection,
        "my_collection"
    );
    assert_eq!(config.plugins.settings["myapi"]["limit"], 3);
    assert_eq!(config.plugins.budgets["myapi"].cpu_ms, Some(50));
}

#[test]
fn mistakes_stop_the_start_with_a_sentence() {
    let file = |text: &str| refusal(&[("coglex.toml", text)], &[]);
    assert_eq!(
        file("[server]\nprot = 1"),
        "coglex.toml sets server.prot, which is no setting; `coglex serve --help` lists them all"
    );
    assert_eq!(
        file("server = 1"),
        "server in coglex.toml must be a table of settings"
    );
    assert_eq!(
        file("[server]\nport = \"x\""),
        "the setting server.port (coglex.toml) must be a whole number from 0 to 65535, not \"x\""
    );
    assert!(file("[server]\nport = \n").starts_with("coglex.toml, line 2: "));
    let grant = file("[plugins.allow.x]\nstorage = [{ collection = \"c\", verbs = [\"fly\"] }]");
    assert!(
        grant.contains("plugins.allow.x") && grant.contains("coglex.toml") && grant.contains("fly"),
        "{grant}"
    );
    assert_eq!(
        refusal(&[], &[("SERVER_PORT", "http")]),
        "the setting server.port (SERVER_PORT in the environment) must be a whole number from 0 to 65535, not \"http\""
    );
    assert!(refusal(&[], &[("COGLEX_CONFIG", "/nonexistent.toml")]).contains("/nonexistent.toml"));
    assert_eq!(
        refusal(&[(".env", "secret without equals sign")], &[]),
        ".env holds a line that is not NAME=value"
    );
}

#[test]
fn a_connection_string_is_never_shown() {
    let place = place(&[(".env", "MONGODB_URI=mongodb://user:hunter2@db/")], &[]);
    let loaded = load(&place.inputs).unwrap();
    assert!(loaded.config.mongodb.uri.is_some());
    assert!(!loaded.to_toml().contains("hunter2"));
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
}

#[test]
fn variables_that_do_nothing_are_warned_about() {
    let loaded = load(&place(&[], &[("COGLEX_SERVR_PORT", "1"), ("HOME", "/")]).inputs).unwrap();
    assert_eq!(
        loaded.warnings,
        ["COGLEX_SERVR_PORT in the environment is ignored: there is no such setting",]
    );
}

#[test]
fn a_secret_that_can_be_guessed_is_warned_about_and_not_shown() {
    let warnings = |secret: &str| {
        load(&place(&[], &[("SERVER_SECRET", secret)]).inputs)
            .unwrap()
            .warnings
    };
    let short = warnings("hunter2");
    assert!(
        short.len() == 1 && !short[0].contains("hunter2"),
        "{short:?}"
    );
    assert!(warnings("0123456789abcdef").is_empty());
}

#[test]
fn secrets_of_plugins_come_from_the_file_and_the_environment() {
    let text = "[plugins.secrets.my-app]\ntoken = \"of the file\"\nother = \"hunter2\"\n\
                [plugins.allow.my-app]\nsecrets = [\"*\"]\nkv = true\n\
                storage = [{ collection = \"a\", verbs = [\"read\"], filter = { o = \"$caller.users\" } }]\n";
    let environment = [
        ("COGLEX_PLUGIN_SECRET_MY_APP__TOKEN", "of the environment"),
        ("COGLEX_PLUGIN_SECRET_MY_APP__UNSET", ""),
        ("COGLEX_PLUGIN_SECRET_MISSPELT", "x"),
    ];
    let loaded = load(&place(&[("coglex.toml", text)], &environment).inputs).unwrap();
    let secrets = loaded.config.plugins.secrets_of("my-app");
    let secrets: Vec<(&str, &str)> = secrets
        .iter()
        .map(|(name, secret)| (name.as_str(), secret.expose()))
        .collect();
    assert_eq!(
        secrets,
        [("other", "hunter2"), ("token", "of the environment")]
    );
    assert!(loaded.config.plugins.secrets_of("other").is_empty());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let (printed, debugged) = (loaded.to_toml(), format!("{:?}", loaded.config));
    for text in [&printed, &debugged] {
        for secret in ["hunter2", "of the file", "of the environment"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let again = load(&place(&[("coglex.toml", &printed)], &[]).inputs).unwrap();
    assert_eq!(again.config.plugins.allow, loaded.config.plugins.allow);
}

#[test]
fn names_of_plugins_with_underscores_have_secrets_too() {
    let variables = [
        ("COGLEX_PLUGIN_SECRET_A__B__TOKEN", "x"),
        ("COGLEX_PLUGIN_SECRET_A___TOKEN", "y"),
    ];
    let plugins = load(&place(&[], &variables).inputs).unwrap().config.plugins;
    let secret = |plugin: &str, name: &str| {
        let secrets = plugins.secrets_of(plugin);
        secrets.get(name).map(|secret| secret.expose().to_owned())
    };
    assert_eq!(secret("a--b", "token").as_deref(), Some("x"));
    assert_eq!(secret("a_", "token").as_deref(), Some("y"));
    assert_eq!(secret("a", "b__token").as_deref(), Some("x"));
    assert_eq!(secret("b", "token"), None);

    let same = |one: &str, other: &str| {
        let (one, other) = (secret_prefix(one), secret_prefix(other));
        assert_eq!(same_secrets(&one, &other), same_secrets(&other, &one));
        same_secrets(&one, &other).is_some()
    };
    assert!(same("my-app", "my_app") && same("a", "a--b") && same("a", "a_"));
    assert!(!same("a", "a-b") && !same("a", "ab") && !same("a", "b"));
}

#[test]
fn the_printed_configuration_hides_secrets_and_reads_back() {
    let text = "[plugins.settings.mailer]\npassword = \"hunter2\"\nport = 25\n";
    let loaded = load(
        &place(
            &[("coglex.toml", text)],
            &[("SERVER_SECRET", "open-sesame")],
        )
        .inputs,
    )
    .unwrap();
    let printed = loaded.to_toml();
    assert!(
        !printed.contains("hunter2") && !printed.contains("open-sesame"),
        "{printed}"
    );
    assert!(
        printed.contains("secret = \"***\" # SERVER_SECRET in the environment"),
        "{printed}"
    );
    assert!(printed.contains("port = 25"), "{printed}");
    let again = load(&place(&[("coglex.toml", &printed)], &[]).inputs).unwrap();
    assert_eq!(again.config.server.port, loaded.config.server.port);
}

/// Compares a committed file with what the table generates. With `COGLEX_BLESS=1`
/// it is written instead.
fn committed(path: &str, generate: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let expected = generate(&text);
    if std::env::var_os("COGLEX_BLESS").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert_eq!(
            text,
            expected,
            "{} is out of date; run the tests with COGLEX_BLESS=1",
            path.display()
        );
    }
}

#[test]
fn the_committed_environment_example_lists_every_setting() {
    committed(".env.example", |_| print::environment_example());
}

#[test]
fn the_environment_example_is_valid_when_everything_in_it_is_used() {
    let text = print::environment_example().replace("\n# COGLEX", "\nCOGLEX");
    let loaded = load(&place(&[(".env", &text)], &[]).inputs).unwrap();
    assert_eq!(
        loaded.origin("server.body_limit").unwrap(),
        "COGLEX_SERVER_BODY_LIMIT in .env"
    );
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_committed_documentation_lists_every_setting() {
    committed("docs/configuration.md", |text| {
        let (start, end) = ("<!-- settings -->\n", "<!-- /settings -->");
        let (before, rest) = text.split_once(start).expect("the start mark");
        let (_, after) = rest.split_once(end).expect("the end mark");
        format!("{before}{start}{}{end}{after}", print::markdown())
    });
}

#[test]
fn a_dollar_in_an_environment_file_is_a_dollar() {
    for line in [
        "SERVER_SECRET=abc$DEF${X}",
        "SERVER_SECRET=\"abc$DEF${X}\"",
        "SERVER_SECRET='abc$DEF${X}'",
        "SERVER_SECRET=abc\\$DEF\\${X}",
    ] {
        let config = load(&place(&[(".env", line)], &[]).inputs).unwrap().config;
        assert_eq!(
            config.server.secret.unwrap().expose(),
            "abc$DEF${X}",
            "{line}"
        );
    }
}

#[test]
fn a_plugins_own_file_is_no_configuration() {
    let manifest = "[grants]\nkv = true\n\n[budget]\ncpu_ms = 5\n";
    let sources = ["Cargo.toml", "package.json", "pyproject.toml"];
    for source in sources {
        let place = place(&[("coglex.toml", manifest), (source, "")], &[]);
        let port = load(&place.inputs).unwrap().config.server.port;
        assert_eq!(port, 5000, "{source}");
        let mut named = place.inputs.clone();
        named.file = Some(place.dir.path().join("coglex.toml"));
        assert!(load(&named).is_err(), "a file that was named is meant");
    }
    // Elsewhere it is a mistake, and so is a mixture of the two.
    assert!(refusal(&[("coglex.toml", manifest)], &[]).contains("sets budget, which is no"));
    let mixed = format!("{manifest}[server]\nport = 1\n");
    assert!(refusal(&[("coglex.toml", &mixed), ("Cargo.toml", "")], &[]).contains("no setting"));
    // A server's own is read there, too.
    let own = place(
        &[("coglex.toml", "[server]\nport = 1"), ("Cargo.toml", "")],
        &[],
    );
    assert_eq!(load(&own.inputs).unwrap().config.server.port, 1);
}
