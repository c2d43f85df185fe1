//! What happens between two steps of one call. The calls themselves are tested
//! on every store, in `tests/both_stores/accounts.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::storage::embedded::EmbeddedStore;
use crate::storage::{DocumentStream, Result as StoreResult, UpdateOutcome};

pub(super) fn settings() -> AuthSettings {
    AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 64,
        policy: RealmPolicy {
            password_min: 1,
            allow_common: true,
            session_ttl: Duration::from_secs(3600),
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from([7; 32])))
    }
}

/// A store where somebody else is quicker: before each of the first updates of
/// the service, this change is made to the document. It also counts the reads.
struct Meddled {
    store: EmbeddedStore,
    change: Document,
    times: AtomicUsize,
    reads: Arc<AtomicUsize>,
}

impl Meddled {
    fn read(&self) -> &EmbeddedStore {
        self.reads.fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

#[async_trait]
impl DocumentStore for Meddled {
    async fn ping(&self) -> StoreResult<()> {
        self.store.ping().await
    }
    async fn get(&self, collection: &str, id: Bson) -> StoreResult<Option<RawDocumentBuf>> {
        self.read().get(collection, id).await
    }
    async fn find(&self, collection: &str, find: Find) -> StoreResult<DocumentStream> {
        DocumentStore::find(self.read(), collection, find).await
    }
    async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> StoreResult<u64> {
        self.read().count(collection, filter, max_time).await
    }
    async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> StoreResult<DocumentStream> {
        DocumentStore::aggregate(&self.store, collection, pipeline, max_time).await
    }
    async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> StoreResult<Vec<Bson>> {
        self.store
            .distinct(collection, path, filter, max_time)
            .await
    }
    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> StoreResult<()> {
        self.store.insert(collection, documents).await
    }
    async fn update(&self, collection: &str, update: Update) -> StoreResult<UpdateOutcome> {
        let left = self
            .times
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            let change = Change::Operators(self.change.clone());
            self.store
                .update(
                    collection,
                    Update {
                        filter: doc! {},
                        change,
                        ..update.clone()
                    },
                )
                .await?;
        }
        self.store.update(collection, update).await
    }
    async fn delete(&self, collection: &str, filter: Document, many: bool) -> StoreResult<u64> {
        self.store.delete(collection, filter, many).await
    }
    async fn create_index(&self, collection: &str, index: IndexSpec) -> StoreResult<()> {
        self.store.create_index(collection, index).await
    }
    async fn indexes(&self, collection: &str) -> StoreResult<Vec<IndexSpec>> {
        self.store.indexes(collection).await
    }
    async fn drop_index(&self, collection: &str, name: &str) -> StoreResult<bool> {
        self.store.drop_index(collection, name).await
    }
    async fn collections(&self) -> StoreResult<Vec<String>> {
        self.store.collections().await
    }
}

fn over(store: Meddled) -> Accounts {
    Accounts::new(Arc::new(store), settings(), DocumentLimits::default())
}

/// Ann has signed up with the password `secret`; the change strikes next.
async fn meddled(change: Document, times: usize) -> (Accounts, EmbeddedStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let meddled = Meddled {
        store: store.clone(),
        change,
        times: AtomicUsize::new(times),
        reads: Arc::default(),
    };
    let accounts = over(meddled);
    accounts
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    (accounts, store, folder)
}

#[tokio::test]
async fn a_password_changed_during_a_sign_in_opens_no_session() {
    let new = Hasher::new(&settings()).hash("new").await.unwrap();
    let (accounts, store, _folder) = meddled(doc! { "$set": { "_password": new } }, 1).await;
    let late = accounts.sign_in("users", "ann", "secret", doc! {}).await;
    assert!(matches!(late, Err(Error::NotFound(_))), "{late:?}");
    assert_eq!(
        store
            .count("users", doc! { "_coglex": { "$exists": true } }, None)
            .await
            .unwrap(),
        0
    );
    accounts
        .sign_in("users", "ann", "new", doc! {})
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hash_renewed_during_a_sign_in_does_not_fail_it() {
    // As when another host finds the hash outdated in the same moment.
    let renewed = Hasher::new(&settings()).hash("secret").await.unwrap();
    let (accounts, _store, _folder) = meddled(doc! { "$set": { "_password": renewed } }, 1).await;
    let token = accounts
        .sign_in("users", "ann", "secret", doc! {})
        .await
        .unwrap()
        .token;
    assert!(accounts.session("users", &token).await.unwrap().is_some());
}

#[tokio::test]
async fn a_user_deleted_or_renamed_during_a_refresh_is_not_found() {
    let (accounts, store, _folder) = meddled(doc! { "$set": { "_key": "anna" } }, 1).await;
    let late = accounts
        .refresh("users", "ann", doc! { "_password": "new" }, None)
        .await;
    assert!(matches!(late, Err(Error::NotFound(_))), "{late:?}");
    let found = store
        .count(
            "users",
            doc! { "_key": "anna", "_coglex": { "$exists": false } },
            None,
        )
        .await;
    assert_eq!(found.unwrap(), 1);
}

#[tokio::test]
async fn a_session_that_ends_during_a_refresh_stays_ended() {
    let (mut accounts, store, _folder) = meddled(doc! {}, 0).await;
    let token = accounts
        .sign_in("users", "ann", "secret", doc! {})
        .await
        .unwrap()
        .token;
    let refresh = async |accounts: &Accounts, password: &str| {
        let change = doc! { "_password": password };
        accounts
            .refresh("users", "ann", change, Some(&token))
            .await
            .unwrap()
    };
    assert_eq!(refresh(&accounts, "second").await, 1);
    assert!(accounts.session("users", &token).await.unwrap().is_some());

    // Signed out between the read and the write.
    let session = accounts
        .inner
        .tokens
        .verify("users", &token)
        .await
        .unwrap()
        .unwrap();
    accounts = over(Meddled {
        store,
        change: doc! { "$unset": { session::path(&session.session): "" } },
        times: AtomicUsize::new(1),
        reads: Arc::default(),
    });
    assert_eq!(refresh(&accounts, "third").await, 1);
    assert!(accounts.session("users", &token).await.unwrap().is_none());
    let third = accounts.sign_in("users", "ann", "third", doc! {}).await;
    assert!(third.is_ok(), "{third:?}");
}

#[tokio::test]
async fn a_refresh_keeps_keys_unique_among_imported_users() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let imported = ["ann", "bob"]
        .map(|key| RawDocumentBuf::try_from(&doc! { "_id": key, "_key": key }).unwrap());
    store.insert("users", imported.to_vec()).await.unwrap();
    let accounts = Accounts::new(Arc::new(store), settings(), DocumentLimits::default());
    let taken = accounts
        .refresh("users", "ann", doc! { "_key": "bob" }, None)
        .await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
}

#[tokio::test]
async fn users_are_documents_within_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let limits = DocumentLimits {
        document_bytes: 1024,
        ..DocumentLimits::default()
    };
    let accounts = Accounts::new(Arc::new(store), settings(), limits);
    let about = doc! { "about": "x".repeat(2048) };
    let large = accounts
        .sign_up("users", "ann", "secret", about.clone())
        .await;
    assert!(matches!(large, Err(Error::TooLarge(_))), "{large:?}");
    accounts
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    let large = accounts.refresh("users", "ann", about, None).await;
    assert!(matches!(large, Err(Error::TooLarge(_))), "{large:?}");
}

