//! The server's structured log.
//!
//! Lines carry the plugin's name and the request id. Named fields go behind a
//! semicolon:
//!
//! ```no_run
//! use coglex_sdk::log;
//!
//! let (rows, file) = (12, "a.csv");
//! log::info!("imported {rows} rows");
//! log::warn!("some rows were skipped"; rows = rows, file = file);
//! ```
//!
//! What a plugin prints to standard output and standard error lands in the log
//! too, line by line.

use std::error::Error as StdError;

use crate::bindings::capabilities::coglex::log::logging;
use crate::error::Error;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step, for the author.
    Trace,
    /// Details that help to find a fault.
    Debug,
    /// What happened, in the normal course.
    Info,
    /// Something odd that was survived.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line; the macros of this module are shorter. Long messages are cut
/// at 16 KiB.
pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, message, fields);
}

/// One line about an error that a client will not see, with its causes.
pub(crate) fn failure(message: &str, error: &Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    write(Level::Error, message, &[("error".to_owned(), text)]);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, [$($format:tt)+] ; $($field:ident = $value:expr),+ $(,)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($($format)+),
            &[$((::std::stringify!($field).to_owned(), ::std::string::ToString::to_string(&$value))),+],
        )
    };
    ($level:ident, [$($format:tt)+]) => {
        $crate::log::write($crate::log::Level::$level, &::std::format!($($format)+), &[])
    };
    // Moves the format over, token by token, up to the semicolon.
    ($level:ident, [$($format:tt)+] $next:tt $($rest:tt)*) => {
        $crate::__log!($level, [$($format)+ $next] $($rest)*)
    };
}

macro_rules! level_macro {
    ($dollar:tt $name:ident $hidden:ident $level:ident $doc:literal) => {
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $hidden {
                            ($dollar first:tt $dollar($dollar rest:tt)*) => {
                                $crate::__log!($level, [$dollar first] $dollar($dollar rest)*)
                            };
                        }
        #[doc = $doc]
        pub use $hidden as $name;
    };
}

level_macro!($ trace __log_trace Trace "Every step, for the author.");
level_macro!($ debug __log_debug Debug "Details that help to find a fault.");
level_macro!($ info __log_info Info "What happened, in the normal course.");
level_macro!($ warn __log_warn Warn "Something odd that was survived.");
level_macro!($ error __log_error Error "Something failed.");
