//! Every operator, stage and accumulator that MongoDB's manual has, by name:
//! either the tables have a case in which it works, or a client that uses it is
//! told its name and that it is not supported. Nothing is passed over.

use std::collections::HashSet;

use bson::{Document, doc};
use coglex_docstore::language;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::storage::{Change, Find};
use coglex_services::{Caller, Error};
use futures_util::TryStreamExt as _;

use super::case;
use crate::support::*;

/// reference/operator/query
const QUERY: &str = "$eq $gt $gte $in $lt $lte $ne $nin $and $not $nor $or $exists $type $expr
    $jsonSchema $mod $regex $options $text $where $geoIntersects $geoWithin $near $nearSphere
    $box $center $centerSphere $geometry $maxDistance $minDistance $polygon $uniqueDocs $all
    $elemMatch $size $bitsAllClear $bitsAllSet $bitsAnyClear $bitsAnySet $comment $rand $natural
    $sampleRate $alwaysTrue $alwaysFalse $within";

/// reference/operator/update, and one that is gone
const UPDATE: &str = "$currentDate $inc $min $max $mul $rename $set $setOnInsert $unset $addToSet
    $pop $pull $push $pullAll $bit $pushAll $isolated";

/// reference/operator/aggregation-pipeline
const STAGE: &str = "$addFields $bucket $bucketAuto $changeStream $changeStreamSplitLargeEvent
    $collStats $count $currentOp $densify $documents $facet $fill $geoNear $graphLookup $group
    $indexStats $limit $listClusterCatalog $listLocalSessions $listSampledQueries
    $listSearchIndexes $listSessions $lookup $match $merge $out $planCacheStats $project
    $querySettings $queryStats $rankFusion $redact $replaceRoot $replaceWith $sample $score
    $scoreFusion $search $searchMeta $set $setWindowFields $shardedDataDistribution $skip $sort
    $sortByCount $unionWith $unset $unwind $vectorSearch";

/// reference/operator/aggregation: expressions, accumulators, window operators
const EXPRESSION: &str = "$abs $accumulator $acos $acosh $add $addToSet $allElementsTrue $and
    $anyElementTrue $arrayElemAt $arrayToObject $asin $asinh $atan $atan2 $atanh $avg $binarySize
    $bitAnd $bitNot $bitOr $bitXor $bottom $bottomN $bsonSize $ceil $cmp $concat $concatArrays
    $cond $convert $cos $cosh $count $covariancePop $covarianceSamp $dateAdd $dateDiff
    $dateFromParts $dateFromString $dateSubtract $dateToParts $dateToString $dateTrunc $dayOfMonth
    $dayOfWeek $dayOfYear $degreesToRadians $denseRank $derivative $divide $documentNumber
    $encStrContains $eq $exp $expMovingAvg $filter $first $firstN $floor $function $getField $gt
    $gte $hash $hexHash $hour $ifNull $in $indexOfArray $indexOfBytes $indexOfCP $integral
    $isArray $isNumber $isoDayOfWeek $isoWeek $isoWeekYear $last $lastN $let $linearFill $literal
    $ln $locf $log $log10 $lt $lte $ltrim $map $max $maxN $median $mergeObjects $meta $min $minN
    $millisecond $minMaxScaler $minute $mod $month $multiply $ne $not $objectToArray $or
    $percentile $pow $push $radiansToDegrees $rand $range $rank $reduce $regexFind $regexFindAll
    $regexMatch $replaceAll $replaceOne $reverseArray $round $rtrim $sampleRate $second
    $setDifference $setEquals $setField $setIntersection $setIsSubset $setUnion $shift $sigmoid
    $sin $sinh $size $slice $sortArray $split $sqrt $stdDevPop $stdDevSamp $strLenBytes $strLenCP
    $strcasecmp $substr $substrBytes $substrCP $subtract $sum $switch $tan $tanh $toBool $toDate
    $toDecimal $toDouble $toHashedIndexKey $toInt $toLong $toLower $toObjectId $toString $toUUID
    $toUpper $top $topN $trim $trunc $tsIncrement $tsSecond $type $unsetField $week $year $zip";

fn names(list: &str) -> Vec<&str> {
    list.split_whitespace().collect()
}

