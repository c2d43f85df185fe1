//! The audit log: who did what to accounts, keys, rules and the server, when, and from
//! where. It says what was tried and whether it worked, never a password, a key or a
//! token.
//!
//! What changes the server is written before it is answered ([`Audit::record`]). What
//! anybody can cause any number of times, such as failed sign-ins, is handed to a writer
//! in the background ([`Audit::note`]), which makes one entry of what repeats itself
//! within a minute, and is bounded in what it takes in, in what it writes, and in what
//! stays: a flood costs others' entries of failures their place, never those of what
//! worked while there is room for them, and never the disk.
//!
//! HTTP's auth and admin routes write it, operators read it by the admin API. Which
//! route is which action is not known here.

mod writer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::json::invalid_bson;
use crate::storage::{DocumentStore, Find, IndexSpec};
use writer::Writer;

/// Where entries are.
const COLLECTION: &str = "_coglex_audit";
/// Bytes that are kept of a text in an entry.
const MAX_TEXT: usize = 320;
/// Entries of one listing.
pub const MAX_LISTED: u64 = 1_000;

/// What the log keeps.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// How long an entry is kept; nothing is written when zero.
    pub retention: Duration,
    /// Entries that are kept, the newest.
    pub entries: u64,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(90 * 24 * 3600),
            entries: 200_000,
        }
    }
}

/// Something that was done, or tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What, in words such as `sign_in` and `api_key.revoke`.
    pub action: String,
    /// Whether it was done.
    pub success: bool,
    /// The HTTP status that it was answered with, where it was a request.
    pub status: Option<u16>,
    /// By whom, as [`crate::Caller::label`] says it, or `admin`.
    pub actor: Option<String>,
    /// In which collection of users.
    pub realm: Option<String>,
    /// To whom: the user's `_key`, as it was given. No proof that there is such a user.
    pub subject: Option<String>,
    /// To what: the id or name of a key, collection or plugin.
    pub target: Option<String>,
    /// From which address.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub agent: Option<String>,
    /// Within which request: the last of those that repeated it.
    pub request_id: Option<String>,
}

impl Entry {
    /// The same with texts of bounded length: they are clients', and wait in memory.
    fn bounded(self) -> Self {
        let cut = |text: Option<String>| text.as_deref().map(cut);
        Self {
            actor: cut(self.actor),
            realm: cut(self.realm),
            subject: cut(self.subject),
            target: cut(self.target),
            agent: cut(self.agent),
            request_id: cut(self.request_id),
            ..self
        }
    }
}

/// What of the log is wanted; all that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// This action; with a `*` at the end all that begin so.
    pub action: Option<String>,
    /// What was done, or what failed.
    pub success: Option<bool>,
    /// By whom.
    pub actor: Option<String>,
    /// In which realm.
    pub realm: Option<String>,
    /// To whom.
    pub subject: Option<String>,
    /// To what.
    pub target: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// Not before.
    pub since: Option<DateTime>,
    /// Before.
    pub until: Option<DateTime>,
    /// Older than the entry with this id.
    pub before: Option<ObjectId>,
    /// At most so many, up to [`MAX_LISTED`].
    pub limit: u64,
}

/// The audit log of a server. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
    writer: Writer,
}

struct Inner {
    store: Arc<dyn DocumentStore>,
    settings: AuditSettings,
    indexed: OnceCell<()>,
}

impl Audit {
    /// The log that is kept in a store.
    pub fn new(store: Arc<dyn DocumentStore>, settings: AuditSettings) -> Self {
        let inner = Arc::new(Inner {
            store,
            settings,
            indexed: OnceCell::new(),
        });
        Self {
            writer: Writer::new(Arc::clone(&inner)),
            inner,
        }
    }

