//! From the BSON of an expression to its tree.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::expression::operator::Operator;

/// Variables that every expression has.
const SYSTEM: [&str; 4] = ["ROOT", "CURRENT", "NOW", "REMOVE"];

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
struct Named<'a> {
    operator: &'a str,
    document: &'a Document,
}

impl<'a> Named<'a> {
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
            None => Ok(Named { operator, document }),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Bson> {
        let missing = || Error::Invalid(format!("{} needs the argument '{name}'", self.operator));
        self.document.get(name).ok_or_else(missing)
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
                    let named = Named::read(name, operand, &["if", "then", "else"])?;
                    (named.get("if")?, named.get("then")?, named.get("else")?)
                }
            };
            Ok(Expression::Branches {
                branches: vec![(compile(condition)?, compile(then)?)],
                default: Some(boxed(otherwise)?),
            })
        }
        "$switch" => {
            let named = Named::read(name, operand, &["branches", "default"])?;
            let Bson::Array(list) = named.get("branches")? else {
                return Err(Error::Invalid("$switch needs a list of branches".into()));
            };
            let mut branches = Vec::with_capacity(list.len());
            for branch in list {
                let branch = Named::read("a branch of $switch", branch, &["case", "then"])?;
                branches.push((compile(branch.get("case")?)?, compile(branch.get("then")?)?));
            }
            let default = named.document.get("default").map(boxed).transpose()?;
            Ok(Expression::Branches { branches, default })
        }
        "$let" => {
            let named = Named::read(name, operand, &["vars", "in"])?;
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
            let named = Named::read(name, operand, &["input", "as", body])?;
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
            })
        }
        "$reduce" => {
            let named = Named::read(name, operand, &["input", "initialValue", "in"])?;
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
            let arguments = match (operator.names(), operand) {
                (Some(argument_names), Bson::Document(_)) if !argument_names.is_empty() => {
                    let named = Named::read(name, operand, argument_names)?;
                    let argument = |argument: &&str| match named.document.get(argument) {
                        Some(value) => compile(value),
                        // A missing argument is a missing value.
                        None => Ok(Expression::Path {
                            variable: "REMOVE".into(),
                            path: Vec::new(),
                        }),
                    };
                    argument_names
                        .iter()
                        .map(argument)
                        .collect::<Result<Vec<_>>>()?
                }
                (_, Bson::Array(values)) => {
                    values.iter().map(compile).collect::<Result<Vec<_>>>()?
                }
                (_, one) => vec![compile(one)?],
            };
            let (least, most) = operator.arity();
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
