//! `$project` and `$addFields`: documents of a new shape.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::{Expression, Scope};
use crate::path::Path;

/// What happens to the fields of a document.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    kind: Kind,
    fields: Fields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only what is named stays.
    Include,
    /// All stays but what is named.
    Exclude,
    /// All stays, and what is named is set.
    Add,
}

type Fields = Vec<(String, Node)>;

#[derive(Debug, Clone)]
enum Node {
    /// Included, or excluded.
    Named,
    /// Stays in a projection that excludes: `_id: 1`.
    Kept,
    Computed(Expression),
    Inside(Fields),
}

impl Shape {
    /// Compiles `$project`.
    pub(crate) fn project(document: &Document, names: &[String]) -> Result<Self> {
        if document.is_empty() {
            return Err(Error::Invalid("$project needs at least one field".into()));
        }
        let mut compiler = Compiler {
            names,
            include: None,
            id: None,
            fields: Vec::new(),
            flags: true,
        };
        compiler.document("", document)?;
        let include = compiler.include.unwrap_or(compiler.id == Some(true));
        let mut fields = compiler.fields;
        let named = fields.iter().any(|(name, _)| name == "_id");
        match (include, compiler.id) {
            _ if named => {}
            (true, Some(false)) | (false, None) => {}
            (true, _) | (false, Some(false)) => fields.insert(0, ("_id".into(), Node::Named)),
            (false, Some(true)) => fields.insert(0, ("_id".into(), Node::Kept)),
        }
        Ok(Shape {
            kind: if include {
                Kind::Include
            } else {
                Kind::Exclude
            },
            fields,
        })
    }

    /// Compiles `$addFields`.
    pub(crate) fn add(name: &str, document: &Document, names: &[String]) -> Result<Self> {
        if document.is_empty() {
            return Err(Error::Invalid(format!("{name} needs at least one field")));
        }
        let mut compiler = Compiler {
            names,
            include: None,
            id: None,
            fields: Vec::new(),
            flags: false,
        };
        compiler.document("", document)?;
        Ok(Shape {
            kind: Kind::Add,
            fields: compiler.fields,
        })
    }

    /// The document in its new shape.
    pub(crate) fn apply(&self, scope: &mut Scope<'_>) -> Result<Document> {
        let root = scope.root;
        self.document(root, &self.fields, scope)
    }

    fn document(
        &self,
        document: &Document,
        fields: &Fields,
        scope: &mut Scope<'_>,
    ) -> Result<Document> {
        let mut out = Document::new();
        for (name, value) in document {
            let node = fields
                .iter()
                .find(|(named, _)| named == name)
                .map(|(_, node)| node);
            match (node, self.kind) {
                (None, Kind::Include) | (Some(Node::Named), Kind::Exclude) => {}
                (None, _) | (Some(Node::Named | Node::Kept), _) => {
                    out.insert(name, value.clone());
                }
                (Some(Node::Inside(inner)), _) => {
                    if let Some(value) = self.inside(value, inner, scope)? {
                        out.insert(name, value);
                    }
                }
                (Some(Node::Computed(expression)), kind) => {
                    // A set field keeps its place; a projected one comes after
                    // those that stay.
                    if kind == Kind::Add
                        && let Some(value) = expression.evaluate(scope)?
                    {
                        out.insert(name, value);
                    }
                }
            }
        }
        for (name, node) in fields {
            match node {
                Node::Computed(expression)
                    if self.kind != Kind::Add || !document.contains_key(name) =>
                {
                    if let Some(value) = expression.evaluate(scope)? {
                        out.insert(name, value);
                    }
                }
                Node::Inside(inner) if !document.contains_key(name) && computes(inner) => {
                    let made = self.document(&Document::new(), inner, scope)?;
                    out.insert(name, made);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    fn inside(&self, value: &Bson, fields: &Fields, scope: &mut Scope<'_>) -> Result<Option<Bson>> {
        Ok(match value {
            Bson::Document(document) => {
                Some(Bson::Document(self.document(document, fields, scope)?))
            }
            Bson::Array(values) => {
                let mut shaped = Vec::with_capacity(values.len());
                for value in values {
                    shaped.extend(self.inside(value, fields, scope)?);
                }
                Some(Bson::Array(shaped))
            }
            _ if computes(fields) => Some(Bson::Document(self.document(
                &Document::new(),
                fields,
                scope,
            )?)),
            _ if self.kind == Kind::Include => None,
            other => Some(other.clone()),
        })
    }
}

fn computes(fields: &Fields) -> bool {
    fields.iter().any(|(_, node)| match node {
        Node::Computed(_) => true,
        Node::Inside(inner) => computes(inner),
        _ => false,
    })
}

struct Compiler<'a> {
    names: &'a [String],
    include: Option<bool>,
    id: Option<bool>,
    fields: Fields,
    /// Numbers and truths include and exclude, rather than being values.
    flags: bool,
}

impl Compiler<'_> {
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
        if path
            .split('.')
            .any(|name| name.is_empty() || name.starts_with('$'))
        {
            return Err(Error::Invalid(format!(
                "'{path}' cannot be the name of a field"
            )));
        }
        let flag = match operand {
            _ if !self.flags => None,
            Bson::Boolean(flag) => Some(*flag),
            Bson::Int32(number) => Some(*number != 0),
            Bson::Int64(number) => Some(*number != 0),
            Bson::Double(number) => Some(*number != 0.0),
            _ => None,
        };
        match (flag, operand) {
            (Some(flag), _) if path == "_id" => {
                self.id = Some(flag);
                Ok(())
            }
            (Some(flag), _) => {
                self.kind(path, flag)?;
                self.insert(path, Node::Named)
            }
            (None, Bson::Document(inner))
                if inner
                    .keys()
                    .next()
                    .is_some_and(|name| !name.starts_with('$')) =>
            {
                self.document(path, inner)
            }
            (None, operand) => {
                if self.flags {
                    self.kind(path, true)?;
                }
                self.insert(
                    path,
                    Node::Computed(Expression::compile(operand, self.names)?),
                )
            }
        }
    }

    fn kind(&mut self, path: &str, include: bool) -> Result<()> {
        if self.include.is_some_and(|already| already != include) {
            return Err(Error::Invalid(format!(
                "$project cannot both include and exclude, as at '{path}'"
            )));
        }
        self.include = Some(include);
        Ok(())
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        let collision = || Error::Invalid(format!("a part of '{path}' is named twice"));
        let parsed = Path::parse(path)?;
        let (last, before) = parsed.parts().split_last().ok_or_else(collision)?;
        let mut fields = &mut self.fields;
        for part in before {
            let index = match fields.iter().position(|(name, _)| **name == *part.name) {
                Some(index) => index,
                None => {
                    fields.push((part.name.to_string(), Node::Inside(Vec::new())));
                    fields.len() - 1
                }
            };
            fields = match fields.get_mut(index) {
                Some((_, Node::Inside(inner))) => inner,
                _ => return Err(collision()),
            };
        }
        if fields.iter().any(|(name, _)| **name == *last.name) {
            return Err(collision());
        }
        fields.push((last.name.to_string(), node));
        Ok(())
    }
}
