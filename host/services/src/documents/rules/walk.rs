//! One walk over what a client sent: every key, path and operator is looked at,
//! and depth, bytes and operators are counted as it goes.

use bson::{Bson, Document};

use super::{operators, visible};
use crate::error::{Error, Result};

/// Most keys that begin with `$` in one filter or update: each costs work for
/// every document that is looked at.
const MAX_OPERATORS: usize = 1_000;

/// One walk over a client's document, counting as it goes.
pub(super) struct Walk {
    what: &'static str,
    depth: usize,
    max_bytes: usize,
    bytes: usize,
    operators: usize,
    /// Whether `$$ROOT` may be named: hidden fields are gone by then.
    whole: bool,
    /// Whether the modifiers of `$push` and the like are known.
    modifiers: bool,
}

impl Walk {
    pub(super) fn new(what: &'static str, depth: usize, max_bytes: usize) -> Self {
        Self {
            what,
            depth,
            max_bytes,
            bytes: 0,
            operators: 0,
            whole: false,
            modifiers: false,
        }
    }

    /// A walk over what update operators take: beside conditions, modifiers.
    pub(super) fn with_modifiers(self) -> Self {
        Self {
            modifiers: true,
            ..self
        }
    }

    /// A walk in which expressions may speak of the whole document, because the
    /// caller sees to it that nothing hidden is in it.
    pub(super) fn with_whole_documents(self) -> Self {
        Self {
            whole: true,
            ..self
        }
    }

    /// A filter, or an operand in its language.
    pub(super) fn query(&mut self, document: &Document, depth: usize, in_expr: bool) -> Result<()> {
        self.enter(depth)?;
        for (key, value) in document {
            self.key(key)?;
            if key.starts_with('$') {
                self.operator(key, in_expr)?;
            }
            self.query_value(value, depth, in_expr || key == "$expr")?;
        }
        Ok(())
    }

    /// `depth` is that of the parent.
    pub(super) fn query_value(&mut self, value: &Bson, depth: usize, in_expr: bool) -> Result<()> {
        match value {
            Bson::Document(inner) => self.query(inner, depth + 1, in_expr),
            Bson::Array(values) => {
                self.enter(depth + 1)?;
                values
                    .iter()
                    .try_for_each(|value| self.query_value(value, depth + 1, in_expr))
            }
            Bson::String(text) => {
                self.weigh(text.len())?;
                // `$a.b` is a field's path inside an expression. Outside it is
                // plain text, but nobody needs these, and one day some operator
                // will read expressions where today's do not.
                if text.starts_with('$') {
                    visible(text)?;
                }
                if in_expr {
                    self.variable(text)?;
                }
                Ok(())
            }
            scalar => self.scalar(scalar),
        }
    }

    /// A variable that an expression names. Those of the server begin with a
    /// capital; `$$USER_ROLES`, for one, would tell of the server's own account.
    fn variable(&self, text: &str) -> Result<()> {
        let Some(path) = text.strip_prefix("$$") else {
            return Ok(());
        };
        let name = path.split('.').next().unwrap_or(path);
        match name {
            "NOW" | "REMOVE" => Ok(()),
            "ROOT" | "CURRENT" if self.whole => Ok(()),
            "ROOT" | "CURRENT" => Err(Error::Invalid(
                "`$$ROOT` and `$$CURRENT` cannot be used in `$expr`".into(),
            )),
            _ if name.starts_with(|first: char| first.is_ascii_uppercase()) => Err(Error::Invalid(
                format!("the variable `$${}` cannot be used", shorten(name)),
            )),
            _ => Ok(()),
        }
    }

    /// A document to be stored: no operators anywhere.
    pub(super) fn stored(&mut self, document: &Document, depth: usize) -> Result<()> {
        self.enter(depth)?;
        for (key, value) in document {
            // The three names of a DBRef are MongoDB's own exception.
            if key.starts_with('$') && !matches!(key.as_str(), "$ref" | "$id" | "$db") {
                return Err(Error::Invalid(format!(
                    "the field name `{}` begins with `$`",
                    shorten(key)
                )));
            }
            visible(key)?;
            self.name(key)?;
            self.stored_value(value, depth)?;
        }
        Ok(())
    }

    /// `depth` is that of the parent.
    pub(super) fn stored_value(&mut self, value: &Bson, depth: usize) -> Result<()> {
        match value {
            Bson::Document(inner) => self.stored(inner, depth + 1),
            Bson::Array(values) => {
                self.enter(depth + 1)?;
                values
                    .iter()
                    .try_for_each(|value| self.stored_value(value, depth + 1))
            }
            scalar => self.scalar(scalar),
        }
    }

    /// An operator of the language that is spoken here.
    fn operator(&self, name: &str, in_expr: bool) -> Result<()> {
        let known = if in_expr {
            operators::is_expression(name)
        } else {
            operators::is_query(name) || (self.modifiers && operators::is_modifier(name))
        };
        if known {
            Ok(())
        } else {
            Err(operators::unknown(name))
        }
    }

    pub(super) fn key(&mut self, key: &str) -> Result<()> {
        if key.starts_with('$') {
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(Error::Invalid(format!(
                    "the {} has more than {MAX_OPERATORS} operators",
                    self.what
                )));
            }
        }
        visible(key)?;
        self.name(key)
    }

    pub(super) fn name(&mut self, name: &str) -> Result<()> {
        if name.contains('\0') {
            return Err(Error::Invalid(
                "a field name contains a NUL character".into(),
            ));
        }
        self.weigh(name.len())
    }

    fn scalar(&mut self, value: &Bson) -> Result<()> {
        self.weigh(match value {
            Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => text.len(),
            Bson::Binary(binary) => binary.bytes.len(),
            Bson::RegularExpression(regex) => regex.pattern.len() + regex.options.len(),
            Bson::JavaScriptCodeWithScope(_) | Bson::DbPointer(_) => {
                return Err(Error::Invalid(
                    "code with a scope and DBPointers are not supported".into(),
                ));
            }
            _ => 0,
        })
    }

    fn weigh(&mut self, bytes: usize) -> Result<()> {
        // Eight for the type, the terminators and a number's bytes.
        self.bytes += bytes + 8;
        if self.bytes > self.max_bytes {
            return Err(Error::TooLarge(format!(
                "the {} is larger than {} bytes",
                self.what, self.max_bytes
            )));
        }
        Ok(())
    }

    pub(super) fn enter(&self, depth: usize) -> Result<()> {
        if depth > self.depth {
            return Err(Error::Invalid(format!(
                "the {} is nested deeper than {} levels",
                self.what, self.depth
            )));
        }
        Ok(())
    }
}

/// A client's own name in a message: long ones are cut.
pub(crate) fn shorten(name: &str) -> &str {
    name.char_indices()
        .nth(60)
        .map_or(name, |(end, _)| name.get(..end).unwrap_or(name))
}
