//! What a hook is told of a write: one JSON object, in Extended JSON v2. The
//! shapes stand in `wit/deps/coglex-function`.

use bson::{Bson, Document, RawDocumentBuf};

use super::{Moment, Watch};
use crate::caller::Caller;
use crate::error::Result;
use crate::json::{self, invalid_bson};

/// What is written, as far as hooks are concerned. Nothing hidden is in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    /// Documents that have their `_id`s.
    Insert {
        /// Each as it will be stored.
        documents: Vec<Document>,
    },
    /// A change in place.
    Update {
        /// Which documents are meant.
        filter: Document,
        /// Operators.
        change: Document,
        /// What `$[name]` means.
        array_filters: Vec<Document>,
        /// All matches rather than the first.
        many: bool,
        /// Whether one is made when there is none.
        upsert: bool,
    },
    /// A document in another's place.
    Replace {
        /// Which document is meant.
        filter: Document,
        /// The new one.
        replacement: Document,
        /// Whether it is inserted when there is none.
        upsert: bool,
    },
    /// A deletion.
    Delete {
        /// Which documents are meant.
        filter: Document,
        /// All matches rather than the first.
        many: bool,
    },
}

impl Write {
    /// Whether it is about as large as that, in bytes of text.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        let mut left = bytes;
        let mut fits = |document: &Document| fits_into(document, &mut left);
        !match self {
            Write::Insert { documents } => documents.iter().all(fits),
            Write::Update {
                filter,
                change,
                array_filters,
                ..
            } => fits(filter) && fits(change) && array_filters.iter().all(fits),
            Write::Replace {
                filter,
                replacement,
                ..
            } => fits(filter) && fits(replacement),
            Write::Delete { filter, .. } => fits(filter),
        }
    }

    fn operation(&self) -> &'static str {
        match self {
            Write::Insert { .. } => "insert",
            Write::Update { upsert: false, .. } => "update",
            Write::Update { upsert: true, .. } => "upsert",
            Write::Replace { .. } => "replace",
            Write::Delete { .. } => "delete",
        }
    }

    /// Appends the members that tell of the write.
    pub(super) fn members(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Write::Insert { documents } => {
                out.extend_from_slice(b",\"documents\":");
                list(documents, out)?;
            }
            Write::Update {
                filter,
                change,
                array_filters,
                many,
                upsert: _,
            } => {
                member("filter", filter, out)?;
                member("change", change, out)?;
                out.extend_from_slice(b",\"array_filters\":");
                list(array_filters, out)?;
                out.extend_from_slice(format!(",\"many\":{many}").as_bytes());
            }
            Write::Replace {
                filter,
                replacement,
                upsert,
            } => {
                member("filter", filter, out)?;
                member("replacement", replacement, out)?;
                out.extend_from_slice(format!(",\"upsert\":{upsert}").as_bytes());
            }
            Write::Delete { filter, many } => {
                member("filter", filter, out)?;
                out.extend_from_slice(format!(",\"many\":{many}").as_bytes());
            }
        }
        Ok(())
    }
}

impl Watch {
    /// The event up to its last brace, so that a member can be added.
    pub(super) fn open_event(&self, moment: Moment, write: &Write) -> Result<Vec<u8>> {
        let mut out = self.bare_event(moment, write)?;
        write.members(&mut out)?;
        Ok(out)
    }

    /// The same without what is written.
    pub(super) fn bare_event(&self, moment: Moment, write: &Write) -> Result<Vec<u8>> {
        let mut out = format!(
            "{{\"moment\":\"{moment}\",\"operation\":\"{}\",\"collection\":",
            write.operation()
        )
        .into_bytes();
        json::write_value(&Bson::String(self.collection.clone()), &mut out)?;
        out.extend_from_slice(
            format!(",\"caller\":{},\"depth\":{}", self.caller, self.depth).as_bytes(),
        );
        Ok(out)
    }
}

/// Who writes, as JSON.
pub(super) fn caller(caller: &Caller) -> Result<String> {
    let value = match caller {
        Caller::ApiKey => bson::doc! { "kind": "api_key" },
        Caller::Plugin(plugin) => {
            let users = plugin.users.iter().map(|(collection, id)| {
                Bson::Document(bson::doc! { "collection": collection, "id": id.clone() })
            });
            let users: Vec<Bson> = users.collect();
            bson::doc! { "kind": "plugin", "plugin": &plugin.name, "users": users }
        }
        Caller::Key(key) => bson::doc! { "kind": "api_key", "key": &key.id },
        Caller::User(user) => {
            let user = bson::doc! { "collection": &user.user.realm, "id": user.user.id.clone() };
            bson::doc! { "kind": "user", "users": [user] }
        }
    };
    let mut out = Vec::new();
    document(&value, &mut out)?;
    super::answer::text(out)
}

/// Takes about what a document's text takes from what is left, while there is some.
fn fits_into(document: &Document, left: &mut usize) -> bool {
    document
        .iter()
        .all(|(name, value)| spend(name.len(), left) && value_fits_into(value, left))
}

fn value_fits_into(value: &Bson, left: &mut usize) -> bool {
    let own = match value {
        Bson::String(text) => text.len(),
        Bson::Binary(binary) => binary.bytes.len(),
        _ => 0,
    };
    spend(own + 8, left)
        && match value {
            Bson::Document(inner) => fits_into(inner, left),
            Bson::Array(values) => values.iter().all(|value| value_fits_into(value, left)),
            _ => true,
        }
}

fn spend(bytes: usize, left: &mut usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(0);
    rest.is_some()
}

fn member(name: &str, value: &Document, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
    document(value, out)
}

fn list(documents: &[Document], out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    for (index, one) in documents.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        document(one, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends a document as JSON.
pub(super) fn document(document: &Document, out: &mut Vec<u8>) -> Result<()> {
    let raw = RawDocumentBuf::try_from(document).map_err(invalid_bson)?;
    json::write_document(&raw, out)
}
