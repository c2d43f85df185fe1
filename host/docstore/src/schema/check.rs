//! Running a schema on a value as it lies in the store.
//!
//! The same walk answers "does it satisfy" and "what does it fail": the first
//! stops at the first failure and writes no words. The order of keywords is the
//! one in which MongoDB reports them. A value of the wrong type fails that alone:
//! what else the schema says of it would be about something that is not there.

use bson::{Bson, Document, doc};

use super::failure::{Failure, detail, pointer};
use super::{
    Additional, Array, Bound, Dependency, Items, Logic, Node, Numeric, Object, Text, equal,
};
use crate::number::Number;
use crate::value::{Corrupt, Kind, OwnedValue, Value};

/// Failures that are told of one document.
pub const MAX_FAILURES: usize = 10;

/// Whether a value satisfies a schema.
pub(super) fn accepts(node: &Node, value: Value<'_>) -> Result<bool, Corrupt> {
    let mut report = Report {
        quiet: true,
        ..Report::default()
    };
    node.walk(value, &mut report)?;
    Ok(!report.failed)
}

/// What a value fails.
pub(super) fn explain(node: &Node, value: Value<'_>) -> Result<Vec<Failure>, Corrupt> {
    let mut report = Report::default();
    node.walk(value, &mut report)?;
    Ok(report.failures)
}

/// What a walk has found so far.
#[derive(Default)]
struct Report {
    /// Only whether, not what.
    quiet: bool,
    failed: bool,
    path: String,
    failures: Vec<Failure>,
}

impl Report {
    /// Whether the walk has nothing left to find out.
    fn is_done(&self) -> bool {
        self.failed && (self.quiet || self.failures.len() >= MAX_FAILURES)
    }

    fn fail(&mut self, rule: &str, specified: impl FnOnce() -> Document) {
        self.failed = true;
        if !self.is_done() {
            self.failures.push(Failure {
                path: self.path.clone(),
                rule: rule.to_owned(),
                detail: detail(rule, &specified()),
            });
        }
    }

    /// A failure about a member of the value at hand, in words of its own.
    fn fail_member(&mut self, name: &str, rule: &str, detail: impl FnOnce() -> String) {
        self.failed = true;
        if !self.is_done() {
            let mut path = self.path.clone();
            pointer(&mut path, name);
            self.failures.push(Failure {
                path,
                rule: rule.to_owned(),
                detail: detail(),
            });
        }
    }

    /// Walks a member under its own path; answers whether it failed.
    fn member(&mut self, name: &str, node: &Node, value: Value<'_>) -> Result<bool, Corrupt> {
        let length = self.path.len();
        if !self.quiet {
            pointer(&mut self.path, name);
        }
        let before = std::mem::take(&mut self.failed);
        node.walk(value, self)?;
        let failed = self.failed;
        self.failed |= before;
        self.path.truncate(length);
        Ok(failed)
    }
}

impl Node {
    fn walk(&self, value: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        if let Some(types) = &self.types
            && !types.kinds.contains(&value.kind)
        {
            report.fail(
                types.keyword,
                || doc! { types.keyword: types.names.clone() },
            );
            return Ok(());
        }
        match value.kind {
            Kind::String => {
                if let Some(text) = &self.text {
                    text.walk(value, report)?;
                }
            }
            Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Decimal128 => {
                if let (Some(numeric), Some(number)) = (&self.number, Number::of(value)) {
                    numeric.walk(number, report)?;
                }
            }
            Kind::Array => {
                if let Some(array) = &self.array {
                    array.walk(value, report)?;
                }
            }
            Kind::Document => {
                if let Some(object) = &self.object {
                    object.walk(value, report)?;
                }
            }
            _ => {}
        }
        match &self.logic {
            Some(logic) if !report.is_done() => logic.walk(value, report),
            _ => Ok(()),
        }
    }
}

impl Text {
    fn walk(&self, value: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        if let Some((pattern, source)) = &self.pattern
            && !pattern.matches(value)
        {
            report.fail("pattern", || doc! { "pattern": source });
        }
        if self.max.is_none() && self.min.is_none() {
            return Ok(());
        }
        let length = value.as_str()?.chars().count() as u64;
        if let Some(max) = self.max.filter(|max| length > *max) {
            report.fail("maxLength", || doc! { "maxLength": count(max) });
        }
        if let Some(min) = self.min.filter(|min| length < *min) {
            report.fail("minLength", || doc! { "minLength": count(min) });
        }
        Ok(())
    }
}

impl Numeric {
    fn walk(&self, number: Number, report: &mut Report) -> Result<(), Corrupt> {
        if let Some(divisor) = &self.multiple_of
            && !Number::of(divisor.get()).is_some_and(|divisor| number.is_multiple_of(divisor))
        {
            report.fail("multipleOf", || doc! { "multipleOf": decoded(divisor) });
        }
        let bounds = [
            (&self.maximum, true, "maximum", "exclusiveMaximum"),
            (&self.minimum, false, "minimum", "exclusiveMinimum"),
        ];
        for (bound, below, rule, exclusive) in bounds {
            if let Some(bound @ Bound { value, .. }) = bound
                && !bound.holds(number, below)
            {
                report.fail(
                    rule,
                    || doc! { rule: decoded(value), exclusive: bound.exclusive },
                );
            }
        }
        Ok(())
    }
}

