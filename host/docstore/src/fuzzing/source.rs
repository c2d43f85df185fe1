//! From a fuzzer's bytes to documents, filters, updates and pipelines.
//!
//! Random bytes are hardly ever a filter, so the bytes choose among the names and
//! values that the languages have, and some that they have not. Any bytes give
//! something, and when they end, the simplest choice is taken.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};

const NAMES: &[&str] = &["a", "b", "c", "_id", "d", "0", "1", "é", "", "a b"];
const PATHS: &[&str] = &[
    "a", "b", "c", "_id", "a.b", "a.0", "a.b.c", "a.1.b", "b.0.c", "a.a", "c.d", "0", "d", "a.",
    ".a", "", "a..b", "$a", "a.$b", "_id.a", "a.01", "d.$id",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "abc",
    "A",
    "é",
    "ß",
    "a\u{0}",
    "$a",
    "$$ROOT",
    "$$",
    "0",
    "1.5",
    "2020-01-01T00:00:00Z",
    "string",
    "x",
];
const PATTERNS: &[&str] = &[
    "a", "^a", "^ab", "b$", "^a.*b$", "(a|b)+", "[", "(?i)a", "(?=a)", "\\d", "a{2,}", "a{9999}",
    "^\\^", "^\\Qa", "", ".", "(a*)*", "\\1", "^é",
];
const OPTIONS: &[&str] = &["", "i", "m", "s", "x", "ims", "u", "q", "ii"];
const DECIMALS: &[&str] = &[
    "0",
    "-0",
    "1",
    "0.1",
    "1.10",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "1E6144",
    "-9.999E-6143",
    "9007199254740993",
    "9223372036854775808",
    "0E-6176",
    "2.5",
];
const TESTS: &[&str] = &[
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$all",
    "$exists",
    "$type",
    "$size",
    "$mod",
    "$regex",
    "$options",
    "$not",
    "$elemMatch",
    "$bitsAllSet",
    "$bitsAnySet",
    "$bitsAllClear",
    "$bitsAnyClear",
    "$where",
    "$near",
    "$ref",
    "$id",
    "$bogus",
];
const CHANGES: &[&str] = &[
    "$set",
    "$unset",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$rename",
    "$push",
    "$addToSet",
    "$pull",
    "$pullAll",
    "$pop",
    "$currentDate",
    "$setOnInsert",
    "$bit",
];
const TARGETS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "a.b",
    "a.0",
    "a.2",
    "b.c.d",
    "a.$",
    "a.$[]",
    "a.$[x]",
    "a.$[x].b",
    "b.$[].c",
    "a.$.b",
    "_id",
    "_id.a",
    "a.99999999",
    "",
    "a.",
    "$a",
    "a.$[",
    "a.$[X]",
];
const OPERATORS: &[&str] = &[
    "$add",
    "$subtract",
    "$multiply",
    "$divide",
    "$mod",
    "$abs",
    "$ceil",
    "$floor",
    "$trunc",
    "$round",
    "$sqrt",
    "$exp",
    "$ln",
    "$log10",
    "$pow",
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$cmp",
    "$not",
    "$and",
    "$or",
    "$ifNull",
    "$concat",
    "$toLower",
    "$toUpper",
    "$strLenBytes",
    "$strLenCP",
    "$substr",
    "$substrBytes",
    "$substrCP",
    "$indexOfCP",
    "$indexOfBytes",
    "$split",
    "$strcasecmp",
    "$size",
    "$isArray",
    "$arrayElemAt",
    "$first",
    "$last",
    "$in",
    "$indexOfArray",
    "$concatArrays",
    "$slice",
    "$reverseArray",
    "$range",
    "$arrayToObject",
    "$objectToArray",
    "$mergeObjects",
    "$setUnion",
    "$setIntersection",
    "$setDifference",
    "$setIsSubset",
    "$setEquals",
    "$allElementsTrue",
    "$anyElementTrue",
    "$sum",
    "$avg",
    "$min",
    "$max",
    "$type",
    "$isNumber",
    "$toString",
    "$toInt",
    "$toLong",
    "$toDouble",
    "$toBool",
    "$toDate",
    "$toObjectId",
    "$year",
    "$month",
    "$dayOfMonth",
    "$dayOfWeek",
    "$dayOfYear",
    "$hour",
    "$minute",
    "$second",
    "$millisecond",
    "$literal",
    "$function",
    "$bogus",
];
const ACCUMULATORS: &[&str] = &[
    "$sum",
    "$avg",
    "$min",
    "$max",
    "$first",
    "$last",
    "$push",
    "$addToSet",
    "$mergeObjects",
    "$stdDevPop",
    "$stdDevSamp",
    "$accumulator",
];
const REFERENCES: &[&str] = &[
    "$a",
    "$b",
    "$c",
    "$a.b",
    "$_id",
    "$a.b.c",
    "$$ROOT",
    "$$CURRENT.a",
    "$$this",
    "$$value",
    "$$v",
    "$$REMOVE",
    "$",
    "$a.",
    "$$bogus",
];

