//! `coglex:config`: the settings that the operator gave to this plugin.

use crate::bindings::config::settings;
use crate::state::InstanceState;

impl settings::Host for InstanceState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(name.len())?;
        let value = self.shared.settings.get(&name).cloned();
        self.carry(value.as_ref().map_or(0, String::len))?;
        Ok(value)
    }
}
