//! The keys that sign tokens, which change while the server runs.
//!
//! The store has only their names and dates, in a collection that all hosts share.
//! The keys themselves are derived from the operator's signing key (HMAC-SHA256 of
//! the name): who reads the store or a backup of it cannot sign, who learns one key
//! learns no other, and hosts agree without sending secrets. A name carries a proof
//! that it was made with the same signing key, so that a token with a made-up `kid`
//! ends before the store is asked.
//!
//! A key signs until its lifetime is over or an operator rotates it. It verifies
//! until the last token that it can have signed is over.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bson::{DateTime, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::settings::{AuthSettings, TokenAlgorithm};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::storage::{Change, DocumentStore, Find, Update};

const COLLECTION: &str = "_coglex_token_keys";
/// How long a host goes by what it has read: hosts see a rotation within this time.
const FRESH: Duration = Duration::from_secs(10);
/// What a key verifies beyond the life of its tokens, for hosts that still sign with
/// it because they have not heard, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);
/// Bytes of randomness in a key's name, and of the proof behind it.
const NAME_BYTES: usize = 8;
/// Names that are read at most. A rotation a day keeps a few dozen at most.
const MAX_KEYS: u64 = 1_000;
/// What precedes the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What secrets are derived from: the operator's signing key.
#[derive(Clone)]
pub(super) struct Master(Hmac<Sha256>);

impl Master {
    pub(super) fn new(key: &[u8]) -> Self {
        // A key as long as a block of the hash cannot be refused.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        let digest = Sha256::digest(key);
        for (to, from) in block.iter_mut().zip(digest) {
            *to = from;
        }
        Self(Hmac::new(&block))
    }

