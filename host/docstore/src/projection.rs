//! Which fields of a document a reader gets, cut out of the raw bytes.

use bson::{Bson, Document, RawDocumentBuf};

use crate::error::{Error, Result};
use crate::path::Path;
use crate::query::Filter;
use crate::value::{self, Corrupt, Kind, Value, begin_document, end_document, push, push_key};

/// A compiled projection.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    /// Listed fields are kept, or else dropped.
    include: bool,
    fields: Fields,
    /// `$elemMatch` fields come after all others.
    elements: Vec<(Box<str>, Filter)>,
    /// Some field shows only the array element that the filter matched.
    positional: bool,
}

/// The array element that the filter matched, and whether one was missed.
struct Matched {
    position: Option<usize>,
    missed: bool,
}

type Fields = Vec<(Box<str>, Node)>;

#[derive(Debug, Clone)]
enum Node {
    /// Keep the field, or drop it.
    Listed,
    /// Keep it although the projection drops what it lists: `_id: 1`.
    Kept,
    /// Of an array, keep the element that the filter matched: `path.$`.
    Matched,
    Inside(Fields),
    Slice {
        skip: i64,
        count: i64,
    },
}

/// A projection while its kind is still open.
#[derive(Default)]
struct Compiler {
    include: Option<bool>,
    /// `$elemMatch` alone makes an inclusion, `$slice` alone an exclusion.
    default_include: bool,
    id: Option<bool>,
    fields: Fields,
    elements: Vec<(Box<str>, Filter)>,
    positional: bool,
}

impl Projection {
    /// Compiles a projection; none when it asks for the whole document.
    pub(crate) fn compile(document: &Document) -> Result<Option<Self>> {
        let _patterns = crate::query::Budget::open();
        crate::validate::depth(document)?;
        if document.is_empty() {
            return Ok(None);
        }
        let mut compiler = Compiler::default();
        compiler.document("", document)?;
        let include = compiler
            .include
            .unwrap_or(compiler.default_include || compiler.id == Some(true));
        let mut fields = compiler.fields;
        let id = match (include, compiler.id) {
            (true, Some(false)) | (false, None) => None,
            (true, _) | (false, Some(false)) => Some(Node::Listed),
            (false, Some(true)) => Some(Node::Kept),
        };
        let names_id = fields.iter().any(|(name, _)| &**name == "_id");
        if let Some(node) = id.filter(|_| !names_id) {
            fields.push(("_id".into(), node));
        }
        Ok(Some(Projection {
            include,
            fields,
            elements: compiler.elements,
            positional: compiler.positional,
        }))
    }

    /// The part of a document that was asked for, which matches `filter`.
    pub(crate) fn apply_to_match(
        &self,
        document: &[u8],
        filter: &Filter,
    ) -> Result<RawDocumentBuf> {
        let position = if self.positional {
            filter.position(document)?
        } else {
            None
        };
        self.shown(document, position)
    }

