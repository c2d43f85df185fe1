//! The auth service: accounts, passwords, sessions. Every collection is a realm
//! of its own.
//!
//! A user is a document of the realm's collection:
//! `{_id, _key, _password, _coglex: {sessions: {<hash>: {created, expires, …}}}, …}`.
//! Sessions live inside it, so that one read by `_id` both checks a session and
//! yields the user, a deleted user's sessions are dead with it, and a new
//! password ends the others in the same atomic update. They are keyed by hash
//! rather than listed, so that opening, closing and pruning are `$set` and
//! `$unset` of paths that do not meet.
//!
//! HTTP's auth routes, the gateway's guards and guests' host functions call in
//! here. It knows no cookies and no headers; see [`Credentials`].

mod backoff;
mod change;
mod delegated;
mod denial;
mod entry;
mod flows;
mod hooked;
mod keys;
mod oauth;
mod own;
mod password;
mod policy;
mod renewal;
mod seal;
mod second;
mod session;
mod settings;
mod token;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use futures_util::StreamExt as _;
use jsonwebtoken::jwk::Jwk;

use crate::caller::{Caller, Credentials};
use crate::clock::Clock;
use crate::documents::{self, DocumentLimits};
use crate::error::{Error, Result};
use crate::hooks::{self, Done, Hooks};
use crate::outbox::Outbox;
use crate::storage::{Change, DocumentStore, Find, IndexSpec, StoreError, Update, UpdateOutcome};
use backoff::{Attempt, Backoff};
use entry::Proven;
use keys::{Keys, Master};
use password::{Hasher, Verified};
use renewal::RefreshToken;
use session::Sessions;
use token::{Carrier, Claims, Tokens};

pub use backoff::network;
pub use denial::{Challenge, Denial};
pub use flows::{
    AddressState, CodeChallenge, FlowLetter, FlowMail, FlowPolicy, Verification, is_address,
};
pub use keys::TokenKey;
pub use oauth::{OAuthAnswer, OAuthBegun, OAuthRequest, OwnIdentity, Providers};
pub use own::PasswordChange;
pub use second::{TotpBegun, TotpState};
pub use session::{Client, OwnSession};
pub use settings::{AuthSettings, RealmPolicy, SigningKey, TokenAlgorithm};

/// Bytes of a `_key`: an e-mail address has at most 320.
const MAX_KEY_BYTES: usize = 320;
/// Times that a sign-in starts over because the password's hash changed
/// meanwhile: twice is a coincidence, more is somebody else's loop.
const MAX_SIGN_IN_ROUNDS: usize = 3;

/// Letters that one address may ask for one key before each further one has to wait.
const FREE_LETTERS: u32 = 5;

/// A signed-in user.
#[derive(Debug, Clone)]
pub struct User {
    /// The collection that holds the user.
    pub realm: String,
    /// `_id`.
    pub id: Bson,
    /// `_key`.
    pub key: String,
    /// The document as clients may see it.
    pub document: Document,
}

/// The result of a sign-in, or of its renewal.
pub struct SignedIn {
    /// Who signed in.
    pub user: User,
    /// The access token (JWT).
    pub token: String,
    /// When it expires, in Unix seconds.
    pub expires: i64,
    /// What a new access token is had for, once.
    pub refresh_token: String,
    /// The token for a cookie (JWT). It lives as long as the session.
    pub cookie: String,
    /// When the session expires unless it is renewed, in Unix seconds.
    pub session_expires: i64,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn")
            .field("user", &self.user)
            .field("token", &"***")
            .field("expires", &self.expires)
            .field("refresh_token", &"***")
            .field("cookie", &"***")
            .field("session_expires", &self.session_expires)
            .finish()
    }
}

/// The auth service.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
    hooks: Hooks,
    /// Where letters go; none where nothing can be sent.
    outbox: Option<Outbox>,
    /// Whose word counts for who somebody is; none by default.
    providers: Arc<Providers>,
}

struct Inner {
    store: Arc<dyn DocumentStore>,
    settings: AuthSettings,
    master: Master,
    hasher: Hasher,
    keys: Arc<Keys>,
    tokens: Tokens,
    backoff: Backoff,
    /// Letters that are asked for, by key and address.
    letters: Backoff,
    /// Anonymous users, by address.
    newcomers: Backoff,
    clock: Clock,
    /// What documents of users may be: the limits of the storage service.
    limits: DocumentLimits,
    /// Realms whose unique index on `_key` is known to be there.
    indexed: Mutex<HashSet<String>>,
    identities: oauth::IdentitiesIndexed,
    once: oauth::OnceIndexed,
}

