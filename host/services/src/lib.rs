//! The rules of Coglex, behind both of its doors.
//!
//! An HTTP handler and a guest's host function call the same method of the same
//! service with the same [`Caller`], so that a rule about who may do what is
//! written once. In here is neither HTTP nor WebAssembly, and no database: the
//! services speak to a store through a port.
//!
//! ```text
//! HTTP ──┐                       ┌─ embedded (SQLite)
//!        ├─► documents, accounts ─► storage::DocumentStore
//! guest ─┘      │        │       └─ mongo
//!            grants    json
//! ```
//!
//! Read [`documents`] first: what may be said to a store, and what is shown of
//! it. [`accounts`] are documents too, with fields that only they may touch.
//! [`json`] is how documents look outside. [`kv`] is for plugins alone. [`hooks`] are
//! what plugins have to say of writes.

pub mod accounts;
pub mod audit;
pub mod bounded;
pub mod caller;
pub mod clock;
pub mod documents;
pub mod error;
pub mod grants;
pub mod hooks;
pub mod jobs;
pub mod json;
pub mod keys;
pub mod kv;
pub mod outbox;
pub mod payment;
pub mod rules;
pub mod schedule;
pub mod storage;

pub use accounts::Accounts;
pub use caller::Caller;
pub use clock::Clock;
pub use documents::Documents;
pub use error::{Error, Result};
pub use hooks::Hooks;
pub use jobs::Jobs;
pub use kv::Kv;
pub use outbox::Outbox;

/// Every service, cheap to clone. Made once in the host's `app`.
#[derive(Clone)]
pub struct Services {
    /// Documents.
    pub documents: Documents,
    /// Accounts and sessions.
    pub accounts: Accounts,
    /// Keys and values of plugins.
    pub kv: Kv,
    /// Calls that are made later.
    pub jobs: Jobs,
    /// Payments, for plugins; nothing where there are none.
    pub payment: Option<std::sync::Arc<dyn payment::PaymentDoor>>,
    /// Mail that is to be sent.
    pub outbox: Outbox,
    /// What plugins have to say of writes: the same that the services above ask.
    pub hooks: Hooks,
}
