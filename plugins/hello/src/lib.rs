//! The first function to look at.

use coglex_sdk::prelude::*;

coglex_sdk::manifest!("coglex.toml");

coglex_sdk::functions! {
    /// Greets somebody.
    fn example_function(name: String, greeting: String = "Hello".to_owned()) -> Result<String> {
        Ok(format!("{greeting}, {name}! This is a WebAssembly function, pleased to meet you."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_by_name() {
        assert!(
            example_function("Ann".to_owned(), "Hi".to_owned())
                .unwrap()
                .starts_with("Hi, Ann! ")
        );
    }
}
