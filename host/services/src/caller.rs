//! Who asks. Every service method that reads or writes a client's data takes
//! a [`Caller`], and decides by it.

use std::sync::Arc;

use crate::grants::Grants;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of the server's API key: may do what the HTTP API offers.
    ApiKey,
    /// A plugin, within its grants.
    Plugin(Arc<PluginCaller>),
}

/// A plugin as a caller.
#[derive(Debug)]
pub struct PluginCaller {
    /// The plugin's name, for messages and logs.
    pub name: String,
    /// What it may touch.
    pub grants: Grants,
}
