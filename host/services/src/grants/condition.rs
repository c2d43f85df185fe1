//! What narrows a grant on a collection: a filter that its documents have to
//! meet, and the fields that may be named, seen and written.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::documents::{check_filter, check_visible};
use crate::error::{Error, Result};
use crate::json;

/// A value that stands for the caller: `$caller.users` is the `_id` of who is
/// signed in as a user of `users`.
const CALLER: &str = "$caller.";
/// Nesting of a condition; somebody has written it by hand.
const MAX_DEPTH: usize = 20;

/// A user for whom a plugin is called: the collection, and the `_id`.
pub type CallerId = (String, Bson);

/// A filter that is forced upon every operation: documents that do not meet it
/// are not there, and none can be made or changed into one that does not.
///
/// It is a MongoDB filter in Extended JSON, without `$expr`. A string
/// `$caller.<collection>` in it stands for the `_id` of the user of that
/// collection who is signed in; when nobody is, the operation is refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Json>", into = "Map<String, Json>")]
pub struct Condition {
    text: String,
    filter: Document,
    paths: BTreeSet<String>,
    realms: BTreeSet<String>,
}

impl Condition {
    /// Reads and checks a filter, as JSON.
    pub fn new(filter: Map<String, Json>) -> Result<Self> {
        let filter = json::parse_document(Json::Object(filter).to_string().as_bytes(), MAX_DEPTH)?;
        if filter.is_empty() {
            return Err(Error::Invalid("a condition is an empty filter".into()));
        }
        check_filter(&filter, MAX_DEPTH)?;
        let mut condition = Self {
            text: text(&filter)?,
            filter: Document::new(),
            paths: BTreeSet::new(),
            realms: BTreeSet::new(),
        };
        condition.read(&filter)?;
        condition.filter = filter;
        Ok(condition)
    }

    /// Both of them. Which came first, and how often, does not matter.
    #[must_use]
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut parts: Vec<Self> = self.parts().chain(other.parts()).collect();
        parts.sort();
        parts.dedup();
        if let [only] = parts.as_slice() {
            return only.clone();
        }
        let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
        let mut both = Self {
            text: format!("{{\"$and\":[{}]}}", texts.join(",")),
            filter: Document::new(),
            paths: BTreeSet::new(),
            realms: BTreeSet::new(),
        };
        let mut filters = Vec::with_capacity(parts.len());
        for part in parts {
            both.paths.extend(part.paths);
            both.realms.extend(part.realms);
            filters.push(Bson::Document(part.filter));
        }
        both.filter = doc! { "$and": filters };
        both
    }

    /// What [`Self::and`] put together.
    fn parts(&self) -> impl Iterator<Item = Self> {
        let parts: Vec<Self> = match self.filter.get("$and") {
            Some(Bson::Array(parts)) if self.filter.len() == 1 => parts
                .iter()
                .filter_map(Bson::as_document)
                .filter_map(|part| Self::new(serde_json::from_str(&text(part).ok()?).ok()?).ok())
                .collect(),
            _ => Vec::new(),
        };
        let whole = parts.is_empty().then(|| self.clone());
        parts.into_iter().chain(whole)
    }

    /// The filter for a call on behalf of these users.
    pub(crate) fn resolve(&self, users: &[CallerId]) -> Result<Document> {
        let mut filter = self.filter.clone();
        if !self.realms.is_empty() {
            for realm in &self.realms {
                if !users.iter().any(|(of, _)| of == realm) {
                    return Err(Error::Forbidden(format!(
                        "the grant is for users of `{realm}`, and none is signed in"
                    )));
                }
            }
            replace_callers(&mut filter, users);
        }
        Ok(filter)
    }

    /// Collections whose signed-in user it speaks of.
    pub fn realms(&self) -> impl Iterator<Item = &str> {
        self.realms.iter().map(String::as_str)
    }

    /// The paths that it looks at.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Looks through a filter that is otherwise in order.
    fn read(&mut self, filter: &Document) -> Result<()> {
        for (key, value) in filter {
            match (key.as_str(), value) {
                ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                    for part in parts.iter().filter_map(Bson::as_document) {
                        self.read(part)?;
                    }
                }
                (operator, _) if operator.starts_with('$') => {
                    return Err(Error::Invalid(format!(
                        "a condition cannot hold `{operator}` here"
                    )));
                }
                (path, value) => {
                    self.paths.insert(path.to_owned());
                    self.values(value)?;
                }
            }
        }
        Ok(())
    }

    fn values(&mut self, value: &Bson) -> Result<()> {
        match value {
            Bson::String(text) if text.starts_with('$') => {
                let realm = text.strip_prefix(CALLER).filter(|realm| !realm.is_empty());
                let Some(realm) = realm else {
                    return Err(Error::Invalid(format!(
                        "in a condition, a text that begins with `$` is `{CALLER}<collection>`"
                    )));
                };
                self.realms.insert(realm.to_owned());
                Ok(())
            }
            Bson::Array(values) => values.iter().try_for_each(|value| self.values(value)),
            Bson::Document(inner) => inner.values().try_for_each(|value| self.values(value)),
            _ => Ok(()),
        }
    }
}

/// A filter as text, which is the same for the same filter.
fn text(filter: &Document) -> Result<String> {
    let mut text = Vec::new();
    json::write_value(&Bson::Document(filter.clone()), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Puts users' identifiers in their places.
fn replace_callers(document: &mut Document, users: &[CallerId]) {
    for (_, value) in document.iter_mut() {
        replace_caller(value, users);
    }
}

fn replace_caller(value: &mut Bson, users: &[CallerId]) {
    match value {
        Bson::String(text) => {
            let realm = text.strip_prefix(CALLER);
            let user = realm.and_then(|realm| users.iter().find(|(of, _)| of == realm));
            if let Some((_, id)) = user {
                *value = id.clone();
            }
        }
        Bson::Array(values) => values
            .iter_mut()
            .for_each(|value| replace_caller(value, users)),
        Bson::Document(inner) => replace_callers(inner, users),
        _ => {}
    }
}

impl TryFrom<Map<String, Json>> for Condition {
    type Error = Error;

    fn try_from(filter: Map<String, Json>) -> Result<Self> {
        Self::new(filter)
    }
}

impl From<Condition> for Map<String, Json> {
    fn from(condition: Condition) -> Self {
        serde_json::from_str(&condition.text).unwrap_or_default()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

impl PartialOrd for Condition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Condition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

/// The fields at the top of documents that may be named, seen and written.
/// `_id` always belongs to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Fields(BTreeSet<String>);

impl Fields {
    /// Checks the names: of whole fields, not of paths into them.
    pub fn new<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut fields = BTreeSet::new();
        for name in names {
            let name: String = name.into();
            if name.is_empty() || name.contains(['.', '$', '\0']) {
                return Err(Error::Invalid(format!(
                    "`{name}` is no name of a field; a path into one cannot be granted"
                )));
            }
            check_visible(&name)?;
            if name != "_id" {
                fields.insert(name);
            }
        }
        Ok(Self(fields))
    }

    /// Those that both name.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Whether the path leads into one of them.
    pub(crate) fn cover(&self, path: &str) -> bool {
        let name = path.split('.').next().unwrap_or(path);
        name == "_id" || self.0.contains(name)
    }

    /// Their names, without `_id`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Fields {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Self> {
        Self::new(names)
    }
}

impl From<Fields> for Vec<String> {
    fn from(fields: Fields) -> Self {
        fields.0.into_iter().collect()
    }
}