    /// The part of `document` that was asked for, whatever made it match.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn apply(&self, document: &[u8]) -> Result<RawDocumentBuf> {
        self.shown(document, None)
    }

    fn shown(&self, document: &[u8], position: Option<usize>) -> Result<RawDocumentBuf> {
        let mut out = Vec::with_capacity(document.len());
        let start = begin_document(&mut out);
        let mut matched = Matched {
            position,
            missed: false,
        };
        self.members(
            Value::document(document),
            &self.fields,
            &mut matched,
            &mut out,
        )?;
        if matched.missed {
            return Err(Error::Invalid(
                "the projection's `$` stands for an array element that the filter did not match"
                    .into(),
            ));
        }
        for (name, filter) in &self.elements {
            if let Some(array) = value::field(document, name.as_bytes())?
                && array.kind == Kind::Array
            {
                first_match(name, array, filter, &mut out)?;
            }
        }
        end_document(&mut out, start);
        RawDocumentBuf::from_bytes(out).map_err(|_| Corrupt.into())
    }

    fn members(
        &self,
        document: Value<'_>,
        fields: &Fields,
        matched: &mut Matched,
        out: &mut Vec<u8>,
    ) -> Result<(), Corrupt> {
        for element in document.elements() {
            let (name, member) = element?;
            let node = fields
                .iter()
                .find(|(listed, _)| listed.as_bytes() == name)
                .map(|(_, node)| node);
            match node {
                None if self.include => {}
                Some(Node::Listed) if !self.include => {}
                None | Some(Node::Listed | Node::Kept) => push(out, name, member),
                Some(Node::Slice { skip, count }) if member.kind == Kind::Array => {
                    push_key(out, Kind::Array, name);
                    slice(member, *skip, *count, out)?;
                }
                Some(Node::Matched) if member.kind == Kind::Array => {
                    push_key(out, Kind::Array, name);
                    let start = begin_document(out);
                    match matched.element(member)? {
                        Some(element) => push(out, b"0", element),
                        None => matched.missed = true,
                    }
                    end_document(out, start);
                }
                Some(Node::Slice { .. } | Node::Matched) => push(out, name, member),
                Some(Node::Inside(fields)) => self.inside(name, member, fields, matched, out)?,
            }
        }
        Ok(())
    }

    fn inside(
        &self,
        name: &[u8],
        member: Value<'_>,
        fields: &Fields,
        matched: &mut Matched,
        out: &mut Vec<u8>,
    ) -> Result<(), Corrupt> {
        match member.kind {
            Kind::Document => {
                push_key(out, Kind::Document, name);
                let start = begin_document(out);
                self.members(member, fields, matched, out)?;
                end_document(out, start);
            }
            Kind::Array => {
                push_key(out, Kind::Array, name);
                let start = begin_document(out);
                // The element is that of the first array on the way.
                if leads_to_matched(fields) {
                    match matched.element(member)? {
                        Some(element) => self.inside(b"0", element, fields, matched, out)?,
                        None => matched.missed = true,
                    }
                    end_document(out, start);
                    return Ok(());
                }
                let mut position = 0_usize;
                for element in member.values() {
                    let before = out.len();
                    self.inside(
                        position.to_string().as_bytes(),
                        element?,
                        fields,
                        matched,
                        out,
                    )?;
                    position += usize::from(out.len() > before);
                }
                end_document(out, start);
            }
            _ if self.include => {}
            _ => push(out, name, member),
        }
        Ok(())
    }
}

impl Matched {
    fn element<'a>(&self, array: Value<'a>) -> Result<Option<Value<'a>>, Corrupt> {
        match self.position {
            Some(position) => array.values().nth(position).transpose(),
            None => Ok(None),
        }
    }
}

fn leads_to_matched(fields: &Fields) -> bool {
    fields.iter().any(|(_, node)| match node {
        Node::Matched => true,
        Node::Inside(inner) => leads_to_matched(inner),
        _ => false,
    })
}

fn slice(array: Value<'_>, skip: i64, count: i64, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    let length = i64::try_from(array.len()?).map_err(|_| Corrupt)?;
    let first = if skip < 0 {
        (length + skip).max(0)
    } else {
        skip.min(length)
    };
    let first = usize::try_from(first).map_err(|_| Corrupt)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let start = begin_document(out);
    for (position, element) in array.values().skip(first).take(count).enumerate() {
        push(out, position.to_string().as_bytes(), element?);
    }
    end_document(out, start);
    Ok(())
}

fn first_match(name: &str, array: Value<'_>, filter: &Filter, out: &mut Vec<u8>) -> Result<()> {
    for element in array.values() {
        let element = element?;
        let mut one = Vec::with_capacity(element.bytes.len() + 32);
        let start = begin_document(&mut one);
        push_key(&mut one, Kind::Array, name.as_bytes());
        let inner = begin_document(&mut one);
        push(&mut one, b"0", element);
        end_document(&mut one, inner);
        end_document(&mut one, start);
        if filter.matches(&one)? {
            if let Some(found) = value::field(&one, name.as_bytes())? {
                push(out, name.as_bytes(), found);
            }
            return Ok(());
        }
    }
    Ok(())
}

impl Compiler {
    fn document(&mut self, prefix: &str, document: &Document) -> Result<()> {
        for (name, operand) in document {
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            self.field(&path, operand)?;
        }
        Ok(())
    }

    fn field(&mut self, path: &str, operand: &Bson) -> Result<()> {
        let bad = |problem: &str| Error::Invalid(format!("the projection of '{path}' {problem}"));
        let (path, matched) = match path.strip_suffix(".$") {
            Some(path) => (path, true),
            None => (path, false),
        };
        if path
            .split('.')
            .any(|name| name.is_empty() || name.starts_with('$'))
        {
            return Err(bad("has an unusable field name"));
        }
        let include = match operand {
            Bson::Boolean(include) => *include,
            Bson::Int32(number) => *number != 0,
            Bson::Int64(number) => *number != 0,
            Bson::Double(number) => *number != 0.0,
            Bson::Document(_) if matched => return Err(bad("has both `$` and an operator")),
            Bson::Document(inner) => {
                return match inner.iter().next() {
                    None => Err(bad("is an empty document")),
                    Some((operator, operand)) if operator.starts_with('$') => {
                        if inner.len() > 1 {
                            return Err(bad("has more than one operator"));
                        }
                        self.operator(path, operator, operand)
                    }
                    Some(_) => self.document(path, inner),
                };
            }
            _ => return Err(bad("must be 0, 1, true, false or an operator")),
        };
        if matched {
            if !include || self.positional {
                return Err(bad("can have one `$`, where fields are included"));
            }
            self.positional = true;
            self.kind(path, true)?;
            return self.insert(path, Node::Matched);
        }
        if path == "_id" {
            self.id = Some(include);
            return Ok(());
        }
        self.kind(path, include)?;
        self.insert(path, Node::Listed)
    }

