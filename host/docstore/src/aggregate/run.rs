//! Running a pipeline.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use bson::{Bson, Document};

use crate::aggregate::Variables;
use crate::aggregate::group::{Accumulator, Groups};
use crate::aggregate::stage::{Lookup, Stage};
use crate::engine::catalog::Catalog;
use crate::engine::read::{self, Progress, Query};
use crate::engine::sqlite::Session;
use crate::error::{Error, Result};
use crate::expression::{self, Environment, Expression, Scope};
use crate::keys::KeyPattern;
use crate::path::{Leaf, Path};
use crate::query::Filter;
use crate::value::{self, Kind, Value};

/// Documents between two looks at the clock.
const CHECK_EVERY: usize = 256;

/// What a run sees beside its documents.
pub(crate) struct Context<'a> {
    pub(crate) catalog: &'a Arc<Catalog>,
    pub(crate) environment: &'a Environment,
    pub(crate) variables: Variables,
}

impl Context<'_> {
    fn scope<'d>(&'d self, document: &'d Document) -> Scope<'d> {
        Scope::new(document, &self.variables, self.environment)
    }
}

/// What comes out of a chain, bounded.
struct Output {
    documents: Vec<Document>,
    bytes: usize,
    max: usize,
}

impl Output {
    fn push(&mut self, document: Document) -> Result<()> {
        self.bytes += size(&document);
        if self.bytes > self.max {
            return Err(Error::TooLarge(format!(
                "the result has more than {} bytes",
                self.max
            )));
        }
        self.documents.push(document);
        Ok(())
    }
}

fn size(document: &Document) -> usize {
    32 + document
        .iter()
        .map(|(name, value)| name.len() + expression::size(value))
        .sum::<usize>()
}

/// Runs a pipeline on a collection.
pub(crate) fn pipeline(
    stages: &[Stage],
    session: &mut Session<'_>,
    context: &Context<'_>,
    collection: &str,
) -> Result<Vec<Document>> {
    let (query, rest) = front(stages, context);
    let mut sink = Sink::new(rest, context);
    if let Some(collection) = context.catalog.get(collection).cloned() {
        let mut progress = Progress::start(&query);
        // Lookups read too, so documents come in portions and not while a
        // statement is stepped.
        while let Some(batch) = read::portion(
            session,
            &collection,
            &query,
            &mut progress,
            &context.environment.limits,
        )? {
            for document in batch {
                let document = value::decode(document.as_bytes())?;
                if !sink.push(document, session, context)? {
                    return sink.finish(session, context);
                }
            }
        }
    }
    sink.finish(session, context)
}

/// What a find can do of the first stages, and the stages that are left.
fn front<'s>(stages: &'s [Stage], context: &Context<'_>) -> (Query, &'s [Stage]) {
    let mut query = Query {
        filter: Filter::everything(),
        projection: None,
        sort: None,
        skip: 0,
        limit: None,
        max_sort_bytes: context.environment.max_bytes,
    };
    let mut rest = stages;
    while let Some((stage, after)) = rest.split_first() {
        match stage {
            // Variables are known only to the running pipeline.
            Stage::Match(filter)
                if query.sort.is_none() && query.limit.is_none() && !filter.uses_variables() =>
            {
                query.filter = query.filter.and(filter.clone());
            }
            Stage::Sort(pattern) if query.sort.is_none() && query.limit.is_none() => {
                query.sort = Some(pattern.clone());
            }
            Stage::Limit(limit) if query.limit.is_none() => query.limit = Some(*limit),
            _ => break,
        }
        rest = after;
    }
    (query, rest)
}

/// A chain of running stages and what comes out of it.
struct Sink<'s> {
    running: Vec<Running<'s>>,
    out: Output,
    seen: usize,
}

/// A stage with what it has gathered.
enum Running<'s> {
    Plain(&'s Stage),
    Skip(u64),
    Limit(u64),
    Sort {
        pattern: &'s KeyPattern,
        most: usize,
        entries: Vec<(Vec<u8>, Document)>,
        bytes: usize,
    },
    Group {
        key: &'s Expression,
        fields: &'s [(String, Accumulator)],
        groups: Groups,
    },
    Bucket {
        stage: &'s Stage,
        groups: Groups,
    },
    Count {
        field: &'s str,
        count: i64,
    },
    Facet(Vec<(&'s str, Sink<'s>)>),
    Sample {
        size: usize,
        seen: u64,
        kept: Vec<Document>,
        bytes: usize,
        random: u64,
    },
}

