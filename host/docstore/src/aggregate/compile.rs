//! From the documents of a pipeline to its stages, with every refusal.

use bson::{Bson, Document, doc};

use crate::aggregate::Pipeline;
use crate::aggregate::group::Accumulator;
use crate::aggregate::project::Shape;
use crate::aggregate::stage::{Lookup, Stage};
use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::keys::KeyPattern;
use crate::path::Path;
use crate::query::Filter;
use crate::validate;

/// Every stage that [`stage`] compiles.
pub(crate) const STAGES: &[&str] = &[
    "$addFields",
    "$bucket",
    "$count",
    "$facet",
    "$group",
    "$limit",
    "$lookup",
    "$match",
    "$project",
    "$replaceRoot",
    "$replaceWith",
    "$sample",
    "$set",
    "$skip",
    "$sort",
    "$sortByCount",
    "$unset",
    "$unwind",
];

/// Stages of one pipeline.
const MAX_STAGES: usize = 200;
/// Pipelines within pipelines.
const MAX_NESTING: usize = 8;

/// Compiles a pipeline; `names` are the variables in scope.
pub(crate) fn pipeline(stages: &[Document], names: &[String], nesting: usize) -> Result<Pipeline> {
    if stages.len() > MAX_STAGES {
        return Err(Error::Invalid(format!(
            "a pipeline has at most {MAX_STAGES} stages"
        )));
    }
    if nesting > MAX_NESTING {
        return Err(Error::Invalid(format!(
            "pipelines nest at most {MAX_NESTING} deep"
        )));
    }
    let mut compiled = Vec::with_capacity(stages.len());
    for document in stages {
        validate::depth(document)?;
        let mut fields = document.iter();
        let (Some((name, operand)), None) = (fields.next(), fields.next()) else {
            return Err(Error::Invalid(
                "a stage has exactly one field, its operator".into(),
            ));
        };
        stage(name, operand, names, nesting, &mut compiled)?;
    }
    Ok(Pipeline { stages: compiled })
}

fn needs(name: &str, what: &str) -> Error {
    Error::Invalid(format!("{name} needs {what}"))
}

fn document<'a>(name: &str, operand: &'a Bson) -> Result<&'a Document> {
    match operand {
        Bson::Document(document) => Ok(document),
        _ => Err(needs(name, "a document")),
    }
}

fn whole(name: &str, operand: &Bson) -> Result<u64> {
    let number = match operand {
        Bson::Int32(int) => Some(i64::from(*int)),
        Bson::Int64(int) => Some(*int),
        Bson::Double(double) if double.fract() == 0.0 => Some(*double as i64),
        _ => None,
    };
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| needs(name, "a whole number from 0"))
}

/// A plain or dotted field name.
fn field(name: &str, operand: &Bson) -> Result<Vec<String>> {
    match operand {
        Bson::String(path) => {
            let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
            if parts
                .iter()
                .any(|part| part.is_empty() || part.starts_with('$'))
                || parts.len() > validate::MAX_DEPTH
            {
                return Err(needs(name, "a usable field name"));
            }
            Ok(parts)
        }
        _ => Err(needs(name, "a field name")),
    }
}

/// A path with its `$`.
fn path(name: &str, operand: &Bson) -> Result<Vec<String>> {
    match operand {
        Bson::String(path) => match path.strip_prefix('$') {
            Some(path) => field(name, &Bson::String(path.to_owned())),
            None => Err(needs(name, "a path that starts with '$'")),
        },
        _ => Err(needs(name, "a path")),
    }
}

fn known(name: &str, document: &Document, allowed: &[&str]) -> Result<()> {
    match document.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(Error::Invalid(format!("{name} has no option '{key}'"))),
        None => Ok(()),
    }
}

