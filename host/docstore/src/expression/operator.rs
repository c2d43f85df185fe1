//! The table of operators that take values and give a value.

use std::cmp::Ordering;

use bson::Bson;

use crate::error::{Error, Result};
use crate::expression::{
    Expression, Scope, arithmetic, array, calendar, compare, convert, date, is_nullish, is_true,
    sequence, text,
};

/// A function of evaluated arguments.
type Function = fn(&'static str, &[Option<Bson>], &Scope<'_>) -> Result<Option<Bson>>;

/// An operator.
#[derive(Clone, Copy)]
pub(crate) struct Operator {
    name: &'static str,
    kind: Kind,
    arity: (usize, usize),
    named: Named,
}

/// How an operator's arguments are given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    /// As a list, or one alone.
    No,
    /// As a document of these names; as many of the first as the arity's lower
    /// bound are needed.
    Only(&'static [&'static str]),
    /// As a document of these names, or the first alone.
    OrFirst(&'static [&'static str]),
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Function(Function),
    And,
    Or,
    IfNull,
}

const ANY: usize = usize::MAX;

macro_rules! table {
    ($($name:literal $least:tt..$most:tt $function:expr
        $(, [$($argument:literal),+])? $(, or [$($other:literal),+])?;)+) => {
        &[$(Operator {
            name: $name,
            kind: Kind::Function($function),
            arity: ($least, $most),
            named: table!(@named [$($($argument),+)?] [$($($other),+)?]),
        }),+]
    };
    (@named [] []) => { Named::No };
    (@named [$($argument:literal),+] []) => { Named::Only(&[$($argument),+]) };
    (@named [] [$($argument:literal),+]) => { Named::OrFirst(&[$($argument),+]) };
}

