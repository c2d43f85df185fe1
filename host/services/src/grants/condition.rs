//! What narrows a grant on a collection: a filter that its documents have to
//! meet, and the fields that may be named, seen and written.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_docstore::Filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::documents::{check_filter, check_visible};
use crate::error::{Error, Result};
use crate::json::{self, invalid_bson};

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
    /// What follows `$caller.`: collections; in a rule, paths into the user.
    realms: BTreeSet<String>,
    /// Whether it is a rule: `$caller.` leads into the document of one user.
    is_rule: bool,
}

/// For whom a condition is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// Users by their collections: whom a plugin or an API key acts for.
    Users(&'a [CallerId]),
    /// One user, by the document as clients may see it: whom access rules are for.
    User(&'a Document),
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
            is_rule: false,
        };
        condition.read(&filter)?;
        condition.filter = filter;
        Ok(condition)
    }

    /// Reads and checks the filter of an access rule. In it `$caller.` leads into the
    /// user's document, also where a path stands:
    /// `{"$or": [{"owner": "$caller._id"}, {"$caller.roles": "editor"}]}`.
    pub(crate) fn rule(filter: Document) -> Result<Self> {
        if filter.is_empty() {
            return Err(Error::Invalid(
                "the filter of a rule is empty; say `true` for all documents".into(),
            ));
        }
        check_filter(&without_callers(&filter), MAX_DEPTH)?;
        let mut condition = Self {
            text: text(&filter)?,
            filter: Document::new(),
            paths: BTreeSet::new(),
            realms: BTreeSet::new(),
            is_rule: true,
        };
        condition.read(&filter)?;
        // What no store takes is to be known when the rule is set, not when it is asked.
        // A list goes wherever a value does; not where a pattern is wanted, which
        // users must not bring.
        let mut something = |_: &str| Some(Bson::Array(vec![Bson::Int32(0)]));
        if let Some(Bson::Document(tried)) =
            replaced(&Bson::Document(without_callers(&filter)), &mut something)
        {
            Filter::compile(&tried)?;
        }
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
            is_rule: false,
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
    pub(crate) fn resolve(&self, subject: Subject<'_>) -> Result<Document> {
        let users = match subject {
            Subject::Users(users) => users,
            Subject::User(user) => {
                let filter = resolved(&self.filter, user, &mut |path| looked_up(user, path))?;
                return match filter == never() {
                    true => Err(Error::Forbidden("no access rule lets this user in".into())),
                    false => Ok(filter),
                };
            }
        };
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

    /// The fields of the user's document that a rule looks at.
    pub(crate) fn caller_fields(&self) -> impl Iterator<Item = &str> {
        let paths = self.realms.iter().filter(|_| self.is_rule);
        paths.map(|path| path.split('.').next().unwrap_or(path))
    }

    /// Whether it is an access rule.
    pub(crate) fn is_rule(&self) -> bool {
        self.is_rule
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
                        if key == "$nor" && has_caller_path(part) {
                            return Err(Error::Invalid(format!(
                                "within `$nor` a path cannot begin with `{CALLER}`"
                            )));
                        }
                        self.read(part)?;
                    }
                }
                (path, value) if self.is_rule && path.starts_with(CALLER) => {
                    self.caller(path)?;
                    self.values(value)?;
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

    /// A text that stands for something of the caller's.
    fn caller(&mut self, text: &str) -> Result<()> {
        let name = text.strip_prefix(CALLER).filter(|name| !name.is_empty());
        let Some(name) = name else {
            let what = if self.is_rule { "field" } else { "collection" };
            return Err(Error::Invalid(format!(
                "in a condition, a text that begins with `$` is `{CALLER}<{what}>`"
            )));
        };
        if self.is_rule {
            check_visible(name)?;
            if name
                .split('.')
                .any(|part| part.is_empty() || part.starts_with('$'))
            {
                return Err(Error::Invalid(format!(
                    "`{text}` is no field of the caller"
                )));
            }
        }
        self.realms.insert(name.to_owned());
        Ok(())
    }

    fn values(&mut self, value: &Bson) -> Result<()> {
        match value {
            Bson::String(text) if text.starts_with('$') => self.caller(text),
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

/// The filter that nothing meets.
pub(crate) fn never() -> Document {
    doc! { "_id": { "$in": [] } }
}

/// What of a user's document a path leads to, if that is a value or a list of values.
/// Null is nothing, or documents without an owner would belong to users without one;
/// documents and patterns are nothing, because in a filter they mean something else
/// than themselves.
fn looked_up(user: &Document, path: &str) -> Option<Bson> {
    let plain = |value: &Bson| {
        !matches!(
            value,
            Bson::Null
                | Bson::Undefined
                | Bson::Document(_)
                | Bson::Array(_)
                | Bson::RegularExpression(_)
        )
    };
    let mut parts = path.split('.');
    let mut value = user.get(parts.next()?)?;
    for part in parts {
        value = value.as_document()?.get(part)?;
    }
    match value {
        Bson::Array(values) if !values.is_empty() && values.iter().all(plain) => {
            Some(value.clone())
        }
        value if plain(value) => Some(value.clone()),
        _ => None,
    }
}

/// A rule's filter for one user. A clause that speaks of something that the user does
/// not have is met by no document, and a `$nor` around such a clause is not either.
fn resolved(
    filter: &Document,
    user: &Document,
    find: &mut dyn FnMut(&str) -> Option<Bson>,
) -> Result<Document> {
    let mut whole = Document::new();
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                let mut inner = Vec::with_capacity(parts.len());
                for part in parts {
                    let Some(part) = part.as_document() else {
                        return Ok(never());
                    };
                    // A clause that is met by none would, negated, be met by all.
                    let mut whole = || replaced(&Bson::Document(part.clone()), find);
                    if key == "$nor" && whole().is_none() {
                        return Ok(never());
                    }
                    let part = resolved(part, user, find)?;
                    match key.as_str() {
                        "$and" if part == never() => return Ok(never()),
                        "$or" if part == never() => {}
                        _ => inner.push(Bson::Document(part)),
                    }
                }
                if inner.is_empty() {
                    return Ok(never());
                }
                whole.insert(key, inner);
            }
            (path, test) => {
                let Some(test) = replaced(test, find) else {
                    return Ok(never());
                };
                let Some(path) = path.strip_prefix(CALLER) else {
                    whole.insert(path, test);
                    continue;
                };
                if find(path).is_none() || !meets(user, doc! { path: test })? {
                    return Ok(never());
                }
            }
        }
    }
    Ok(whole)
}

/// Whether a path into the caller stands anywhere in a filter.
fn has_caller_path(filter: &Document) -> bool {
    filter.iter().any(|(key, value)| {
        let inner = |value: &Bson| value.as_document().is_some_and(has_caller_path);
        key.starts_with(CALLER)
            || value
                .as_array()
                .is_some_and(|parts| parts.iter().any(inner))
    })
}

/// A test with the caller's values in it; nothing if one is not there.
fn replaced(value: &Bson, find: &mut dyn FnMut(&str) -> Option<Bson>) -> Option<Bson> {
    Some(match value {
        Bson::String(text) => match text.strip_prefix(CALLER) {
            Some(path) => find(path)?,
            None => value.clone(),
        },
        Bson::Array(values) => {
            let values = values.iter().map(|value| replaced(value, find));
            Bson::Array(values.collect::<Option<_>>()?)
        }
        Bson::Document(inner) => {
            let inner = inner
                .iter()
                .map(|(key, value)| Some((key.clone(), replaced(value, find)?)));
            Bson::Document(inner.collect::<Option<_>>()?)
        }
        other => other.clone(),
    })
}

/// Whether a document meets a filter.
pub(crate) fn meets(document: &Document, filter: Document) -> Result<bool> {
    let raw = RawDocumentBuf::try_from(document).map_err(invalid_bson)?;
    Ok(Filter::compile(&filter)?.matches(raw.as_bytes())?)
}

/// A rule with paths into the user as if they led into the document: what is left has
/// to be a filter like any other.
fn without_callers(filter: &Document) -> Document {
    let bare = filter.iter().map(|(key, value)| {
        let key = key.strip_prefix('$').filter(|_| key.starts_with(CALLER));
        (key, value)
    });
    let mut whole = Document::new();
    for ((bare, value), key) in bare.zip(filter.keys()) {
        let value = match value {
            Bson::Array(parts) if key.starts_with('$') => parts
                .iter()
                .map(|part| match part {
                    Bson::Document(part) => Bson::Document(without_callers(part)),
                    other => other.clone(),
                })
                .collect(),
            other => other.clone(),
        };
        whole.insert(bare.unwrap_or(key), value);
    }
    whole
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

/// The fields at the top of documents that may be named, seen and written: some, or
/// all but some. `_id` always belongs to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Fields {
    names: BTreeSet<String>,
    /// Whether the names are those that do not belong to them.
    except: bool,
}

impl Fields {
    /// Checks the names: of whole fields, not of paths into them.
    pub fn new<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::named(names, false)
    }

    /// All but these.
    pub(crate) fn except<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::named(names, true)
    }

    fn named<T: Into<String>>(names: impl IntoIterator<Item = T>, except: bool) -> Result<Self> {
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
        Ok(Self {
            names: fields,
            except,
        })
    }

    /// Those that belong to both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (names, except) = match (self.except, other.except) {
            (false, false) => (&self.names & &other.names, false),
            (false, true) => (&self.names - &other.names, false),
            (true, false) => (&other.names - &self.names, false),
            (true, true) => (&self.names | &other.names, true),
        };
        Self { names, except }
    }

    /// Whether the path leads into one of them.
    pub(crate) fn cover(&self, path: &str) -> bool {
        let name = path.split('.').next().unwrap_or(path);
        name == "_id" || self.names.contains(name) != self.except
    }

    /// The stage of a pipeline that leaves nothing else; none where that is all.
    pub(crate) fn stage(&self) -> Option<Document> {
        if self.except {
            let names: Vec<&str> = self.names().collect();
            return (!names.is_empty()).then(|| doc! { "$unset": names });
        }
        let mut shown = doc! { "_id": 1 };
        shown.extend(self.names().map(|name| (name.to_owned(), Bson::Int32(1))));
        Some(doc! { "$project": shown })
    }

    /// The names, without `_id`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
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
        fields.names.into_iter().collect()
    }
}
