//! Password hashing: argon2id, off the async workers, so many at a time and no
//! more.
//!
//! One hashing takes tens of milliseconds and megabytes by design. Unbounded, a
//! storm of sign-ins would take every core and the memory from the requests
//! beside it; here it runs into a queue of stated length, and then into 503.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{Error as HashError, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use bson::Bson;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AuthSettings;
use crate::error::{Error, Result};

/// Bytes of a password. argon2 would take four gigabytes, and hash them.
const MAX_PASSWORD_BYTES: usize = 1024;
/// The costliest bcrypt hash that is verified: some four seconds. Common are 10 to 14.
const MAX_BCRYPT_COST: u32 = 16;

/// Checks a password's length. What makes one good is `policy`'s to say.
pub(super) fn check(password: &str) -> Result<()> {
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        return Err(Error::Invalid(format!(
            "`_password` must have 1 to {MAX_PASSWORD_BYTES} bytes"
        )));
    }
    Ok(())
}

pub(super) fn params(settings: &AuthSettings) -> Result<Params, argon2::Error> {
    Params::new(
        settings.argon2_memory_kib,
        settings.argon2_passes,
        settings.argon2_lanes,
        None,
    )
}

/// What verifying came to.
#[derive(Debug, PartialEq)]
pub(super) enum Verified {
    /// The password is right; `outdated` when its hash was made with other
    /// parameters than today's.
    Yes { outdated: bool },
    /// It is wrong, or there was none to compare with.
    No,
}

/// Hashes and verifies.
pub(super) struct Hasher {
    params: Result<Params, argon2::Error>,
    /// Those that run.
    running: Arc<Semaphore>,
    /// Those that run or wait.
    admitted: Arc<Semaphore>,
}

/// Held for as long as the work runs, even if nobody waits for it any more: a
/// client that connects, posts and hangs up must not start more than its share.
type Admission = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Hasher {
    pub(super) fn new(settings: &AuthSettings) -> Self {
        let running = settings.hash_concurrency.clamp(1, 1024);
        let waiting = settings.hash_queue.min(1 << 20);
        Self {
            params: params(settings),
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(running + waiting)),
        }
    }

    /// The password's hash as a PHC string, with a fresh salt.
    pub(super) async fn hash(&self, password: &str) -> Result<String> {
        let argon2 = self.argon2()?;
        let password = password.to_owned();
        self.run(move || {
            let hash: PasswordHash = argon2.hash_password(password.as_bytes())?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Compares with what is stored of a user: a PHC string, or a bcrypt hash that was
    /// taken over from another server, as text or as the bytes of that. Without one, or
    /// with one that cannot be read, the same work is done on a hash that no password
    /// has, so that the time does not tell who has an account.
    pub(super) async fn verify(&self, password: &str, stored: Option<&Bson>) -> Result<Verified> {
        let argon2 = self.argon2()?;
        let stored = stored.and_then(Stored::read);
        let password = password.to_owned();
        self.run(move || {
            let (hash, real) = match stored {
                Some(Stored::Bcrypt(hash)) => {
                    // Cut at 72 bytes, as whoever made the hash has done it.
                    return Ok(match bcrypt::verify(&password, &hash) {
                        Ok(true) => Verified::Yes { outdated: true },
                        _ => Verified::No,
                    });
                }
                Some(Stored::Phc(hash)) => (*hash, true),
                None => (unmatched(argon2.params())?, false),
            };
            let right = argon2.verify_password(password.as_bytes(), &hash).is_ok();
            if !(right && real) {
                return Ok(Verified::No);
            }
            Ok(Verified::Yes {
                outdated: is_outdated(&hash, argon2.params()),
            })
        })
        .await
    }

    fn argon2(&self) -> Result<Argon2<'static>> {
        match &self.params {
            Ok(params) => Ok(Argon2::new(
                Algorithm::Argon2id,
                Version::V0x13,
                params.clone(),
            )),
            Err(error) => Err(Error::Unavailable(Box::new(*error))),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T> {
        let admission = self.admit().await?;
        let result = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(admission);
            result
        });
        match result.await {
            Ok(result) => result.map_err(|error| Error::Unavailable(Box::new(error))),
            Err(panicked) => Err(Error::Unavailable(Box::new(panicked))),
        }
    }

    async fn admit(&self) -> Result<Admission> {
        let overloaded = || Error::Overloaded {
            retry_after: Duration::from_secs(1),
        };
        let admitted = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| overloaded())?;
        // Never closed, so this cannot fail.
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| overloaded())?;
        Ok((admitted, running))
    }
}

/// What a user's `_password` is.
enum Stored {
    Phc(Box<PasswordHash>),
    /// `$2b$12$…`, which is replaced at the next sign-in.
    Bcrypt(String),
}

impl Stored {
    fn read(value: &Bson) -> Option<Self> {
        let text = match value {
            Bson::String(text) => text,
            Bson::Binary(binary) => std::str::from_utf8(&binary.bytes).ok()?,
            _ => return None,
        };
        if let Ok(hash) = PasswordHash::new(text) {
            return Some(Stored::Phc(Box::new(hash)));
        }
        let parts: bcrypt::HashParts = text.parse().ok()?;
        (parts.get_cost() <= MAX_BCRYPT_COST).then(|| Stored::Bcrypt(text.to_owned()))
    }
}