#[tokio::test]
async fn a_session_costs_one_read_and_a_foreign_token_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Meddled {
        store,
        change: doc! {},
        times: AtomicUsize::new(0),
        reads: reads.clone(),
    };
    let accounts = over(counted);
    accounts
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    let token = accounts
        .sign_in("users", "ann", "secret", doc! {})
        .await
        .unwrap()
        .token;
    let other = AuthSettings {
        signing_key: SigningKey(Arc::from([8; 32])),
        ..settings()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let other_store =
        EmbeddedStore::open(&elsewhere.path().join("test.db"), Default::default()).unwrap();
    let other = Accounts::new(Arc::new(other_store), other, DocumentLimits::default());
    other
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    let foreign = other.sign_in("users", "ann", "secret", doc! {}).await;
    let foreign = foreign.unwrap().token;

    reads.store(0, Ordering::Relaxed);
    assert!(accounts.session("users", &token).await.unwrap().is_some());
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    for token in [foreign.as_str(), "", "x.y.z"] {
        assert!(accounts.session("users", token).await.unwrap().is_none());
    }
    assert!(accounts.session("admins", &token).await.unwrap().is_none());
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unknown_user_costs_what_a_wrong_password_costs() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let costly = AuthSettings {
        argon2_memory_kib: 4096,
        argon2_passes: 2,
        ..settings()
    };
    let accounts = Accounts::new(Arc::new(store), costly, DocumentLimits::default());
    accounts
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    // In turns, so that a busy machine is as busy for both.
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        for (times, key) in times.iter_mut().zip(["ann", "nobody"]) {
            let start = std::time::Instant::now();
            let refused = accounts.sign_in("users", key, "wrong", doc! {}).await;
            assert!(matches!(refused, Err(Error::NotFound(_))));
            times.push(start.elapsed());
        }
    }
    // How often the one is slower than the other, of all pairs (Mann and Whitney's U):
    // a half if the times are of one distribution, with a standard deviation of 0.04
    // for so many; and none at all if nothing was hashed for the unknown.
    let [known, unknown] = &times;
    let pairs = known
        .iter()
        .flat_map(|one| unknown.iter().map(move |other| (one, other)));
    let slower = pairs.filter(|(one, other)| one > other).count();
    let share = slower as f64 / 10_000.0;
    assert!((0.3..0.7).contains(&share), "{share} {known:?} {unknown:?}");
}

