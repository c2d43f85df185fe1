//! From a filter document to the tree that is run, with every refusal.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::number::Number;
use crate::order;
use crate::path::Path;
use crate::query::test::BitRule;
use crate::query::{Comparison, Node, Pattern, Test};
use crate::value::{Kind, OwnedValue, Value};

/// Conditions that one filter may have in all; a bound on the work that a
/// client can ask for on each document.
const MAX_OPERANDS: usize = 100_000;

/// Every operator of a filter; the last three are the names of a DBRef.
pub(crate) const OPERATORS: &[&str] = &[
    "$and",
    "$or",
    "$nor",
    "$expr",
    "$comment",
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$not",
    "$regex",
    "$options",
    "$type",
    "$mod",
    "$size",
    "$all",
    "$elemMatch",
    "$bitsAllSet",
    "$bitsAnySet",
    "$bitsAllClear",
    "$bitsAnyClear",
    "$ref",
    "$id",
    "$db",
];

/// Compiles a filter document. `names` are the variables that `$expr` may use;
/// where there are none, it has no place.
pub(crate) fn filter(document: Value<'_>, names: Option<&[String]>) -> Result<Node> {
    let mut nodes = Vec::new();
    for element in document.elements() {
        let (name, operand) = element?;
        let name = utf8(name)?;
        match name {
            "$and" => nodes.push(Node::And(clauses(name, operand, names)?)),
            "$or" => nodes.push(Node::Or(clauses(name, operand, names)?)),
            "$nor" => nodes.push(not(Node::Or(clauses(name, operand, names)?))),
            "$comment" => {}
            "$expr" => match names {
                Some(names) => {
                    let expression = Expression::compile(&operand.to_bson()?, names)?;
                    nodes.push(Node::Expression(Arc::new(expression)));
                }
                None => {
                    return Err(Error::Invalid(
                        "$expr cannot stand inside $elemMatch".into(),
                    ));
                }
            },
            _ if name.starts_with('$') => return Err(unknown(name, "")),
            _ => nodes.extend(condition(Path::parse(name)?, operand)?),
        }
    }
    // Nested conjunctions become one list, which the planner can read.
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::And(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    Ok(match flat.len() {
        1 => flat.pop().unwrap_or(Node::And(Vec::new())),
        _ => Node::And(flat),
    })
}

fn clauses(operator: &str, operand: Value<'_>, names: Option<&[String]>) -> Result<Vec<Node>> {
    if operand.kind != Kind::Array || operand.len()? == 0 {
        return Err(Error::Invalid(format!(
            "{operator} needs a list of at least one filter"
        )));
    }
    operand
        .values()
        .map(|clause| match clause? {
            clause if clause.kind == Kind::Document => filter(clause, names),
            _ => Err(Error::Invalid(format!(
                "every entry of {operator} must be a filter document"
            ))),
        })
        .collect()
}

/// The conditions that a filter states about one path.
fn condition(path: Path, operand: Value<'_>) -> Result<Vec<Node>> {
    if operand.kind == Kind::Regex {
        let pattern = stored_pattern(operand, path.as_str())?;
        return Ok(vec![Node::Field {
            path,
            test: Test::Matches(pattern),
        }]);
    }
    if !is_operators(operand)? {
        let test = comparison(Comparison::Eq, operand, &path)?;
        return Ok(vec![Node::Field { path, test }]);
    }
    operators(&path, operand)
}

/// Whether `operand` is a document whose first key is an operator. The names of
/// a DBRef are fields.
fn is_operators(operand: Value<'_>) -> Result<bool> {
    if operand.kind != Kind::Document {
        return Ok(false);
    }
    Ok(match operand.elements().next().transpose()? {
        Some((name, _)) => {
            name.first() == Some(&b'$') && !matches!(name, b"$ref" | b"$id" | b"$db")
        }
        None => false,
    })
}

fn operators(path: &Path, document: Value<'_>) -> Result<Vec<Node>> {
    let at = path.as_str();
    let mut nodes = Vec::new();
    let mut regex = None;
    let mut options = None;
    for element in document.elements() {
        let (name, operand) = element?;
        let name = utf8(name)?;
        let test = match name {
            "$eq" => comparison(Comparison::Eq, operand, path)?,
            "$gt" => comparison(Comparison::Gt, operand, path)?,
            "$gte" => comparison(Comparison::Gte, operand, path)?,
            "$lt" => comparison(Comparison::Lt, operand, path)?,
            "$lte" => comparison(Comparison::Lte, operand, path)?,
            "$ne" => {
                if operand.kind == Kind::Regex {
                    return Err(bad(name, at, "takes no regular expression; use $not"));
                }
                nodes.push(not(leaf(path, comparison(Comparison::Eq, operand, path)?)));
                continue;
            }
            "$in" => membership(name, operand, path)?,
            "$nin" => {
                nodes.push(not(leaf(path, membership(name, operand, path)?)));
                continue;
            }
            "$exists" => {
                let exists = leaf(path, Test::Exists);
                nodes.push(if operand.is_truthy() {
                    exists
                } else {
                    not(exists)
                });
                continue;
            }
            "$not" => {
                nodes.push(negation(path, operand)?);
                continue;
            }
            "$regex" => {
                regex = Some(operand);
                continue;
            }
            "$options" => {
                options = Some(operand);
                continue;
            }
            "$type" => types(operand, at)?,
            "$mod" => modulo(operand, at)?,
            "$size" => {
                nodes.push(size(path, operand)?);
                continue;
            }
            "$all" => {
                nodes.push(all(path, operand)?);
                continue;
            }
            "$elemMatch" => {
                nodes.push(element_match(path, operand)?);
                continue;
            }
            "$bitsAllSet" => bits(name, BitRule::AllSet, operand, at)?,
            "$bitsAnySet" => bits(name, BitRule::AnySet, operand, at)?,
            "$bitsAllClear" => bits(name, BitRule::AllClear, operand, at)?,
            "$bitsAnyClear" => bits(name, BitRule::AnyClear, operand, at)?,
            "$comment" => continue,
            _ if name.starts_with('$') => return Err(unknown(name, at)),
            _ => {
                return Err(Error::Invalid(format!(
                    "the field '{name}' stands among operators at '{at}'"
                )));
            }
        };
        nodes.push(leaf(path, test));
    }
    match (regex, options) {
        (Some(regex), options) => nodes.push(leaf(path, regex_test(regex, options, at)?)),
        (None, Some(_)) => return Err(bad("$options", at, "needs a $regex beside it")),
        (None, None) => {}
    }
    Ok(nodes)
}

fn leaf(path: &Path, test: Test) -> Node {
    Node::Field {
        path: path.clone(),
        test,
    }
}

fn not(node: Node) -> Node {
    Node::Not(Box::new(node))
}

fn comparison(comparison: Comparison, operand: Value<'_>, path: &Path) -> Result<Test> {
    match operand.kind {
        Kind::Undefined => Err(Error::Invalid(format!(
            "cannot compare with undefined at '{}'",
            path.as_str()
        ))),
        Kind::Regex if comparison != Comparison::Eq => Err(Error::Invalid(format!(
            "cannot compare with a regular expression at '{}'",
            path.as_str()
        ))),
        _ => Ok(Test::Compare {
            comparison,
            operand: operand.into(),
        }),
    }
}

fn membership(operator: &str, operand: Value<'_>, path: &Path) -> Result<Test> {
    let at = path.as_str();
    if operand.kind != Kind::Array {
        return Err(bad(operator, at, "needs a list"));
    }
    let mut values: Vec<OwnedValue> = Vec::new();
    let mut patterns = Vec::new();
    let mut null = false;
    for value in operand.values() {
        let value = value?;
        match value.kind {
            Kind::Regex => {
                patterns.push(stored_pattern(value, at)?);
                values.push(value.into());
            }
            Kind::Undefined => return Err(bad(operator, at, "cannot hold undefined")),
            _ if is_operators(value)? => return Err(bad(operator, at, "cannot hold operators")),
            kind => {
                null |= kind == Kind::Null;
                values.push(value.into());
            }
        }
    }
    if values.len() > MAX_OPERANDS {
        return Err(bad(operator, at, "has too many entries"));
    }
    // The operands were encoded by us, so comparing them cannot fail.
    values.sort_by(|a, b| order::compare(a.get(), b.get()).unwrap_or(std::cmp::Ordering::Equal));
    Ok(Test::In {
        values,
        patterns,
        null,
    })
}

fn negation(path: &Path, operand: Value<'_>) -> Result<Node> {
    let at = path.as_str();
    match operand.kind {
        Kind::Regex => Ok(not(leaf(path, Test::Matches(stored_pattern(operand, at)?)))),
        Kind::Document if is_operators(operand)? => Ok(not(Node::And(operators(path, operand)?))),
        _ => Err(bad("$not", at, "needs operators or a regular expression")),
    }
}

fn stored_pattern(value: Value<'_>, at: &str) -> Result<Pattern> {
    let (pattern, options) = value.regex();
    Pattern::compile(utf8(pattern)?, utf8(options)?, at)
}

fn regex_test(regex: Value<'_>, options: Option<Value<'_>>, at: &str) -> Result<Test> {
    let options = match options {
        None => None,
        Some(options) if options.kind == Kind::String => Some(options.as_str()?),
        Some(_) => return Err(bad("$options", at, "must be a string")),
    };
    let pattern = match regex.kind {
        Kind::String => Pattern::compile(regex.as_str()?, options.unwrap_or_default(), at)?,
        Kind::Regex => {
            let (pattern, own) = regex.regex();
            if options.is_some() && !own.is_empty() {
                return Err(bad("$regex", at, "has options of its own beside $options"));
            }
            Pattern::compile(utf8(pattern)?, options.unwrap_or(utf8(own)?), at)?
        }
        _ => {
            return Err(bad(
                "$regex",
                at,
                "must be a string or a regular expression",
            ));
        }
    };
    Ok(Test::Matches(pattern))
}

fn types(operand: Value<'_>, at: &str) -> Result<Test> {
    let mut kinds = Vec::new();
    if operand.kind == Kind::Array {
        for value in operand.values() {
            type_code(value?, at, &mut kinds)?;
        }
        if kinds.is_empty() {
            return Err(bad("$type", at, "needs at least one type"));
        }
    } else {
        type_code(operand, at, &mut kinds)?;
    }
    Ok(Test::Type(kinds))
}

/// The types by their names and numbers.
const TYPE_NAMES: [(&str, i64, Kind); 21] = [
    ("double", 1, Kind::Double),
    ("string", 2, Kind::String),
    ("object", 3, Kind::Document),
    ("array", 4, Kind::Array),
    ("binData", 5, Kind::Binary),
    ("undefined", 6, Kind::Undefined),
    ("objectId", 7, Kind::ObjectId),
    ("bool", 8, Kind::Boolean),
    ("date", 9, Kind::DateTime),
    ("null", 10, Kind::Null),
    ("regex", 11, Kind::Regex),
    ("dbPointer", 12, Kind::DbPointer),
    ("javascript", 13, Kind::Code),
    ("symbol", 14, Kind::Symbol),
    ("javascriptWithScope", 15, Kind::CodeWithScope),
    ("int", 16, Kind::Int32),
    ("timestamp", 17, Kind::Timestamp),
    ("long", 18, Kind::Int64),
    ("decimal", 19, Kind::Decimal128),
    ("minKey", -1, Kind::MinKey),
    ("maxKey", 127, Kind::MaxKey),
];

/// The types that a name such as `int` or `number` stands for.
pub(crate) fn kinds_named(name: &str) -> Option<Vec<Kind>> {
    if name == "number" {
        return Some(vec![
            Kind::Double,
            Kind::Int32,
            Kind::Int64,
            Kind::Decimal128,
        ]);
    }
    let found = TYPE_NAMES.iter().find(|(known, ..)| *known == name)?;
    Some(vec![found.2])
}

fn type_code(value: Value<'_>, at: &str, kinds: &mut Vec<Kind>) -> Result<()> {
    let found = if value.kind == Kind::String {
        kinds_named(value.as_str()?)
    } else {
        let code = Number::of(value).and_then(Number::as_exact_i64);
        TYPE_NAMES
            .iter()
            .find(|(_, known, _)| Some(*known) == code)
            .map(|(.., kind)| vec![*kind])
    };
    match found {
        Some(found) => {
            kinds.extend(found);
            Ok(())
        }
        None => Err(bad("$type", at, "names no known type")),
    }
}

fn modulo(operand: Value<'_>, at: &str) -> Result<Test> {
    let problem = || bad("$mod", at, "needs a list of a divisor and a remainder");
    if operand.kind != Kind::Array || operand.len()? != 2 {
        return Err(problem());
    }
    let mut numbers = Vec::with_capacity(2);
    for value in operand.values() {
        numbers.push(
            Number::of(value?)
                .and_then(Number::truncated)
                .ok_or_else(problem)?,
        );
    }
    match numbers.as_slice() {
        [0, _] => Err(bad("$mod", at, "cannot divide by 0")),
        [divisor, remainder] => Ok(Test::Modulo {
            divisor: *divisor,
            remainder: *remainder,
        }),
        _ => Err(problem()),
    }
}

fn size(path: &Path, operand: Value<'_>) -> Result<Node> {
    let size = Number::of(operand)
        .and_then(Number::as_exact_i64)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| bad("$size", path.as_str(), "needs a whole number from 0"))?;
    Ok(Node::Size {
        path: path.clone(),
        size,
    })
}

