//! Text to values, in one pass: serde_json drives, a visitor builds BSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::document::Entry;
use bson::oid::ObjectId;
use bson::raw::CString;
use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// serde_json stops at 128 levels on its own, with a poorer message.
const DEEPEST: usize = 120;

pub(super) fn value(text: &[u8], max_depth: usize, max_values: usize) -> Result<Bson> {
    let mut reader = Reader {
        max_depth: max_depth.min(DEEPEST),
        max_values,
        values: 0,
        failure: None,
        path: Vec::new(),
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Seed {
        reader: &mut reader,
        depth: 1,
    }
    .deserialize(&mut json)
    .and_then(|value| json.end().map(|()| value));
    read.map_err(|error| reader.explain(&error))
}

/// What the visitors share. The path is built only when an error travels up
/// through it, so that reading a good text costs nothing for it.
struct Reader {
    max_depth: usize,
    max_values: usize,
    values: usize,
    failure: Option<Failure>,
    path: Vec<Step>,
}

enum Failure {
    Invalid(String),
    TooLarge(String),
}

enum Step {
    Key(String),
    Index(usize),
}

impl Reader {
    fn fail<E: serde::de::Error>(&mut self, sentence: impl Into<String>) -> E {
        self.failure = Some(Failure::Invalid(sentence.into()));
        E::custom("see the failure")
    }

    fn explain(&mut self, error: &serde_json::Error) -> Error {
        match self.failure.take() {
            None => Error::Invalid(format!("not valid JSON: {error}")),
            Some(Failure::TooLarge(sentence)) => Error::TooLarge(sentence),
            Some(Failure::Invalid(sentence)) if self.path.is_empty() => Error::Invalid(sentence),
            Some(Failure::Invalid(sentence)) => {
                Error::Invalid(format!("at `{}`: {sentence}", self.path()))
            }
        }
    }

    /// The path from the root, shortened: a hostile text may be deep and its
    /// keys long, and the message goes into a response and a log.
    fn path(&self) -> String {
        let steps: Vec<String> = self
            .path
            .iter()
            .rev()
            .map(|step| match step {
                Step::Key(key) => key.clone(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        let path = steps.join(".");
        match path.char_indices().nth(200) {
            Some((end, _)) => format!("{}…", path.get(..end).unwrap_or_default()),
            None => path,
        }
    }
}

struct Seed<'r> {
    reader: &'r mut Reader,
    depth: usize,
}

impl Seed<'_> {
    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth > self.reader.max_depth {
            let sentence = format!("nested deeper than {} levels", self.reader.max_depth);
            // The path would be as long as the limit and say nothing.
            let error = self.reader.fail(sentence);
            return Err(error);
        }
        Ok(())
    }

    fn child(&mut self) -> Seed<'_> {
        Seed {
            depth: self.depth + 1,
            reader: &mut *self.reader,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Bson;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Bson, D::Error> {
        self.reader.values += 1;
        let most = self.reader.max_values;
        if self.reader.values > most {
            self.reader.failure = Some(Failure::TooLarge(format!(
                "more than {most} values in one JSON text"
            )));
            return Err(D::Error::custom("see the failure"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Bson;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Bson, E> {
        Ok(Bson::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bson, E> {
        Ok(Bson::Boolean(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Bson, E> {
        Ok(i32::try_from(value).map_or(Bson::Int64(value), Bson::Int32))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Bson, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            // Past 64 signed bits a number is a double, as in MongoDB's tools.
            Err(_) => Ok(Bson::Double(value as f64)),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Bson, E> {
        Ok(Bson::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Bson, E> {
        Ok(Bson::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Bson, E> {
        Ok(Bson::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Bson, A::Error> {
        self.enter()?;
        let mut values = Vec::new();
        loop {
            match items.next_element_seed(self.child()) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => return Ok(Bson::Array(values)),
                Err(error) => {
                    self.reader.path.push(Step::Index(values.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Bson, A::Error> {
        self.enter()?;
        let mut document = Document::new();
        let mut dollar = false;
        while let Some(key) = entries.next_key::<String>()? {
            if key.contains('\0') {
                return Err(self.reader.fail("a key contains a NUL character"));
            }
            dollar |= key.starts_with('$');
            match entries.next_value_seed(self.child()) {
                Ok(value) => match document.entry(key) {
                    slot @ Entry::Vacant(_) => {
                        slot.or_insert(value);
                    }
                    // Two readers of one text must not see two values.
                    Entry::Occupied(slot) => {
                        let sentence = format!("the key `{}` is there twice", slot.key());
                        return Err(self.reader.fail(sentence));
                    }
                },
                Err(error) => {
                    self.reader.path.push(Step::Key(key));
                    return Err(error);
                }
            }
        }
        if !dollar {
            return Ok(Bson::Document(document));
        }
        unwrap(document).map_err(|sentence| self.reader.fail(sentence))
    }
}

/// The keys that make an object a type wrapper. `$scope` comes with `$code`.
const WRAPPERS: [&str; 16] = [
    "$oid",
    "$date",
    "$numberInt",
    "$numberLong",
    "$numberDouble",
    "$numberDecimal",
    "$binary",
    "$uuid",
    "$regularExpression",
    "$timestamp",
    "$minKey",
    "$maxKey",
    "$undefined",
    "$symbol",
    "$code",
    "$dbPointer",
];

/// The value that a wrapper stands for, or the document itself when it is none.
/// Its inner values have been read already: `{"$date": {"$numberLong": "0"}}`
/// arrives as a number.
fn unwrap(mut document: Document) -> Result<Bson, String> {
    let Some(wrapper) = WRAPPERS
        .iter()
        .find(|wrapper| document.contains_key(**wrapper))
    else {
        return Ok(Bson::Document(document));
    };
    let value = document.remove(wrapper).unwrap_or(Bson::Null);
    let scope = match *wrapper {
        "$code" => document.remove("$scope"),
        _ => None,
    };
    if let Some(other) = document.keys().next() {
        return Err(format!("`{wrapper}` cannot stand beside `{other}`"));
    }
    match (*wrapper, value, scope) {
        ("$oid", Bson::String(hex), _) => ObjectId::parse_str(&hex).ok().map(Bson::ObjectId),
        ("$date", Bson::String(text), _) => date(&text).map(Bson::DateTime),
        ("$date", Bson::Int32(millis), _) => {
            Some(Bson::DateTime(DateTime::from_millis(millis.into())))
        }
        ("$date", Bson::Int64(millis), _) => Some(Bson::DateTime(DateTime::from_millis(millis))),
        ("$numberInt", Bson::String(text), _) => text.parse().ok().map(Bson::Int32),
        ("$numberLong", Bson::String(text), _) => text.parse().ok().map(Bson::Int64),
        ("$numberDouble", Bson::String(text), _) => double(&text).map(Bson::Double),
        ("$numberDecimal", Bson::String(text), _) => {
            text.parse::<Decimal128>().ok().map(Bson::Decimal128)
        }
        ("$binary", Bson::Document(body), _) => binary(&body).map(Bson::Binary),
        ("$uuid", Bson::String(text), _) => bson::Uuid::parse_str(&text)
            .ok()
            .map(|uuid| Bson::Binary(uuid.into())),
        ("$regularExpression", Bson::Document(body), _) => {
            regex(&body).map(Bson::RegularExpression)
        }
        ("$timestamp", Bson::Document(body), _) => timestamp(&body).map(Bson::Timestamp),
        ("$minKey", Bson::Int32(1), _) => Some(Bson::MinKey),
        ("$maxKey", Bson::Int32(1), _) => Some(Bson::MaxKey),
        ("$undefined", Bson::Boolean(true), _) => Some(Bson::Undefined),
        ("$symbol", Bson::String(text), _) => Some(Bson::Symbol(text)),
        ("$code", Bson::String(code), None) => Some(Bson::JavaScriptCode(code)),
        ("$code", Bson::String(code), Some(Bson::Document(scope))) => {
            Some(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code,
                scope,
            }))
        }
        _ => None,
    }
    .ok_or_else(|| malformed(wrapper))
}

fn malformed(wrapper: &str) -> String {
    let takes = match wrapper {
        "$oid" => "24 hexadecimal digits in a string",
        "$date" => "an ISO 8601 time in a string, or milliseconds since 1970",
        "$numberInt" => "a 32-bit integer in a string",
        "$numberLong" => "a 64-bit integer in a string",
        "$numberDouble" => "a number, `Infinity`, `-Infinity` or `NaN` in a string",
        "$numberDecimal" => "a decimal number in a string",
        "$binary" => "`base64` and `subType` (two hexadecimal digits), both strings",
        "$uuid" => "a UUID in a string",
        "$regularExpression" => "`pattern` and `options`, both strings without NUL",
        "$timestamp" => "`t` and `i`, both 32-bit unsigned integers",
        "$minKey" | "$maxKey" => "the number 1",
        "$undefined" => "`true`",
        "$symbol" => "a string",
        "$code" => "a string, beside it at most a `$scope` document",
        // MongoDB deprecated it before the first version of this server.
        _ => return format!("`{wrapper}` is not supported"),
    };
    format!("`{wrapper}` takes {takes}")
}

fn date(text: &str) -> Option<DateTime> {
    DateTime::parse_rfc3339_str(text).ok()
}

fn double(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust would also take "inf" and "infinity", which no other reader does.
        _ if text.contains(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E') => None,
        _ => text.parse().ok(),
    }
}

fn binary(body: &Document) -> Option<Binary> {
    let (base64, subtype) = (body.get_str("base64").ok()?, body.get_str("subType").ok()?);
    // from_str_radix would take a sign.
    let is_hex =
        matches!(subtype.len(), 1 | 2) && subtype.bytes().all(|byte| byte.is_ascii_hexdigit());
    if body.len() != 2 || !is_hex {
        return None;
    }
    let subtype = u8::from_str_radix(subtype, 16).ok()?;
    Some(Binary {
        subtype: BinarySubtype::from(subtype),
        bytes: BASE64.decode(base64).ok()?,
    })
}

fn regex(body: &Document) -> Option<Regex> {
    let (pattern, options) = (body.get_str("pattern").ok()?, body.get_str("options").ok()?);
    if body.len() != 2 {
        return None;
    }
    // BSON keeps options in alphabetical order.
    let mut options: Vec<char> = options.chars().collect();
    options.sort_unstable();
    let options: String = options.into_iter().collect();
    Some(Regex {
        pattern: CString::try_from(pattern).ok()?,
        options: CString::try_from(options).ok()?,
    })
}

fn timestamp(body: &Document) -> Option<Timestamp> {
    let part = |name: &str| match body.get(name)? {
        Bson::Int32(value) => u32::try_from(*value).ok(),
        Bson::Int64(value) => u32::try_from(*value).ok(),
        _ => None,
    };
    (body.len() == 2).then_some(Timestamp {
        time: part("t")?,
        increment: part("i")?,
    })
}
