//! The settings as text: the effective configuration for `coglex config`, and
//! what is generated from the table for `.env.example` and the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use coglex_runtime::BudgetOverrides;
use figment::value::Value;

use super::settings::{DefaultValue, Kind, SETTINGS, Setting};
use super::{Loaded, Secret, SignUp, values};

impl Loaded {
    /// Where the value of a setting came from.
    pub fn origin(&self, name: &str) -> Option<String> {
        self.layers
            .find_metadata(name)
            .map(|metadata| metadata.name.to_string())
    }

    /// The effective configuration as a `coglex.toml`, each value with the place
    /// that set it, secrets as `***`.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for setting in SETTINGS {
            let (parent, key) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            if parent != table {
                let gap = if table.is_empty() { "" } else { "\n" };
                let _ = writeln!(out, "{gap}[{parent}]");
                table = parent;
            }
            let _ = match (self.layers.find_value(setting.name), setting.default) {
                (Ok(value), _) => {
                    let shown = if setting.is_secret() {
                        "\"***\"".to_owned()
                    } else {
                        values::show(&value)
                    };
                    let origin = self.origin(setting.name).unwrap_or_default();
                    writeln!(out, "{key} = {shown} # {origin}")
                }
                (Err(_), DefaultValue::Computed(how)) => writeln!(out, "# {key}: {how}"),
                (Err(_), DefaultValue::Value(_)) => Ok(()),
            };
        }
        self.realm_tables(&mut out);
        self.provider_tables(&mut out);
        self.plugin_tables(&mut out);
        out
    }

    fn realm_tables(&self, out: &mut String) {
        for (realm, own) in &self.config.auth.realms {
            let _ = writeln!(out, "\n[auth.realms.{}]", quoted(realm));
            let period =
                |time: Option<Duration>| time.map(|time| format!("\"{}ms\"", time.as_millis()));
            let sign_up = own.sign_up.map(|sign_up| match sign_up {
                SignUp::Open => "\"open\"".to_owned(),
                SignUp::Closed => "\"closed\"".to_owned(),
            });
            for (name, value) in [
                ("sign_up", sign_up),
                (
                    "password_min",
                    own.password_min.map(|count| count.to_string()),
                ),
                (
                    "password_max",
                    own.password_max.map(|count| count.to_string()),
                ),
                (
                    "password_allow_common",
                    own.password_allow_common.map(|switch| switch.to_string()),
                ),
                ("access_ttl", period(own.access_ttl)),
                ("session_ttl", period(own.session_ttl)),
                ("session_max_ttl", period(own.session_max_ttl)),
                ("providers", own.providers.as_deref().map(texts)),
                ("redirect_urls", own.redirect_urls.as_deref().map(texts)),
            ] {
                if let Some(value) = value {
                    let _ = writeln!(out, "{name} = {value}");
                }
            }
        }
    }

    fn provider_tables(&self, out: &mut String) {
        for (name, own) in &self.config.auth.providers {
            let _ = writeln!(out, "\n[auth.providers.{}]", quoted(name));
            let text = |text: &Option<String>| text.as_deref().map(text_value);
            let secret = |secret: &Option<Secret>| secret.as_ref().map(|_| "\"***\"".to_owned());
            for (name, value) in [
                ("preset", text(&own.preset)),
                ("issuer", text(&own.issuer)),
                ("tenant", text(&own.tenant)),
                ("client_id", Some(text_value(&own.client_id))),
                ("client_secret", secret(&own.client_secret)),
                ("scopes", own.scopes.as_deref().map(texts)),
                ("authorization_url", text(&own.authorization_url)),
                ("token_url", text(&own.token_url)),
                ("userinfo_url", text(&own.userinfo_url)),
                ("team_id", text(&own.team_id)),
                ("key_id", text(&own.key_id)),
                ("private_key", secret(&own.private_key)),
            ] {
                if let Some(value) = value {
                    let _ = writeln!(out, "{name} = {value}");
                }
            }
        }
    }

    fn plugin_tables(&self, out: &mut String) {
        for (name, grants) in &self.config.plugins.allow {
            // Whole, since there are tables in it, whose headers hold the path.
            let table = BTreeMap::from([(
                "plugins",
                BTreeMap::from([("allow", BTreeMap::from([(name, grants)]))]),
            )]);
            let _ = write!(out, "\n{}", toml::to_string(&table).unwrap_or_default());
        }
        if self.config.plugins.max_budget != BudgetOverrides::default() {
            let budget = toml::to_string(&self.config.plugins.max_budget);
            let _ = write!(
                out,
                "\n[plugins.max_budget]\n{}",
                budget.unwrap_or_default()
            );
        }
        for (name, budget) in &self.config.plugins.budgets {
            let _ = writeln!(out, "\n[plugins.budgets.{}]", quoted(name));
            let _ = write!(out, "{}", toml::to_string(budget).unwrap_or_default());
        }
        for (name, secrets) in &self.config.plugins.secrets {
            let _ = writeln!(out, "\n[plugins.secrets.{}]", quoted(name));
            for key in secrets.keys() {
                let _ = writeln!(out, "{} = \"***\"", quoted(key));
            }
        }
        for (name, settings) in &self.config.plugins.settings {
            let _ = writeln!(out, "\n[plugins.settings.{}]", quoted(name));
            for (key, value) in settings {
                // Any text may be a password of some provider.
                let shown = match value {
                    serde_json::Value::Number(number) => number.to_string(),
                    serde_json::Value::Bool(switch) => switch.to_string(),
                    _ => "\"***\"".to_owned(),
                };
                let _ = writeln!(out, "{} = {shown}", quoted(key));
            }
        }
    }
}