impl Accounts {
    /// A service over `store`. Users are documents, under the same `limits`.
    pub fn new(
        store: Arc<dyn DocumentStore>,
        settings: AuthSettings,
        limits: DocumentLimits,
    ) -> Self {
        Self::by_clock(store, settings, limits, Clock::default())
    }

    /// The same, whose sessions begin and end by this clock.
    pub fn by_clock(
        store: Arc<dyn DocumentStore>,
        settings: AuthSettings,
        limits: DocumentLimits,
        clock: Clock,
    ) -> Self {
        let master = Master::new(&settings.signing_key.0);
        let keys = Keys::new(Arc::clone(&store), &settings, master.clone(), clock.clone());
        let keys = Arc::new(keys);
        Self {
            inner: Arc::new(Inner {
                store,
                master,
                hasher: Hasher::new(&settings),
                tokens: Tokens::new(Arc::clone(&keys), &settings.issuer, clock.clone()),
                keys,
                backoff: Backoff::new(settings.key_failures, settings.address_failures),
                letters: Backoff::new(
                    settings.key_failures.min(FREE_LETTERS),
                    settings.address_failures,
                ),
                newcomers: Backoff::new(0, settings.address_failures),
                settings,
                clock,
                limits,
                indexed: Mutex::default(),
                identities: oauth::IdentitiesIndexed::default(),
                once: oauth::OnceIndexed::default(),
            }),
            hooks: Hooks::default(),
            outbox: None,
            providers: Arc::default(),
        }
    }

    /// The same service, in which sign-ups and changes of users are watched.
    #[must_use]
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// Makes a user; answers with its `_id`. `_key` and `_password` inside
    /// `document` are ignored. `Invalid` when the key is taken (the contract
    /// says 400) or the password is not what the realm asks for; `Forbidden` where
    /// sign-up is closed.
    pub async fn sign_up(
        &self,
        realm: &str,
        key: &str,
        password: &str,
        document: Document,
    ) -> Result<Bson> {
        if !self.inner.settings.policy_of(realm).sign_up {
            return Err(Error::Forbidden(
                "users of this collection do not sign up themselves".into(),
            ));
        }
        let made = self.create(&Caller::ApiKey, realm, key, password, document);
        made.await?.ok_or_else(taken)
    }

    /// Makes a user; nothing if the key is taken.
    async fn create(
        &self,
        caller: &Caller,
        realm: &str,
        key: &str,
        password: &str,
        document: Document,
    ) -> Result<Option<Bson>> {
        documents::check_collection(realm)?;
        check_key(key)?;
        let policy = self.inner.settings.policy_of(realm);
        policy.check_password(key, password)?;
        self.check_reachable(realm, key, &document)?;
        let own = Document::new();
        let made = self.create_with(caller, realm, key, Some(password), document, own);
        let made = made.await?;
        if made.is_some() {
            self.welcome(realm, key).await;
        }
        Ok(made)
    }

    /// Makes a user, whose key and password have been checked; nothing if the key is
    /// taken. `own` is what the server keeps of them (`_coglex`).
    async fn create_with(
        &self,
        caller: &Caller,
        realm: &str,
        key: &str,
        password: Option<&str>,
        mut document: Document,
        own: Document,
    ) -> Result<Option<Bson>> {
        let inner = &*self.inner;
        document.remove("_key");
        document.remove("_password");
        documents::check_document(&document, inner.limits.depth, inner.limits.document_bytes)?;

        inner.ensure_index(realm).await?;
        // A key that is taken is refused by the index; asking first spares the
        // hashing in the usual case.
        if inner
            .store
            .count(realm, doc! { "_key": { "$eq": key } }, None)
            .await?
            > 0
        {
            return Ok(None);
        }
        let (id, mut document) = documents::identified(document);
        let mut watched = None;
        if let Some(watch) = self.hooks.watch(caller, realm, hooks::INSERT)? {
            let write = self.before_sign_up(&watch, key, &mut document).await?;
            watched = Some((watch, write));
        }
        let mut user = doc! { "_id": id.clone(), "_key": key };
        if let Some(password) = password {
            user.insert("_password", inner.hasher.hash(password).await?);
        }
        if !own.is_empty() {
            user.insert("_coglex", own);
        }
        user.extend(document.into_iter().filter(|(name, _)| name != "_id"));
        let raw = documents::encoded(&user, inner.limits.document_bytes)?;
        let held = match &watched {
            Some((watch, write)) => watch.hold(write).await?,
            None => None,
        };
        let made = match inner.store.insert(realm, vec![raw]).await {
            Ok(()) => Ok(Some(id)),
            Err(StoreError::DuplicateKey { index }) if index == key_index().name() => Ok(None),
            Err(error) => Err(Error::from(error)),
        };
        if let Some(held) = held {
            let taken = taken();
            let done = match &made {
                Ok(Some(_)) => Ok(Done::Inserted),
                Ok(None) => Err(&taken),
                Err(error) => Err(error),
            };
            held.settle(done).await;
        }
        made
    }