fn all(path: &Path, operand: Value<'_>) -> Result<Node> {
    let at = path.as_str();
    if operand.kind != Kind::Array {
        return Err(bad("$all", at, "needs a list"));
    }
    let mut nodes = Vec::new();
    for value in operand.values() {
        let value = value?;
        nodes.push(match value.kind {
            Kind::Regex => leaf(path, Test::Matches(stored_pattern(value, at)?)),
            Kind::Document if is_operators(value)? => match value.elements().next().transpose()? {
                Some((b"$elemMatch", inner)) if value.len()? == 1 => element_match(path, inner)?,
                _ => return Err(bad("$all", at, "can hold no operator but $elemMatch")),
            },
            _ => leaf(path, comparison(Comparison::Eq, value, path)?),
        });
    }
    Ok(if nodes.is_empty() {
        leaf(path, Test::Never)
    } else {
        Node::And(nodes)
    })
}

fn element_match(path: &Path, operand: Value<'_>) -> Result<Node> {
    let at = path.as_str();
    if operand.kind != Kind::Document {
        return Err(bad("$elemMatch", at, "needs a document"));
    }
    let first = operand.elements().next().transpose()?;
    let on_values =
        is_operators(operand)? && !matches!(first, Some((b"$and" | b"$or" | b"$nor", _)));
    let this = Path::this(at);
    let node = if on_values {
        Node::And(operators(&this, operand)?)
    } else {
        Node::And(vec![leaf(&this, Test::Container), filter(operand, None)?])
    };
    Ok(Node::Element {
        path: path.clone(),
        node: Box::new(node),
    })
}

