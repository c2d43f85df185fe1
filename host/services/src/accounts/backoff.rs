//! How soon somebody who has failed to sign in may try again.
//!
//! Counted is the pair of key and address: a guesser makes himself wait, and not the
//! user whose key he guesses with, who comes from elsewhere. A second count, of the
//! address alone, is against one who tries a password on many keys; users who have an
//! open session from that address are let through it. When a key is guessed at from
//! many addresses, each new one has fewer tries, and never none: the right password
//! always gets in from an address that has not failed yet.
//!
//! In this process's memory only: hosts of a cluster count for themselves, and a
//! restart forgets. Nothing here touches the disk or waits.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bounded;

/// What has not failed for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// The longest wait. Longer ones would be a lock for those who share an address.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long the failures of an address take to be forgiven.
const ADDRESS_PERIOD: Duration = Duration::from_secs(600);
/// Failures of a key from all addresses, as a multiple of those that one address has
/// free, from where on addresses have one.
const UNDER_ATTACK: u32 = 10;
/// Entries of each kind. A flood of others makes the oldest give way.
const MAX_ENTRIES: usize = 64 * 1024;

/// Who may try again when.
pub(super) struct Backoff {
    key_failures: u32,
    address_failures: u32,
    base: Instant,
    /// Seeded: nobody can aim at another's entry.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    pairs: HashMap<u64, Failures>,
    keys: HashMap<u64, Failures>,
    /// When the bucket of an address is full again.
    addresses: HashMap<u64, Duration>,
}

#[derive(Default, Clone, Copy)]
struct Failures {
    count: u32,
    /// Attempts that are being made.
    trying: u32,
    last: Duration,
}

impl Failures {
    fn is_over(&self, now: Duration) -> bool {
        self.trying == 0 && self.last + MEMORY <= now
    }
}

/// An attempt that may be made. Dropped without a verdict it counts for nothing.
pub(super) struct Attempt<'a> {
    backoff: &'a Backoff,
    /// None where nothing is counted.
    ids: Option<Ids>,
}

#[derive(Clone, Copy)]
struct Ids {
    pair: u64,
    key: u64,
    address: u64,
}

impl Backoff {
    /// `key_failures` of a key from one address are free, `address_failures` from one
    /// address within ten minutes; 0: all.
    pub(super) fn new(key_failures: u32, address_failures: u32) -> Self {
        Self {
            key_failures,
            address_failures,
            base: Instant::now(),
            hasher: RandomState::new(),
            counts: Mutex::default(),
        }
    }

