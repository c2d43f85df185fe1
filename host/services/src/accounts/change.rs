//! Changes of users: fields, key and password, by who has the API key or by the users
//! themselves. A new password and the end of the other sessions are one write.

use bson::{Bson, Document, doc};

use super::second;
use super::session::{self, Sessions};
use super::{Accounts, Inner, check_key, no_such_user};
use crate::caller::Caller;
use crate::documents;
use crate::error::{Error, Result};
use crate::hooks::{self, Done};
use crate::storage::UpdateOutcome;

/// What is to become of a user.
pub(super) struct Refresh {
    /// Fields to set, none of them hidden.
    pub(super) set: Document,
    /// Other operators, which only hooks add.
    pub(super) others: Document,
    /// The new password.
    pub(super) password: Option<String>,
    /// Hidden fields to set.
    pub(super) hidden: Document,
    /// Hidden fields to remove.
    pub(super) gone: Document,
    /// What must still be true of the user, or nothing is changed.
    pub(super) unchanged: Document,
}

impl Refresh {
    /// The update that sets these fields.
    fn setting(&self, set: Document) -> Document {
        let mut change = self.others.clone();
        if !set.is_empty() {
            change.insert("$set", set);
        }
        if !self.gone.is_empty() {
            // Hooks may remove fields, too.
            let unset = change.entry("$unset".to_owned());
            if let Bson::Document(unset) = unset.or_insert_with(|| Document::new().into()) {
                unset.extend(self.gone.clone());
            }
        }
        change
    }
}

impl Accounts {
    /// Sets fields of a user; hashes `_password`; answers with the number of
    /// documents changed. A new password ends the user's sessions (all but the
    /// one of `keep_token`).
    pub async fn refresh(
        &self,
        realm: &str,
        key: &str,
        document: Document,
        keep_token: Option<&str>,
    ) -> Result<u64> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        check_key(key)?;
        let mut set = Document::new();
        let mut password = None;
        for (path, value) in document {
            match (path.as_str(), value) {
                ("_password", Bson::String(text)) => {
                    inner.settings.policy_of(realm).check_password(key, &text)?;
                    password = Some(text);
                }
                ("_password", _) => {
                    return Err(Error::Invalid("`_password` must be a string".into()));
                }
                ("_key", Bson::String(text)) => {
                    check_key(&text)?;
                    set.insert("_key", text);
                }
                ("_key", _) => return Err(Error::Invalid("`_key` must be a string".into())),
                (name, _) if name == "_id" || name.starts_with("_id.") => {
                    return Err(Error::Forbidden("`_id` cannot be changed".into()));
                }
                (name, _) if name.starts_with('$') => {
                    return Err(Error::Invalid(
                        "`document` takes fields to set, no operators".into(),
                    ));
                }
                (_, value) => {
                    documents::check_field(
                        &path,
                        &value,
                        inner.limits.depth,
                        inner.limits.document_bytes,
                    )?;
                    set.insert(path, value);
                }
            }
        }

        let found = inner
            .find_one(realm, doc! { "_key": { "$eq": key } })
            .await?;
        let Some(stored) = found else {
            return Err(no_such_user());
        };
        let change = Refresh {
            password,
            ..Refresh::setting_fields(set)
        };
        self.change(realm, key, &stored, change, keep_token).await
    }

    /// Changes a user who was found, and has hooks look at that; answers with the number
    /// of documents changed.
    pub(super) async fn change(
        &self,
        realm: &str,
        key: &str,
        stored: &Document,
        mut change: Refresh,
        keep_token: Option<&str>,
    ) -> Result<u64> {
        let inner = &*self.inner;
        if change.set.contains_key("_key") {
            // Nobody may have signed up here yet: users may have been imported.
            inner.ensure_index(realm).await?;
        }
        // Passwords and sessions are no concern of hooks.
        let watch = match change.set.is_empty() {
            false => self.hooks.watch(&Caller::ApiKey, realm, hooks::UPDATE)?,
            true => None,
        };
        let held = match &watch {
            Some(watch) => self.before_refresh(watch, key, &mut change).await?,
            None => None,
        };
        let changed = inner
            .apply_refresh(realm, key, stored, change, keep_token)
            .await;
        if let Some(held) = held {
            let done = changed.as_ref().map(|modified| {
                Done::Updated(UpdateOutcome {
                    matched: 1,
                    modified: *modified,
                    upserted_id: None,
                })
            });
            held.settle(done).await;
        }
        changed
    }
}

impl Inner {
    /// Changes a user who was found; answers with the number of documents changed.
    pub(super) async fn apply_refresh(
        &self,
        realm: &str,
        key: &str,
        stored: &Document,
        mut refresh: Refresh,
        keep_token: Option<&str>,
    ) -> Result<u64> {
        let inner = self;
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let mut same_user = doc! { "_id": id, "_key": { "$eq": key } };
        same_user.extend(std::mem::take(&mut refresh.unchanged));
        let mut set = std::mem::take(&mut refresh.set);
        // The password and the sessions are no concern of the schema.
        let hidden = set.is_empty() && refresh.others.is_empty();
        set.extend(std::mem::take(&mut refresh.hidden));
        if let Some(password) = &refresh.password {
            set.insert("_password", inner.hasher.hash(password).await?);
            refresh.gone.extend(second::waits_of(stored));
            let claims = match keep_token {
                Some(token) => inner.tokens.verify(realm, token).await?,
                None => None,
            };
            if let Some(claims) = claims
                && let Some(record) = Sessions::of(stored).record(&claims)
            {
                let mut keeping = set.clone();
                keeping.insert(session::ALL, session::only(&claims, record));
                // The record is from before the hashing: a session that ended
                // meanwhile must not come back to life, nor a refresh token that was
                // used.
                let mut still_open = same_user.clone();
                let path = session::path(&claims.session);
                let unused = record.get("refresh").cloned().unwrap_or(Bson::Null);
                still_open.insert(format!("{path}.refresh"), unused);
                still_open.insert(path, doc! { "$exists": true });
                let change = refresh.setting(keeping);
                let outcome = match hidden {
                    true => inner.update_hidden(realm, still_open, change).await?,
                    false => inner.update(realm, still_open, change).await?,
                };
                if outcome.matched > 0 {
                    return Ok(outcome.modified);
                }
            }
            set.insert(session::ALL, Document::new());
        }
        let change = refresh.setting(set);
        if change.is_empty() {
            return Ok(0);
        }
        let outcome = match hidden {
            true => inner.update_hidden(realm, same_user, change).await?,
            false => inner.update(realm, same_user, change).await?,
        };
        match outcome.matched {
            // Renamed or deleted between the two steps.
            0 => Err(no_such_user()),
            _ => Ok(outcome.modified),
        }
    }
}
