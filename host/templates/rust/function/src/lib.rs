//! Functions that clients call by name.

use coglex_sdk::prelude::*;

coglex_sdk::manifest!("coglex.toml");

coglex_sdk::functions! {
    /// Greets somebody.
    fn greet(name: String, greeting: String = "Hello".to_owned()) -> Result<String> {
        if name.is_empty() {
            return Err(Error::failure("no_name", "whom shall I greet?"));
        }
        Ok(format!("{greeting}, {name}!"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coglex_sdk::testing;

    #[test]
    fn greets_by_name() {
        assert_eq!(greet("Ann".to_owned(), "Hi".to_owned()).unwrap(), "Hi, Ann!");
        assert!(greet(String::new(), "Hi".to_owned()).is_err());
    }

    #[test]
    #[cfg_attr(not(target_family = "wasm"), ignore = "needs a server: `coglex plugin test` has one")]
    fn greets_clients() {
        let greeting: String = testing::call("greet", &json!(["Ann"]), &json!({})).unwrap();
        assert_eq!(greeting, "Hello, Ann!");
        let refused = testing::call::<Value>("greet", &json!([""]), &json!({})).unwrap_err();
        assert_eq!(refused.to_string(), "whom shall I greet?");
    }
}