    /// Lets an attempt begin, or says when one may. Somebody without an address is
    /// the server itself, which guesses nothing. `known` says that the user has an
    /// open session from this address.
    pub(super) fn begin(
        &self,
        realm: &str,
        key: &str,
        address: Option<IpAddr>,
        known: bool,
    ) -> Result<Attempt<'_>, Duration> {
        self.begin_at(realm, key, address, known, self.base.elapsed())
    }

    fn begin_at(
        &self,
        realm: &str,
        key: &str,
        address: Option<IpAddr>,
        known: bool,
        now: Duration,
    ) -> Result<Attempt<'_>, Duration> {
        let free = Attempt {
            backoff: self,
            ids: None,
        };
        let Some(address) = address.map(network) else {
            return Ok(free);
        };
        let ids = Ids {
            pair: self.hasher.hash_one((realm, key, address)),
            key: self.hasher.hash_one((realm, key)),
            address: self.hasher.hash_one(address),
        };
        let mut counts = self.lock();
        if self.address_failures > 0 && !known {
            let full_at = counts.addresses.get(&ids.address).copied();
            let full_at = full_at.unwrap_or_default();
            if full_at > now + ADDRESS_PERIOD {
                return Err(full_at - now - ADDRESS_PERIOD);
            }
        }
        if self.key_failures > 0 {
            let of = |map: &HashMap<u64, Failures>, id| {
                let failures: Failures = map.get(&id).copied().unwrap_or_default();
                match failures.is_over(now) {
                    true => Failures::default(),
                    false => failures,
                }
            };
            let of_key = of(&counts.keys, ids.key);
            let attacked = of_key.count >= self.key_failures.saturating_mul(UNDER_ATTACK);
            let allowed = if attacked { 1 } else { self.key_failures };
            let pair = of(&counts.pairs, ids.pair);
            if pair.count >= allowed {
                let next = pair.last + wait(pair.count - allowed);
                if next > now {
                    return Err(next - now);
                }
                // One at a time, or many would be made in the same moment.
                if pair.trying > 0 {
                    return Err(Duration::from_secs(1));
                }
            } else if pair.count > 0 && pair.count + pair.trying >= allowed {
                return Err(Duration::from_secs(1));
            }
            make_room(&mut counts.pairs, ids.pair, now);
            let entry = counts.pairs.entry(ids.pair).or_default();
            *entry = Failures {
                trying: entry.trying + 1,
                last: pair.last.max(if pair.count == 0 { now } else { pair.last }),
                count: pair.count,
            };
        }
        Ok(Attempt {
            backoff: self,
            ids: Some(ids),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail_at(&self, ids: Ids, now: Duration) {
        let mut counts = self.lock();
        if self.key_failures > 0 {
            for pair in [true, false] {
                let (map, id) = match pair {
                    true => (&mut counts.pairs, ids.pair),
                    false => (&mut counts.keys, ids.key),
                };
                make_room(map, id, now);
                let entry = map.entry(id).or_default();
                if entry.last + MEMORY <= now {
                    entry.count = 0;
                }
                entry.count = entry.count.saturating_add(1);
                entry.last = now;
                if pair {
                    entry.trying = entry.trying.saturating_sub(1);
                }
            }
        }
        if self.address_failures > 0 {
            // Of buckets that are not full again, the one that is next to be.
            let is_full = |full_at: &Duration| *full_at <= now;
            let addresses = &mut counts.addresses;
            bounded::make_room(addresses, MAX_ENTRIES, ids.address, is_full, |full_at| {
                *full_at
            });
            let full_at = counts.addresses.entry(ids.address).or_default();
            *full_at = (*full_at).max(now) + ADDRESS_PERIOD / self.address_failures;
        }
    }

    fn succeed(&self, ids: Ids) {
        self.lock().pairs.remove(&ids.pair);
    }

    fn forget(&self, ids: Ids) {
        let mut counts = self.lock();
        if let Some(entry) = counts.pairs.get_mut(&ids.pair) {
            entry.trying = entry.trying.saturating_sub(1);
            if entry.trying == 0 && entry.count == 0 {
                counts.pairs.remove(&ids.pair);
            }
        }
    }
}

impl Attempt<'_> {
    /// The password was wrong, or there is no such user: that is the same.
    pub(super) fn failed(mut self) {
        if let Some(ids) = self.ids.take() {
            self.backoff.fail_at(ids, self.backoff.base.elapsed());
        }
    }

    /// The password was right.
    pub(super) fn succeeded(mut self) {
        if let Some(ids) = self.ids.take() {
            self.backoff.succeed(ids);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.take() {
            self.backoff.forget(ids);
        }
    }
}

/// How long to wait after so many failures beyond those that are free.
fn wait(beyond: u32) -> Duration {
    Duration::from_secs(1 << beyond.min(16)).min(LONGEST_WAIT)
}

fn make_room(map: &mut HashMap<u64, Failures>, id: u64, now: Duration) {
    let is_over = |failures: &Failures| failures.is_over(now);
    bounded::make_room(map, MAX_ENTRIES, id, is_over, |failures| failures.last);
}

/// What counts as one address: who has an IPv6 address has the /64 around it.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Guessing {
        backoff: Backoff,
        now: Duration,
    }

    impl Guessing {
        fn new(key_failures: u32, address_failures: u32) -> Self {
            let backoff = Backoff::new(key_failures, address_failures);
            Self {
                backoff,
                now: Duration::from_secs(1_000),
            }
        }

        fn begin(&self, key: &str, address: &str) -> Result<Attempt<'_>, Duration> {
            let address = Some(address.parse().unwrap());
            self.backoff
                .begin_at("users", key, address, false, self.now)
        }

        /// Whether a guess could be made; it is wrong.
        fn guess(&self, key: &str, address: &str) -> bool {
            let Ok(mut attempt) = self.begin(key, address) else {
                return false;
            };
            self.backoff.fail_at(attempt.ids.take().unwrap(), self.now);
            true
        }

        fn wait(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    const HERE: &str = "192.0.2.1";
    const THERE: &str = "192.0.2.2";

    #[test]
    fn each_failure_beyond_the_free_ones_doubles_the_wait() {
        let mut guessing = Guessing::new(3, 0);
        for _ in 0..3 {
            assert!(guessing.guess("ann", HERE));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!guessing.guess("ann", HERE));
            let wait = guessing.begin("ann", HERE).err().unwrap();
            assert_eq!(wait, Duration::from_secs(seconds));
            guessing.wait(seconds);
            assert!(guessing.guess("ann", HERE), "{seconds}");
        }
        guessing.wait(MEMORY.as_secs());
        for _ in 0..3 {
            assert!(guessing.guess("ann", HERE));
        }
        assert!(!guessing.guess("ann", HERE));
    }

    #[test]
    fn a_guesser_does_not_lock_out_whom_he_guesses_at() {
        let guessing = Guessing::new(3, 0);
        while guessing.guess("ann", HERE) {}
        guessing.begin("ann", THERE).unwrap().succeeded();
        // Nor others who are where he is.
        guessing.begin("bob", HERE).unwrap().succeeded();
        assert!(!guessing.guess("ann", HERE));
    }

    #[test]
    fn under_a_wide_attack_each_new_address_still_has_a_try() {
        let guessing = Guessing::new(3, 0);
        for host in 0..30 {
            assert!(guessing.guess("ann", &format!("198.51.100.{host}")));
        }
        for host in 0..20 {
            let address = format!("203.0.113.{host}");
            assert!(guessing.guess("ann", &address));
            assert!(!guessing.guess("ann", &address));
        }
        guessing.begin("ann", HERE).unwrap().succeeded();
        assert!(guessing.guess("bob", HERE) && guessing.guess("bob", HERE));
    }

    #[test]
    fn one_password_on_many_keys_is_counted_by_address() {
        let mut guessing = Guessing::new(3, 20);
        let mut made = 0;
        while guessing.guess(&format!("user{made}"), HERE) {
            made += 1;
        }
        assert_eq!(made, 21);
        assert!(guessing.guess("ann", THERE));
        // Somebody who is signed in from there is somebody else.
        let address = Some(HERE.parse().unwrap());
        let known = guessing
            .backoff
            .begin_at("users", "ann", address, true, guessing.now);
        assert!(known.is_ok());
        drop(known);
        guessing.wait(ADDRESS_PERIOD.as_secs() / 20);
        assert!(guessing.guess("ann", HERE) && !guessing.guess("ann", HERE));
    }

    #[test]
    fn guesses_at_once_are_not_more_than_one_after_the_other() {
        let guessing = Guessing::new(3, 0);
        assert!(guessing.guess("ann", HERE));
        let at_once: Vec<_> = (0..10).map(|_| guessing.begin("ann", HERE)).collect();
        assert_eq!(at_once.iter().filter(|attempt| attempt.is_ok()).count(), 2);
        // Those that came to nothing, such as in a queue that was full, do not count.
        drop(at_once);
        assert!(guessing.guess("ann", HERE) && guessing.guess("ann", HERE));
        assert!(!guessing.guess("ann", HERE));
    }

    #[test]
    fn a_right_password_clears_the_count() {
        let guessing = Guessing::new(3, 0);
        assert!(guessing.guess("ann", HERE) && guessing.guess("ann", HERE));
        guessing.begin("ann", HERE).unwrap().succeeded();
        for _ in 0..3 {
            assert!(guessing.guess("ann", HERE));
        }
        assert!(!guessing.guess("ann", HERE));
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_to_be() {
        let guessing = Guessing::new(0, 0);
        assert!((0..1_000).all(|_| guessing.guess("ann", HERE)));
        let counted = Guessing::new(1, 1);
        assert!((0..1_000).all(|_| {
            let attempt = counted.backoff.begin("users", "ann", None, false);
            attempt.map(Attempt::failed).is_ok()
        }));
    }

    #[test]
    fn a_flood_takes_bounded_memory() {
        let guessing = Guessing::new(1, 1_000_000);
        for number in 0..=MAX_ENTRIES {
            let address = IpAddr::from((number as u32).to_be_bytes());
            assert!(guessing.guess(&number.to_string(), &address.to_string()));
        }
        let counts = guessing.backoff.lock();
        assert!(counts.pairs.len() <= MAX_ENTRIES && counts.keys.len() <= MAX_ENTRIES);
        assert!(counts.addresses.len() <= MAX_ENTRIES);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
