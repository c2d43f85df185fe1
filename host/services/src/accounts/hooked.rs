//! Hooks on users: they see a sign-up as an insert and a change of a user as an
//! update, without password and sessions, and leave the key as it is.

use bson::{Bson, Document, doc};

use super::Accounts;
use super::change::Refresh;
use crate::documents;
use crate::error::{Error, Result};
use crate::hooks::{Held, Watch, Write};

/// Fields of a user that hooks leave as they are.
const FIXED: [&str; 2] = ["_id", "_key"];

impl Accounts {
    /// Has hooks look at a user who is about to be made, and change the document.
    pub(super) async fn before_sign_up(
        &self,
        watch: &Watch,
        key: &str,
        document: &mut Document,
    ) -> Result<Write> {
        let limits = &self.inner.limits;
        let mut shown = Document::new();
        if let Some(id) = document.get("_id") {
            shown.insert("_id", id.clone());
        }
        shown.insert("_key", key);
        shown.extend(document.clone());
        let mut write = Write::Insert {
            documents: vec![shown],
        };
        let check = |write: &Write| {
            let user = without_key(write)?;
            documents::check_document(&user, limits.depth, limits.document_bytes)
        };
        if watch
            .before(&mut write, limits.depth, &FIXED, &check)
            .await?
        {
            *document = without_key(&write)?;
        }
        Ok(write)
    }

    /// Has hooks look at a change of a user, which they may change; holds back
    /// those that come after it.
    pub(super) async fn before_refresh(
        &self,
        watch: &Watch,
        key: &str,
        refresh: &mut Refresh,
    ) -> Result<Option<Held>> {
        let limits = &self.inner.limits;
        let mut write = Write::Update {
            filter: doc! { "_key": key },
            change: doc! { "$set": refresh.set.clone() },
            array_filters: Vec::new(),
            many: false,
            upsert: false,
        };
        let check = |write: &Write| {
            let (set, mut change) = parts(write)?;
            let set: Document = set.into_iter().filter(|(name, _)| name != "_key").collect();
            if !set.is_empty() {
                change.insert("$set", set);
            }
            documents::check_change(change, limits.depth, limits.document_bytes)
        };
        if watch
            .before(&mut write, limits.depth, &FIXED, &check)
            .await?
        {
            (refresh.set, refresh.others) = parts(&write)?;
        }
        watch.hold(&write).await
    }
}

/// The document of a new user as storage would take it.
fn without_key(write: &Write) -> Result<Document> {
    let Write::Insert { documents } = write else {
        return Err(other_write());
    };
    let user = documents.first().ok_or_else(other_write)?;
    let fields = user.iter().filter(|(name, _)| *name != "_key");
    Ok(fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

/// What a change sets, and its other operators.
fn parts(write: &Write) -> Result<(Document, Document)> {
    let Write::Update { change, .. } = write else {
        return Err(other_write());
    };
    let mut others = change.clone();
    let set = match others.remove("$set") {
        None => Document::new(),
        Some(Bson::Document(set)) => set,
        Some(_) => {
            return Err(Error::Invalid(
                "the answer has a `$set` that is no object".into(),
            ));
        }
    };
    Ok((set, others))
}

/// Hooks change what is in a write, never what kind it is.
fn other_write() -> Error {
    Error::Unavailable("a hook has made another kind of write".into())
}