impl<'s> Sink<'s> {
    fn new(stages: &'s [Stage], context: &Context<'_>) -> Self {
        let mut running = Vec::with_capacity(stages.len());
        for (position, stage) in stages.iter().enumerate() {
            running.push(match stage {
                Stage::Skip(skip) => Running::Skip(*skip),
                Stage::Limit(limit) => Running::Limit(*limit),
                Stage::Sort(pattern) => {
                    // Of a sort that is cut, only the front is kept.
                    let most = match stages.get(position + 1) {
                        Some(Stage::Limit(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
                        _ => usize::MAX,
                    };
                    Running::Sort {
                        pattern,
                        most,
                        entries: Vec::new(),
                        bytes: 0,
                    }
                }
                Stage::Group { key, fields } => Running::Group {
                    key,
                    fields,
                    groups: Groups::default(),
                },
                Stage::Bucket { .. } => Running::Bucket {
                    stage,
                    groups: Groups::default(),
                },
                Stage::Count(field) => Running::Count { field, count: 0 },
                Stage::Facet(facets) => {
                    let sinks = facets.iter().map(|(name, pipeline)| {
                        (name.as_str(), Sink::new(&pipeline.stages, context))
                    });
                    Running::Facet(sinks.collect())
                }
                Stage::Sample(size) => {
                    let random = RandomState::new().build_hasher().finish() | 1;
                    Running::Sample {
                        size: *size,
                        seen: 0,
                        kept: Vec::new(),
                        bytes: 0,
                        random,
                    }
                }
                plain => Running::Plain(plain),
            });
        }
        let out = Output {
            documents: Vec::new(),
            bytes: 0,
            max: context.environment.max_bytes,
        };
        Sink {
            running,
            out,
            seen: 0,
        }
    }

    /// Takes a document in; answers whether more could matter.
    fn push(
        &mut self,
        document: Document,
        session: &mut Session<'_>,
        context: &Context<'_>,
    ) -> Result<bool> {
        self.seen += 1;
        if self.seen.is_multiple_of(CHECK_EVERY) {
            context.environment.limits.check()?;
        }
        pass(&mut self.running, document, session, context, &mut self.out)
    }

    /// Lets every stage give what it has gathered; answers all results.
    fn finish(mut self, session: &mut Session<'_>, context: &Context<'_>) -> Result<Vec<Document>> {
        let mut running = self.running.as_mut_slice();
        while let Some((stage, rest)) = running.split_first_mut() {
            for document in gathered(stage, session, context)? {
                if !pass(rest, document, session, context, &mut self.out)? {
                    break;
                }
            }
            running = rest;
        }
        Ok(self.out.documents)
    }
}

/// Passes a document down the chain; answers whether more could matter.
fn pass(
    running: &mut [Running<'_>],
    document: Document,
    session: &mut Session<'_>,
    context: &Context<'_>,
    out: &mut Output,
) -> Result<bool> {
    let Some((stage, rest)) = running.split_first_mut() else {
        out.push(document)?;
        return Ok(true);
    };
    let max = context.environment.max_bytes;
    match stage {
        Running::Plain(stage) => return plain(stage, document, rest, session, context, out),
        Running::Skip(left) => {
            if *left == 0 {
                return pass(rest, document, session, context, out);
            }
            *left -= 1;
        }
        Running::Limit(left) => {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            return Ok(pass(rest, document, session, context, out)? && *left > 0);
        }
        Running::Sort {
            pattern,
            most,
            entries,
            bytes,
        } => {
            let raw = value::encode(&document)?;
            let key = pattern.lowest(raw.as_bytes())?;
            *bytes += key.len() + size(&document);
            entries.push((key, document));
            // Twice as many as are wanted, so that sorting is seldom.
            if entries.len() / 2 >= *most {
                cut(entries, *most, bytes);
            }
            if *bytes > max {
                return Err(Error::TooLarge(format!(
                    "$sort holds more than {max} bytes"
                )));
            }
        }
        Running::Group {
            key,
            fields,
            groups,
        } => {
            let mut scope = context.scope(&document);
            let id = key.evaluate(&mut scope)?.unwrap_or(Bson::Null);
            groups.take(id, fields, &mut scope, max)?;
        }
        Running::Bucket {
            stage:
                Stage::Bucket {
                    key,
                    boundaries,
                    default,
                    fields,
                },
            groups,
        } => {
            let mut scope = context.scope(&document);
            let value = key.evaluate(&mut scope)?;
            let id = bucket(value.as_ref(), boundaries)?.or(default.as_ref());
            let id = id.cloned().ok_or_else(|| {
                Error::Invalid(
                    "$bucket met a value outside its boundaries, and has no default".into(),
                )
            })?;
            groups.take(id, fields, &mut scope, max)?;
        }
        Running::Bucket { .. } => {}
        Running::Count { count, .. } => *count += 1,
        Running::Facet(sinks) => {
            for (_, sink) in sinks {
                sink.push(document.clone(), session, context)?;
            }
        }
        Running::Sample {
            size: wanted,
            seen,
            kept,
            bytes,
            random,
        } => {
            // Reservoir sampling: each document stays with the same chance.
            *seen += 1;
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let place = usize::try_from(*random % *seen).unwrap_or(usize::MAX);
            if kept.len() < *wanted {
                *bytes += size(&document);
                kept.push(document);
            } else if let Some(place) = kept.get_mut(place) {
                *bytes += size(&document);
                *bytes -= size(place);
                *place = document;
            }
            if *bytes > max {
                return Err(Error::TooLarge(format!(
                    "$sample holds more than {max} bytes"
                )));
            }
        }
    }
    Ok(true)
}

/// The lower bound of the bucket that a value falls into.
fn bucket<'b>(value: Option<&Bson>, boundaries: &'b [Bson]) -> Result<Option<&'b Bson>> {
    for pair in boundaries.windows(2) {
        if let [low, high] = pair
            && expression::compare(value, Some(low))? != Ordering::Less
            && expression::compare(value, Some(high))? == Ordering::Less
        {
            return Ok(Some(low));
        }
    }
    Ok(None)
}

fn cut(entries: &mut Vec<(Vec<u8>, Document)>, most: usize, bytes: &mut usize) {
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, document) in entries.drain(most.min(entries.len())..) {
        *bytes -= key.len() + size(&document);
    }
}

