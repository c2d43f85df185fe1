//! Functions that clients call by name, and the way from them to the component's
//! exports.

use std::borrow::Cow;

use serde::Serialize;

use crate::args::Args;
use crate::bindings::function::exports::coglex::function::functions as wit;
use crate::error::{Error, Result};
use crate::log;

/// A table of functions. An instance builds it for each call.
#[derive(Default)]
pub struct Functions {
    functions: Vec<Function>,
}

type Body = Box<dyn Fn(Args) -> Result<String>>;

struct Function {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    /// The lines of a doc comment, which is the summary where there is none. It
    /// is put together only when asked for: calls have no use for it.
    docs: &'static [&'static str],
    body: Body,
}

impl Function {
    fn into_info(self) -> wit::FunctionInfo {
        let summary = match self.summary {
            summary if summary.is_empty() => first_paragraph(self.docs),
            summary => summary.into_owned(),
        };
        wit::FunctionInfo {
            name: self.name.into_owned(),
            summary: (!summary.is_empty()).then_some(summary),
        }
    }
}

/// The first paragraph of a doc comment, on one line.
fn first_paragraph(docs: &[&str]) -> String {
    let lines = docs.iter().flat_map(|line| line.split('\n')).map(str::trim);
    let paragraph: Vec<&str> = lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect();
    paragraph.join(" ")
}

impl Functions {
    /// Adds a function. Its name is made of letters, digits, `_`, `-` and `.`.
    pub fn add<T, E>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        body: impl Fn(Args) -> Result<T, E> + 'static,
    ) -> Added<'_>
    where
        T: Serialize,
        E: Into<Error>,
    {
        self.functions.push(Function {
            name: name.into(),
            summary: Cow::Borrowed(""),
            docs: &[],
            body: Box::new(move |args| {
                Ok(serde_json::to_string(&body(args).map_err(Into::into)?)?)
            }),
        });
        Added { functions: self }
    }

    /// Calls a function as a client would, for tests that run without a server.
    /// The arguments are a JSON list and a JSON object, the result is JSON.
    pub fn call(&self, name: &str, args: &str, kwargs: &str) -> Result<String> {
        let function = self.functions.iter().find(|function| function.name == name);
        let function = function.ok_or_else(|| Error::status(404, "there is no such function"))?;
        (function.body)(Args::from_json(args, kwargs)?)
    }

    fn list(self) -> Vec<wit::FunctionInfo> {
        self.functions
            .into_iter()
            .map(Function::into_info)
            .collect()
    }
}

/// A function that was just added, for details about it.
pub struct Added<'a> {
    functions: &'a mut Functions,
}

impl Added<'_> {
    /// One sentence for listings.
    pub fn summary(self, summary: impl Into<Cow<'static, str>>) {
        if let Some(function) = self.functions.functions.last_mut() {
            function.summary = summary.into();
        }
    }

    /// What [`functions!`](crate::functions!) found above the function.
    #[doc(hidden)]
    pub fn docs(self, docs: &'static [&'static str]) {
        if let Some(function) = self.functions.functions.last_mut() {
            function.docs = docs;
        }
    }
}

/// Implemented by [`functions!`](crate::functions!).
#[doc(hidden)]
pub trait DefineFunctions {
    fn define(functions: &mut Functions);
}

impl<T: DefineFunctions> wit::Guest for T {
    fn describe() -> Vec<wit::FunctionInfo> {
        let mut functions = Functions::default();
        T::define(&mut functions);
        functions.list()
    }

    fn run(call: wit::Call) -> Result<String, wit::Error> {
        let mut functions = Functions::default();
        T::define(&mut functions);
        functions
            .call(&call.name, &call.args, &call.kwargs)
            .map_err(|error| {
                let problem = error.to_problem().into_owned();
                match problem.status {
                    503 => {
                        log::failure("a function failed", &error);
                        wit::Error::Unavailable
                    }
                    // The host logs the text.
                    500.. => wit::Error::Internal(error.to_string()),
                    _ => wit::Error::Failure(wit::Failure {
                        code: problem.code.into_owned(),
                        message: problem.detail,
                    }),
                }
            })
    }
}

