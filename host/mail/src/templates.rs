//! What letters say: minijinja templates, built in, each of which a file can take the
//! place of.
//!
//! A letter `NAME` is two files: `NAME.txt`, whose first line is `Subject: …` and is
//! followed by an empty one, and `NAME.html`, which may be absent. Values in HTML are
//! escaped. Files that are none of ours are letters, too, for plugins. All are read and
//! compiled once, at the start, and those of ours tried with made-up values, so that a
//! mistake is told to who made it, with file and line, and not found when somebody has
//! forgotten a password.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Value, json};

use crate::letter::Letter;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The largest letter.
const MAX_LETTER_BYTES: usize = 1024 * 1024;
/// What one letter may compute (instructions of minijinja): thousands of lines.
const FUEL: u64 = 1_000_000;

/// The letters that the server itself sends.
pub const BUILT_IN: &[&str] = &[
    "verify",
    "reset",
    "password-changed",
    "email-change",
    "email-changed",
    "code",
];

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../templates/", $name)))),*]
    };
}

static FILES: &[(&str, &str)] = files![
    "layout.html",
    "verify.txt",
    "verify.html",
    "reset.txt",
    "reset.html",
    "password-changed.txt",
    "password-changed.html",
    "email-change.txt",
    "email-change.html",
    "email-changed.txt",
    "email-changed.html",
    "code.txt",
    "code.html",
];

/// Why a letter could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is no letter of this name.
    #[error("there is no mail template {0:?}")]
    Unknown(String),
    /// The template is wrong, or does not go with the values.
    #[error("{place}: {what}")]
    Broken {
        /// File and line.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// A file cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// All letters.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    /// Where files are from that are not built in.
    files: BTreeMap<String, PathBuf>,
}