const TABLE: &[Operator] = table! {
    "$add" 1..ANY arithmetic::sum;
    "$subtract" 2..2 arithmetic::subtract;
    "$multiply" 1..ANY arithmetic::multiply;
    "$divide" 2..2 arithmetic::divide;
    "$mod" 2..2 arithmetic::modulo;
    "$abs" 1..1 arithmetic::rounded;
    "$ceil" 1..1 arithmetic::rounded;
    "$floor" 1..1 arithmetic::rounded;
    "$trunc" 1..2 arithmetic::to_place;
    "$round" 1..2 arithmetic::to_place;
    "$sqrt" 1..1 arithmetic::real;
    "$exp" 1..1 arithmetic::real;
    "$ln" 1..1 arithmetic::real;
    "$log10" 1..1 arithmetic::real;
    "$log" 2..2 arithmetic::logarithm;
    "$sin" 1..1 arithmetic::angle;
    "$cos" 1..1 arithmetic::angle;
    "$tan" 1..1 arithmetic::angle;
    "$asin" 1..1 arithmetic::angle;
    "$acos" 1..1 arithmetic::angle;
    "$atan" 1..1 arithmetic::angle;
    "$atan2" 2..2 arithmetic::angle_of_point;
    "$sinh" 1..1 arithmetic::angle;
    "$cosh" 1..1 arithmetic::angle;
    "$tanh" 1..1 arithmetic::angle;
    "$asinh" 1..1 arithmetic::angle;
    "$acosh" 1..1 arithmetic::angle;
    "$atanh" 1..1 arithmetic::angle;
    "$degreesToRadians" 1..1 arithmetic::angle;
    "$radiansToDegrees" 1..1 arithmetic::angle;
    "$bitAnd" 1..ANY arithmetic::bits;
    "$bitOr" 1..ANY arithmetic::bits;
    "$bitXor" 1..ANY arithmetic::bits;
    "$bitNot" 1..1 arithmetic::bits;
    "$pow" 2..2 arithmetic::power;
    "$eq" 2..2 comparison;
    "$ne" 2..2 comparison;
    "$gt" 2..2 comparison;
    "$gte" 2..2 comparison;
    "$lt" 2..2 comparison;
    "$lte" 2..2 comparison;
    "$cmp" 2..2 comparison;
    "$not" 1..1 not;
    "$concat" 0..ANY text::concat;
    "$toLower" 1..1 text::case;
    "$toUpper" 1..1 text::case;
    "$strLenBytes" 1..1 text::length;
    "$strLenCP" 1..1 text::length;
    "$substr" 3..3 text::substring;
    "$substrBytes" 3..3 text::substring;
    "$substrCP" 3..3 text::substring;
    "$indexOfCP" 2..4 text::index_of;
    "$indexOfBytes" 2..4 text::index_of;
    "$split" 2..2 text::split;
    "$strcasecmp" 2..2 text::case_compare;
    "$trim" 1..2 text::trim, ["input", "chars"];
    "$ltrim" 1..2 text::trim, ["input", "chars"];
    "$rtrim" 1..2 text::trim, ["input", "chars"];
    "$replaceOne" 3..3 text::replace, ["input", "find", "replacement"];
    "$replaceAll" 3..3 text::replace, ["input", "find", "replacement"];
    "$regexMatch" 2..3 text::regex_match, ["input", "regex", "options"];
    "$regexFind" 2..3 text::regex_find, ["input", "regex", "options"];
    "$regexFindAll" 2..3 text::regex_find, ["input", "regex", "options"];
    "$size" 1..1 array::size_of;
    "$isArray" 1..1 array::is_array;
    "$arrayElemAt" 2..2 array::element_at;
    "$first" 1..1 array::end;
    "$last" 1..1 array::end;
    "$firstN" 2..2 sequence::some_of, ["input", "n"];
    "$lastN" 2..2 sequence::some_of, ["input", "n"];
    "$minN" 2..2 sequence::some_of, ["input", "n"];
    "$maxN" 2..2 sequence::some_of, ["input", "n"];
    "$zip" 1..3 sequence::zip, ["inputs", "useLongestLength", "defaults"];
    "$sortArray" 2..2 sequence::sort, ["input", "sortBy"];
    "$in" 2..2 array::contains;
    "$indexOfArray" 2..4 array::index_of;
    "$concatArrays" 0..ANY array::concat;
    "$slice" 2..3 array::slice;
    "$reverseArray" 1..1 array::reverse;
    "$range" 2..3 array::range;
    "$arrayToObject" 1..1 array::to_object;
    "$objectToArray" 1..1 array::from_object;
    "$mergeObjects" 0..ANY array::merge;
    "$setUnion" 0..ANY array::union;
    "$setIntersection" 1..ANY array::intersection;
    "$setDifference" 2..2 array::difference;
    "$setIsSubset" 2..2 array::is_subset;
    "$setEquals" 2..ANY array::set_equals;
    "$allElementsTrue" 1..1 array::truths;
    "$anyElementTrue" 1..1 array::truths;
    "$sum" 0..ANY array::statistic;
    "$avg" 0..ANY array::statistic;
    "$min" 0..ANY array::statistic;
    "$max" 0..ANY array::statistic;
    "$stdDevPop" 0..ANY array::spread;
    "$stdDevSamp" 0..ANY array::spread;
    "$type" 1..1 convert::type_name;
    "$isNumber" 1..1 convert::is_number;
    "$toString" 1..1 convert::convert;
    "$toInt" 1..1 convert::convert;
    "$toLong" 1..1 convert::convert;
    "$toDouble" 1..1 convert::convert;
    "$toBool" 1..1 convert::convert;
    "$toDate" 1..1 convert::convert;
    "$toObjectId" 1..1 convert::convert;
    "$toDecimal" 1..1 convert::convert;
    "$convert" 2..4 convert::convert_to, ["input", "to", "onError", "onNull"];
    "$binarySize" 1..1 convert::binary_size;
    "$bsonSize" 1..1 convert::bson_size;
    "$year" 1..2 date::part, or ["date", "timezone"];
    "$month" 1..2 date::part, or ["date", "timezone"];
    "$dayOfMonth" 1..2 date::part, or ["date", "timezone"];
    "$dayOfWeek" 1..2 date::part, or ["date", "timezone"];
    "$dayOfYear" 1..2 date::part, or ["date", "timezone"];
    "$hour" 1..2 date::part, or ["date", "timezone"];
    "$minute" 1..2 date::part, or ["date", "timezone"];
    "$second" 1..2 date::part, or ["date", "timezone"];
    "$millisecond" 1..2 date::part, or ["date", "timezone"];
    "$week" 1..2 date::part, or ["date", "timezone"];
    "$isoWeek" 1..2 date::part, or ["date", "timezone"];
    "$isoWeekYear" 1..2 date::part, or ["date", "timezone"];
    "$isoDayOfWeek" 1..2 date::part, or ["date", "timezone"];
    "$dateToString" 1..4 date::format, ["date", "format", "onNull", "timezone"];
    "$dateToParts" 1..3 date::to_parts, ["date", "iso8601", "timezone"];
    "$dateFromParts" 0..11 date::from_parts,
        ["year", "month", "day", "hour", "minute", "second", "millisecond", "timezone",
         "isoWeekYear", "isoWeek", "isoDayOfWeek"];
    "$dateFromString" 1..4 date::from_string, ["dateString", "onError", "onNull", "timezone"];
    "$dateAdd" 3..4 calendar::add, ["startDate", "unit", "amount", "timezone"];
    "$dateSubtract" 3..4 calendar::add, ["startDate", "unit", "amount", "timezone"];
    "$dateDiff" 3..5 calendar::difference,
        ["startDate", "endDate", "unit", "timezone", "startOfWeek"];
    "$dateTrunc" 2..5 calendar::truncate, ["date", "unit", "binSize", "timezone", "startOfWeek"];
    "$tsSecond" 1..1 date::timestamp;
    "$tsIncrement" 1..1 date::timestamp;
};