fn stage(
    name: &str,
    operand: &Bson,
    names: &[String],
    nesting: usize,
    out: &mut Vec<Stage>,
) -> Result<()> {
    let compiled = match name {
        "$match" => Stage::Match(Filter::compile_with(document(name, operand)?, names)?),
        "$project" => Stage::Project(Shape::project(document(name, operand)?, names)?),
        "$addFields" | "$set" => Stage::Project(Shape::add(name, document(name, operand)?, names)?),
        "$unset" => {
            let fields: Vec<&Bson> = match operand {
                Bson::Array(fields) => fields.iter().collect(),
                one => vec![one],
            };
            let mut excluded = Document::new();
            for one in fields {
                excluded.insert(field(name, one)?.join("."), 0);
            }
            Stage::Project(Shape::project(&excluded, names)?)
        }
        "$replaceRoot" => {
            let options = document(name, operand)?;
            known(name, options, &["newRoot"])?;
            let root = options
                .get("newRoot")
                .ok_or_else(|| needs(name, "newRoot"))?;
            Stage::ReplaceRoot(Expression::compile(root, names)?)
        }
        "$replaceWith" => Stage::ReplaceRoot(Expression::compile(operand, names)?),
        "$sort" => Stage::Sort(KeyPattern::parse(document(name, operand)?, "sort")?),
        "$skip" => Stage::Skip(whole(name, operand)?),
        "$limit" => match whole(name, operand)? {
            0 => return Err(needs(name, "a number above 0")),
            limit => Stage::Limit(limit),
        },
        "$unwind" => match operand {
            Bson::Document(options) => {
                known(
                    name,
                    options,
                    &["path", "includeArrayIndex", "preserveNullAndEmptyArrays"],
                )?;
                let target = options.get("path").ok_or_else(|| needs(name, "a path"))?;
                let index = match options.get("includeArrayIndex") {
                    None => None,
                    Some(Bson::String(index))
                        if !index.is_empty() && !index.contains(['.', '$']) =>
                    {
                        Some(index.clone())
                    }
                    Some(_) => return Err(needs(name, "a plain field name for includeArrayIndex")),
                };
                let keep = match options.get("preserveNullAndEmptyArrays") {
                    None => false,
                    Some(Bson::Boolean(keep)) => *keep,
                    Some(_) => {
                        return Err(needs(name, "true or false for preserveNullAndEmptyArrays"));
                    }
                };
                Stage::Unwind {
                    path: path(name, target)?,
                    index,
                    keep,
                }
            }
            target => Stage::Unwind {
                path: path(name, target)?,
                index: None,
                keep: false,
            },
        },
        "$group" => {
            let mut fields = document(name, operand)?.clone();
            let key = fields.remove("_id").ok_or_else(|| needs(name, "an _id"))?;
            Stage::Group {
                key: Expression::compile(&key, names)?,
                fields: accumulators(&fields, names)?,
            }
        }
        "$sortByCount" => {
            let computed = match operand {
                Bson::String(path) => path.starts_with('$'),
                Bson::Document(operator) => operator
                    .keys()
                    .next()
                    .is_some_and(|name| name.starts_with('$')),
                _ => false,
            };
            if !computed {
                return Err(needs(name, "a path with its '$', or an expression"));
            }
            out.push(Stage::Group {
                key: Expression::compile(operand, names)?,
                fields: accumulators(&doc! { "count": { "$sum": 1 } }, names)?,
            });
            Stage::Sort(KeyPattern::parse(&doc! { "count": -1 }, "sort")?)
        }
        "$bucket" => bucket(name, document(name, operand)?, names)?,
        "$count" => match operand {
            Bson::String(field)
                if !field.is_empty() && !field.starts_with('$') && !field.contains(['.', '\0']) =>
            {
                Stage::Count(field.clone())
            }
            _ => return Err(needs(name, "a plain field name")),
        },
        "$lookup" => lookup(name, document(name, operand)?, names, nesting)?,
        "$facet" => {
            let mut facets = Vec::new();
            for (field, stages) in document(name, operand)? {
                if field.is_empty() || field.starts_with('$') || field.contains('.') {
                    return Err(needs(name, "plain field names"));
                }
                let inner = documents(name, stages)?;
                if inner.iter().any(|stage| stage.contains_key("$facet")) {
                    return Err(Error::Invalid("$facet cannot stand inside $facet".into()));
                }
                facets.push((field.clone(), pipeline(&inner, names, nesting + 1)?));
            }
            if facets.is_empty() {
                return Err(needs(name, "at least one pipeline"));
            }
            Stage::Facet(facets)
        }
        "$sample" => {
            let options = document(name, operand)?;
            known(name, options, &["size"])?;
            let size = options.get("size").ok_or_else(|| needs(name, "a size"))?;
            Stage::Sample(usize::try_from(whole(name, size)?).unwrap_or(usize::MAX))
        }
        _ => return Err(Error::Invalid(format!("unsupported stage {name}"))),
    };
    out.push(compiled);
    Ok(())
}

