//! From a schema document to the tree that is run, with every refusal.

use std::collections::HashSet;

use super::failure::pointer;
use super::parts::{IntoBox as _, Names};
use super::{
    Additional, Array, Bound, Dependency, Enumeration, Items, Logic, Name, Node, Numeric, Object,
    Text, Types, equal,
};
use crate::error::{Error, Result};
use crate::number::Number;
use crate::query::{Pattern, kinds_named};
use crate::value::{Kind, Value};

/// Bytes of one schema.
const MAX_BYTES: usize = 256 * 1024;
/// Schemas within one schema; a bound on the work for each value of a document.
const MAX_NODES: usize = 2_000;
/// Patterns in one schema: a compiled one may take a mebibyte.
const MAX_PATTERNS: usize = 64;

/// Keywords of draft 4, or of MongoDB's client-side encryption, that are known
/// and not supported.
const UNSUPPORTED: [&str; 8] = [
    "$ref",
    "$schema",
    "default",
    "definitions",
    "format",
    "id",
    "encrypt",
    "encryptMetadata",
];

/// Compiles a whole schema.
pub(super) fn schema(document: Value<'_>) -> Result<Node> {
    if document.bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge(format!(
            "the schema has {} bytes; the limit is {MAX_BYTES}",
            document.bytes.len()
        )));
    }
    let mut compiler = Compiler {
        path: String::new(),
        nodes: 0,
        patterns: 0,
    };
    compiler.node(document)
}

struct Compiler {
    /// Where in the schema this is, as a JSON pointer.
    path: String,
    nodes: usize,
    patterns: usize,
}

impl Compiler {
    fn refuse(&self, keyword: &str, why: &str) -> Error {
        let at = match self.path.as_str() {
            "" => "at the schema's top",
            path => &format!("at {path}"),
        };
        Error::Invalid(format!("the schema's `{keyword}` {at} {why}"))
    }

    /// Compiles what stands under a keyword, or a name under it.
    fn under<T>(
        &mut self,
        segments: &[&str],
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let length = self.path.len();
        for segment in segments {
            pointer(&mut self.path, segment);
        }
        let answer = work(self);
        self.path.truncate(length);
        answer
    }

