//! The rules of Coglex, behind both of its doors.

pub mod accounts;
pub mod caller;
pub mod documents;
pub mod error;
pub mod grants;
pub mod json;
pub mod storage;

pub use accounts::Accounts;
pub use caller::Caller;
pub use documents::Documents;
pub use error::{Error, Result};

/// Every service, cheap to clone. Made once in the host's `app`.
#[derive(Clone)]
pub struct Services {
    /// Documents.
    pub documents: Documents,
    /// Accounts and sessions.
    pub accounts: Accounts,
}
