//! From the BSON of an expression to its tree.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::expression::operator::{Named, Operator};
use crate::query::Pattern;

/// Variables that every expression has.
const SYSTEM: [&str; 4] = ["ROOT", "CURRENT", "NOW", "REMOVE"];

/// The operators whose arguments are no plain expressions.
pub(super) const SPECIAL: [&str; 7] = [
    "$literal", "$cond", "$switch", "$let", "$map", "$filter", "$reduce",
];

pub(crate) fn expression(value: &Bson, names: &[String]) -> Result<Expression> {
    match value {
        Bson::String(text) => match text.strip_prefix('$') {
            Some(path) => path_expression(text, path, names),
            None => Ok(Expression::Literal(value.clone())),
        },
        Bson::Array(values) => {
            let values = values
                .iter()
                .map(|value| expression(value, names))
                .collect::<Result<_>>()?;
            Ok(Expression::Array(values))
        }
        Bson::Document(document) => object(document, names),
        other => Ok(Expression::Literal(other.clone())),
    }
}

fn path_expression(text: &str, path: &str, names: &[String]) -> Result<Expression> {
    let bad = |why: &str| Error::Invalid(format!("the path '{text:.200}' {why}"));
    let (variable, path) = match path.strip_prefix('$') {
        Some(rest) => rest
            .split_once('.')
            .map_or((rest, None), |(name, path)| (name, Some(path))),
        None => ("ROOT", Some(path)),
    };
    if !SYSTEM.contains(&variable) && !names.iter().any(|name| name == variable) {
        return Err(Error::Invalid(format!("unknown variable $${variable}")));
    }
    let path: Vec<String> = path
        .map(|path| path.split('.').map(str::to_owned).collect())
        .unwrap_or_default();
    if path.iter().any(String::is_empty) {
        return Err(bad("has an empty field name"));
    }
    if path.iter().any(|name| name.starts_with('$')) {
        return Err(bad("has a field name that starts with '$'"));
    }
    Ok(Expression::Path {
        variable: variable.into(),
        path,
    })
}

fn object(document: &Document, names: &[String]) -> Result<Expression> {
    if let Some((name, operand)) = document.iter().next()
        && name.starts_with('$')
    {
        if document.len() > 1 {
            return Err(Error::Invalid(format!(
                "an expression has exactly one operator, and this has more than {name}"
            )));
        }
        return operator(name, operand, names);
    }
    let mut fields = Vec::with_capacity(document.len());
    for (name, value) in document {
        if name.contains('.') || name.is_empty() || name.starts_with('$') {
            return Err(Error::Invalid(format!(
                "'{name}' cannot be a field name in an expression"
            )));
        }
        fields.push((name.clone(), expression(value, names)?));
    }
    Ok(Expression::Document(fields))
}

/// Reads named arguments; those not in `allowed` are refused.
struct Arguments<'a> {
    operator: &'a str,
    document: &'a Document,
}