    /// Writes an entry, durably when this returns. An error is for the log: what the
    /// entry is about has been done.
    pub async fn record(&self, entry: Entry) {
        if self.inner.is_off() {
            return;
        }
        let entry = (ObjectId::new(), DateTime::now(), entry.bounded());
        if let Err(error) = self.inner.insert(&[entry]).await {
            tracing::error!("an entry of the audit log was not written: {error}");
        }
    }

    /// Has an entry written soon, together with others like it. Never waits.
    pub fn note(&self, entry: Entry) {
        if !self.inner.is_off() {
            self.writer.take(entry.bounded());
        }
    }

    /// Writes what has been noted. For the end of a server, and for tests.
    pub async fn flush(&self) {
        self.writer.flush().await;
    }

    /// Entries, the newest first, and whether there are more.
    pub async fn list(&self, query: AuditQuery) -> Result<(Vec<Document>, bool)> {
        let limit = query.limit.clamp(1, MAX_LISTED);
        let find = Find {
            filter: filter(query),
            sort: Some(doc! { "_id": -1 }),
            limit: Some(limit + 1),
            ..Find::default()
        };
        let found: Vec<RawDocumentBuf> = self
            .inner
            .store
            .find(COLLECTION, find)
            .await?
            .try_collect()
            .await?;
        let more = found.len() as u64 > limit;
        let entries = found
            .iter()
            .take(usize::try_from(limit).unwrap_or(usize::MAX));
        let entries = entries.map(|raw| {
            let mut entry =
                Document::try_from(raw).map_err(|error| Error::Unavailable(Box::new(error)))?;
            entry.remove("expires");
            Ok(entry)
        });
        Ok((entries.collect::<Result<_>>()?, more))
    }
}

impl Inner {
    fn is_off(&self) -> bool {
        self.settings.retention.is_zero() || self.settings.entries == 0
    }

    /// Writes entries with the moments in which they happened.
    async fn insert(&self, entries: &[(ObjectId, DateTime, Entry)]) -> Result<()> {
        let indexed = self.indexed.get_or_try_init(async || {
            let index = IndexSpec {
                name: Some("coglex_audit_expires".into()),
                keys: doc! { "expires": 1 },
                unique: false,
                sparse: false,
                expire_after: Some(Duration::ZERO),
            };
            self.store.create_index(COLLECTION, index).await
        });
        indexed.await?;
        let retention = i64::try_from(self.settings.retention.as_millis()).unwrap_or(i64::MAX);
        let raw = entries.iter().map(|(id, at, entry)| {
            let mut document = doc! {
                "_id": *id,
                "at": *at,
                "last": *at,
                "count": 1_i64,
            };
            document.extend(record(entry));
            let expires = at.timestamp_millis().saturating_add(retention);
            document.insert("expires", DateTime::from_millis(expires));
            RawDocumentBuf::try_from(&document).map_err(invalid_bson)
        });
        let raw: Vec<RawDocumentBuf> = raw.collect::<Result<_>>()?;
        Ok(self.store.insert(COLLECTION, raw).await?)
    }
}

/// What is stored of an entry.
fn record(entry: &Entry) -> Document {
    let outcome = if entry.success { "success" } else { "failure" };
    let mut record = doc! { "action": &entry.action, "outcome": outcome };
    record.extend(
        entry
            .status
            .map(|status| ("status".to_owned(), i32::from(status).into())),
    );
    let address = entry
        .address
        .map(|address| address.to_canonical().to_string());
    for (name, text) in [
        ("actor", &entry.actor),
        ("realm", &entry.realm),
        ("subject", &entry.subject),
        ("target", &entry.target),
        ("address", &address),
        ("agent", &entry.agent),
        ("request_id", &entry.request_id),
    ] {
        record.extend(
            text.as_deref()
                .map(|text| (name.to_owned(), Bson::from(text))),
        );
    }
    record
}

/// A text within bounds, on one line.
fn cut(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        kept.push(c);
    }
    kept
}

