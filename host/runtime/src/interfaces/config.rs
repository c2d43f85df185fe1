//! `coglex:config`: the settings and secrets that the operator gave to this
//! plugin.

use coglex_services::Caller;

use crate::bindings::config::{secrets, settings};
use crate::state::InstanceState;

impl settings::Host for InstanceState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.charge(name.len())?;
        let test = self.shared.harness.as_ref();
        let set = test.and_then(|harness| harness.setting(&name));
        let value = set.or_else(|| self.shared.settings.get(&name).cloned());
        self.carry(value.as_ref().map_or(0, String::len))?;
        Ok(value)
    }
}

impl secrets::Host for InstanceState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, secrets::Error>> {
        self.charge(name.len())?;
        let granted = match &self.shared.caller {
            Caller::Plugin(plugin) => plugin.grants.allows_secret(&name),
            Caller::ApiKey | Caller::Key(_) | Caller::User(_) => false,
        };
        if !granted {
            return Ok(Err(secrets::Error::AccessDenied(format!(
                "the plugin `{}` was not granted the secret `{}`",
                self.shared.name,
                name.get(..64).unwrap_or(&name)
            ))));
        }
        let test = self.shared.harness.as_ref();
        let set = test.and_then(|harness| harness.secret(&name));
        let secret = self.shared.secrets.get(&name);
        let value = set.or_else(|| secret.map(|secret| secret.expose().to_owned()));
        self.carry(value.as_ref().map_or(0, String::len))?;
        Ok(Ok(value))
    }
}