    fn node(&mut self, schema: Value<'_>) -> Result<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::TooLarge(format!(
                "the schema has more than {MAX_NODES} schemas in it"
            )));
        }
        let mut node = Node::default();
        let mut text = Text::default();
        let mut number = Numeric::default();
        let mut array = Array::default();
        let mut object = Object::default();
        let mut logic = Logic::default();
        let (mut items, mut additional_items) = (None, Additional::Allowed);
        let (mut above, mut below) = (None, None);
        let mut names = Names::default();
        let mut later = Vec::new();
        for element in schema.elements() {
            let (keyword, operand) = element?;
            let keyword = utf8(keyword)?;
            match keyword {
                "title" | "description" => {
                    if operand.kind != Kind::String {
                        return Err(self.refuse(keyword, "must be a string"));
                    }
                }
                "bsonType" | "type" => {
                    if node.types.is_some() {
                        return Err(
                            self.refuse(keyword, "cannot stand beside `bsonType` or `type`")
                        );
                    }
                    node.types = Some(self.types(keyword, operand)?);
                }
                "pattern" => {
                    let source = self.text(keyword, operand)?;
                    text.pattern = Some((self.pattern(keyword, source)?, source.to_owned()));
                }
                "maxLength" => text.max = Some(self.count(keyword, operand)?),
                "minLength" => text.min = Some(self.count(keyword, operand)?),
                "multipleOf" => {
                    let divisor = self.number(keyword, operand)?;
                    let zero = Number::Int(0);
                    if !divisor.is_finite() || crate::number::compare(divisor, zero).is_le() {
                        return Err(self.refuse(keyword, "must be a finite number above 0"));
                    }
                    number.multiple_of = Some(operand.into());
                }
                "maximum" => {
                    self.number(keyword, operand)?;
                    number.maximum = Some(Bound::inclusive(operand));
                }
                "minimum" => {
                    self.number(keyword, operand)?;
                    number.minimum = Some(Bound::inclusive(operand));
                }
                "exclusiveMaximum" => above = Some(self.truth(keyword, operand)?),
                "exclusiveMinimum" => below = Some(self.truth(keyword, operand)?),
                "minItems" => array.min = Some(self.count(keyword, operand)?),
                "maxItems" => array.max = Some(self.count(keyword, operand)?),
                "uniqueItems" => array.unique = self.truth(keyword, operand)?,
                "items" => items = Some(self.items(operand)?),
                "additionalItems" => additional_items = self.additional(keyword, operand)?,
                "properties" => {
                    for element in self.members(keyword, operand)?.elements() {
                        let (name, schema) = element?;
                        let name = self.name(keyword, utf8(name)?)?;
                        let property =
                            self.under(&[keyword, name], |this| this.child(name, schema))?;
                        object.properties.push((names.place(name), property));
                    }
                }
                "patternProperties" => {
                    for element in self.members(keyword, operand)?.elements() {
                        let (source, schema) = element?;
                        let source = utf8(source)?;
                        let pattern = self.pattern(keyword, source)?;
                        let node =
                            self.under(&[keyword, source], |this| this.child(source, schema))?;
                        object.patterns.push((pattern, node));
                    }
                }
                "additionalProperties" => object.additional = self.additional(keyword, operand)?,
                // Their names come after those of the properties.
                "required" | "dependencies" => later.push((keyword, operand)),
                "minProperties" => object.min = Some(self.count(keyword, operand)?),
                "maxProperties" => object.max = Some(self.count(keyword, operand)?),
                "allOf" => logic.all_of = self.list(keyword, operand)?,
                "anyOf" => logic.any_of = self.list(keyword, operand)?,
                "oneOf" => logic.one_of = self.list(keyword, operand)?,
                "not" => {
                    logic.not = Some(self.under(&["not"], |this| this.child("not", operand))?);
                }
                "enum" => logic.one_value_of = Some(self.enumeration(operand)?),
                _ if UNSUPPORTED.contains(&keyword) => {
                    return Err(self.refuse(keyword, "is a keyword that is not supported"));
                }
                _ => return Err(self.refuse(keyword, "is not a keyword")),
            }
        }
        for (keyword, operand) in later {
            if keyword == "required" {
                object.required = self.names(keyword, operand, &mut names)?;
            } else {
                object.dependencies = self.dependencies(operand, &mut names)?;
            }
        }
        self.exclude(&mut number.maximum, above, "exclusiveMaximum", "maximum")?;
        self.exclude(&mut number.minimum, below, "exclusiveMinimum", "minimum")?;
        array.items = match items {
            None => Items::Any,
            Some(Items::Tuple(nodes, _)) => Items::Tuple(nodes, additional_items),
            Some(items) => items,
        };
        object.names = names.0;
        node.text = text.into_box();
        node.number = number.into_box();
        node.array = array.into_box();
        node.object = object.into_box();
        node.logic = logic.into_box();
        Ok(node)
    }

    /// A schema that stands under `name`.
    fn child(&mut self, name: &str, schema: Value<'_>) -> Result<Node> {
        if schema.kind != Kind::Document {
            return Err(self.refuse(name, "must be an object, a schema"));
        }
        self.node(schema)
    }

    fn text<'v>(&self, keyword: &str, operand: Value<'v>) -> Result<&'v str> {
        if operand.kind != Kind::String {
            return Err(self.refuse(keyword, "must be a string"));
        }
        Ok(operand.as_str()?)
    }

    fn truth(&self, keyword: &str, operand: Value<'_>) -> Result<bool> {
        if operand.kind != Kind::Boolean {
            return Err(self.refuse(keyword, "must be true or false"));
        }
        Ok(operand.as_bool())
    }

    fn number(&self, keyword: &str, operand: Value<'_>) -> Result<Number> {
        Number::of(operand).ok_or_else(|| self.refuse(keyword, "must be a number"))
    }

    fn count(&self, keyword: &str, operand: Value<'_>) -> Result<u64> {
        Number::of(operand)
            .and_then(Number::as_exact_i64)
            .and_then(|count| u64::try_from(count).ok())
            .ok_or_else(|| self.refuse(keyword, "must be a whole number, 0 or more"))
    }

    fn members<'v>(&self, keyword: &str, operand: Value<'v>) -> Result<Value<'v>> {
        if operand.kind != Kind::Document {
            return Err(self.refuse(keyword, "must be an object"));
        }
        Ok(operand)
    }

    /// A property's name.
    fn name<'n>(&self, keyword: &str, name: &'n str) -> Result<&'n str> {
        if name.is_empty() || name.contains('.') {
            return Err(self.refuse(keyword, "has a name that is empty or has a dot"));
        }
        Ok(name)
    }

    fn pattern(&mut self, keyword: &str, source: &str) -> Result<Pattern> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(Error::TooLarge(format!(
                "the schema has more than {MAX_PATTERNS} patterns"
            )));
        }
        Pattern::of_schema(source, keyword).map_err(|error| {
            let text = error.to_string();
            let why = text
                .rsplit_once("': ")
                .map_or("is not valid", |(_, why)| why);
            self.refuse(keyword, &format!("is refused: {why}"))
        })
    }

    fn types(&self, keyword: &str, operand: Value<'_>) -> Result<Types> {
        let mut types = Types {
            keyword: if keyword == "type" {
                "type"
            } else {
                "bsonType"
            },
            names: Vec::new(),
            kinds: Vec::new(),
        };
        let mut add = |name: Value<'_>| -> Result<()> {
            let name = self.text(keyword, name)?;
            let alias = match (keyword, name) {
                (_, "integer") => {
                    let why = "cannot be `integer`; use `bsonType` with `int` or `long`";
                    return Err(self.refuse(keyword, why));
                }
                ("type", "boolean") => Some("bool"),
                ("type", "object" | "array" | "number" | "string" | "null") => Some(name),
                ("type", _) => None,
                _ => Some(name),
            };
            let kinds = alias.and_then(kinds_named);
            let kinds = kinds.ok_or_else(|| self.refuse(keyword, "names no known type"))?;
            if types.names.iter().any(|known| known == name) {
                return Err(self.refuse(keyword, "names a type twice"));
            }
            types.names.push(name.to_owned());
            types.kinds.extend(kinds);
            Ok(())
        };
        if operand.kind == Kind::Array {
            operand.values().try_for_each(|name| add(name?))?;
        } else {
            add(operand)?;
        }
        if types.names.is_empty() {
            return Err(self.refuse(keyword, "must name a type"));
        }
        Ok(types)
    }

    fn items(&mut self, operand: Value<'_>) -> Result<Items> {
        match operand.kind {
            Kind::Document => self
                .under(&["items"], |this| this.node(operand))
                .map(Items::Each),
            Kind::Array => {
                let mut nodes = Vec::new();
                for (at, schema) in operand.values().enumerate() {
                    let (at, schema) = (at.to_string(), schema?);
                    nodes.push(self.under(&["items", &at], |this| this.child(&at, schema))?);
                }
                Ok(Items::Tuple(nodes, Additional::Allowed))
            }
            _ => Err(self.refuse("items", "must be a schema or a list of schemas")),
        }
    }

    fn additional(&mut self, keyword: &str, operand: Value<'_>) -> Result<Additional> {
        match operand.kind {
            Kind::Boolean if operand.as_bool() => Ok(Additional::Allowed),
            Kind::Boolean => Ok(Additional::Refused),
            Kind::Document => {
                let node = self.under(&[keyword], |this| this.node(operand))?;
                Ok(Additional::Schema(Box::new(node)))
            }
            _ => Err(self.refuse(keyword, "must be true, false or a schema")),
        }
    }

    fn list(&mut self, keyword: &str, operand: Value<'_>) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        if operand.kind == Kind::Array {
            for (at, schema) in operand.values().enumerate() {
                let (at, schema) = (at.to_string(), schema?);
                nodes.push(self.under(&[keyword, &at], |this| this.child(&at, schema))?);
            }
        }
        if nodes.is_empty() {
            return Err(self.refuse(keyword, "must be a list of at least one schema"));
        }
        Ok(nodes)
    }

    fn names(&self, keyword: &str, operand: Value<'_>, names: &mut Names) -> Result<Vec<Name>> {
        let mut list: Vec<Name> = Vec::new();
        let mut seen = HashSet::new();
        if operand.kind == Kind::Array {
            for name in operand.values() {
                let name = self.name(keyword, self.text(keyword, name?)?)?;
                if !seen.insert(name) {
                    return Err(self.refuse(keyword, "has a name twice"));
                }
                list.push(names.place(name));
            }
        }
        if list.is_empty() {
            return Err(self.refuse(keyword, "must be a list of at least one name"));
        }
        Ok(list)
    }

    fn dependencies(
        &mut self,
        operand: Value<'_>,
        names: &mut Names,
    ) -> Result<Vec<(Name, Dependency)>> {
        const KEYWORD: &str = "dependencies";
        let mut dependencies = Vec::new();
        for element in self.members(KEYWORD, operand)?.elements() {
            let (name, needed) = element?;
            let name = self.name(KEYWORD, utf8(name)?)?;
            let place = names.place(name);
            let dependency = match needed.kind {
                Kind::Array => Dependency::Names(self.names(KEYWORD, needed, names)?),
                _ => Dependency::Schema(
                    self.under(&[KEYWORD, name], |this| this.child(name, needed))?,
                ),
            };
            dependencies.push((place, dependency));
        }
        Ok(dependencies)
    }

    fn enumeration(&self, operand: Value<'_>) -> Result<Enumeration> {
        let mut keys = HashSet::new();
        if operand.kind == Kind::Array {
            for value in operand.values() {
                if !keys.insert(equal::key(value?)?) {
                    return Err(self.refuse("enum", "has a value twice"));
                }
            }
        }
        if keys.is_empty() {
            return Err(self.refuse("enum", "must be a list of at least one value"));
        }
        Ok(Enumeration {
            keys,
            values: operand.into(),
        })
    }

    /// Applies `exclusiveMaximum` or `exclusiveMinimum`, which need their bound.
    fn exclude(
        &self,
        bound: &mut Option<Bound>,
        exclusive: Option<bool>,
        keyword: &str,
        needs: &str,
    ) -> Result<()> {
        match (bound, exclusive) {
            (Some(bound), Some(exclusive)) => bound.exclusive = exclusive,
            (None, Some(_)) => {
                return Err(self.refuse(keyword, &format!("needs `{needs}` beside it")));
            }
            (_, None) => {}
        }
        Ok(())
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::Invalid("the schema is not valid UTF-8".into()))
}
