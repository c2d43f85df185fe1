//! Document ids, and the MongoDB types that plain JSON lacks.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// The `_id` of a document: an ObjectId, which the server generates, or a string
/// of your own.
///
/// In JSON it is `{"$oid": "…"}` or a plain string, as MongoDB's Extended JSON
/// has it, so a field of this type can sit in any document struct:
///
/// ```
/// use coglex_sdk::Id;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Item {
///     #[serde(rename = "_id")]
///     id: Id,
///     title: String,
/// }
///
/// let item: Item = serde_json::from_str(
///     r#"{"_id": {"$oid": "507f1f77bcf86cd799439011"}, "title": "Milk"}"#,
/// )?;
/// assert_eq!(item.id.to_string(), "507f1f77bcf86cd799439011");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Made from a string (a path parameter, say), 24 hex digits are an ObjectId and
/// anything else is a string, as in the storage service's own paths. Use
/// [`Id::Text`] for string ids that happen to look like that.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A 12-byte ObjectId.
    ObjectId(ObjectId),
    /// A string.
    Text(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObjectId(oid) => oid.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(oid) => Self::ObjectId(oid),
            Err(NotAnObjectId) => Self::Text(text.to_owned()),
        }
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        match text.parse() {
            Ok(oid) => Self::ObjectId(oid),
            Err(NotAnObjectId) => Self::Text(text),
        }
    }
}

impl From<ObjectId> for Id {
    fn from(oid: ObjectId) -> Self {
        Self::ObjectId(oid)
    }
}

impl From<&Self> for Id {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl FromStr for Id {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::ObjectId(oid) => oid.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl<'de> de::Visitor<'de> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"$oid\": \"…\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Id, E> {
                Ok(Id::Text(text))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Id, A::Error> {
                ObjectId::deserialize(de::value::MapAccessDeserializer::new(map)).map(Id::ObjectId)
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

/// A 12-byte ObjectId, written as 24 hex digits and `{"$oid": "…"}` in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; 12]);

impl ObjectId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 12] {
        self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// The text is not 24 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnObjectId;

impl fmt::Display for NotAnObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ObjectId is 24 hex digits")
    }
}

impl std::error::Error for NotAnObjectId {}

impl FromStr for ObjectId {
    type Err = NotAnObjectId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 24 {
            return Err(NotAnObjectId);
        }
        let mut digits = text
            .chars()
            .map(|digit| digit.to_digit(16).ok_or(NotAnObjectId));
        let mut bytes = [0u8; 12];
        for byte in &mut bytes {
            for _ in 0..2 {
                let digit = digits.next().ok_or(NotAnObjectId)??;
                *byte = (*byte << 4) | u8::try_from(digit).map_err(|_| NotAnObjectId)?;
            }
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("$oid", &format_args!("{self}"))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wrapped {
            #[serde(rename = "$oid")]
            oid: String,
        }
        Wrapped::deserialize(deserializer)?
            .oid
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "507f1f77bcf86cd799439011";

    #[test]
    fn hex_strings_become_object_ids_and_print_back() {
        let id = Id::from(HEX);
        assert!(matches!(id, Id::ObjectId(_)));
        assert_eq!(id.to_string(), HEX);
        assert_eq!(Id::from(HEX.to_uppercase()), id);
    }

    #[test]
    fn other_strings_stay_strings() {
        for text in [
            "",
            "milk",
            "507f1f77bcf86cd79943901",
            "507f1f77bcf86cd79943901g",
            "+07f1f77bcf86cd799439011",
            "507f1f77bcf86cd7994390é",
        ] {
            assert_eq!(Id::from(text), Id::Text(text.to_owned()));
        }
    }

    #[test]
    fn json_is_extended_json() {
        for (id, json) in [
            (Id::from(HEX), format!(r#"{{"$oid":"{HEX}"}}"#)),
            (Id::Text(HEX.to_owned()), format!("\"{HEX}\"")),
        ] {
            assert_eq!(serde_json::to_string(&id).unwrap(), json);
            assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for json in [
            r#"{"$oid":"xyz"}"#,
            r#"{"oid":"507f1f77bcf86cd799439011"}"#,
            "7",
            "null",
            "[]",
        ] {
            assert!(serde_json::from_str::<Id>(json).is_err(), "{json}");
        }
    }
}