impl Templates {
    /// The built-in ones, and those of a folder in their place, if it is there.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_syntax(syntax()?);
        let mut templates = Self {
            environment,
            files: BTreeMap::new(),
        };
        for (name, text) in FILES {
            templates.add(name, (*text).to_owned())?;
        }
        if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
            templates.read(folder)?;
        }
        for name in BUILT_IN {
            templates.render(name, &sample(name))?;
        }
        Ok(templates)
    }

    /// The letters that there are.
    pub fn names(&self) -> Vec<String> {
        let names = self.environment.templates().map(|(name, _)| name);
        let mut names: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Whether a letter is the server's own, which plugins do not send.
    pub fn is_built_in(name: &str) -> bool {
        BUILT_IN.contains(&name)
    }

    /// Makes a letter.
    pub fn render(&self, name: &str, values: &Value) -> Result<Letter, TemplateError> {
        let text = self
            .rendered(&format!("{name}.txt"), values)?
            .ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
        let html = self.rendered(&format!("{name}.html"), values)?;
        let (subject, text) = self.parts(name, &text)?;
        Ok(Letter {
            subject,
            text,
            html,
        })
    }

    /// A letter with made-up values, to be looked at.
    pub fn preview(&self, name: &str, values: Option<&Value>) -> Result<Letter, TemplateError> {
        let sample = sample(name);
        self.render(name, values.unwrap_or(&sample))
    }

    fn rendered(&self, file: &str, values: &Value) -> Result<Option<String>, TemplateError> {
        let template = match self.environment.get_template(file) {
            Ok(template) => template,
            Err(error) if error.kind() == ErrorKind::TemplateNotFound => return Ok(None),
            Err(error) => return Err(self.broken(&error)),
        };
        let text = template
            .render(minijinja::value::Serde(values))
            .map_err(|error| self.broken(&error))?;
        if text.len() > MAX_LETTER_BYTES {
            return Err(TemplateError::Broken {
                place: self.place(file),
                what: format!("the letter has more than {MAX_LETTER_BYTES} bytes"),
            });
        }
        Ok(Some(text))
    }

    /// Subject and text.
    fn parts(&self, name: &str, letter: &str) -> Result<(String, String), TemplateError> {
        let (first, rest) = letter.split_once('\n').unwrap_or((letter, ""));
        match (first.strip_prefix("Subject:"), rest.split_once('\n')) {
            (Some(subject), Some((empty, text))) if empty.trim().is_empty() => {
                Ok((subject.trim().to_owned(), text.to_owned()))
            }
            _ => Err(TemplateError::Broken {
                place: format!("{}:1", self.place(&format!("{name}.txt"))),
                what: "the first line must be `Subject: …`, and the second empty".to_owned(),
            }),
        }
    }

    fn read(&mut self, folder: &Path) -> Result<(), TemplateError> {
        let unreadable = |path: &Path, why: &dyn std::fmt::Display| TemplateError::File {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unreadable(folder, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let is_template = path
                .extension()
                .is_some_and(|kind| kind == "txt" || kind == "html");
            let Some(name) = name.filter(|_| is_template && path.is_file()) else {
                continue;
            };
            let size = path.metadata().map_err(|error| unreadable(&path, &error))?;
            if size.len() > MAX_FILE_BYTES {
                return Err(unreadable(
                    &path,
                    &format!("a template has at most {MAX_FILE_BYTES} bytes"),
                ));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            let name = name.to_owned();
            self.files.insert(name.clone(), path);
            self.add(&name, text)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, text: String) -> Result<(), TemplateError> {
        // As the file's author sees it, whatever his system.
        let text = text.replace("\r\n", "\n");
        let added = self.environment.add_template_owned(name.to_owned(), text);
        added.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &minijinja::Error) -> TemplateError {
        // A template that another extends or includes is where the mistake is.
        let mut innermost = error;
        while let Some(inner) = std::error::Error::source(innermost)
            .and_then(|cause| cause.downcast_ref::<minijinja::Error>())
        {
            innermost = inner;
        }
        let file = innermost.name().or(error.name()).unwrap_or("a template");
        let place = match innermost.line().or(error.line()) {
            Some(line) => format!("{}:{line}", self.place(file)),
            None => self.place(file),
        };
        let kind = innermost.kind().to_string();
        TemplateError::Broken {
            place,
            what: match innermost.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind,
            },
        }
    }

    fn place(&self, file: &str) -> String {
        match self.files.get(file) {
            Some(path) => path.display().to_string(),
            None => file.to_owned(),
        }
    }
}

/// Blocks on lines of their own leave nothing behind.
fn syntax() -> Result<SyntaxConfig, TemplateError> {
    let syntax = SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    syntax.map_err(|error| TemplateError::Broken {
        place: "templates".to_owned(),
        what: error.to_string(),
    })
}

/// Values for a letter of ours, such as its template will get.
fn sample(name: &str) -> Value {
    let link = |page: &str| format!("https://app.example/{page}#token=cgmt_made-up");
    let mut values = json!({
        "app": "Acme",
        "realm": "users",
        "key": "ann@example.org",
        "address": "ann@example.org",
        "minutes": 60,
    });
    let more = match name {
        "code" => json!({ "code": "123456", "minutes": 10 }),
        "email-change" => json!({ "link": link("email"), "address": "ann.new@example.org" }),
        "email-changed" => json!({ "new_address": "ann.new@example.org" }),
        "verify" => json!({ "link": link("verify") }),
        "reset" => json!({ "link": link("reset") }),
        _ => json!({}),
    };
    if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
        values.extend(more);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_letters_have_subject_text_and_html() {
        let templates = Templates::load(None).unwrap();
        assert_eq!(templates.names().len(), BUILT_IN.len());
        for name in BUILT_IN {
            let letter = templates.preview(name, None).unwrap();
            assert!(!letter.subject.is_empty(), "{name}");
            assert!(letter.text.contains("Acme"), "{name}: {}", letter.text);
            let html = letter.html.unwrap();
            assert!(html.starts_with("<!doctype html>"), "{name}: {html}");
            assert!(!letter.text.contains("{{"), "{name}");
        }
        let letter = templates.preview("reset", None).unwrap();
        for body in [&letter.text, &letter.html.unwrap()] {
            assert!(body.contains("token=cgmt_made-up"), "{body}");
        }
        assert!(templates.preview("nothing", None).is_err());
    }

    #[test]
    fn a_folder_overrides_and_adds() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "code.txt",
            "Subject: {{ code }} is it\n\nHi {{ key }} & co.\n",
        );
        write("code.html", "<b>{{ key }}</b>");
        write("invoice.txt", "Subject: Invoice {{ number }}\n\nPay.\n");
        write("notes.md", "{{ broken");
        let templates = Templates::load(Some(folder.path())).unwrap();
        let values = json!({ "code": "1", "key": "<ann> & co" });
        let letter = templates.render("code", &values).unwrap();
        assert_eq!(letter.subject, "1 is it");
        assert_eq!(letter.text, "Hi <ann> & co & co.\n");
        assert_eq!(letter.html.unwrap(), "<b>&lt;ann&gt; &amp; co</b>");
        let invoice = templates
            .render("invoice", &json!({ "number": 7 }))
            .unwrap();
        assert_eq!(
            (invoice.subject.as_str(), invoice.html),
            ("Invoice 7", None)
        );
        assert!(templates.render("invoice", &json!({})).is_err());
    }

    #[test]
    fn a_broken_template_is_refused_with_file_and_line() {
        let check = |name: &str, text: &str, says: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
            let error = Templates::load(Some(folder.path()))
                .unwrap_err()
                .to_string();
            for part in says {
                assert!(error.contains(part), "{error}");
            }
        };
        check(
            "code.txt",
            "Subject: x\n\n{{ code\n",
            &["code.txt:3", "syntax"],
        );
        check(
            "code.txt",
            "Subject: x\n\n\n{{ cod }}\n",
            &["code.txt:4", "undefined"],
        );
        check("code.txt", "Hello\n", &["code.txt:1", "Subject"]);
        check(
            "reset.html",
            "{% extends 'nothing.html' %}",
            &["reset.html"],
        );
        check("layout.html", "\n{% if %}", &["layout.html:2"]);
        check(
            "code.txt",
            "Subject: x\n\n{% for i in range(9999) %}{% for j in range(9999) %}.{% endfor %}{% endfor %}",
            &["code.txt", "fuel"],
        );
    }
}