/// A hash with these parameters whose output is random: verifying against it
/// costs what a real one costs, and never succeeds.
fn unmatched(params: &Params) -> Result<PasswordHash, HashError> {
    let mut random = [0; 48];
    getrandom::fill(&mut random).map_err(|_| HashError::Internal)?;
    let (salt, output) = random.split_at(16);
    Ok(PasswordHash {
        algorithm: Ident::new("argon2id").map_err(|_| HashError::Internal)?,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|_| HashError::Internal)?,
        salt: Some(Salt::new(salt).map_err(|_| HashError::Internal)?),
        hash: Some(Output::new(output).map_err(|_| HashError::Internal)?),
    })
}

fn is_outdated(hash: &PasswordHash, today: &Params) -> bool {
    let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    hash.algorithm.as_str() != "argon2id"
        || hash.version != Some(Version::V0x13.into())
        || Params::try_from(hash).map_or(true, |params| cost(&params) != cost(today))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tests::settings;

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let hasher = Hasher::new(&settings());
        let hash = hasher.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_ne!(
            hash,
            hasher.hash("correct horse").await.unwrap(),
            "salts must differ"
        );
        let check = async |password, stored: Option<&str>| {
            let stored = stored.map(Bson::from);
            hasher.verify(password, stored.as_ref()).await.unwrap()
        };
        assert_eq!(
            check("correct horse", Some(&*hash)).await,
            Verified::Yes { outdated: false }
        );
        assert_eq!(check("correct hors", Some(&*hash)).await, Verified::No);
        assert_eq!(check("correct horse", None).await, Verified::No);
        for broken in [
            "",
            "correct horse",
            "$argon2id$",
            "$2b$10$abcdefghijklmnopqrstuv",
            &hash[..40],
        ] {
            assert_eq!(
                check("correct horse", Some(broken)).await,
                Verified::No,
                "{broken}"
            );
        }
    }

    #[tokio::test]
    async fn other_parameters_make_a_hash_outdated() {
        let old = Bson::from(Hasher::new(&settings()).hash("p").await.unwrap());
        for change in [
            (|s: &mut AuthSettings| s.argon2_memory_kib = 128) as fn(&mut AuthSettings),
            |s| s.argon2_passes = 2,
            |s| s.argon2_lanes = 2,
        ] {
            let mut today = settings();
            change(&mut today);
            let verified = Hasher::new(&today).verify("p", Some(&old)).await.unwrap();
            assert_eq!(verified, Verified::Yes { outdated: true });
        }
    }

    #[tokio::test]
    async fn bcrypt_hashes_verify_and_are_outdated() {
        let hasher = Hasher::new(&settings());
        let check = async |password: &str, stored: Bson| {
            hasher.verify(password, Some(&stored)).await.unwrap()
        };
        // Test vectors of OpenBSD's and of other implementations.
        for (password, hash) in [
            (
                "U*U",
                "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            (
                "U*U*U",
                "$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a",
            ),
        ] {
            let right = Verified::Yes { outdated: true };
            assert_eq!(check(password, hash.into()).await, right, "{hash}");
            // As a driver for Python stores what its library answers.
            let bytes = bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: hash.as_bytes().to_vec(),
            };
            assert_eq!(check(password, bytes.into()).await, right, "{hash}");
            assert_eq!(check("u*u", hash.into()).await, Verified::No);
            assert_eq!(check(password, hash[..59].into()).await, Verified::No);
        }
        let made = bcrypt::hash("correct horse", 4).unwrap();
        assert_ne!(
            check("correct horse", made.clone().into()).await,
            Verified::No
        );
        // One that would take a core for days is not begun.
        let days = made.replacen("$04$", "$31$", 1);
        assert_eq!(check("correct horse", days.into()).await, Verified::No);
    }

    #[tokio::test]
    async fn a_full_queue_is_overloaded_and_recovers() {
        let mut settings = settings();
        (settings.hash_concurrency, settings.hash_queue) = (1, 2);
        let hasher = Arc::new(Hasher::new(&settings));
        let running = hasher.admit().await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let hasher = Arc::clone(&hasher);
                tokio::spawn(async move { hasher.hash("p").await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(matches!(
            hasher.hash("p").await,
            Err(Error::Overloaded { .. })
        ));
        drop(running);
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        hasher.hash("p").await.unwrap();
    }

    #[tokio::test]
    async fn work_whose_client_left_still_counts() {
        let mut settings = settings();
        (settings.hash_concurrency, settings.hash_queue) = (1, 0);
        let hasher = Hasher::new(&settings);
        let (started, wait_for_start) = std::sync::mpsc::channel();
        let (finish, wait_to_finish) = std::sync::mpsc::channel::<()>();
        let work = hasher.run(move || {
            started.send(()).unwrap();
            wait_to_finish.recv().unwrap();
            Ok(())
        });
        // The client hangs up: the future is dropped, the work goes on.
        assert!(
            tokio::time::timeout(Duration::from_millis(20), work)
                .await
                .is_err()
        );
        wait_for_start.recv().unwrap();
        assert!(matches!(
            hasher.hash("p").await,
            Err(Error::Overloaded { .. })
        ));
        finish.send(()).unwrap();
        while let Err(error) = hasher.hash("p").await {
            assert!(matches!(error, Error::Overloaded { .. }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn parameters_that_cannot_work_are_an_error() {
        let mut settings = settings();
        settings.argon2_memory_kib = 1;
        assert!(settings.check().unwrap_err().contains("argon2"));
        let hasher = Hasher::new(&settings);
        assert!(matches!(hasher.hash("p").await, Err(Error::Unavailable(_))));
    }
}