    /// 32 bytes that only who has the key can make of these parts. `purpose` keeps
    /// what is made for one use from being good for another.
    pub(super) fn derive(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in [b"coglex", purpose.as_bytes()].iter().chain(parts) {
            // With lengths, so that no two lists of parts read the same.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// A key, with its dates.
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    /// The public half; none for a key that has no halves.
    public: Option<Jwk>,
    created: DateTime,
    until: Option<DateTime>,
}

/// What operators see of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name, in the header of tokens.
    pub kid: String,
    /// `HS256` or `EdDSA`.
    pub algorithm: &'static str,
    /// When it was made.
    pub created: DateTime,
    /// Until when it verifies; none while it may sign.
    pub until: Option<DateTime>,
    /// Whether this server signs with it.
    pub signs: bool,
}

/// The keys that were there at some moment.
#[derive(Default)]
struct Set {
    keys: Vec<Arc<Key>>,
    read: Option<Instant>,
}

/// All keys of a server.
pub(super) struct Keys {
    store: Arc<dyn DocumentStore>,
    master: Master,
    algorithm: TokenAlgorithm,
    lifetime: Duration,
    longest_token: Duration,
    clock: Clock,
    set: RwLock<Arc<Set>>,
    reading: tokio::sync::Mutex<()>,
    making: tokio::sync::Mutex<()>,
}

impl Keys {
    pub(super) fn new(
        store: Arc<dyn DocumentStore>,
        settings: &AuthSettings,
        master: Master,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            master,
            algorithm: settings.algorithm,
            lifetime: settings.key_lifetime,
            longest_token: settings.longest_token(),
            clock,
            set: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// The key to sign with; makes one where there is none that is young enough.
    pub(super) async fn signing(&self) -> Result<Arc<Key>> {
        if let Some(key) = self.newest(&*self.current(FRESH).await?) {
            return Ok(key);
        }
        // A storm of sign-ins must not make a key each.
        let _making = self.making.lock().await;
        match self.newest(&*self.current(Duration::ZERO).await?) {
            Some(key) => Ok(key),
            None => self.add(false).await,
        }
    }

    /// The key of this name and algorithm, if it was made here and verifies.
    pub(super) async fn find(
        &self,
        algorithm: TokenAlgorithm,
        kid: &str,
    ) -> Result<Option<Arc<Key>>> {
        if !self.is_ours(algorithm, kid) {
            return Ok(None);
        }
        let named = |set: &Set| {
            let mut keys = set.keys.iter();
            let key = keys.find(|key| key.kid == kid && key.algorithm == algorithm);
            key.filter(|key| self.verifies(key)).map(Arc::clone)
        };
        match named(&*self.current(FRESH).await?) {
            Some(key) => Ok(Some(key)),
            // Another host may have made it a moment ago. Names are authentic, so
            // nobody has us read again and again but with a token that was ours; and
            // who asks at once shares one reading.
            None => Ok(named(&*self.current(Duration::ZERO).await?)),
        }
    }

    /// Whether a key of this name was made with our signing key.
    pub(super) fn is_ours(&self, algorithm: TokenAlgorithm, kid: &str) -> bool {
        let Some((random, proof)) = kid.split_at_checked(2 * NAME_BYTES) else {
            return false;
        };
        let expected = self.proof(algorithm, random);
        expected.as_bytes().ct_eq(proof.as_bytes()).into()
    }

    /// Makes a key that signs from now on. The former ones verify what they have
    /// signed, unless they are revoked. Answers with the new key's name.
    pub(super) async fn rotate(&self, revoke: bool) -> Result<String> {
        Ok(self.add(revoke).await?.kid.clone())
    }

    /// All keys that verify, the newest first.
    pub(super) async fn list(&self) -> Result<Vec<TokenKey>> {
        let signing = self.signing().await?;
        let set = self.current(Duration::ZERO).await?;
        let keys = set.keys.iter().filter(|key| self.verifies(key));
        Ok(keys
            .map(|key| TokenKey {
                kid: key.kid.clone(),
                algorithm: key.algorithm.name(),
                created: key.created,
                until: key.until,
                signs: key.kid == signing.kid,
            })
            .collect())
    }

    /// The public keys (RFC 7517): those of EdDSA. The ones of HS256 are secret.
    pub(super) async fn public(&self) -> Result<Vec<Jwk>> {
        // Made before somebody asks with a token, so that it can be fetched early.
        self.signing().await?;
        let set = self.current(FRESH).await?;
        let keys = set.keys.iter().filter(|key| self.verifies(key));
        Ok(keys.filter_map(|key| key.public.clone()).collect())
    }

    fn newest(&self, set: &Set) -> Option<Arc<Key>> {
        let now = self.clock.now();
        let young = |key: &&Arc<Key>| {
            let age = now.timestamp_millis() - key.created.timestamp_millis();
            key.algorithm == self.algorithm
                && key.until.is_none()
                && age < i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX)
        };
        set.keys.iter().find(young).map(Arc::clone)
    }

    fn verifies(&self, key: &Key) -> bool {
        key.until.is_none_or(|until| until > self.clock.now())
    }

    async fn add(&self, revoke: bool) -> Result<Arc<Key>> {
        let mut random = [0; NAME_BYTES];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let random = hex::encode(random);
        let kid = format!("{random}{}", self.proof(self.algorithm, &random));
        let now = self.clock.now();
        let record = doc! { "_id": &kid, "alg": self.algorithm.name(), "created": now };
        let key = Arc::new(
            self.key(&record)
                .ok_or_else(|| Error::Unavailable("a key for tokens could not be made".into()))?,
        );
        let raw = RawDocumentBuf::try_from(&record)
            .map_err(|error| Error::Unavailable(Box::new(error)))?;
        self.store.insert(COLLECTION, vec![raw]).await?;
        // Only older ones: of two hosts that rotate at once, one key stays.
        let former = doc! { "_id": { "$ne": &kid }, "created": { "$lte": now } };
        if revoke {
            self.store.delete(COLLECTION, former, true).await?;
        } else {
            let until = later(now, self.longest_token + MARGIN);
            let mut signing = former;
            // Hosts that sign with another algorithm have a key of theirs.
            signing.insert("alg", self.algorithm.name());
            signing.insert("until", doc! { "$exists": false });
            let change = Change::Operators(doc! { "$set": { "until": until } });
            let update = Update {
                filter: signing,
                change,
                many: true,
                upsert: false,
                array_filters: Vec::new(),
            };
            self.store.update(COLLECTION, update).await?;
            let over = doc! { "until": { "$lte": now } };
            self.store.delete(COLLECTION, over, true).await?;
        }
        self.current(Duration::ZERO).await?;
        Ok(key)
    }