/// What a stage gives at the end of its input.
fn gathered(
    stage: &mut Running<'_>,
    session: &mut Session<'_>,
    context: &Context<'_>,
) -> Result<Vec<Document>> {
    Ok(match stage {
        Running::Plain(_) | Running::Skip(_) | Running::Limit(_) => Vec::new(),
        Running::Sort {
            most,
            entries,
            bytes,
            ..
        } => {
            cut(entries, *most, bytes);
            std::mem::take(entries)
                .into_iter()
                .map(|(_, document)| document)
                .collect()
        }
        Running::Group { fields, groups, .. } => std::mem::take(groups).finish(fields),
        Running::Bucket {
            stage: Stage::Bucket { fields, .. },
            groups,
        } => {
            let mut documents = Vec::new();
            for document in std::mem::take(groups).finish(fields) {
                documents.push((expression::key(document.get("_id"))?, document));
            }
            documents.sort_by(|(a, _), (b, _)| a.cmp(b));
            documents
                .into_iter()
                .map(|(_, document)| document)
                .collect()
        }
        Running::Bucket { .. } => Vec::new(),
        Running::Count { count: 0, .. } => Vec::new(),
        Running::Count { field, count } => {
            let mut document = Document::new();
            document.insert(
                *field,
                i32::try_from(*count).map_or(Bson::Int64(*count), Bson::Int32),
            );
            vec![document]
        }
        Running::Facet(sinks) => {
            let mut document = Document::new();
            for (name, sink) in std::mem::take(sinks) {
                let documents = sink.finish(session, context)?;
                document.insert(
                    name,
                    Bson::Array(documents.into_iter().map(Bson::Document).collect()),
                );
            }
            vec![document]
        }
        Running::Sample { kept, .. } => std::mem::take(kept),
    })
}

