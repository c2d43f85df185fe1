//! Small things of which a compiled schema is put together.

use std::collections::HashMap;

use super::{Additional, Array, Bound, Items, Logic, Name, Numeric, Object, Text};
use crate::value::Value;

/// The names that a schema mentions, each with its place.
#[derive(Default)]
pub(super) struct Names(pub(super) HashMap<Vec<u8>, usize>);

impl Names {
    pub(super) fn place(&mut self, name: &str) -> Name {
        let next = self.0.len();
        let place = *self.0.entry(name.as_bytes().to_vec()).or_insert(next);
        Name {
            text: name.to_owned(),
            place,
        }
    }
}

impl Bound {
    pub(super) fn inclusive(value: Value<'_>) -> Self {
        Bound {
            value: value.into(),
            exclusive: false,
        }
    }
}

/// Nothing for a group of keywords of which none is there, so that a value is
/// not walked in vain.
pub(super) trait IntoBox: Sized {
    fn is_vacant(&self) -> bool;

    fn into_box(self) -> Option<Box<Self>> {
        (!self.is_vacant()).then(|| Box::new(self))
    }
}

impl IntoBox for Text {
    fn is_vacant(&self) -> bool {
        self.pattern.is_none() && self.max.is_none() && self.min.is_none()
    }
}

impl IntoBox for Numeric {
    fn is_vacant(&self) -> bool {
        self.multiple_of.is_none() && self.maximum.is_none() && self.minimum.is_none()
    }
}

impl IntoBox for Array {
    fn is_vacant(&self) -> bool {
        self.min.is_none() && self.max.is_none() && !self.unique && matches!(self.items, Items::Any)
    }
}

impl IntoBox for Object {
    fn is_vacant(&self) -> bool {
        self.names.is_empty()
            && self.patterns.is_empty()
            && self.min.is_none()
            && self.max.is_none()
            && matches!(self.additional, Additional::Allowed)
    }
}

impl IntoBox for Logic {
    fn is_vacant(&self) -> bool {
        self.all_of.is_empty()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.not.is_none()
            && self.one_value_of.is_none()
    }
}
