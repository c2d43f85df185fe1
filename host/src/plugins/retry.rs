//! What becomes of a plugin that could not be loaded: when it is tried again,
//! and from when on it counts as quarantined. Pure; the registry asks.

use std::time::{Duration, Instant};

use coglex_runtime::LoadError;

/// The first wait before another try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// So many failures in a row are no accident.
const QUARANTINED_AFTER: u32 = 3;

/// Why a plugin's file is not what serves, and what will be done about it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The reason, as one sentence with its causes.
    pub why: String,
    /// Failures of this file in a row.
    pub times: u32,
    /// When it is tried again.
    pub again: Again,
}

/// When a file that failed is tried again. All of them when the file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Not before: the same bytes will fail in the same way.
    Never,
    /// As soon as any other plugin changes: the two did not fit together.
    WithOthers,
    /// Once this time has come: its code crashed, or something that it needs was
    /// not there, and that may pass.
    At(Instant),
    /// By the next scan: the server was too busy, which says nothing about it.
    Soon,
}

/// A reason as it comes out of a load.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) why: String,
    pub(super) kind: Kind,
}

/// What a reason says about the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The same bytes fail again.
    Lasting,
    /// It clashed with others.
    Clash,
    /// It may pass.
    Passing,
    /// The server was busy.
    Busy,
}

impl Reason {
    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            kind,
        }
    }
}

impl From<LoadError> for Reason {
    fn from(error: LoadError) -> Self {
        let kind = match &error {
            LoadError::Busy => Kind::Busy,
            LoadError::Describe(_) | LoadError::Internal(_) => Kind::Passing,
            _ => Kind::Lasting,
        };
        Self::new(kind, error_chain(&error))
    }
}

impl Failure {
    /// The failure of a try at `now`, after what the same file failed with last.
    pub(super) fn after(last: Option<&Failure>, reason: Reason, now: Instant) -> Self {
        let before = last.map_or(0, |last| last.times);
        let (times, again) = match reason.kind {
            Kind::Lasting => (before + 1, Again::Never),
            Kind::Clash => (before + 1, Again::WithOthers),
            Kind::Passing => (before + 1, Again::At(now + wait(before + 1))),
            Kind::Busy => (before, Again::Soon),
        };
        Self {
            why: reason.why,
            times,
            again,
        }
    }

    /// Whether it is time for another try although nothing has changed.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self.again {
            Again::Never | Again::WithOthers => false,
            Again::At(time) => time <= now,
            Again::Soon => true,
        }
    }

    /// Whether it has crashed so often that it is only tried now and then.
    pub fn is_quarantined(&self) -> bool {
        matches!(self.again, Again::At(_)) && self.times >= QUARANTINED_AFTER
    }
}

/// How long to wait after so many failures.
fn wait(times: u32) -> Duration {
    let doubled = 1u32
        .checked_shl(times.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

/// The error and its causes in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap() {
        let seconds = |times| wait(times).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [1, 2, 4, 8]);
        assert_eq!(
            [9, 10, 32, 33, u32::MAX].map(seconds),
            [256, 300, 300, 300, 300]
        );
    }

    #[test]
    fn what_crashes_again_and_again_is_quarantined_until_its_time() {
        let now = Instant::now();
        let mut last = None;
        for times in 1..=5 {
            let reason = Reason::from(LoadError::Describe("it trapped".to_owned()));
            let failure = Failure::after(last.as_ref(), reason, now);
            assert_eq!(
                (failure.times, failure.is_quarantined()),
                (times, times >= 3)
            );
            assert!(!failure.is_due(now) && failure.is_due(now + wait(times)));
            last = Some(failure);
        }
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again_and_being_busy_does_not_count() {
        let now = Instant::now();
        let lasting = Failure::after(None, LoadError::NotWasm.into(), now);
        assert!(!lasting.is_due(now + 2 * LONGEST_WAIT) && !lasting.is_quarantined());
        let mut busy = Failure::after(None, LoadError::Busy.into(), now);
        for _ in 0..10 {
            busy = Failure::after(Some(&busy), LoadError::Busy.into(), now);
        }
        assert!(busy.is_due(now) && !busy.is_quarantined());
        assert_eq!(busy.times, 0);
    }
}