/// The stages that keep nothing.
fn plain(
    stage: &Stage,
    mut document: Document,
    rest: &mut [Running<'_>],
    session: &mut Session<'_>,
    context: &Context<'_>,
    out: &mut Output,
) -> Result<bool> {
    match stage {
        Stage::Match(filter) => {
            let matched =
                filter.matches_with(&document, &context.variables, context.environment)?;
            return if matched {
                pass(rest, document, session, context, out)
            } else {
                Ok(true)
            };
        }
        Stage::Project(shape) => {
            let shaped = shape.apply(&mut context.scope(&document))?;
            document = shaped;
        }
        Stage::ReplaceRoot(expression) => {
            let root = expression.evaluate(&mut context.scope(&document))?;
            document = match root {
                Some(Bson::Document(root)) => root,
                _ => {
                    return Err(Error::Invalid(
                        "$replaceRoot needs a document as the new root".into(),
                    ));
                }
            };
        }
        Stage::Unwind { path, index, keep } => {
            return unwind(path, index.as_deref(), *keep, document, |document| {
                pass(rest, document, session, context, out)
            });
        }
        Stage::Lookup(lookup) => {
            let found = look_up(lookup, &document, session, context)?;
            set(&mut document, &lookup.target, Bson::Array(found));
        }
        // The others keep something and are run elsewhere.
        _ => {}
    }
    pass(rest, document, session, context, out)
}

fn unwind(
    path: &[String],
    index: Option<&str>,
    keep: bool,
    document: Document,
    mut give: impl FnMut(Document) -> Result<bool>,
) -> Result<bool> {
    let found = get(&document, path);
    let numbered = |mut document: Document, position: Bson| {
        if let Some(name) = index {
            document.insert(name, position);
        }
        document
    };
    match found {
        Some(Bson::Array(values)) if !values.is_empty() => {
            for (position, value) in values.iter().enumerate() {
                let mut one = document.clone();
                set(&mut one, path, value.clone());
                let position = Bson::Int64(i64::try_from(position).unwrap_or(i64::MAX));
                if !give(numbered(one, position))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        None | Some(Bson::Null | Bson::Undefined | Bson::Array(_)) if !keep => Ok(true),
        Some(Bson::Array(_)) => {
            let mut without = document;
            unset(&mut without, path);
            give(numbered(without, Bson::Null))
        }
        _ => give(numbered(document, Bson::Null)),
    }
}

fn get<'d>(document: &'d Document, path: &[String]) -> Option<&'d Bson> {
    let (name, rest) = path.split_first()?;
    match (document.get(name), rest) {
        (found, []) => found,
        (Some(Bson::Document(inner)), rest) => get(inner, rest),
        _ => None,
    }
}

fn set(document: &mut Document, path: &[String], value: Bson) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        document.insert(name, value);
        return;
    }
    if !matches!(document.get(name), Some(Bson::Document(_))) {
        document.insert(name, Document::new());
    }
    if let Some(Bson::Document(inner)) = document.get_mut(name) {
        set(inner, rest, value);
    }
}

fn unset(document: &mut Document, path: &[String]) {
    match path {
        [] => {}
        [name] => {
            document.remove(name);
        }
        [name, rest @ ..] => {
            if let Some(Bson::Document(inner)) = document.get_mut(name) {
                unset(inner, rest);
            }
        }
    }
}

fn look_up(
    lookup: &Lookup,
    document: &Document,
    session: &mut Session<'_>,
    context: &Context<'_>,
) -> Result<Vec<Bson>> {
    let mut variables = context.variables.clone();
    {
        let mut scope = context.scope(document);
        for (name, expression) in &lookup.variables {
            variables.push((
                name.clone(),
                expression
                    .evaluate(&mut scope)?
                    .unwrap_or(expression::MISSING),
            ));
        }
    }
    let inner = Context {
        catalog: context.catalog,
        environment: context.environment,
        variables,
    };
    let mut stages = Vec::with_capacity(lookup.pipeline.stages.len() + 1);
    if let Some((local, foreign)) = &lookup.fields {
        let filter = Filter::any_of(foreign, local_values(document, local)?)?;
        stages.push(Stage::Match(filter));
    }
    stages.extend(lookup.pipeline.stages.iter().cloned());
    let found = pipeline(&stages, session, &inner, &lookup.from)?;
    Ok(found.into_iter().map(Bson::Document).collect())
}

/// The values to look for on the other side of a join: all that the path leads
/// to, arrays taken apart; null when that is nothing.
fn local_values(document: &Document, path: &Path) -> Result<Vec<Bson>> {
    let raw = value::encode(document)?;
    let mut found = Vec::new();
    path.any(Value::document(raw.as_bytes()), Leaf::Whole, &mut |value| {
        match value {
            Some(array) if array.kind == Kind::Array => {
                for element in array.values() {
                    found.push(element?.to_bson()?);
                }
            }
            Some(value) => found.push(value.to_bson()?),
            None => {}
        }
        Ok(false)
    })?;
    // Undefined is stored here and there, and asked for nowhere.
    found.retain(|value| *value != Bson::Undefined);
    if found.is_empty() {
        found.push(Bson::Null);
    }
    Ok(found)
}