impl Operator {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let lazy = |name: &'static str, kind| {
            Some(Operator {
                name,
                kind,
                arity: (if name == "$ifNull" { 2 } else { 0 }, ANY),
                named: Named::No,
            })
        };
        match name {
            "$and" => lazy("$and", Kind::And),
            "$or" => lazy("$or", Kind::Or),
            "$ifNull" => lazy("$ifNull", Kind::IfNull),
            _ => TABLE.iter().find(|operator| operator.name == name).copied(),
        }
    }

    /// The names of all operators in the table, and of those that are lazy.
    pub(crate) fn known() -> impl Iterator<Item = &'static str> {
        let lazy = ["$and", "$or", "$ifNull"];
        TABLE.iter().map(|operator| operator.name).chain(lazy)
    }

    pub(crate) fn named(&self) -> Named {
        self.named
    }

    pub(crate) fn arity(&self) -> (usize, usize) {
        self.arity
    }

    pub(crate) fn evaluate(
        &self,
        arguments: &[Expression],
        scope: &mut Scope<'_>,
    ) -> Result<Option<Bson>> {
        let function = match self.kind {
            Kind::Function(function) => function,
            // These stop at the first argument that decides.
            Kind::And | Kind::Or => {
                let decisive = matches!(self.kind, Kind::Or);
                for argument in arguments {
                    if is_true(argument.evaluate(scope)?.as_ref()) == decisive {
                        return Ok(Some(Bson::Boolean(decisive)));
                    }
                }
                return Ok(Some(Bson::Boolean(!decisive)));
            }
            Kind::IfNull => {
                let mut last = None;
                for argument in arguments {
                    last = argument.evaluate(scope)?;
                    if !is_nullish(last.as_ref()) {
                        break;
                    }
                }
                return Ok(last);
            }
        };
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(argument.evaluate(scope)?);
        }
        // A function's result is made of its arguments and of what it accounts
        // for itself.
        function(self.name, &values, scope)
    }
}

/// The argument at `index`, if it was given and is not missing.
pub(crate) fn argument(arguments: &[Option<Bson>], index: usize) -> Option<&Bson> {
    arguments.get(index).and_then(Option::as_ref)
}

/// Whether any argument is null or missing, which makes most results null.
pub(crate) fn any_null(arguments: &[Option<Bson>]) -> bool {
    arguments
        .iter()
        .any(|argument| is_nullish(argument.as_ref()))
}

/// The usual refusal.
pub(crate) fn needs(name: &str, what: &str) -> Error {
    Error::Invalid(format!("{name} needs {what}"))
}

fn comparison(
    name: &'static str,
    arguments: &[Option<Bson>],
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let order = compare(argument(arguments, 0), argument(arguments, 1))?;
    Ok(Some(match name {
        "$eq" => Bson::Boolean(order == Ordering::Equal),
        "$ne" => Bson::Boolean(order != Ordering::Equal),
        "$gt" => Bson::Boolean(order == Ordering::Greater),
        "$gte" => Bson::Boolean(order != Ordering::Less),
        "$lt" => Bson::Boolean(order == Ordering::Less),
        "$lte" => Bson::Boolean(order != Ordering::Greater),
        _ => Bson::Int32(order as i32),
    }))
}

fn not(_: &'static str, arguments: &[Option<Bson>], _: &Scope<'_>) -> Result<Option<Bson>> {
    Ok(Some(Bson::Boolean(!is_true(argument(arguments, 0)))))
}