    /// Checks key, password and the further condition; opens a session. All
    /// failures are the same `NotFound`, after the same work.
    pub async fn sign_in(
        &self,
        realm: &str,
        key: &str,
        password: &str,
        condition: Document,
    ) -> Result<SignedIn> {
        let client = Client::default();
        self.sign_in_from(realm, key, password, condition, &client)
            .await
    }

    /// The same, for a client somewhere. `TooManyAttempts` when it has failed too
    /// often from there.
    pub async fn sign_in_from(
        &self,
        realm: &str,
        key: &str,
        password: &str,
        condition: Document,
        client: &Client,
    ) -> Result<SignedIn> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        check_key(key)?;
        password::check(password)?;
        documents::check_filter(&condition, inner.limits.depth)?;
        let filter = doc! { "$and": [{ "_key": { "$eq": key } }, condition] };

        for _ in 0..MAX_SIGN_IN_ROUNDS {
            let stored = inner.find_one(realm, filter.clone()).await?;
            let nobody = Document::new();
            let known = stored.as_ref().unwrap_or(&nobody);
            let attempt = inner.attempt(realm, key, known, client)?;
            let hash = known.get("_password");
            let verified = inner.hasher.verify(password, hash).await?;
            let (Some(mut stored), Verified::Yes { outdated }) = (stored, verified) else {
                attempt.failed();
                return Err(Error::NotFound("no user has this key and password".into()));
            };
            attempt.succeeded();

            // The hash in the condition: a session must not be opened with a
            // password that was changed while it was being verified.
            let hash = stored.remove("_password").unwrap_or(Bson::Null);
            let mut proven = Proven::new(stored, doc! { "_password": hash });
            if outdated {
                match inner.hasher.hash(password).await {
                    Ok(hash) => drop(proven.set.insert("_password", hash)),
                    // The old hash serves until there is time for a new one.
                    Err(Error::Overloaded { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(signed_in) = inner.enter(realm, proven, client).await? {
                return Ok(signed_in);
            }
        }
        Err(Error::Overloaded {
            retry_after: Duration::from_secs(1),
        })
    }

    /// The user whose session the token is, if it is valid and not revoked.
    pub async fn session(&self, realm: &str, token: &str) -> Result<Option<User>> {
        let Some((stored, claims)) = self.inner.claimed(realm, token).await? else {
            return Ok(None);
        };
        self.note_use(realm, &stored, &claims);
        Ok(Some(user(realm, stored)))
    }

    /// The realm's user among a request's credentials: the bearer token is tried
    /// first, then that realm's cookie.
    pub async fn session_of(&self, realm: &str, credentials: &Credentials) -> Result<Option<User>> {
        for token in credentials.tokens(realm) {
            if let Some(user) = self.session(realm, token).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// Notes that a session is in use, now and then and behind the caller's back.
    fn note_use(&self, realm: &str, stored: &Document, claims: &Claims) {
        let path = session::path(&claims.session);
        let record = Sessions::of(stored).record(claims);
        let now = self.inner.clock.now();
        let Some(set) = record.and_then(|record| session::used(&path, record, now)) else {
            return;
        };
        // It must not come back to life if it ends meanwhile.
        let open = doc! { "_id": claims.id.clone(), path: { "$exists": true } };
        let (inner, realm) = (Arc::clone(&self.inner), realm.to_owned());
        tokio::spawn(async move {
            let noted = inner.update_hidden(&realm, open, doc! { "$set": set });
            if let Err(error) = noted.await {
                tracing::warn!("the use of a session was not noted: {error}");
            }
        });
    }

    /// Revokes the session that the token is for; fine if there is none. The token may
    /// be over: its session lives on, and can be renewed.
    pub async fn sign_out(&self, realm: &str, token: &str) -> Result<()> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        let Some(claims) = inner.tokens.verify_to_end(realm, token).await? else {
            return Ok(());
        };
        let change = doc! { "$unset": { session::path(&claims.session): "" } };
        inner
            .update_hidden(realm, doc! { "_id": claims.id }, change)
            .await?;
        Ok(())
    }

    /// Whether a bearer token is shaped like one of ours, so that the gateway
    /// can keep it from guests. Does not verify it.
    pub fn is_own_token(&self, token: &str) -> bool {
        self.inner.tokens.is_own(token)
    }

    /// Has tokens signed with a new key from now on. The former keys verify until
    /// the tokens that they have signed are over; revoked ones no longer do, here at
    /// once and on other hosts within ten seconds. Answers with the new key's name.
    pub async fn rotate_keys(&self, revoke: bool) -> Result<String> {
        self.inner.keys.rotate(revoke).await
    }

    /// The keys of tokens, without what is secret of them.
    pub async fn token_keys(&self) -> Result<Vec<TokenKey>> {
        self.inner.keys.list().await
    }

    /// What others verify tokens with (RFC 7517); nothing where keys are secret.
    pub async fn public_keys(&self) -> Result<Vec<Jwk>> {
        self.inner.keys.public().await
    }
}

impl Inner {
    /// The tokens of a session that is open until `expires`.
    async fn tokens_for(
        &self,
        realm: &str,
        stored: Document,
        refresh: &RefreshToken,
        expires: DateTime,
    ) -> Result<SignedIn> {
        let claims = &refresh.claims;
        let session_expires = seconds(expires);
        let access = keys::later(self.clock.now(), self.settings.policy_of(realm).access_ttl);
        // Rounded up: never less than was promised.
        let access = seconds(access).saturating_add(1).min(session_expires);
        let issue = async |carrier, until| {
            let issued = self.tokens.issue(carrier, realm, claims, until);
            issued.await
        };
        Ok(SignedIn {
            token: issue(Carrier::Bearer, access).await?,
            expires: access,
            refresh_token: refresh.write(&self.master, realm)?,
            cookie: issue(Carrier::Cookie, session_expires).await?,
            session_expires,
            user: user(realm, stored),
        })
    }

    /// Lets a client try a password of this user, or of nobody.
    fn attempt(
        &self,
        realm: &str,
        key: &str,
        stored: &Document,
        client: &Client,
    ) -> Result<Attempt<'_>> {
        let now = self.clock.now();
        let known = client
            .address
            .is_some_and(|address| Sessions::of(stored).knows(address, now));
        let begun = self.backoff.begin(realm, key, client.address, known);
        begun.map_err(|retry_after| Error::TooManyAttempts { retry_after })
    }

    /// Makes the realm's unique index on `_key`, once in this process's life.
    /// Without it two sign-ups at once would make two users.
    async fn ensure_index(&self, realm: &str) -> Result<()> {
        // The set is only ever added to; a panic elsewhere cannot break it.
        if self
            .indexed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(realm)
        {
            return Ok(());
        }
        self.store.create_index(realm, key_index()).await?;
        self.indexed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(realm.to_owned());
        Ok(())
    }

    async fn find_one(&self, realm: &str, filter: Document) -> Result<Option<Document>> {
        let find = Find {
            filter,
            limit: Some(1),
            ..Find::default()
        };
        let mut found = self.store.find(realm, find).await?;
        match found.next().await {
            Some(raw) => Ok(Some(decoded(&raw?)?)),
            None => Ok(None),
        }
    }

    async fn update(
        &self,
        realm: &str,
        filter: Document,
        change: Document,
    ) -> Result<UpdateOutcome> {
        Ok(self.store.update(realm, of_one(filter, change)).await?)
    }

    /// Changes hidden fields only, which a user who does not fit the realm's
    /// schema has, too: such users can still sign in.
    async fn update_hidden(
        &self,
        realm: &str,
        filter: Document,
        change: Document,
    ) -> Result<UpdateOutcome> {
        let update = of_one(filter, change);
        Ok(self.store.update_unvalidated(realm, update).await?)
    }
}

fn of_one(filter: Document, change: Document) -> Update {
    Update {
        filter,
        change: Change::Operators(change),
        many: false,
        upsert: false,
        array_filters: Vec::new(),
    }
}

fn key_index() -> IndexSpec {
    IndexSpec {
        name: Some(documents::KEY_INDEX.into()),
        keys: doc! { "_key": 1 },
        unique: true,
        // A realm's collection may hold documents that are no users.
        sparse: true,
        expire_after: None,
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::Invalid(format!(
            "`_key` must have 1 to {MAX_KEY_BYTES} bytes"
        )));
    }
    Ok(())
}

fn taken() -> Error {
    // The key itself is not repeated: it is often an address, and errors are logged.
    Error::Invalid("`_key` is taken".into())
}

fn no_such_user() -> Error {
    Error::NotFound("no user has this key".into())
}

fn seconds(moment: DateTime) -> i64 {
    moment.timestamp_millis().div_euclid(1_000)
}

fn decoded(raw: &RawDocumentBuf) -> Result<Document> {
    Document::try_from(raw).map_err(|error| Error::Unavailable(Box::new(error)))
}

/// The user as clients may see it.
fn user(realm: &str, mut document: Document) -> User {
    for name in documents::HIDDEN {
        document.remove(name);
    }
    User {
        realm: realm.to_owned(),
        id: document.get("_id").cloned().unwrap_or(Bson::Null),
        key: document.get_str("_key").unwrap_or_default().to_owned(),
        document,
    }
}

#[cfg(test)]
mod tests;