/// Makes this crate a component with functions. Once per component.
///
/// Written as functions, parameters are bound from the call's `args` and
/// `kwargs`, defaults and [`Option`]s included, and the doc comment's first
/// paragraph is the summary. The result is anything that is a [`Result`] of a
/// value that serde can write:
///
/// ```
/// use coglex_sdk::prelude::*;
///
/// coglex_sdk::functions! {
///     /// Greets somebody.
///     fn greet(name: String, greeting: String = "Hello".to_owned()) -> Result<String> {
///         Ok(format!("{greeting}, {name}!"))
///     }
///
///     /// Divides, or says why not.
///     fn divide(a: i64, b: i64) -> Result<i64> {
///         a.checked_div(b).ok_or_else(|| Error::failure("division_by_zero", "`b` is zero"))
///     }
/// }
/// # fn main() {}
/// ```
///
/// For names that are not Rust names, or to bind arguments by hand, fill the
/// table yourself:
///
/// ```
/// # use coglex_sdk::prelude::*;
/// fn greet(mut args: Args) -> Result<String> {
///     let name: String = args.required("name")?;
///     args.finish()?;
///     Ok(format!("Hello, {name}!"))
/// }
///
/// coglex_sdk::functions! { |functions| {
///     functions.add("people.greet", greet).summary("Greets somebody.");
/// }}
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! functions {
    ($(
        $(#[doc = $doc:expr])*
        fn $name:ident($($arg:ident : $type:ty $(= $default:expr)?),* $(,)?) -> $result:ty $body:block
    )+) => {
        $(
            $(#[doc = $doc])*
            fn $name($($arg: $type),*) -> $result $body
        )+

        $crate::functions!($crate::__function_table! {$(
            [$($doc),*] $name($($arg: $type $(= $default)?),*)
        )+});
    };
    ($define:expr $(,)?) => {
        const _: () = {
            fn define(functions: &mut $crate::Functions) {
                let define: fn(&mut $crate::Functions) = $define;
                define(functions)
            }

            // Counts the functions as used where nothing is exported: in a
            // native build, for tests and lints.
            const _: fn(&mut $crate::Functions) = define;

            #[cfg(target_arch = "wasm32")]
            const _: () = {
                struct Component;

                impl $crate::__private::DefineFunctions for Component {
                    fn define(functions: &mut $crate::Functions) {
                        define(functions)
                    }
                }

                $crate::__private::function::export_function!(
                    Component with_types_in $crate::__private::function
                );
            };
        };
    };
}

/// Adds functions that are written as such: binds their parameters in order.
#[doc(hidden)]
#[macro_export]
macro_rules! __function_table {
    ($([$($doc:expr),*] $name:ident($($arg:ident : $type:ty $(= $default:expr)?),*))+) => {
        |functions: &mut $crate::Functions| {$(
            functions
                .add(stringify!($name), |args: $crate::Args| {
                    #[allow(unused_mut, reason = "a function may have no parameters")]
                    let mut args = args;
                    $(let $arg: $type = $crate::__bind_argument!(args, $arg $(, $default)?);)*
                    args.finish()?;
                    $name($($arg),*).map_err($crate::Error::from)
                })
                .docs(&[$($doc),*]);
        )+}
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __bind_argument {
    ($args:ident, $arg:ident) => {
        $args.required(stringify!($arg))?
    };
    ($args:ident, $arg:ident, $default:expr) => {
        $args.optional(stringify!($arg), || $default)?
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Functions {
        let mut functions = Functions::default();
        functions
            .add("double", |mut args: Args| -> Result<i64> {
                let n: i64 = args.required("n")?;
                args.finish()?;
                Ok(n * 2)
            })
            .summary("Doubles.");
        functions.add("people.fail", |_: Args| {
            Err::<(), _>(Error::failure("out_of_stock", "sold out"))
        });
        functions
    }

    #[test]
    fn functions_are_called_by_name() {
        assert_eq!(table().call("double", "[21]", "{}").unwrap(), "42");
        assert_eq!(
            table()
                .call("absent", "[]", "{}")
                .unwrap_err()
                .to_problem()
                .code,
            "not_found"
        );
        assert_eq!(
            table()
                .call("people.fail", "[]", "{}")
                .unwrap_err()
                .to_problem()
                .code,
            "out_of_stock"
        );
    }

    #[test]
    fn the_list_has_names_and_summaries() {
        let list = table().list();
        let list: Vec<_> = list
            .iter()
            .map(|info| (info.name.as_str(), info.summary.as_deref()))
            .collect();
        assert_eq!(list, [("double", Some("Doubles.")), ("people.fail", None)]);
    }

    #[test]
    fn the_summary_is_the_first_paragraph() {
        assert_eq!(
            first_paragraph(&[" Greets", " somebody.", "", " At length."]),
            "Greets somebody."
        );
        assert_eq!(first_paragraph(&["\n  Greets.\n\n  More."]), "Greets.");
        assert_eq!(first_paragraph(&[]), "");
    }

    fn greet(name: String, greeting: String, times: Option<u8>) -> Result<String> {
        Ok(format!("{greeting}, {name}!").repeat(times.unwrap_or(1).into()))
    }

    fn nothing() -> Result<()> {
        Ok(())
    }

    #[test]
    fn functions_written_as_such_bind_their_parameters_in_order() {
        let define = __function_table! {
            [" Greets.", "", " More."] greet(name: String, greeting: String = "Hello".to_owned(), times: Option<u8>)
            [] nothing()
        };
        let mut functions = Functions::default();
        define(&mut functions);

        let call = |name, args, kwargs| {
            functions
                .call(name, args, kwargs)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            call("greet", r#"["Ann"]"#, "{}").unwrap(),
            r#""Hello, Ann!""#
        );
        assert_eq!(
            call("greet", r#"["Ann", "Hi", 2]"#, "{}").unwrap(),
            r#""Hi, Ann!Hi, Ann!""#
        );
        assert_eq!(
            call("greet", "[]", r#"{"greeting": "Hi", "name": "Ann"}"#).unwrap(),
            r#""Hi, Ann!""#
        );
        assert_eq!(
            call("greet", "[]", "{}").unwrap_err(),
            "the argument `name` is missing"
        );
        assert_eq!(call("nothing", "[]", "{}").unwrap(), "null");
        assert!(call("nothing", "[1]", "{}").is_err());

        let list = functions.list();
        let list: Vec<_> = list
            .iter()
            .map(|info| (info.name.as_str(), info.summary.as_deref()))
            .collect();
        assert_eq!(list, [("greet", Some("Greets.")), ("nothing", None)]);
    }
}
