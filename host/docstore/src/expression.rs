//! MongoDB's aggregation expressions: compiled once, evaluated on decoded
//! documents.
//!
//! An expression comes from a client and can multiply what it is given, so each
//! evaluation has a budget of bytes that it may make and looks at the clock.

mod arithmetic;
mod array;
mod calendar;
mod compile;
mod convert;
mod date;
mod operator;
mod sequence;
mod text;

use std::cell::Cell;
use std::cmp::Ordering;

use bson::{Bson, DateTime, Document};

use crate::engine::candidates::Limits;
use crate::error::{Error, Result};

pub(crate) use arithmetic::{Total, as_f64, refuse_decimal};
pub(crate) use array::Deviation;
pub(crate) use compile::variable_name;
use operator::Operator;
pub(crate) use sequence::count;

/// The names of the operators that are known in expressions.
pub(crate) fn operators() -> impl Iterator<Item = &'static str> {
    Operator::known().chain(compile::SPECIAL.iter().copied())
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Literal(Bson),
    /// A variable, and a path into it.
    Path {
        variable: Box<str>,
        path: Vec<String>,
    },
    Document(Vec<(String, Expression)>),
    Array(Vec<Expression>),
    Operator {
        operator: Operator,
        arguments: Vec<Expression>,
    },
    /// `$cond`, `$switch`: the first branch whose condition holds.
    Branches {
        branches: Vec<(Expression, Expression)>,
        default: Option<Box<Expression>>,
    },
    /// `$let`.
    Let {
        variables: Vec<(String, Expression)>,
        body: Box<Expression>,
    },
    /// `$map` and `$filter`.
    Each {
        input: Box<Expression>,
        name: String,
        body: Box<Expression>,
        filter: bool,
        /// The most that `$filter` lets through.
        limit: Option<Box<Expression>>,
    },
    Reduce {
        input: Box<Expression>,
        initial: Box<Expression>,
        body: Box<Expression>,
    },
}

/// What an evaluation sees.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) root: &'a Document,
    pub(crate) variables: Vec<(String, Bson)>,
    pub(crate) environment: &'a Environment,
    spent: Cell<usize>,
    steps: Cell<u32>,
}

/// What a variable holds whose value is missing. Nothing else is bound to it: an
/// undefined value that a document holds is as good as missing.
pub(crate) const MISSING: Bson = Bson::Undefined;

/// What all evaluations of one aggregation share.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) now: DateTime,
    /// Bytes that one evaluation may make.
    pub(crate) max_bytes: usize,
    pub(crate) limits: Limits,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            now: DateTime::now(),
            max_bytes: 64 << 20,
            limits: Limits::default(),
        }
    }
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        root: &'a Document,
        variables: &[(String, Bson)],
        environment: &'a Environment,
    ) -> Self {
        Scope {
            root,
            variables: variables.to_vec(),
            environment,
            spent: Cell::new(0),
            steps: Cell::new(0),
        }
    }

    /// Accounts for bytes about to be made.
    fn spend(&self, bytes: usize) -> Result<()> {
        let spent = self.spent.get().saturating_add(bytes);
        self.spent.set(spent);
        if spent > self.environment.max_bytes {
            return Err(Error::TooLarge(format!(
                "an expression makes more than {} bytes of one document",
                self.environment.max_bytes
            )));
        }
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(4_096) {
            self.environment.limits.check()
        } else {
            Ok(())
        }
    }

    /// Accounts for a value that was copied. What is copied can be wrapped and
    /// copied again, so its nesting is bounded here, once for all: no recursion
    /// over a result can then exhaust the stack.
    fn made(&self, value: Bson) -> Result<Option<Bson>> {
        let bytes = measure(&value, MAX_NESTING);
        let bytes = bytes.ok_or_else(|| {
            Error::Invalid(format!(
                "an expression makes a value that is nested deeper than {MAX_NESTING}"
            ))
        })?;
        self.spend(bytes)?;
        Ok(Some(value))
    }
}

/// Nesting that a copied value may have; stored documents have half of it.
const MAX_NESTING: usize = 200;

/// About how many bytes a value takes.
pub(crate) fn size(value: &Bson) -> usize {
    measure(value, usize::MAX).unwrap_or(usize::MAX)
}