/// Bytes that are used up by choosing.
pub(super) struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Source { bytes }
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// The next bytes, as many as there are.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn chunk<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound.max(1)
    }

    fn pick(&mut self, from: &[&'static str]) -> String {
        let at = usize::from(self.byte()) % from.len().max(1);
        from.get(at).copied().unwrap_or_default().to_owned()
    }

    fn whole(&mut self) -> i64 {
        match self.below(8) {
            0..5 => i64::from(self.byte().cast_signed() % 4),
            5 => i64::from(i32::from_le_bytes(self.chunk())),
            6 => i64::from_le_bytes(self.chunk()),
            _ => match self.below(6) {
                0 => i64::MAX,
                1 => i64::MIN,
                2 => i64::from(i32::MAX),
                3 => i64::from(i32::MIN),
                4 => (1 << 53) + 1,
                _ => -(1 << 53) - 1,
            },
        }
    }

    fn scalar(&mut self) -> Bson {
        match self.below(24) {
            0 => Bson::Null,
            1..5 => Bson::Int32(self.whole() as i32),
            5 | 6 => Bson::Int64(self.whole()),
            7 | 8 => Bson::Double(self.whole() as f64 / 2.0),
            9 => Bson::Double(f64::from_le_bytes(self.chunk())),
            10 => {
                let text = self.pick(DECIMALS);
                text.parse().map_or(Bson::Null, Bson::Decimal128)
            }
            11..14 => Bson::String(self.pick(TEXTS)),
            14 => Bson::String(String::from_utf8_lossy(&self.chunk::<4>()).into_owned()),
            15 => Bson::Boolean(self.byte() & 1 == 1),
            16 => Bson::DateTime(DateTime::from_millis(self.whole())),
            17 => {
                let [time, increment] = [self.chunk(), self.chunk()].map(u32::from_le_bytes);
                Bson::Timestamp(Timestamp { time, increment })
            }
            18 => Bson::ObjectId(ObjectId::from_bytes([self.byte(); 12])),
            19 => {
                let length = usize::from(self.below(5));
                Bson::Binary(Binary {
                    subtype: BinarySubtype::from(self.below(8)),
                    bytes: self.take(length).to_vec(),
                })
            }
            20 => regex(self.pick(PATTERNS), self.pick(OPTIONS)),
            21 => match self.below(5) {
                0 => Bson::Undefined,
                1 => Bson::MinKey,
                2 => Bson::MaxKey,
                3 => Bson::JavaScriptCode(self.pick(TEXTS)),
                _ => Bson::Symbol(self.pick(TEXTS)),
            },
            22 => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: self.pick(TEXTS),
                scope: doc! { "a": self.whole() },
            }),
            _ => Bson::Double(f64::NAN),
        }
    }

    /// Any value, nested at most `depth` deep but for some that are nested far too
    /// deeply.
    pub(super) fn value(&mut self, depth: u8) -> Bson {
        match self.below(8) {
            0..4 => self.scalar(),
            _ if depth == 0 => self.scalar(),
            4 | 5 => Bson::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            6 => Bson::Document(self.members(depth - 1)),
            _ if self.below(16) == 15 => {
                let nesting = self.byte();
                (0..nesting).fold(self.scalar(), |inner, level| {
                    if level & 1 == 0 {
                        Bson::Array(vec![inner])
                    } else {
                        Bson::Document(doc! { "a": inner })
                    }
                })
            }
            _ => self.scalar(),
        }
    }

    fn members(&mut self, depth: u8) -> Document {
        (0..self.below(4))
            .map(|_| (self.pick(NAMES), self.value(depth)))
            .collect()
    }

    /// A document as it may be stored.
    pub(super) fn document(&mut self) -> Document {
        let mut document = doc! { "_id": i32::from(self.byte()) };
        for _ in 0..self.below(6) {
            let name = self.pick(NAMES);
            if name != "_id" {
                document.insert(name, self.value(3));
            }
        }
        document
    }

    pub(super) fn filter(&mut self, depth: u8) -> Document {
        let mut filter = Document::new();
        for _ in 0..1 + self.below(3) {
            let (name, operand) = match self.below(10) {
                0 | 1 if depth > 0 => {
                    let name = self.pick(&["$and", "$or", "$nor", "$bogus"]);
                    let clauses = (0..self.below(4)).map(|_| self.filter(depth - 1).into());
                    (name, Bson::Array(clauses.collect()))
                }
                2 => ("$expr".to_owned(), self.expression(depth)),
                3 => (
                    self.pick(&["$comment", "$where", "$text", "$expr", "$and"]),
                    self.value(2),
                ),
                4..7 => (self.pick(PATHS), self.value(2)),
                _ => (self.pick(PATHS), self.tests(depth).into()),
            };
            filter.insert(name, operand);
        }
        filter
    }

    fn tests(&mut self, depth: u8) -> Document {
        let mut tests = Document::new();
        for _ in 0..1 + self.below(3) {
            let name = self.pick(TESTS);
            let operand = match name.as_str() {
                // Now and then, an operand of any other kind.
                _ if self.below(12) == 0 => self.value(2),
                "$in" | "$nin" | "$all" => {
                    Bson::Array((0..self.below(5)).map(|_| self.value(1)).collect())
                }
                "$not" if depth > 0 => self.tests(depth - 1).into(),
                "$elemMatch" if depth > 0 && self.below(2) == 0 => self.tests(depth - 1).into(),
                "$elemMatch" if depth > 0 => self.filter(depth - 1).into(),
                "$regex" => Bson::String(self.pick(PATTERNS)),
                "$options" => Bson::String(self.pick(OPTIONS)),
                "$mod" => Bson::Array(vec![self.whole().into(), self.whole().into()]),
                "$size" => i32::from(self.below(5)).into(),
                "$type" => match self.below(3) {
                    0 => i32::from(self.byte().cast_signed()).into(),
                    1 => Bson::Array(vec!["number".into(), self.scalar()]),
                    _ => Bson::String(self.pick(&["string", "number", "array", "null", "bogus"])),
                },
                "$exists" => Bson::Boolean(self.byte() & 1 == 1),
                _ => self.value(2),
            };
            tests.insert(name, operand);
        }
        tests
    }

    pub(super) fn sort(&mut self) -> Document {
        let directions = [1, -1];
        (0..1 + self.below(2))
            .map(|_| {
                let path = self.pick(PATHS);
                let direction = match self.below(12) {
                    0 => self.scalar(),
                    n => Bson::Int32(directions.get(usize::from(n % 2)).copied().unwrap_or(1)),
                };
                (path, direction)
            })
            .collect()
    }

    pub(super) fn projection(&mut self, depth: u8) -> Document {
        (0..1 + self.below(3))
            .map(|_| {
                let path = self.pick(PATHS);
                let shown = match self.below(8) {
                    0..3 => Bson::Int32(1),
                    3 | 4 => Bson::Int32(0),
                    5 => doc! { "$slice": self.value(1) }.into(),
                    6 => doc! { "$elemMatch": self.filter(depth.saturating_sub(1)) }.into(),
                    _ => self.value(2),
                };
                (path, shown)
            })
            .collect()
    }

    pub(super) fn expression(&mut self, depth: u8) -> Bson {
        match self.below(10) {
            0..3 => Bson::String(self.pick(REFERENCES)),
            3 | 4 => self.scalar(),
            _ if depth == 0 => Bson::String(self.pick(REFERENCES)),
            5 => Bson::Array(
                (0..self.below(4))
                    .map(|_| self.expression(depth - 1))
                    .collect(),
            ),
            6 => self.special(depth - 1),
            _ => {
                let name = self.pick(OPERATORS);
                let operand = match self.below(5) {
                    0 => self.expression(depth - 1),
                    count => Bson::Array((0..count).map(|_| self.expression(depth - 1)).collect()),
                };
                Bson::Document([(name, operand)].into_iter().collect())
            }
        }
    }

    /// Expressions whose operand has named parts.
    fn special(&mut self, depth: u8) -> Bson {
        let mut part = || self.expression(depth);
        let (one, two, three) = (part(), part(), part());
        Bson::Document(match self.below(13) {
            0 => doc! { "$cond": [one, two, three] },
            1 => doc! { "$cond": { "if": one, "then": two, "else": three } },
            2 => {
                doc! { "$switch": { "branches": [{ "case": one, "then": two }], "default": three } }
            }
            3 => doc! { "$let": { "vars": { "v": one }, "in": two } },
            4 => doc! { "$map": { "input": one, "as": "v", "in": two } },
            5 => doc! { "$filter": { "input": one, "cond": two } },
            6 => doc! { "$reduce": { "input": one, "initialValue": two, "in": three } },
            7 => doc! { "$trim": { "input": one, "chars": two } },
            8 => doc! { "$replaceAll": { "input": one, "find": two, "replacement": three } },
            9 => {
                doc! { "$regexMatch": { "input": one, "regex": self.pick(PATTERNS), "options": self.pick(OPTIONS) } }
            }
            10 => doc! { "$dateToString": { "date": one, "format": "%Y-%m-%dT%H:%M:%S.%LZ%%%j" } },
            11 => doc! { "a": one, "b.c": two },
            _ => doc! { "$literal": three },
        })
    }

    pub(super) fn operators(&mut self) -> Document {
        let mut update = Document::new();
        for _ in 0..1 + self.below(3) {
            let name = self.pick(CHANGES);
            let fields: Document = (0..1 + self.below(2))
                .map(|_| {
                    let path = self.pick(TARGETS);
                    (path, self.operand(&name))
                })
                .collect();
            update.insert(name, fields);
        }
        update
    }

    fn operand(&mut self, name: &str) -> Bson {
        match name {
            _ if self.below(12) == 0 => self.value(2),
            "$rename" => Bson::String(self.pick(TARGETS)),
            "$inc" | "$mul" => self.scalar(),
            "$pop" => Bson::Int32(if self.byte() & 1 == 1 { 1 } else { -1 }),
            "$pull" if self.below(2) == 0 => self.tests(1).into(),
            "$pull" => self.filter(1).into(),
            "$pullAll" => Bson::Array((0..self.below(4)).map(|_| self.value(1)).collect()),
            "$push" | "$addToSet" if self.below(2) == 0 => {
                let mut each =
                    doc! { "$each": (0..self.below(4)).map(|_| self.value(1)).collect::<Vec<_>>() };
                if self.below(2) == 0 {
                    each.insert("$slice", self.whole());
                }
                if self.below(2) == 0 {
                    each.insert("$position", self.whole());
                }
                match self.below(3) {
                    0 => {
                        each.insert("$sort", self.sort());
                    }
                    1 => {
                        each.insert("$sort", self.scalar());
                    }
                    _ => {}
                }
                each.into()
            }
            "$currentDate" => match self.below(3) {
                0 => doc! { "$type": self.pick(&["date", "timestamp", "bogus"]) }.into(),
                _ => Bson::Boolean(true),
            },
            _ => self.value(2),
        }
    }

    /// A filter on the element `x`.
    pub(super) fn array_filter(&mut self) -> Document {
        let name = self.pick(&["x", "x.a", "x.b", "y"]);
        match self.below(2) {
            0 => [(name, self.value(1))].into_iter().collect(),
            _ => [(name, Bson::Document(self.tests(1)))]
                .into_iter()
                .collect(),
        }
    }

    pub(super) fn pipeline(&mut self, depth: u8) -> Vec<Document> {
        (0..1 + self.below(4)).map(|_| self.stage(depth)).collect()
    }

    fn stage(&mut self, depth: u8) -> Document {
        let inner = depth.saturating_sub(1);
        match self.below(20) {
            0..3 => doc! { "$match": self.filter(2) },
            3 => doc! { "$sort": self.sort() },
            4 => doc! { "$skip": i32::from(self.below(6)) },
            5 => doc! { "$limit": i32::from(self.below(6)) },
            6 => doc! { "$project": self.fields(true) },
            7 => doc! { self.pick(&["$addFields", "$set"]): self.fields(false) },
            8 => doc! { "$unset": self.pick(PATHS) },
            9 | 10 => doc! { "$group": self.group() },
            11 => match self.below(2) {
                0 => doc! { "$unwind": format!("${}", self.pick(PATHS)) },
                _ => doc! { "$unwind": {
                    "path": format!("${}", self.pick(PATHS)), "includeArrayIndex": self.pick(NAMES),
                    "preserveNullAndEmptyArrays": self.byte() & 1 == 1,
                } },
            },
            12 => match self.below(2) {
                0 => doc! { "$lookup": {
                    "from": "others", "localField": self.pick(PATHS),
                    "foreignField": self.pick(PATHS), "as": self.pick(PATHS),
                } },
                _ if depth > 0 => doc! { "$lookup": {
                    "from": "others", "let": { "v": self.expression(1) },
                    "pipeline": self.pipeline(inner), "as": "c",
                } },
                _ => doc! { "$count": "n" },
            },
            13 => doc! { "$count": self.pick(PATHS) },
            14 if depth > 0 => {
                doc! { "$facet": { "a": self.pipeline(inner), "b": self.pipeline(inner) } }
            }
            15 => doc! { "$sortByCount": self.expression(2) },
            16 => match self.below(2) {
                0 => doc! { "$replaceRoot": { "newRoot": self.expression(2) } },
                _ => doc! { "$replaceWith": self.expression(2) },
            },
            17 => doc! { "$sample": { "size": i32::from(self.below(6)) } },
            18 => doc! { "$bucket": {
                "groupBy": self.expression(1),
                "boundaries": (0..self.below(5)).map(|_| self.scalar()).collect::<Vec<_>>(),
                "default": self.scalar(), "output": { "n": { "$sum": 1 } },
            } },
            _ => [(
                self.pick(&["$out", "$merge", "$unwind", "$bogus", "$group"]),
                self.value(2),
            )]
            .into_iter()
            .collect(),
        }
    }

    fn fields(&mut self, shows: bool) -> Document {
        (0..1 + self.below(3))
            .map(|_| {
                let path = self.pick(PATHS);
                let value = match self.below(3) {
                    0 if shows => Bson::Int32(i32::from(self.byte() & 1)),
                    _ => self.expression(3),
                };
                (path, value)
            })
            .collect()
    }

    fn group(&mut self) -> Document {
        let mut group = doc! { "_id": self.expression(2) };
        for _ in 0..self.below(3) {
            let accumulator = self.pick(ACCUMULATORS);
            let name = self.pick(NAMES);
            let operand = self.expression(2);
            group.insert(name, doc! { accumulator: operand });
        }
        group
    }
}

fn regex(pattern: String, options: String) -> Bson {
    match (pattern.try_into(), options.try_into()) {
        (Ok(pattern), Ok(options)) => Bson::RegularExpression(Regex { pattern, options }),
        _ => Bson::Null,
    }
}