    /// The keys as they were read, no longer than `fresh` ago. While another call
    /// reads them, what is there is good enough, unless there is nothing.
    async fn current(&self, fresh: Duration) -> Result<Arc<Set>> {
        let asked = Instant::now();
        let known = self.known();
        let is_fresh = |set: &Set| {
            set.read
                .is_some_and(|read| asked.saturating_duration_since(read) < fresh)
        };
        if is_fresh(&known) {
            return Ok(known);
        }
        let guard = match self.reading.try_lock() {
            Ok(guard) => guard,
            Err(_) if fresh == FRESH && known.read.is_some() => return Ok(known),
            Err(_) => self.reading.lock().await,
        };
        // Somebody may have read them while we waited.
        let known = self.known();
        if known.read.is_some_and(|read| read >= asked) || is_fresh(&known) {
            return Ok(known);
        }
        let set = match self.read().await {
            Ok(set) => Arc::new(set),
            // A store that is away for a moment does not make keys bad.
            Err(error) if fresh == FRESH && known.read.is_some() => {
                tracing::warn!("the keys of tokens cannot be read again now: {error}");
                return Ok(known);
            }
            Err(error) => return Err(error),
        };
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&set);
        drop(guard);
        Ok(set)
    }

    fn known(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self) -> Result<Set> {
        let read = Instant::now();
        let find = Find {
            sort: Some(doc! { "created": -1, "_id": 1 }),
            limit: Some(MAX_KEYS),
            ..Find::default()
        };
        let found = self.store.find(COLLECTION, find).await?;
        let records: Vec<RawDocumentBuf> = found.try_collect().await?;
        let keys = records
            .iter()
            .filter_map(|raw| self.key(&Document::try_from(raw).ok()?))
            .map(Arc::new)
            .collect();
        Ok(Set {
            keys,
            read: Some(read),
        })
    }

    /// The key of a record; none if it was made with another signing key, which has
    /// been replaced since.
    fn key(&self, record: &Document) -> Option<Key> {
        let kid = record.get_str("_id").ok()?.to_owned();
        let algorithm = TokenAlgorithm::of_name(record.get_str("alg").ok()?)?;
        if !self.is_ours(algorithm, &kid) {
            return None;
        }
        let secret = self
            .master
            .derive("token key", &[algorithm.name().as_bytes(), kid.as_bytes()]);
        let (encoding, decoding, public) = match algorithm {
            TokenAlgorithm::Hs256 => (
                EncodingKey::from_secret(&secret),
                DecodingKey::from_secret(&secret),
                None,
            ),
            TokenAlgorithm::EdDsa => {
                let encoding = EncodingKey::from_ed_der(&[&ED25519_PKCS8[..], &secret].concat());
                let mut public = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).ok()?;
                public.common.key_id = Some(kid.clone());
                public.common.public_key_use = Some(PublicKeyUse::Signature);
                let AlgorithmParameters::OctetKeyPair(pair) = &public.algorithm else {
                    return None;
                };
                let decoding = DecodingKey::from_ed_components(&pair.x).ok()?;
                (encoding, decoding, Some(public))
            }
        };
        Some(Key {
            kid,
            algorithm,
            encoding,
            decoding,
            public,
            created: record.get_datetime("created").ok().copied()?,
            until: match record.get("until") {
                None => None,
                Some(until) => Some(until.as_datetime().copied()?),
            },
        })
    }

    fn proof(&self, algorithm: TokenAlgorithm, random: &str) -> String {
        let parts = [algorithm.name().as_bytes(), random.as_bytes()];
        let proof = self.master.derive("token key's name", &parts);
        hex::encode(proof.get(..NAME_BYTES).unwrap_or_default())
    }
}

/// A moment after another.
pub(super) fn later(moment: DateTime, by: Duration) -> DateTime {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(moment.timestamp_millis().saturating_add(by))
}
