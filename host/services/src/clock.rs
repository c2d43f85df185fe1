//! What time it is, for the services whose answers depend on it: sessions, and
//! keys that live for a time. The system's clock, but for tests of plugins, which
//! set their own.
//!
//! Only those services ask it. The store itself (`$currentDate`, indexes by which
//! documents expire), jobs and schedules go by the system's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::DateTime;

/// A clock, cheap to clone. By default the system's.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// A clock that stands still until it is told to move. Its clones stand and
    /// move with it.
    pub fn manual(start: DateTime) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.timestamp_millis()))))
    }

    /// The time, to the millisecond.
    pub fn now(&self) -> DateTime {
        match &self.0 {
            None => DateTime::now(),
            Some(millis) => DateTime::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Sets a manual clock; the system's stays as it is.
    pub fn set(&self, time: DateTime) {
        if let Some(millis) = &self.0 {
            millis.store(time.timestamp_millis(), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on by whole milliseconds; the system's stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(millis) = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            // There is one who moves it at a time, so nothing is lost in between.
            let now = millis.load(Ordering::Relaxed);
            millis.store(now.saturating_add(by), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_when_it_is_told_to() {
        let clock = Clock::manual(DateTime::from_millis(1_000));
        let same = clock.clone();
        clock.advance(Duration::from_millis(500));
        assert_eq!(same.now(), DateTime::from_millis(1_500));
        same.set(DateTime::from_millis(-7));
        assert_eq!(clock.now(), DateTime::from_millis(-7));
        clock.advance(Duration::MAX);
        assert!(clock.now() > DateTime::now());
    }

    #[test]
    fn the_systems_clock_cannot_be_moved() {
        let clock = Clock::default();
        clock.set(DateTime::from_millis(0));
        clock.advance(Duration::from_secs(1_000_000));
        let difference = clock.now().timestamp_millis() - DateTime::now().timestamp_millis();
        assert!(difference.abs() < 60_000);
    }
}
