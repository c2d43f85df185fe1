//! Mail: what messages look like, and how they reach an SMTP server.
//!
//! [`Templates`] makes a [`Letter`] of a name and some values; a [`Mailer`] hands it
//! over. The host's outbox calls both. Nothing in here knows of accounts, of plugins or
//! of why something is sent, and nothing is kept: what was not taken is an error that
//! says whether another try is worth it.

mod letter;
mod mailer;
mod templates;

pub use letter::{Letter, MAX_SUBJECT_BYTES, is_address};
pub use mailer::{Mailer, SendError, SmtpSettings, TlsMode};
pub use templates::{BUILT_IN, TemplateError, Templates};