    fn kind(&mut self, path: &str, include: bool) -> Result<()> {
        match self.include {
            Some(already) if already != include => Err(Error::Invalid(format!(
                "the projection cannot {} '{path}' beside fields that it {}",
                if include { "include" } else { "exclude" },
                if include { "excludes" } else { "includes" },
            ))),
            _ => {
                self.include = Some(include);
                Ok(())
            }
        }
    }

    fn operator(&mut self, path: &str, operator: &str, operand: &Bson) -> Result<()> {
        let bad = |problem: &str| {
            Error::Invalid(format!(
                "{operator} in the projection of '{path}' {problem}"
            ))
        };
        match operator {
            "$slice" => {
                let whole = |value: &Bson| match value {
                    Bson::Int32(number) => Some(i64::from(*number)),
                    Bson::Int64(number) => Some(*number),
                    Bson::Double(number) if number.trunc() == *number => Some(*number as i64),
                    _ => None,
                };
                let (skip, count) = match operand {
                    Bson::Array(pair) => match pair.as_slice() {
                        [skip, count] => (whole(skip), whole(count).filter(|count| *count > 0)),
                        _ => (None, None),
                    },
                    one => match whole(one) {
                        Some(last) if last < 0 => (Some(last), Some(i64::MAX)),
                        first => (Some(0), first),
                    },
                };
                match (skip, count) {
                    (Some(skip), Some(count)) => self.insert(path, Node::Slice { skip, count }),
                    _ => Err(bad(
                        "needs a whole number, or a list of how many to skip and how many to take",
                    )),
                }
            }
            "$elemMatch" => {
                let Bson::Document(_) = operand else {
                    return Err(bad("needs a document"));
                };
                if path.contains('.') {
                    return Err(bad("cannot have a dotted path"));
                }
                self.default_include = true;
                let mut wrapped = Document::new();
                wrapped.insert(path, bson::doc! { "$elemMatch": operand.clone() });
                self.elements
                    .push((path.into(), Filter::compile(&wrapped)?));
                // The path counts as used, so that a second use collides.
                self.insert(path, Node::Listed)?;
                self.fields.retain(|(name, _)| &**name != path);
                Ok(())
            }
            _ => Err(Error::Invalid(format!(
                "unknown operator {operator} in the projection of '{path}'"
            ))),
        }
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        let collision = || Error::Invalid(format!("the projection names a part of '{path}' twice"));
        let parsed = Path::parse(path)?;
        let (last, before) = parsed.parts().split_last().ok_or_else(collision)?;
        let mut fields = &mut self.fields;
        for part in before {
            let index = match fields.iter().position(|(name, _)| *name == part.name) {
                Some(index) => index,
                None => {
                    fields.push((part.name.clone(), Node::Inside(Vec::new())));
                    fields.len() - 1
                }
            };
            fields = match fields.get_mut(index) {
                Some((_, Node::Inside(inner))) => inner,
                _ => return Err(collision()),
            };
        }
        if fields.iter().any(|(name, _)| *name == last.name) {
            return Err(collision());
        }
        fields.push((last.name.clone(), node));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn check(document: Document, projection: Document, expected: Document) {
        let raw = value::encode(&document).unwrap();
        let compiled = Projection::compile(&projection).unwrap();
        let answer = compiled.map_or(raw.clone(), |compiled| {
            compiled.apply(raw.as_bytes()).unwrap()
        });
        let answer = value::decode(answer.as_bytes()).unwrap();
        assert_eq!(
            answer.to_string(),
            expected.to_string(),
            "{document} with {projection}"
        );
    }

    fn refuse(projection: Document, why: &str) {
        let error = Projection::compile(&projection).unwrap_err().to_string();
        assert!(error.contains(why), "{projection}: {error}");
    }

    #[test]
    fn fields_are_included_and_excluded() {
        let full = || doc! { "_id": 1, "a": 1, "b": { "c": 2, "d": 3 }, "e": [{ "f": 1, "g": 2 }, 5, [{ "f": 3 }]] };
        check(full(), doc! {}, full());
        check(full(), doc! { "a": 1 }, doc! { "_id": 1, "a": 1 });
        check(full(), doc! { "a": true, "_id": 0 }, doc! { "a": 1 });
        check(full(), doc! { "_id": 1 }, doc! { "_id": 1 });
        check(full(), doc! { "_id": 0, "e": 0, "b": 0 }, doc! { "a": 1 });
        check(
            full(),
            doc! { "_id": 1, "e": 0, "b": 0 },
            doc! { "_id": 1, "a": 1 },
        );
        check(
            full(),
            doc! { "_id": 0 },
            doc! { "a": 1, "b": { "c": 2, "d": 3 }, "e": [{ "f": 1, "g": 2 }, 5, [{ "f": 3 }]] },
        );
        check(
            full(),
            doc! { "b.c": 1 },
            doc! { "_id": 1, "b": { "c": 2 } },
        );
        check(
            full(),
            doc! { "b": { "c": 1 } },
            doc! { "_id": 1, "b": { "c": 2 } },
        );
        check(full(), doc! { "b.x": 1 }, doc! { "_id": 1, "b": {} });
        check(full(), doc! { "a.x": 1 }, doc! { "_id": 1 });
        check(
            full(),
            doc! { "e.f": 1 },
            doc! { "_id": 1, "e": [{ "f": 1 }, [{ "f": 3 }]] },
        );
        check(
            full(),
            doc! { "e.f": 0, "b": 0 },
            doc! { "_id": 1, "a": 1, "e": [{ "g": 2 }, 5, [{}]] },
        );
        check(full(), doc! { "zzz": 1 }, doc! { "_id": 1 });
        check(
            doc! { "b": 1, "a": 2 },
            doc! { "a": 1, "b": 1 },
            doc! { "b": 1, "a": 2 },
        );
    }

    #[test]
    fn arrays_are_cut() {
        let full = || doc! { "_id": 1, "a": [1, 2, 3, 4], "b": 2, "c": { "d": [1, 2] } };
        check(
            full(),
            doc! { "a": { "$slice": 2 } },
            doc! { "_id": 1, "a": [1, 2], "b": 2, "c": { "d": [1, 2] } },
        );
        check(
            full(),
            doc! { "a": { "$slice": -1 }, "b": 1 },
            doc! { "_id": 1, "a": [4], "b": 2 },
        );
        check(
            full(),
            doc! { "a": { "$slice": [1, 2] }, "b": 0, "c": 0 },
            doc! { "_id": 1, "a": [2, 3] },
        );
        check(
            full(),
            doc! { "a": { "$slice": [-3, 2] }, "b": 1 },
            doc! { "_id": 1, "a": [2, 3], "b": 2 },
        );
        check(
            full(),
            doc! { "c.d": { "$slice": 1 }, "a": 0, "b": 0 },
            doc! { "_id": 1, "c": { "d": [1] } },
        );
        check(
            full(),
            doc! { "a": { "$elemMatch": { "$gt": 2 } } },
            doc! { "_id": 1, "a": [3] },
        );
        check(
            full(),
            doc! { "a": { "$elemMatch": { "$gt": 9 } }, "b": 1 },
            doc! { "_id": 1, "b": 2 },
        );
        check(
            doc! { "_id": 1, "a": [{ "n": 1 }, { "n": 2, "m": 1 }], "z": 1 },
            doc! { "a": { "$elemMatch": { "n": 2 } }, "z": 1 },
            doc! { "_id": 1, "z": 1, "a": [{ "n": 2, "m": 1 }] },
        );
    }

    #[test]
    fn senseless_projections_are_refused() {
        refuse(doc! { "a": 1, "b": 0 }, "cannot exclude 'b'");
        refuse(doc! { "a": 0, "b": 1 }, "cannot include 'b'");
        refuse(doc! { "a": 1, "a.b": 1 }, "twice");
        refuse(doc! { "a.b": 1, "a": 1 }, "twice");
        refuse(doc! { "a": "x" }, "must be 0, 1");
        refuse(doc! { "a": { "$foo": 1 } }, "unknown operator $foo");
        refuse(doc! { "a": {} }, "empty document");
        refuse(doc! { "a..b": 1 }, "unusable field name");
        refuse(doc! { "a": { "$slice": "x" } }, "needs a whole number");
        refuse(doc! { "a.$": 0 }, "can have one `$`");
        refuse(doc! { "a.$.b": 1 }, "unusable field name");
    }
}
