//! `coglex:log`: lines into the server's log.

use tracing::Level;

use crate::bindings::log::logging;
use crate::state::InstanceState;

/// Fields of one line; what is beyond is left out.
const MAX_FIELDS: usize = 32;

impl logging::Host for InstanceState {
    fn log(
        &mut self,
        level: logging::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Trace => Level::TRACE,
            logging::Level::Debug => Level::DEBUG,
            logging::Level::Info => Level::INFO,
            logging::Level::Warn => Level::WARN,
            logging::Level::Error => Level::ERROR,
        };
        self.log
            .line(level, &message, fields.get(..MAX_FIELDS).unwrap_or(&fields));
        Ok(())
    }
}
