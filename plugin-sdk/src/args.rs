//! Binding the arguments of a function call to typed parameters.
//!
//! Plain Rust without the component boundary, so that it is tested natively.

use std::collections::VecDeque;
use std::fmt::Display;

use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result, clip};

/// The arguments of a call: `args` by position, `kwargs` by name, as a client
/// sends them: `{"args": ["Ann"], "kwargs": {"greeting": "Hi"}}`.
///
/// Take them in the order of the parameters; each takes the next positional
/// argument, or else the named one. What does not fit is a failure with the code
/// `invalid_argument` that names the parameter.
///
/// ```
/// use coglex_sdk::{Args, Result};
///
/// fn greet(mut args: Args) -> Result<String> {
///     let name: String = args.required("name")?;
///     let greeting: String = args.optional("greeting", || "Hello".to_owned())?;
///     args.finish()?;
///     Ok(format!("{greeting}, {name}!"))
/// }
///
/// let args = Args::from_json(r#"["Ann"]"#, r#"{"greeting": "Hi"}"#)?;
/// assert_eq!(greet(args)?, "Hi, Ann!");
/// # Ok::<(), coglex_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Args {
    positional: VecDeque<Value>,
    named: Map<String, Value>,
    taken: usize,
}

impl Args {
    /// Arguments from a JSON array and a JSON object.
    pub fn from_json(args: &str, kwargs: &str) -> Result<Self> {
        Ok(Self {
            positional: serde_json::from_str(args)
                .map_err(|error| invalid(format_args!("`args` is not a list: {error}")))?,
            named: serde_json::from_str(kwargs)
                .map_err(|error| invalid(format_args!("`kwargs` is not an object: {error}")))?,
            taken: 0,
        })
    }

    /// The argument of a parameter that must be given, unless its type is an
    /// [`Option`].
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        match self.take(name)? {
            Some(value) => convert(value, name),
            // An absent value, as serde sees it: none for an `Option`.
            None => T::deserialize(Absent)
                .map_err(|_| invalid(format_args!("the argument `{name}` is missing"))),
        }
    }

    /// The argument of a parameter that has a default.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: impl FnOnce() -> T,
    ) -> Result<T> {
        match self.take(name)? {
            Some(value) => convert(value, name),
            None => Ok(default()),
        }
    }

    /// Refuses what no parameter has taken.
    pub fn finish(self) -> Result<()> {
        if !self.positional.is_empty() {
            let given = self.taken + self.positional.len();
            return Err(invalid(format_args!(
                "there are {given} positional arguments where at most {} fit",
                self.taken
            )));
        }
        match self.named.keys().next() {
            Some(name) => Err(invalid(format_args!("there is no parameter `{}`", name))),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Result<Option<Value>> {
        let named = self.named.shift_remove(name);
        match self.positional.pop_front() {
            Some(_) if named.is_some() => Err(invalid(format_args!(
                "the argument `{name}` is given twice, by position and by name"
            ))),
            Some(value) => {
                self.taken += 1;
                Ok(Some(value))
            }
            None => Ok(named),
        }
    }
}

fn convert<T: DeserializeOwned>(value: Value, name: &str) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| invalid(format_args!("the argument `{name}` does not fit: {error}")))
}

fn invalid(message: impl Display) -> Error {
    Error::failure("invalid_argument", clip(message.to_string()))
}

/// Deserializes to `None`, and to nothing else.
struct Absent;

impl<'de> serde::Deserializer<'de> for Absent {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("absent"))
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de> for Absent {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binds `(a: u8, b: String = "b", c: Option<bool>)`.
    fn bind(args: &str, kwargs: &str) -> Result<(u8, String, Option<bool>), String> {
        let bind = || {
            let mut args = Args::from_json(args, kwargs)?;
            let bound = (
                args.required("a")?,
                args.optional("b", || "b".to_owned())?,
                args.required("c")?,
            );
            args.finish()?;
            Ok(bound)
        };
        bind().map_err(|error: Error| {
            let problem = error.to_problem();
            assert_eq!((problem.status, &*problem.code), (422, "invalid_argument"));
            problem.detail.clone()
        })
    }

    #[test]
    fn arguments_bind_by_position_and_by_name() {
        let expected = |a, b: &str, c| Ok((a, b.to_owned(), c));
        assert_eq!(bind("[1]", "{}"), expected(1, "b", None));
        assert_eq!(bind("[]", r#"{"a":1}"#), expected(1, "b", None));
        assert_eq!(bind(r#"[1,"x",true]"#, "{}"), expected(1, "x", Some(true)));
        assert_eq!(bind("[1]", r#"{"c":false}"#), expected(1, "b", Some(false)));
        assert_eq!(bind("[1]", r#"{"c":null,"b":"y"}"#), expected(1, "y", None));
    }

    #[test]
    fn what_does_not_bind_names_the_argument() {
        for (args, kwargs, message) in [
            ("[]", "{}", "the argument `a` is missing"),
            (
                r#"["x"]"#,
                "{}",
                "the argument `a` does not fit: invalid type: string \"x\", expected u8",
            ),
            (
                "[1]",
                r#"{"b":7}"#,
                "the argument `b` does not fit: invalid type: integer `7`, expected a string",
            ),
            (
                "[1]",
                r#"{"a":2}"#,
                "the argument `a` is given twice, by position and by name",
            ),
            (
                r#"[1,"x",true,4,5]"#,
                "{}",
                "there are 5 positional arguments where at most 3 fit",
            ),
            ("[1]", r#"{"d":2}"#, "there is no parameter `d`"),
        ] {
            assert_eq!(
                bind(args, kwargs),
                Err(message.to_owned()),
                "{args} {kwargs}"
            );
        }
        assert!(
            bind("{}", "{}")
                .unwrap_err()
                .starts_with("`args` is not a list")
        );
        assert!(
            bind("[]", "[]")
                .unwrap_err()
                .starts_with("`kwargs` is not an object")
        );
    }

    #[test]
    fn messages_do_not_repeat_long_input() {
        let long = "é".repeat(1000);
        for (args, kwargs) in [
            ("[1]", format!(r#"{{"{long}":1}}"#)),
            (r#"["X"]"#, "{}".to_owned()),
        ] {
            let message = bind(&args.replace('X', &long), &kwargs).unwrap_err();
            assert!(message.chars().count() < 400, "{message}");
        }
    }
}
