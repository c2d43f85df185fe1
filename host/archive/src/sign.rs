//! Signed URLs: who has one may do one thing until it expires, without a key.
//!
//! What is signed is every word that decides what the URL does, each with its
//! length, under HMAC-SHA-256 (RFC 2104). The key is derived from the server's
//! signing key, for this purpose alone; the same on all hosts of one database.

use coglex_services::Clock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::{Error, Result};

/// The key of signed URLs.
#[derive(Clone)]
pub struct UrlKey {
    key: [u8; 32],
    clock: Clock,
}

/// A URL that reads a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadUrl {
    /// The collection.
    pub collection: String,
    /// The file.
    pub reference: String,
    /// Unix seconds when it ends.
    pub expires: i64,
}

/// A URL that uploads one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteUrl {
    /// The collection.
    pub collection: String,
    /// The reference that the file will have; it can be used once.
    pub reference: String,
    /// Unix seconds when it ends.
    pub expires: i64,
    /// Bytes that the file may have.
    pub limit: u64,
}

impl std::fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlKey(***)")
    }
}

impl UrlKey {
    /// Derives the key from the server's secret.
    pub fn derive(secret: &[u8], clock: Clock) -> Self {
        let key = mac(secret, &["coglex archive urls 1"])
            .finalize()
            .into_bytes();
        Self {
            key: key.into(),
            clock,
        }
    }

    /// Now, in Unix seconds.
    pub fn now(&self) -> i64 {
        self.clock.now().timestamp_millis() / 1000
    }

    /// The signature of a URL that reads.
    pub fn sign_read(&self, url: &ReadUrl) -> String {
        hex::encode(self.read_mac(url).finalize().into_bytes())
    }

    /// The signature of a URL that uploads.
    pub fn sign_write(&self, url: &WriteUrl) -> String {
        hex::encode(self.write_mac(url).finalize().into_bytes())
    }

    /// Whether this is a URL of ours that is still good.
    pub fn check_read(&self, url: &ReadUrl, signature: &str) -> Result<()> {
        self.check(self.read_mac(url), url.expires, signature)
    }

    /// The same for one that uploads.
    pub fn check_write(&self, url: &WriteUrl, signature: &str) -> Result<()> {
        self.check(self.write_mac(url), url.expires, signature)
    }

    fn check(&self, mac: Hmac<Sha256>, expires: i64, signature: &str) -> Result<()> {
        let signature = hex::decode(signature).unwrap_or_default();
        // In constant time.
        if mac.verify_slice(&signature).is_err() {
            return Err(Error::BadSignature("The signature of the URL is wrong."));
        }
        if self.now() >= expires {
            return Err(Error::BadSignature("The URL has expired."));
        }
        Ok(())
    }

    fn read_mac(&self, url: &ReadUrl) -> Hmac<Sha256> {
        let expires = url.expires.to_string();
        mac(
            &self.key,
            &["read", &url.collection, &url.reference, &expires],
        )
    }

    fn write_mac(&self, url: &WriteUrl) -> Hmac<Sha256> {
        let (expires, limit) = (url.expires.to_string(), url.limit.to_string());
        mac(
            &self.key,
            &["write", &url.collection, &url.reference, &expires, &limit],
        )
    }
}

fn mac(key: &[u8], words: &[&str]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for word in words {
        mac.update(&(word.len() as u64).to_be_bytes());
        mac.update(word.as_bytes());
    }
    mac
}
