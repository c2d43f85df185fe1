//! The operators that a client may use: those of the embedded engine. The other
//! engine has more, among them some that run code, that write elsewhere, that
//! reach fields by a computed name or pattern, past what is hidden, and that its
//! servers use among themselves. A list of those would never be complete.

use super::walk::shorten;
use crate::error::Error;

/// In filters. The last three are the names of a DBRef.
pub(super) const QUERY: &[&str] = &[
    "$and",
    "$or",
    "$nor",
    "$expr",
    "$comment",
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$not",
    "$regex",
    "$options",
    "$type",
    "$mod",
    "$size",
    "$all",
    "$elemMatch",
    "$bitsAllSet",
    "$bitsAnySet",
    "$bitsAllClear",
    "$bitsAnyClear",
    "$ref",
    "$id",
    "$db",
];

/// In `$expr` and in stages of a pipeline; the last five only gather groups.
pub(super) const EXPRESSION: &[&str] = &[
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
    "$trim",
    "$ltrim",
    "$rtrim",
    "$replaceOne",
    "$replaceAll",
    "$regexMatch",
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
    "$dateToString",
    "$and",
    "$or",
    "$ifNull",
    "$literal",
    "$cond",
    "$switch",
    "$let",
    "$map",
    "$filter",
    "$reduce",
    "$push",
    "$addToSet",
    "$stdDevPop",
    "$stdDevSamp",
    "$count",
];

/// Of updates.
pub(super) const UPDATE: &[&str] = &[
    "$set",
    "$setOnInsert",
    "$unset",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$currentDate",
    "$rename",
    "$push",
    "$addToSet",
    "$pop",
    "$pull",
    "$pullAll",
];

/// Beside conditions, in what the operators of updates take.
pub(super) const MODIFIER: &[&str] = &["$each", "$position", "$slice", "$sort"];

/// What an operator gets that is in no list. It is worded as by the embedded
/// engine, so that an answer does not depend on the store.
pub(super) fn unknown(name: &str) -> Error {
    Error::Invalid(format!("unknown operator {}", shorten(name)))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};
    use coglex_docstore::Filter;

    use super::*;

    #[test]
    fn the_embedded_engine_knows_them_all() {
        let says = |filter| match Filter::compile(&filter) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let unknown =
            |sentence: &str, name: &str| sentence.contains(&format!("unknown operator {name}"));
        for name in QUERY {
            let beside = says(doc! { "a": { *name: Bson::Null } });
            let above = says(doc! { *name: Bson::Null });
            assert!(!unknown(&beside, name) || !unknown(&above, name), "{name}");
        }
        let accumulators = 5;
        for name in &EXPRESSION[..EXPRESSION.len() - accumulators] {
            let sentence = says(doc! { "$expr": { *name: Bson::Null } });
            assert!(!sentence.contains("unsupported operator"), "{sentence}");
        }
        assert!(unknown(&says(doc! { "a": { "$foo": 1 } }), "$foo"));
        assert!(says(doc! { "$expr": { "$foo": 1 } }).contains("unsupported operator"));
    }
}