fn filter(query: AuditQuery) -> Document {
    let mut filter = Document::new();
    match query
        .action
        .as_deref()
        .map(|action| (action, action.strip_suffix('*')))
    {
        Some((_, Some(start))) => {
            // Of the plain texts that begin so, the last is followed by this.
            let end = format!("{start}\u{10ffff}");
            filter.insert("action", doc! { "$gte": start, "$lt": end });
        }
        Some((whole, None)) => drop(filter.insert("action", doc! { "$eq": whole })),
        None => {}
    }
    if let Some(success) = query.success {
        filter.insert("outcome", if success { "success" } else { "failure" });
    }
    for (name, text) in [
        ("actor", query.actor),
        ("realm", query.realm),
        ("subject", query.subject),
        ("target", query.target),
        ("address", query.address),
    ] {
        filter.extend(text.map(|text| (name.to_owned(), doc! { "$eq": text }.into())));
    }
    let mut at = Document::new();
    at.extend(query.since.map(|since| ("$gte".to_owned(), since.into())));
    at.extend(query.until.map(|until| ("$lt".to_owned(), until.into())));
    if !at.is_empty() {
        filter.insert("at", at);
    }
    if let Some(before) = query.before {
        filter.insert("_id", doc! { "$lt": before });
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    async fn log(entries: u64) -> (tempfile::TempDir, Audit) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("db"), Default::default()).unwrap();
        let settings = AuditSettings {
            entries,
            ..AuditSettings::default()
        };
        (folder, Audit::new(Arc::new(store), settings))
    }

    fn failure(subject: String) -> Entry {
        Entry {
            action: "sign_in".into(),
            subject: Some(subject),
            ..Entry::default()
        }
    }

    async fn all(audit: &Audit) -> Vec<Document> {
        let query = AuditQuery {
            limit: MAX_LISTED,
            ..AuditQuery::default()
        };
        audit.list(query).await.unwrap().0
    }

    #[tokio::test]
    async fn a_flood_of_failures_is_bounded_and_does_not_crowd_out_what_worked() {
        let (_folder, audit) = log(200_000).await;
        for n in 0..3_000 {
            audit.note(failure(format!("user{n}")));
        }
        audit.note(Entry {
            success: true,
            ..failure("ann".into())
        });
        audit.flush().await;
        audit.flush().await;
        let found = all(&audit).await;
        let count = |outcome: &str| {
            let of = |entry: &&Document| entry.get_str("outcome").unwrap() == outcome;
            found.iter().filter(of).count()
        };
        assert_eq!(count("success"), 1);
        // What did not fit is told in one.
        assert!(
            (500..=501).contains(&count("failure")),
            "{}",
            count("failure")
        );
        let overflow = found
            .iter()
            .find(|entry| entry.get_str("action").unwrap() == "audit.overflow");
        assert_eq!(
            overflow.unwrap().get_str("target").unwrap(),
            "2500 entries were not written"
        );
    }

    #[tokio::test]
    async fn the_oldest_failures_go_first_when_there_are_too_many() {
        let (_folder, audit) = log(10).await;
        for n in 0..4 {
            let success = Entry {
                success: true,
                ..failure(format!("early{n}"))
            };
            audit.record(success).await;
        }
        for n in 0..20 {
            audit.note(failure(format!("user{n}")));
        }
        audit.flush().await;
        let found = all(&audit).await;
        assert_eq!(found.len(), 10);
        let worked = |entry: &&Document| entry.get_str("outcome").unwrap() == "success";
        assert_eq!(found.iter().filter(worked).count(), 4);
    }

    #[tokio::test]
    async fn texts_of_clients_are_cut_and_on_one_line() {
        let (_folder, audit) = log(10).await;
        audit.note(failure("x\n".repeat(1 << 20)));
        audit.flush().await;
        let found = all(&audit).await;
        assert_eq!(found[0].get_str("subject").unwrap(), "x".repeat(MAX_TEXT));
        assert!(found[0].get("expires").is_none());
    }
}