/// The size of a value that is nested at most `depth` deep.
fn measure(value: &Bson, depth: usize) -> Option<usize> {
    let mut bytes = 16;
    match value {
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => bytes += text.len(),
        Bson::Binary(binary) => bytes += binary.bytes.len(),
        Bson::Array(values) => {
            let depth = depth.checked_sub(1)?;
            for value in values {
                bytes += measure(value, depth)?;
            }
        }
        Bson::Document(document) => {
            let depth = depth.checked_sub(1)?;
            for (name, value) in document {
                bytes += name.len() + measure(value, depth)?;
            }
        }
        _ => {}
    }
    Some(bytes)
}

/// Null, undefined and missing are alike to most operators.
fn is_nullish(value: Option<&Bson>) -> bool {
    matches!(value, None | Some(Bson::Null | Bson::Undefined))
}

/// What counts as true.
pub(crate) fn is_true(value: Option<&Bson>) -> bool {
    match value {
        None
        | Some(
            Bson::Null | Bson::Undefined | Bson::Boolean(false) | Bson::Int32(0) | Bson::Int64(0),
        ) => false,
        Some(Bson::Double(double)) => *double != 0.0,
        Some(_) => true,
    }
}

/// MongoDB's order; a missing value is below null.
pub(crate) fn compare(a: Option<&Bson>, b: Option<&Bson>) -> Result<Ordering> {
    match (a, b) {
        (Some(Bson::Int32(a)), Some(Bson::Int32(b))) => Ok(a.cmp(b)),
        (Some(Bson::String(a)), Some(Bson::String(b))) => Ok(a.cmp(b)),
        _ => Ok(key(a)?.cmp(&key(b)?)),
    }
}

/// The ordered key of a value.
pub(crate) fn key(value: Option<&Bson>) -> Result<Vec<u8>> {
    let mut key = Vec::new();
    let owned = crate::value::OwnedValue::encode(value.unwrap_or(&Bson::Undefined))?;
    crate::order::encode(owned.get(), &mut key)?;
    Ok(key)
}

/// What a path leads to: arrays on the way give arrays of what their elements
/// lead to.
pub(crate) fn lookup(value: &Bson, path: &[String]) -> Option<Bson> {
    let Some((name, rest)) = path.split_first() else {
        return Some(value.clone());
    };
    match value {
        Bson::Document(document) => lookup(document.get(name)?, rest),
        Bson::Array(values) => Some(Bson::Array(
            values
                .iter()
                .filter(|value| matches!(value, Bson::Document(_)))
                .filter_map(|value| lookup(value, path))
                .collect(),
        )),
        _ => None,
    }
}

impl Expression {
    /// Compiles an expression; `names` are the variables that are in scope.
    pub(crate) fn compile(value: &Bson, names: &[String]) -> Result<Self> {
        compile::expression(value, names)
    }

    /// What is always missing.
    fn missing() -> Self {
        Expression::Path {
            variable: "REMOVE".into(),
            path: Vec::new(),
        }
    }