#[test]
fn what_is_supported_is_in_the_manual_and_in_the_tables() {
    let shown: Vec<String> = case::all()
        .into_iter()
        .flat_map(|group| group.cases)
        .filter(|case| !case.is_refused())
        .map(|case| case.place)
        .collect();
    let is_shown = |name: &str, within: &[&str]| {
        let name = format!("\"{name}\"");
        shown
            .iter()
            .any(|case| case.contains(&name) && within.iter().any(|key| case.contains(key)))
    };
    let dbref = ["$ref", "$id", "$db"];
    for (list, manual, within) in [
        (
            language::QUERY.to_vec(),
            names(QUERY),
            &["\"find\"", "\"where\""][..],
        ),
        (language::UPDATE.to_vec(), names(UPDATE), &["\"update\""]),
        (language::STAGE.to_vec(), names(STAGE), &["\"pipeline\""]),
        (
            language::expressions().collect(),
            names(EXPRESSION),
            &["\"expr\"", "\"pipeline\"", "$expr"],
        ),
        (
            language::accumulators().collect(),
            names(EXPRESSION),
            &["\"group\"", "\"$group\""],
        ),
    ] {
        let manual: HashSet<&str> = manual.into_iter().collect();
        for name in list.iter().filter(|name| !dbref.contains(name)) {
            assert!(manual.contains(name), "{name} is not in the manual");
            assert!(is_shown(name, within), "no case shows that {name} works");
        }
    }
    for name in language::MODIFIER {
        assert!(
            is_shown(name, &["\"update\""]),
            "no case shows that {name} works"
        );
    }
}

async fn what_is_not_supported_is_refused_by_name(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1, "a": 1 }])
        .await
        .unwrap();
    let documents = Documents::new(store, DocumentLimits::default());
    let supported: HashSet<&str> = language::expressions()
        .chain(language::accumulators())
        .collect();
    let mut refused = 0;
    for name in names(QUERY)
        .into_iter()
        .filter(|name| !language::QUERY.contains(name))
    {
        for filter in [
            doc! { name: 1 },
            doc! { "a": { name: 1 } },
            doc! { "$or": [{ "a": { "$not": { name: 1 } } }] },
        ] {
            refuses(name, find(&documents, filter).await);
            refused += 1;
        }
    }
    for name in names(UPDATE)
        .into_iter()
        .filter(|name| !language::UPDATE.contains(name))
    {
        let change = Change::Operators(doc! { name: { "a": 1 } });
        let ended = documents
            .update(&Caller::ApiKey, "c", doc! {}, change, false, false)
            .await;
        refuses(name, ended.map(drop));
        refused += 1;
    }
    for name in names(STAGE)
        .into_iter()
        .filter(|name| !language::STAGE.contains(name))
    {
        for pipeline in [
            vec![doc! { name: {} }],
            vec![doc! { "$facet": { "f": [{ name: {} }] } }],
        ] {
            refuses(name, aggregate(&documents, pipeline).await);
            refused += 1;
        }
    }
    for name in names(EXPRESSION)
        .into_iter()
        .filter(|name| !supported.contains(name))
    {
        refuses(
            name,
            find(&documents, doc! { "$expr": { name: ["$a"] } }).await,
        );
        for stage in [
            doc! { "$project": { "v": { name: "$a" } } },
            doc! { "$group": { "_id": null, "v": { name: "$a" } } },
            doc! { "$group": { "_id": null, "v": { "$sum": { "$add": [1, { name: "$a" }] } } } },
        ] {
            refuses(name, aggregate(&documents, vec![stage]).await);
        }
        refused += 4;
    }
    eprintln!("conformance: {refused} uses of unsupported names refused by name");
}

async fn find(documents: &Documents, filter: Document) -> Result<(), Error> {
    let find = Find {
        filter,
        ..Find::default()
    };
    let found = documents.find(&Caller::ApiKey, "c", find).await?;
    Ok(found.try_collect::<Vec<_>>().await.map(drop)?)
}

async fn aggregate(documents: &Documents, pipeline: Vec<Document>) -> Result<(), Error> {
    let made = documents
        .aggregate(&Caller::ApiKey, "c", pipeline, None, None)
        .await?;
    Ok(made.try_collect::<Vec<_>>().await.map(drop)?)
}

fn refuses(name: &str, ended: Result<(), Error>) {
    match ended {
        Err(Error::Invalid(sentence)) => assert!(sentence.contains(name), "{name}: {sentence}"),
        other => panic!("{name}: {other:?}"),
    }
}

crate::on_both_stores!(what_is_not_supported_is_refused_by_name);