#[test]
fn settings_that_cannot_work_say_which() {
    assert_eq!(settings().check(), Ok(()));
    for (change, says) in [
        (
            (|s| s.signing_key = SigningKey(Arc::from([7; 31]))) as fn(&mut AuthSettings),
            "signing key",
        ),
        (|s| s.hash_concurrency = 0, "at once"),
        (
            |s| s.policy.session_ttl = Duration::from_millis(999),
            "second",
        ),
        (|s| s.policy.access_ttl = Duration::ZERO, "second"),
        (
            |s| s.policy.session_max = Duration::from_secs(60),
            "session_max_ttl",
        ),
        (|s| s.key_lifetime = Duration::ZERO, "minute"),
        (|s| s.policy.password_min = 0, "least length"),
        (|s| s.policy.password_min = 300, "least length"),
        (
            |s| {
                let policy = RealmPolicy {
                    access_ttl: Duration::ZERO,
                    ..RealmPolicy::default()
                };
                s.realms.insert("admins".into(), policy);
            },
            "\"admins\"",
        ),
        (|s| s.argon2_memory_kib = 7, "argon2"),
        (|s| s.argon2_passes = 0, "argon2"),
        (|s| s.argon2_lanes = 0, "argon2"),
    ] {
        let mut settings = settings();
        change(&mut settings);
        let sentence = settings.check().unwrap_err();
        assert!(sentence.contains(says), "{sentence}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?}", settings());
    assert!(
        printed.contains("signing_key: ***") && !printed.contains("7, 7"),
        "{printed}"
    );
}

#[tokio::test]
async fn users_who_do_not_fit_a_strict_schema_keep_their_sessions_and_password() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let accounts = Accounts::new(
        Arc::new(store.clone()),
        settings(),
        DocumentLimits::default(),
    );
    accounts
        .sign_up("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    let validator = crate::storage::Validator {
        schema: doc! { "required": ["mail"] },
        level: Default::default(),
    };
    store.set_validator("users", Some(validator)).await.unwrap();
    let signed_in = accounts
        .sign_in("users", "ann", "secret", doc! {})
        .await
        .unwrap();
    let set = doc! { "_password": "other" };
    let kept = Some(signed_in.token.as_str());
    assert_eq!(
        accounts.refresh("users", "ann", set, kept).await.unwrap(),
        1
    );
    accounts.sign_out("users", &signed_in.token).await.unwrap();
    let ended = accounts.session("users", &signed_in.token).await.unwrap();
    assert!(ended.is_none());
    // The user's own fields are the schema's concern.
    let set = doc! { "_password": "third", "age": 5 };
    let refused = accounts.refresh("users", "ann", set, None).await;
    assert!(
        matches!(refused, Err(Error::DocumentInvalid { .. })),
        "{refused:?}"
    );
}