    /// The expression's value; none when it is missing.
    pub(crate) fn evaluate(&self, scope: &mut Scope<'_>) -> Result<Option<Bson>> {
        match self {
            Expression::Literal(value) => scope.made(value.clone()),
            Expression::Path { variable, path } => {
                let value = resolve(scope, variable, path);
                match value {
                    Some(value) => scope.made(value),
                    None => Ok(None),
                }
            }
            Expression::Document(fields) => {
                let mut document = Document::new();
                for (name, expression) in fields {
                    if let Some(value) = expression.evaluate(scope)? {
                        document.insert(name, value);
                    }
                }
                Ok(Some(Bson::Document(document)))
            }
            Expression::Array(values) => {
                let mut array = Vec::with_capacity(values.len());
                for value in values {
                    array.push(value.evaluate(scope)?.unwrap_or(Bson::Null));
                }
                Ok(Some(Bson::Array(array)))
            }
            Expression::Operator {
                operator,
                arguments,
            } => operator.evaluate(arguments, scope),
            Expression::Branches { branches, default } => {
                for (condition, value) in branches {
                    if is_true(condition.evaluate(scope)?.as_ref()) {
                        return value.evaluate(scope);
                    }
                }
                match default {
                    Some(default) => default.evaluate(scope),
                    None => Err(Error::Invalid(
                        "$switch found no branch that holds, and has no default".into(),
                    )),
                }
            }
            Expression::Let { variables, body } => {
                let mut bound = Vec::with_capacity(variables.len());
                for (name, expression) in variables {
                    let value = expression.evaluate(scope)?;
                    bound.push((name.clone(), value.unwrap_or(MISSING)));
                }
                scoped(scope, bound, |scope| body.evaluate(scope))
            }
            Expression::Each {
                input,
                name,
                body,
                filter,
                limit,
            } => {
                let most = match limit {
                    None => usize::MAX,
                    Some(limit) => at_most(limit.evaluate(scope)?.as_ref())?,
                };
                let Some(values) =
                    array_of(input, if *filter { "$filter" } else { "$map" }, scope)?
                else {
                    return Ok(Some(Bson::Null));
                };
                let mut result = Vec::with_capacity(values.len());
                for value in values {
                    if result.len() >= most {
                        break;
                    }
                    let shown = value.clone();
                    scope.spend(size(&shown))?;
                    let answer = scoped(scope, vec![(name.clone(), shown)], |scope| {
                        body.evaluate(scope)
                    })?;
                    if !filter {
                        result.push(answer.unwrap_or(Bson::Null));
                    } else if is_true(answer.as_ref()) {
                        result.push(value);
                    }
                }
                Ok(Some(Bson::Array(result)))
            }
            Expression::Reduce {
                input,
                initial,
                body,
            } => {
                let Some(values) = array_of(input, "$reduce", scope)? else {
                    return Ok(Some(Bson::Null));
                };
                let mut result = initial.evaluate(scope)?.unwrap_or(MISSING);
                for value in values {
                    let bound = vec![("this".to_owned(), value), ("value".to_owned(), result)];
                    result = scoped(scope, bound, |scope| body.evaluate(scope))?.unwrap_or(MISSING);
                }
                Ok(Some(result).filter(|result| *result != MISSING))
            }
        }
    }
}

/// The `limit` of `$filter`; null is none.
fn at_most(limit: Option<&Bson>) -> Result<usize> {
    match limit {
        limit if is_nullish(limit) => Ok(usize::MAX),
        Some(limit) => whole_number(limit)
            .filter(|limit| *limit > 0)
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
            .ok_or_else(|| Error::Invalid("$filter needs a limit above 0".into())),
        None => Ok(usize::MAX),
    }
}

/// A number of any type that is a whole one.
fn whole_number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(int) => Some(i64::from(*int)),
        Bson::Int64(int) => Some(*int),
        // The range is checked by the round trip.
        Bson::Double(double) if (*double as i64) as f64 == *double => Some(*double as i64),
        _ => None,
    }
}

fn resolve(scope: &Scope<'_>, variable: &str, path: &[String]) -> Option<Bson> {
    match variable {
        "ROOT" | "CURRENT" => match path.split_first() {
            None => Some(Bson::Document(scope.root.clone())),
            Some((name, rest)) => lookup(scope.root.get(name)?, rest),
        },
        "NOW" => Some(Bson::DateTime(scope.environment.now)),
        "REMOVE" => None,
        name => {
            let found = scope
                .variables
                .iter()
                .rev()
                .find(|(known, _)| known == name);
            let found = found.filter(|(_, value)| *value != MISSING);
            found.and_then(|(_, value)| lookup(value, path))
        }
    }
}

fn scoped<T>(
    scope: &mut Scope<'_>,
    bound: Vec<(String, Bson)>,
    work: impl FnOnce(&mut Scope<'_>) -> Result<T>,
) -> Result<T> {
    let before = scope.variables.len();
    scope.variables.extend(bound);
    let answer = work(scope);
    scope.variables.truncate(before);
    answer
}

fn array_of(
    input: &Expression,
    operator: &str,
    scope: &mut Scope<'_>,
) -> Result<Option<Vec<Bson>>> {
    match input.evaluate(scope)? {
        Some(Bson::Array(values)) => Ok(Some(values)),
        value if is_nullish(value.as_ref()) => Ok(None),
        _ => Err(Error::Invalid(format!("{operator} needs an array"))),
    }
}