fn bits(operator: &str, rule: BitRule, operand: Value<'_>, at: &str) -> Result<Test> {
    let problem = || {
        bad(
            operator,
            at,
            "needs a mask: a whole number from 0, binary data, or a list of positions",
        )
    };
    let positions = match operand.kind {
        Kind::Array => {
            let mut positions = Vec::new();
            for value in operand.values() {
                let position = Number::of(value?)
                    .and_then(Number::as_exact_i64)
                    .ok_or_else(problem)?;
                positions.push(u32::try_from(position).map_err(|_| problem())?);
            }
            positions
        }
        Kind::Binary => {
            let (_, data) = operand.binary();
            let bit = |position: &u32| {
                data.get((*position / 8) as usize)
                    .is_some_and(|byte| byte >> (position % 8) & 1 == 1)
            };
            (0..u32::try_from(data.len())
                .map_err(|_| problem())?
                .saturating_mul(8))
                .filter(bit)
                .collect()
        }
        _ => {
            let mask = Number::of(operand)
                .and_then(Number::as_exact_i64)
                .filter(|mask| *mask >= 0)
                .ok_or_else(problem)?;
            (0..63)
                .filter(|position| mask >> position & 1 == 1)
                .collect()
        }
    };
    Ok(Test::Bits { rule, positions })
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::Invalid("the filter is not well-formed".into()))
}

fn unknown(operator: &str, at: &str) -> Error {
    Error::Invalid(match at {
        "" => format!("unknown operator {operator}"),
        _ => format!("unknown operator {operator} at {at}"),
    })
}

fn bad(operator: &str, at: &str, problem: &str) -> Error {
    Error::Invalid(format!("{operator} at '{at}' {problem}"))
}