/// The text of `.env.example`.
pub fn environment_example() -> String {
    let mut out = String::from(
        "# Every setting of Coglex as an environment variable, with its default.\n\
         # Copy this file to .env and remove the # of the lines that you change.\n\
         # docs/configuration.md explains the layers; generated, do not edit.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            let _ = writeln!(out, "\n# --- {section} ---");
        }
        let _ = writeln!(out, "\n# {}", setting.help);
        let _ = match setting.default {
            // Files of variables end an unquoted value at a blank.
            DefaultValue::Value(text) if text.contains(' ') => {
                writeln!(out, "# {}=\"{text}\"", setting.variable())
            }
            DefaultValue::Value(text) => writeln!(out, "# {}={text}", setting.variable()),
            DefaultValue::Computed(how) => {
                writeln!(out, "# Unset: {how}.\n# {}=", setting.variable())
            }
        };
    }
    out
}

/// The tables of docs/configuration.md.
pub fn markdown() -> String {
    let mut out = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            let _ = writeln!(
                out,
                "\n### {section}\n\n| Setting | Values | Default | What it does |\n|---|---|---|---|"
            );
        }
        let aliases = match setting.aliases {
            [] => String::new(),
            names => format!(" Also `{}`.", names.join("`, `")),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {}{aliases} |",
            setting.name,
            values_shown(setting),
            default_shown(setting),
            setting.help,
        );
    }
    out.push('\n');
    out
}

fn default_shown(setting: &Setting) -> String {
    match setting.default {
        DefaultValue::Value("") | DefaultValue::Computed(_) => setting.default_shown().to_owned(),
        DefaultValue::Value(text) => format!("`{text}`"),
    }
}

fn values_shown(setting: &Setting) -> String {
    match setting.kind {
        Kind::Text => "text".to_owned(),
        Kind::Secret => "text, secret".to_owned(),
        Kind::Url => "URL".to_owned(),
        Kind::Switch => "`true`, `false`".to_owned(),
        Kind::Count { min, max } => format!("{min}–{max}"),
        Kind::Choice(words) => format!("`{}`", words.join("`, `")),
        Kind::List => "list".to_owned(),
        Kind::Period { .. } => "time".to_owned(),
        Kind::Size { min, max } => format!("{}–{}", values::show_size(min), values::show_size(max)),
    }
}

/// A TOML key, quoted where it must be.
fn text_value(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn texts(list: &[String]) -> String {
    let list: Vec<String> = list.iter().map(|text| text_value(text)).collect();
    format!("[{}]", list.join(", "))
}

fn quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare {
        key.to_owned()
    } else {
        values::show(&Value::from(key))
    }
}