impl Array {
    fn walk(&self, array: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        let length = array.len()? as u64;
        if let Some(min) = self.min.filter(|min| length < *min) {
            report.fail("minItems", || doc! { "minItems": count(min) });
        }
        if let Some(max) = self.max.filter(|max| length > *max) {
            report.fail("maxItems", || doc! { "maxItems": count(max) });
        }
        if self.unique && !report.is_done() {
            let mut seen = std::collections::HashSet::new();
            for item in array.values() {
                if !seen.insert(equal::key(item?)?) {
                    report.fail("uniqueItems", Document::new);
                    break;
                }
            }
        }
        match &self.items {
            Items::Any => Ok(()),
            Items::Each(node) => first_failing(node, array, 0, report),
            Items::Tuple(nodes, additional) => {
                for (at, (node, item)) in nodes.iter().zip(array.values()).enumerate() {
                    if report.is_done() {
                        return Ok(());
                    }
                    report.member(&at.to_string(), node, item?)?;
                }
                match additional {
                    Additional::Refused if length > nodes.len() as u64 => {
                        report.fail("additionalItems", Document::new);
                        Ok(())
                    }
                    Additional::Schema(node) => first_failing(node, array, nodes.len(), report),
                    Additional::Allowed | Additional::Refused => Ok(()),
                }
            }
        }
    }
}

/// Walks an array's items, from a position on, as far as the first that fails:
/// a list of a million wrong items is one mistake.
fn first_failing(
    node: &Node,
    array: Value<'_>,
    from: usize,
    report: &mut Report,
) -> Result<(), Corrupt> {
    for (at, item) in array.values().enumerate().skip(from) {
        if report.is_done() || report.member(&at.to_string(), node, item?)? {
            break;
        }
    }
    Ok(())
}

impl Object {
    fn walk(&self, object: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        let mut found: Vec<Option<Value<'_>>> = vec![None; self.names.len()];
        let mut fields = 0_u64;
        for element in object.elements() {
            let (name, value) = element?;
            fields += 1;
            if let Some(place) = self.names.get(name).and_then(|place| found.get_mut(*place)) {
                // Of two fields with one name the first counts, as in MongoDB.
                place.get_or_insert(value);
            }
        }
        let at = |place: usize| found.get(place).copied().flatten();
        for (name, node) in &self.properties {
            if report.is_done() {
                return Ok(());
            }
            if let Some(value) = at(name.place) {
                report.member(&name.text, node, value)?;
            }
        }
        self.walk_others(object, report)?;
        for name in &self.required {
            if at(name.place).is_none() {
                report.fail_member(&name.text, "required", || {
                    detail("required", &Document::new())
                });
            }
        }
        if let Some(min) = self.min.filter(|min| fields < *min) {
            report.fail("minProperties", || doc! { "minProperties": count(min) });
        }
        if let Some(max) = self.max.filter(|max| fields > *max) {
            report.fail("maxProperties", || doc! { "maxProperties": count(max) });
        }
        for (name, dependency) in &self.dependencies {
            if report.is_done() || at(name.place).is_none() {
                continue;
            }
            match dependency {
                Dependency::Schema(node) => node.walk(object, report)?,
                Dependency::Names(needed) => {
                    for other in needed.iter().filter(|other| at(other.place).is_none()) {
                        report.fail_member(&other.text, "dependencies", || {
                            super::failure::needed_by(&name.text)
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// `patternProperties`, then `additionalProperties`.
    fn walk_others(&self, object: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        if self.patterns.is_empty() && matches!(self.additional, Additional::Allowed) {
            return Ok(());
        }
        let mut others = Vec::new();
        for element in object.elements() {
            if report.is_done() {
                return Ok(());
            }
            let (name, value) = element?;
            let text = std::str::from_utf8(name).map_err(|_| Corrupt)?;
            let mut matched = self.is_property(name);
            for (pattern, node) in &self.patterns {
                if pattern.matches_text(name) {
                    matched = true;
                    report.member(text, node, value)?;
                }
            }
            if !matched {
                others.push((text, value));
            }
        }
        for (name, value) in others {
            match &self.additional {
                Additional::Allowed => {}
                Additional::Refused => {
                    report.fail_member(name, "additionalProperties", || {
                        detail("additionalProperties", &Document::new())
                    });
                }
                // As with items: the first is enough.
                Additional::Schema(node) => {
                    if report.is_done() || report.member(name, node, value)? {
                        break;
                    }
                }
            }
            if report.is_done() {
                break;
            }
        }
        Ok(())
    }

    fn is_property(&self, name: &[u8]) -> bool {
        // Properties come first among the names.
        self.names
            .get(name)
            .is_some_and(|place| *place < self.properties.len())
    }
}

impl Logic {
    fn walk(&self, value: Value<'_>, report: &mut Report) -> Result<(), Corrupt> {
        for node in &self.all_of {
            if report.is_done() {
                return Ok(());
            }
            node.walk(value, report)?;
        }
        if !self.any_of.is_empty() && matching(&self.any_of, value, 1)? == 0 {
            report.fail("anyOf", Document::new);
        }
        if !self.one_of.is_empty() && matching(&self.one_of, value, 2)? != 1 {
            report.fail("oneOf", Document::new);
        }
        if let Some(node) = &self.not
            && accepts(node, value)?
        {
            report.fail("not", Document::new);
        }
        if let Some(list) = &self.one_value_of
            && !list.keys.contains(&equal::key(value)?)
        {
            report.fail("enum", || doc! { "enum": decoded(&list.values) });
        }
        Ok(())
    }
}

/// How many of the schemas a value satisfies, counted no further than `enough`.
fn matching(nodes: &[Node], value: Value<'_>, enough: usize) -> Result<usize, Corrupt> {
    let mut count = 0;
    for node in nodes {
        if count < enough && accepts(node, value)? {
            count += 1;
        }
    }
    Ok(count)
}

/// A part of the schema, for a sentence. It was encoded by us.
fn decoded(value: &OwnedValue) -> Bson {
    value.get().to_bson().unwrap_or(Bson::Null)
}

fn count(count: u64) -> Bson {
    Bson::Int64(i64::try_from(count).unwrap_or(i64::MAX))
}
