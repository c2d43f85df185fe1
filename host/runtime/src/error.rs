//! What can go wrong: at start, at load, in a call. The texts are for operators
//! and plugin authors; clients see a stable code that the host crate picks.

use std::path::PathBuf;
use std::time::Duration;

use crate::doors::BoxError;
use crate::schema::Mismatch;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refused its settings, or the machine its memory.
    #[error("the WebAssembly engine cannot be set up")]
    Engine(#[source] BoxError),
    /// The folder for compiled code cannot be made private or written.
    #[error("the folder {path} for compiled plugins cannot be used")]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate authorities for guests' requests cannot be read.
    #[error("the certificate authorities in {path} cannot be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// TLS for guests' requests cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The thread that interrupts guests cannot be started.
    #[error("the thread that interrupts plugins cannot be started")]
    Ticker(#[source] std::io::Error),
}

/// Why a component cannot serve. Each reads as a sentence about the component.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error("it is not a WebAssembly component")]
    NotWasm,
    /// WebAssembly, but of the older kind.
    #[error(
        "it is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Too large to be compiled.
    #[error("it has {bytes} bytes, more than the {limit} that a component may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The compiler refused it.
    #[error("it cannot be compiled")]
    Compile(#[source] BoxError),
    /// What it asks for is malformed.
    #[error("what it asks for (coglex.toml) is malformed: {0}")]
    Ask(String),
    /// It imports something that is linked with a grant only, which it lacks.
    #[error("it imports {import}, but {why}")]
    NotGranted {
        /// The interface.
        import: String,
        /// What is missing, and who can change it.
        why: String,
    },
    /// It imports something that nobody provides.
    #[error("it imports {import}, which {why}")]
    UnknownImport {
        /// The interface.
        import: String,
        /// What the server has instead.
        why: String,
    },
    /// It has a hook where none was granted.
    #[error(
        "its function {function} has a hook on the writes of `{collection}`, which was not granted: its coglex.toml has to ask for {{ collection = \"{collection}\", verbs = [\"hook\"] }}, and the operator to allow it"
    )]
    HookNotGranted {
        /// The function.
        function: String,
        /// The collection.
        collection: String,
    },
    /// A function wants payment events, which were not granted.
    #[error(
        "its function {function} wants to be told of payment events, which was not granted: its coglex.toml has to ask for payment = [\"events\"], and the operator to allow it"
    )]
    EventsNotGranted {
        /// The function.
        function: String,
    },
    /// An import or export has the right name and the wrong type.
    #[error("it does not fit the interfaces of this server")]
    Link(#[source] BoxError),
    /// It exports nothing that could be called.
    #[error(
        "it exports none of coglex:gateway/handler, wasi:http/incoming-handler and coglex:function/functions, so there is nothing to call"
    )]
    NoDoor,
    /// It exports one half of an app.
    #[error("it exports {has} without {lacks}")]
    HalfAnApp {
        /// What it has.
        has: &'static str,
        /// What belongs to it.
        lacks: &'static str,
    },
    /// `describe()` did not come to an end.
    #[error("its describe() failed: {0}")]
    Describe(String),
    /// `describe()` answered with something that cannot be served.
    #[error("it declares {0}")]
    Declares(String),
    /// The server was too busy to have it describe itself. The only failure that
    /// the same component may not meet again.
    #[error("it could not be asked for its routes and functions, because the server is busy")]
    Busy,
    /// The host failed while loading it.
    #[error("it could not be loaded because the server failed")]
    Internal(#[source] BoxError),
}

/// Why a call has no answer. The runtime has logged the cause, once, with the
/// plugin's name and the request id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest trapped, panicked or spent a budget other than time.
    #[error("the plugin failed")]
    Trapped,
    /// The guest spent its CPU or wall-clock budget.
    #[error("the plugin used up its time")]
    Deadline,
    /// Too many calls of this plugin run and wait already.
    #[error("too many calls are running")]
    Overloaded {
        /// When a retry is worth it.
        retry_after: Duration,
    },
    /// The guest's answer cannot be sent; the text says why.
    #[error("the plugin's answer cannot be sent: {0}")]
    InvalidResponse(String),
    /// The request cannot be handed to this plugin; the text is for the client.
    #[error("{0}")]
    InvalidRequest(String),
    /// The request's body is larger than the route takes.
    #[error("the body is too large")]
    PayloadTooLarge,
    /// The request's body is not JSON, where the route takes nothing else; the
    /// text is for the client.
    #[error("{0}")]
    NotJson(String),
    /// The request's body does not fit the route's schema, or a function's
    /// arguments not the function's.
    #[error("the input does not fit the schema that was declared")]
    Mismatch(Vec<Mismatch>),
    /// The guest could not be started, or what it needs is not there.
    #[error("the plugin cannot be started, or what it needs is not there")]
    Unavailable,
}
