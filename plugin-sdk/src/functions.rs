//! Functions that clients call by name, and the way from them to the component's
//! exports.

use std::borrow::Cow;

use serde::Serialize;

use crate::args::Args;
use crate::bindings::function::exports::coglex::function::{
    declarations as wit_declarations, functions as wit,
};
use crate::bindings::function::exports::coglex::payment::events as wit_events;
use crate::error::{Error, Result};
use crate::execution;
use crate::hooks::{Declared, Hook, Schedule};
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
    docs: &'static [Option<&'static str>],
    /// The attributes, likewise.
    attributes: Option<fn(&mut Declared)>,
    declared: Option<Box<Declared>>,
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
fn first_paragraph(docs: &[Option<&str>]) -> String {
    let lines = docs.iter().flatten();
    let lines = lines.flat_map(|line| line.split('\n')).map(str::trim);
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
            attributes: None,
            declared: None,
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

    fn declarations(self) -> Vec<wit_declarations::Declaration> {
        let functions = self.functions.into_iter();
        let declared = functions.filter_map(|function| {
            let mut declared = function.declared.map(|own| *own).unwrap_or_default();
            if let Some(attributes) = function.attributes {
                attributes(&mut declared);
            }
            declared.into_wit(function.name)
        });
        declared.collect()
    }

    /// Each function with each type of events that it is told of.
    fn events(self) -> Vec<wit_events::Subscription> {
        let functions = self.functions.into_iter();
        let wanted = functions.flat_map(|function| {
            let mut declared = function.declared.map(|own| *own).unwrap_or_default();
            if let Some(attributes) = function.attributes {
                attributes(&mut declared);
            }
            let name = function.name.into_owned();
            declared
                .into_events()
                .into_iter()
                .map(move |event| wit_events::Subscription {
                    function: name.clone(),
                    event,
                })
        });
        wanted.collect()
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
    pub fn summary(self, summary: impl Into<Cow<'static, str>>) -> Self {
        self.change(|function| function.summary = summary.into())
    }

    /// Has the function run by itself.
    pub fn schedule(self, schedule: Schedule) -> Self {
        self.declare(|declared| declared.schedule(schedule))
    }

    /// Has the function called when documents are written.
    pub fn hook(self, hook: Hook) -> Self {
        self.declare(|declared| declared.hook(hook))
    }

    /// Has the function told of payment events of this type: `checkout.session.completed`,
    /// `customer.subscription.*`, or `*`. Its one parameter is a
    /// [`payment::Event`](crate::payment::Event); the grant is `payment = ["events"]`.
    pub fn on_event(self, event: impl Into<String>) -> Self {
        self.declare(|declared| declared.on_event(event))
    }

    /// Declares more of it: `|declared| declared.kwargs(json!({…}))`.
    pub fn declare(self, declare: impl FnOnce(&mut Declared)) -> Self {
        self.change(|function| declare(function.declared.get_or_insert_default()))
    }

    /// What [`functions!`](crate::functions!) found above the function.
    #[doc(hidden)]
    pub fn attributes(
        self,
        docs: &'static [Option<&'static str>],
        attributes: fn(&mut Declared),
    ) -> Self {
        self.change(|function| {
            function.docs = docs;
            function.attributes = Some(attributes);
        })
    }

    fn change(self, change: impl FnOnce(&mut Function)) -> Self {
        if let Some(function) = self.functions.functions.last_mut() {
            change(function);
        }
        self
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
        execution::begin(call.invocation_id);
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

impl<T: DefineFunctions> wit_declarations::Guest for T {
    fn declare() -> Vec<wit_declarations::Declaration> {
        let mut functions = Functions::default();
        T::define(&mut functions);
        functions.declarations()
    }
}

impl<T: DefineFunctions> wit_events::Guest for T {
    fn declare_events() -> Vec<wit_events::Subscription> {
        let mut functions = Functions::default();
        T::define(&mut functions);
        functions.events()
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
/// What stands above a function beside its doc comment says when else it runs, and
/// what it takes:
///
/// ```
/// use coglex_sdk::prelude::*;
///
/// coglex_sdk::functions! {
///     /// Removes old drafts: every night at three (UTC), or when it is called.
///     #[schedule("0 3 * * *", kwargs = {"days": 30})]
///     #[schema(kwargs = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 1}}})]
///     fn tidy(days: u32) -> Result<u64> {
///         storage::delete("drafts", json!({"age": {"$gt": days}})).many().run()
///     }
///
///     /// Refuses or changes writes; the grant is `hook`.
///     #[before(insert | update, "orders", order = 10, on_failure = proceed)]
///     fn look_at_order(write: Write) -> Result<()> {
///         if write.many {
///             return Err(Error::failure("one_by_one", "orders are changed one by one"));
///         }
///         Ok(())
///     }
///
///     /// Runs as a job when a write has succeeded.
///     #[after(delete, "orders")]
///     fn order_gone(write: Write) -> Result<()> {
///         log::info!("{} orders are gone", write.outcome.map_or(0, |outcome| outcome.deleted));
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
///
/// - `#[schedule("cron", args = […], kwargs = {…})]`: see [`Schedule`].
/// - `#[before(insert | update | delete, "collection", order = 0, on_failure =
///   refuse)]` and `#[after(…)]`: see [`Hook`] and [`Write`](crate::Write).
/// - `#[on_event("checkout.session.completed")]`: told of Stripe's events; see
///   [`payment`](crate::payment).
/// - `#[schema(args = …, kwargs = …, result = …)]`: JSON Schemas. The server
///   answers calls that do not fit with 422, before the function runs.
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
        $(#[$($attribute:tt)*])*
        fn $name:ident($($arg:ident : $type:ty $(= $default:expr)?),* $(,)?) -> $result:ty $body:block
    )+) => {
        $(
            fn $name($($arg: $type),*) -> $result $body
        )+

        $crate::functions!($crate::__function_table! {$(
            [$([$($attribute)*])*] $name($($arg: $type $(= $default)?),*)
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
    ($([$([$($attribute:tt)*])*] $name:ident($($arg:ident : $type:ty $(= $default:expr)?),*))+) => {
        |functions: &mut $crate::Functions| {$(
            functions
                .add(stringify!($name), |args: $crate::Args| {
                    #[allow(unused_mut, reason = "a function may have no parameters")]
                    let mut args = args;
                    $(let $arg: $type = $crate::__bind_argument!(args, $arg $(, $default)?);)*
                    args.finish()?;
                    $name($($arg),*).map_err($crate::Error::from)
                })
                .attributes(
                    &[$($crate::__function_doc!($($attribute)*)),*],
                    |_declared: &mut $crate::Declared| {
                        $($crate::__function_attribute!(_declared, $($attribute)*);)*
                    },
                );
        )+}
    };
}

/// A line of the doc comment, or none.
#[doc(hidden)]
#[macro_export]
macro_rules! __function_doc {
    (doc = $doc:expr) => {
        Some($doc)
    };
    ($($other:tt)*) => {
        None
    };
}

/// What an attribute declares.
#[doc(hidden)]
#[macro_export]
macro_rules! __function_attribute {
    ($declared:ident, doc = $doc:expr) => {};
    ($declared:ident, schedule($cron:expr $(, args = $args:tt)? $(, kwargs = $kwargs:tt)? $(,)?)) => {
        $declared.schedule(
            $crate::Schedule::new($cron)
                $(.args($crate::serde_json::json!($args)))?
                $(.kwargs($crate::serde_json::json!($kwargs)))?
        )
    };
    ($declared:ident, before($($hook:tt)*)) => {
        $crate::__function_hook!($declared, before, $($hook)*)
    };
    ($declared:ident, after($($hook:tt)*)) => {
        $crate::__function_hook!($declared, after, $($hook)*)
    };
    ($declared:ident, on_event($($event:expr),+ $(,)?)) => {
        $($declared.on_event($event);)+
    };
    ($declared:ident, schema($($part:ident = $schema:tt),+ $(,)?)) => {
        $($declared.$part($crate::serde_json::json!($schema));)+
    };
    ($declared:ident, $($other:tt)*) => {
        compile_error!(concat!(
            "above a function there can be a doc comment, `schedule(\"cron\")`, ",
            "`before(insert, \"collection\")`, `after(…)`, `on_event(\"type\")` and `schema(kwargs = {…})`, not `",
            stringify!($($other)*), "`",
        ))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __function_hook {
    (
        $declared:ident, $moment:ident, $($operation:ident)|+, $collection:expr
        $(, order = $order:expr)? $(, on_failure = $failure:ident)? $(,)?
    ) => {
        // One by one: an option cannot be repeated for each operation.
        let operations = [$($crate::__operation!($operation)),+];
        for operation in operations {
            #[allow(unused_mut, reason = "a hook may have no options")]
            let mut hook = $crate::Hook::$moment(operation, $collection);
            $(hook = hook.order($order);)?
            $(hook = $crate::__on_failure!(hook, $failure);)?
            $declared.hook(hook);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __operation {
    (insert) => {
        $crate::Operation::Insert
    };
    (update) => {
        $crate::Operation::Update
    };
    (delete) => {
        $crate::Operation::Delete
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __on_failure {
    ($hook:ident, refuse) => {
        $hook
    };
    ($hook:ident, proceed) => {
        $hook.fail_open()
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
            first_paragraph(&[
                Some(" Greets"),
                None,
                Some(" somebody."),
                Some(""),
                Some(" At length.")
            ]),
            "Greets somebody."
        );
        assert_eq!(
            first_paragraph(&[Some("\n  Greets.\n\n  More.")]),
            "Greets."
        );
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
            [[doc = " Greets."] [doc = ""] [doc = " More."]]
            greet(name: String, greeting: String = "Hello".to_owned(), times: Option<u8>)
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

    fn tidy(_days: u32) -> Result<()> {
        Ok(())
    }

    #[test]
    fn attributes_declare_schedules_hooks_and_schemas() {
        let define = __function_table! {
            [
                [doc = " Tidies."]
                [schedule("0 3 * * *", kwargs = {"days": 30})]
                [schedule("@hourly")]
                [before(insert | update, "orders", order = -1, on_failure = proceed)]
                [after(delete, "orders")]
                [schema(kwargs = {"type": "object"}, result = true)]
            ]
            tidy(days: u32)
            [] nothing()
        };
        let table = || {
            let mut functions = Functions::default();
            define(&mut functions);
            functions
        };
        assert_eq!(table().list()[0].summary.as_deref(), Some("Tidies."));
        let declared = table().declarations();
        assert_eq!(declared.len(), 1);
        let tidy = &declared[0];
        assert_eq!(tidy.name, "tidy");
        assert_eq!(tidy.schedules.len(), 2);
        assert_eq!(tidy.schedules[0].kwargs.as_deref(), Some(r#"{"days":30}"#));
        let hooks: Vec<_> = tidy
            .hooks
            .iter()
            .map(|hook| (hook.moment, hook.operation, hook.order, hook.on_failure))
            .collect();
        use wit_declarations::{Moment, OnFailure, Operation};
        assert_eq!(
            hooks,
            [
                (Moment::Before, Operation::Insert, -1, OnFailure::Proceed),
                (Moment::Before, Operation::Update, -1, OnFailure::Proceed),
                (Moment::After, Operation::Delete, 0, OnFailure::Refuse),
            ]
        );
        assert_eq!(tidy.kwargs_schema.as_deref(), Some(r#"{"type":"object"}"#));
        assert_eq!(tidy.result_schema.as_deref(), Some("true"));
    }

    #[test]
    fn a_table_filled_by_hand_declares_the_same() {
        let mut functions = Functions::default();
        functions
            .add("people.tidy", |_: Args| Ok::<_, Error>(()))
            .summary("Tidies.")
            .schedule(Schedule::new("0 3 * * *"))
            .hook(Hook::before(crate::Operation::Insert, "people"))
            .declare(|declared| declared.args(serde_json::json!({"maxItems": 0})));
        let declared = functions.declarations();
        assert_eq!(declared[0].name, "people.tidy");
        assert_eq!(declared[0].hooks.len(), 1);
        assert_eq!(
            declared[0].args_schema.as_deref(),
            Some(r#"{"maxItems":0}"#)
        );
    }
}