impl<'a> Arguments<'a> {
    fn read(operator: &'a str, operand: &'a Bson, allowed: &[&str]) -> Result<Self> {
        let Bson::Document(document) = operand else {
            return Err(Error::Invalid(format!(
                "{operator} needs a document of arguments"
            )));
        };
        match document
            .keys()
            .find(|name| !allowed.contains(&name.as_str()))
        {
            Some(name) => Err(Error::Invalid(format!(
                "{operator} has no argument '{name}'"
            ))),
            None => Ok(Arguments { operator, document }),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Bson> {
        let missing = || Error::Invalid(format!("{} needs the argument '{name}'", self.operator));
        self.document.get(name).ok_or_else(missing)
    }

    /// Compiles them in the order of `allowed`, of which the first `needed` must
    /// be there. What is absent is a missing value.
    fn compile(
        &self,
        allowed: &[&str],
        needed: usize,
        names: &[String],
    ) -> Result<Vec<Expression>> {
        let one = |(position, argument): (usize, &&str)| {
            let value = match self.document.get(argument) {
                None if position < needed => self.get(argument)?,
                None if *argument == "timezone" => &Bson::String("UTC".into()),
                None => return Ok(Expression::missing()),
                Some(value) => value,
            };
            match (*argument, value) {
                // Refused now rather than with the first document.
                ("timezone", Bson::String(zone)) if !zone.starts_with('$') => {
                    crate::expression::date::offset(zone)?;
                }
                // What to sort by is no expression.
                ("sortBy", value) => {
                    crate::update::check_sort(self.operator, value)?;
                    return Ok(Expression::Literal(value.clone()));
                }
                _ => {}
            }
            expression(value, names)
        };
        allowed.iter().enumerate().map(one).collect()
    }
}

fn operator(name: &str, operand: &Bson, names: &[String]) -> Result<Expression> {
    let compile = |value: &Bson| expression(value, names);
    let boxed = |value: &Bson| expression(value, names).map(Box::new);
    let with = |extra: &[&str]| -> Vec<String> {
        names
            .iter()
            .cloned()
            .chain(extra.iter().map(|name| (*name).to_owned()))
            .collect()
    };
    match name {
        "$literal" => Ok(Expression::Literal(operand.clone())),
        "$cond" => {
            let (condition, then, otherwise) = match operand {
                Bson::Array(values) => match values.as_slice() {
                    [condition, then, otherwise] => (condition, then, otherwise),
                    _ => return Err(Error::Invalid("$cond needs three arguments".into())),
                },
                _ => {
                    let named = Arguments::read(name, operand, &["if", "then", "else"])?;
                    (named.get("if")?, named.get("then")?, named.get("else")?)
                }
            };
            Ok(Expression::Branches {
                branches: vec![(compile(condition)?, compile(then)?)],
                default: Some(boxed(otherwise)?),
            })
        }
        "$switch" => {
            let named = Arguments::read(name, operand, &["branches", "default"])?;
            let Bson::Array(list) = named.get("branches")? else {
                return Err(Error::Invalid("$switch needs a list of branches".into()));
            };
            if list.is_empty() {
                return Err(Error::Invalid("$switch needs at least one branch".into()));
            }
            let mut branches = Vec::with_capacity(list.len());
            for branch in list {
                let branch = Arguments::read("a branch of $switch", branch, &["case", "then"])?;
                branches.push((compile(branch.get("case")?)?, compile(branch.get("then")?)?));
            }
            let default = named.document.get("default").map(boxed).transpose()?;
            Ok(Expression::Branches { branches, default })
        }
        "$let" => {
            let named = Arguments::read(name, operand, &["vars", "in"])?;
            let Bson::Document(vars) = named.get("vars")? else {
                return Err(Error::Invalid("$let needs a document of vars".into()));
            };
            let mut variables = Vec::with_capacity(vars.len());
            for (name, value) in vars {
                variable_name(name)?;
                variables.push((name.clone(), compile(value)?));
            }
            let inner: Vec<&str> = vars.keys().map(String::as_str).collect();
            Ok(Expression::Let {
                variables,
                body: Box::new(expression(named.get("in")?, &with(&inner))?),
            })
        }
        "$map" | "$filter" => {
            let filter = name == "$filter";
            let body = if filter { "cond" } else { "in" };
            let mut allowed = vec!["input", "as", body];
            allowed.extend(filter.then_some("limit"));
            let named = Arguments::read(name, operand, &allowed)?;
            let variable = match named.document.get("as") {
                None => "this",
                Some(Bson::String(variable)) => variable.as_str(),
                Some(_) => return Err(Error::Invalid(format!("'as' of {name} must be a string"))),
            };
            variable_name(variable)?;
            Ok(Expression::Each {
                input: boxed(named.get("input")?)?,
                name: variable.to_owned(),
                body: Box::new(expression(named.get(body)?, &with(&[variable]))?),
                filter,
                limit: named.document.get("limit").map(boxed).transpose()?,
            })
        }
        "$reduce" => {
            let named = Arguments::read(name, operand, &["input", "initialValue", "in"])?;
            Ok(Expression::Reduce {
                input: boxed(named.get("input")?)?,
                initial: boxed(named.get("initialValue")?)?,
                body: Box::new(expression(named.get("in")?, &with(&["this", "value"]))?),
            })
        }
        _ => {
            let operator = Operator::parse(name).ok_or_else(|| {
                Error::Invalid(format!("unsupported operator {name} in an expression"))
            })?;
            let (least, most) = operator.arity();
            if name.starts_with("$regex") {
                check_pattern(name, operand)?;
            }
            let arguments = match (operator.named(), operand) {
                (Named::Only(argument_names), operand) => {
                    let named = Arguments::read(name, operand, argument_names)?;
                    named.compile(argument_names, least, names)?
                }
                (Named::OrFirst(argument_names), Bson::Document(document))
                    if document
                        .keys()
                        .next()
                        .is_some_and(|key| !key.starts_with('$')) =>
                {
                    let named = Arguments::read(name, operand, argument_names)?;
                    named.compile(argument_names, least, names)?
                }
                (_, Bson::Array(values)) => {
                    values.iter().map(compile).collect::<Result<Vec<_>>>()?
                }
                (_, one) => vec![compile(one)?],
            };
            // Alone, the first of named arguments has no others beside it.
            let most = match (operator.named(), operand) {
                (Named::OrFirst(_), Bson::Array(_)) => 1,
                _ => most,
            };
            if arguments.len() < least || arguments.len() > most {
                return Err(Error::Invalid(format!(
                    "{name} has the wrong number of arguments"
                )));
            }
            Ok(Expression::Operator {
                operator,
                arguments,
            })
        }
    }
}

/// Refuses a pattern that cannot be run now, rather than with the first document,
/// where it is written out.
fn check_pattern(name: &str, operand: &Bson) -> Result<()> {
    let Bson::Document(arguments) = operand else {
        return Ok(());
    };
    let options = match arguments.get("options") {
        None | Some(Bson::Null) => "",
        Some(Bson::String(options)) if !options.starts_with('$') => options,
        Some(_) => return Ok(()),
    };
    let pattern = match arguments.get("regex") {
        Some(Bson::String(pattern)) if !pattern.starts_with('$') => {
            Pattern::compile(pattern, options, name)
        }
        Some(Bson::RegularExpression(regex)) => {
            let own = regex.options.as_str();
            let options = if options.is_empty() { own } else { options };
            Pattern::compile(regex.pattern.as_str(), options, name)
        }
        _ => return Ok(()),
    };
    pattern.map(drop)
}

/// Users' variables start with a lower-case letter, so that they cannot hide the
/// system's.
pub(crate) fn variable_name(name: &str) -> Result<()> {
    let good = name
        .chars()
        .next()
        .is_some_and(|first| first.is_lowercase())
        && name
            .chars()
            .all(|character| character.is_alphanumeric() || character == '_');
    if good {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "'{name}' cannot be the name of a variable"
        )))
    }
}