fn documents(name: &str, operand: &Bson) -> Result<Vec<Document>> {
    let Bson::Array(values) = operand else {
        return Err(needs(name, "a pipeline, which is a list"));
    };
    values
        .iter()
        .map(|value| document(name, value).cloned())
        .collect()
}

fn accumulators(fields: &Document, names: &[String]) -> Result<Vec<(String, Accumulator)>> {
    let mut compiled = Vec::with_capacity(fields.len());
    for (field, operand) in fields {
        if field.is_empty() || field.starts_with('$') || field.contains('.') {
            return Err(Error::Invalid(format!(
                "'{field}' cannot be the field of an accumulator"
            )));
        }
        let mut operators = match operand {
            Bson::Document(operators) => operators.iter(),
            _ => {
                return Err(Error::Invalid(format!(
                    "the field '{field}' needs an accumulator"
                )));
            }
        };
        let (Some((name, operand)), None) = (operators.next(), operators.next()) else {
            return Err(Error::Invalid(format!(
                "the field '{field}' needs exactly one accumulator"
            )));
        };
        compiled.push((field.clone(), Accumulator::compile(name, operand, names)?));
    }
    Ok(compiled)
}

fn bucket(name: &str, options: &Document, names: &[String]) -> Result<Stage> {
    known(
        name,
        options,
        &["groupBy", "boundaries", "default", "output"],
    )?;
    let key = options
        .get("groupBy")
        .ok_or_else(|| needs(name, "groupBy"))?;
    let Some(Bson::Array(boundaries)) = options.get("boundaries") else {
        return Err(needs(name, "boundaries"));
    };
    if boundaries.len() < 2 {
        return Err(needs(name, "at least two boundaries"));
    }
    for pair in boundaries.windows(2) {
        if let [low, high] = pair
            && crate::expression::compare(Some(low), Some(high))?.is_ge()
        {
            return Err(needs(name, "boundaries in ascending order"));
        }
    }
    let class = |value: &Bson| {
        crate::value::OwnedValue::encode(value).map(|value| crate::order::class(value.get().kind))
    };
    let (Some(low), Some(high)) = (boundaries.first(), boundaries.last()) else {
        return Err(needs(name, "boundaries"));
    };
    for boundary in boundaries {
        if class(boundary)? != class(low)? {
            return Err(needs(name, "boundaries of one type"));
        }
    }
    if let Some(default) = options.get("default")
        && crate::expression::compare(Some(default), Some(low))?.is_ge()
        && crate::expression::compare(Some(default), Some(high))?.is_lt()
    {
        return Err(needs(name, "a default outside of its boundaries"));
    }
    let count = doc! { "count": { "$sum": 1 } };
    let output = match options.get("output") {
        None => &count,
        Some(output) => document(name, output)?,
    };
    Ok(Stage::Bucket {
        key: Expression::compile(key, names)?,
        boundaries: boundaries.clone(),
        default: options.get("default").cloned(),
        fields: accumulators(output, names)?,
    })
}

fn lookup(name: &str, options: &Document, names: &[String], nesting: usize) -> Result<Stage> {
    known(
        name,
        options,
        &[
            "from",
            "localField",
            "foreignField",
            "let",
            "pipeline",
            "as",
        ],
    )?;
    let Some(Bson::String(from)) = options.get("from") else {
        return Err(needs(name, "from, a collection"));
    };
    validate::collection_name(from)?;
    let target = field(name, options.get("as").ok_or_else(|| needs(name, "as"))?)?;
    let fields = match (options.get("localField"), options.get("foreignField")) {
        (None, None) => None,
        (Some(local), Some(foreign)) => Some((
            Path::parse(&field(name, local)?.join("."))?,
            field(name, foreign)?.join("."),
        )),
        _ => return Err(needs(name, "both localField and foreignField")),
    };
    let mut variables = Vec::new();
    let mut inner = names.to_vec();
    if let Some(list) = options.get("let") {
        for (variable, value) in document(name, list)? {
            crate::expression::variable_name(variable)?;
            variables.push((variable.clone(), Expression::compile(value, names)?));
            inner.push(variable.clone());
        }
    }
    let stages = match options.get("pipeline") {
        Some(stages) => documents(name, stages)?,
        None if fields.is_some() => Vec::new(),
        None => return Err(needs(name, "fields or a pipeline")),
    };
    let pipeline = pipeline(&stages, &inner, nesting + 1)?;
    Ok(Stage::Lookup(Box::new(Lookup {
        from: from.clone(),
        fields,
        variables,
        pipeline,
        target,
    })))
}
