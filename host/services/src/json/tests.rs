use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, JavaScriptCodeWithScope, Regex, Timestamp, bson, doc};
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Bson> {
    parse_value(text.as_bytes(), 100)
}

fn written(value: &Bson) -> String {
    let mut out = Vec::new();
    write_value(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The text means the value, and the value is written as the text.
#[track_caller]
fn check(text: &str, value: impl Into<Bson>) {
    let value = value.into();
    assert_eq!(read(text).unwrap(), value, "{text}");
    assert_eq!(written(&value), text);
}

/// The text means the value, which is written another way.
#[track_caller]
fn check_read(text: &str, value: impl Into<Bson>) {
    assert_eq!(read(text).unwrap(), value.into(), "{text}");
}

#[track_caller]
fn check_refused(text: &str, says: &str) {
    let error = read(text).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{text}: {error:?}");
    assert!(error.to_string().contains(says), "{text}: {error}");
}

#[test]
fn plain_values() {
    check("null", Bson::Null);
    check("true", true);
    check("false", false);
    check(r#""""#, "");
    check(r#""a \"b\" \\ \n é 😀""#, "a \"b\" \\ \n é 😀");
    check_read(r#""\u00e9\ud83d\ude00\/""#, "é😀/");
    check("[]", bson!([]));
    check(r#"[1,[2],{"a":3}]"#, bson!([1, [2], { "a": 3 }]));
    check("{}", doc! {});
    check(
        r#"{"z":1,"a":{"y":2,"b":null}}"#,
        doc! { "z": 1, "a": { "y": 2, "b": null } },
    );
    check_read(" { \"a\" :\t1 }\r\n", doc! { "a": 1 });
    check(r#"{"":1}"#, doc! { "": 1 });
}

#[test]
fn numbers() {
    check("0", 0);
    check("-1", -1);
    check("2147483647", i32::MAX);
    check("-2147483648", i32::MIN);
    check("2147483648", 2_147_483_648_i64);
    check("-2147483649", -2_147_483_649_i64);
    check("9223372036854775807", i64::MAX);
    check("-9223372036854775808", i64::MIN);
    check_read("9223372036854775808", 9_223_372_036_854_775_808.0);
    check_read("100000000000000000000", 1e20);
    check("1.0", 1.0);
    check("-0.0", -0.0);
    check("0.1", 0.1);
    check("5e-324", 5e-324);
    check_read("1e3", 1000.0);
    check_refused("1e999", "JSON");
    check_refused("01", "JSON");
    check_refused("NaN", "JSON");
    check(r#"{"$numberDouble":"Infinity"}"#, f64::INFINITY);
    check(r#"{"$numberDouble":"-Infinity"}"#, f64::NEG_INFINITY);
    assert!(matches!(read(r#"{"$numberDouble":"NaN"}"#).unwrap(), Bson::Double(n) if n.is_nan()));
    assert_eq!(
        written(&Bson::Double(f64::NAN)),
        r#"{"$numberDouble":"NaN"}"#
    );
    check_read(r#"{"$numberDouble":"1.5"}"#, 1.5);
    check_read(r#"{"$numberDouble":"-1E3"}"#, -1000.0);
    check_read(r#"{"$numberInt":"5"}"#, 5);
    check_read(r#"{"$numberLong":"5"}"#, 5_i64);
    check(
        r#"{"$numberDecimal":"0.10"}"#,
        Bson::Decimal128("0.10".parse().unwrap()),
    );
    check_refused(r#"{"$numberInt":5}"#, "$numberInt");
    check_refused(r#"{"$numberInt":"2147483648"}"#, "32-bit");
    check_refused(r#"{"$numberLong":"1.5"}"#, "64-bit");
    check_refused(r#"{"$numberDouble":"inf"}"#, "$numberDouble");
    check_refused(r#"{"$numberDecimal":"x"}"#, "$numberDecimal");
}

#[test]
fn identifiers_and_bytes() {
    let id = ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
    check(r#"{"$oid":"507f1f77bcf86cd799439011"}"#, id);
    check_refused(r#"{"$oid":"507f1f77bcf86cd79943901"}"#, "24 hexadecimal");
    check_refused(r#"{"$oid":5}"#, "24 hexadecimal");
    check_refused(r#"{"$oid":"507f1f77bcf86cd799439011","a":1}"#, "beside `a`");
    check_refused(r#"{"a":1,"$oid":"507f1f77bcf86cd799439011"}"#, "beside `a`");
    check_refused(r#"{"a":[0,{"b":{"$oid":"?"}}]}"#, "at `a.1.b`");

    let bytes = |subtype, bytes: &[u8]| {
        Bson::Binary(Binary {
            subtype,
            bytes: bytes.to_vec(),
        })
    };
    check(
        r#"{"$binary":{"base64":"AQID","subType":"00"}}"#,
        bytes(BinarySubtype::Generic, &[1, 2, 3]),
    );
    check(
        r#"{"$binary":{"base64":"","subType":"80"}}"#,
        bytes(BinarySubtype::UserDefined(0x80), &[]),
    );
    check_read(
        r#"{"$binary":{"base64":"AQ==","subType":"0"}}"#,
        bytes(BinarySubtype::Generic, &[1]),
    );
    // Long enough to be encoded in several parts.
    let long: Vec<u8> = (0..2000_u32).map(|n| n as u8).collect();
    let text = written(&bytes(BinarySubtype::Generic, &long));
    assert_eq!(read(&text).unwrap(), bytes(BinarySubtype::Generic, &long));
    check_read(
        r#"{"$uuid":"00112233-4455-6677-8899-aabbccddeeff"}"#,
        bytes(
            BinarySubtype::Uuid,
            &hex::decode("00112233445566778899aabbccddeeff").unwrap(),
        ),
    );
    check_refused(r#"{"$uuid":"0011"}"#, "a UUID");
    check_refused(r#"{"$binary":{"base64":"A","subType":"00"}}"#, "$binary");
    check_refused(r#"{"$binary":{"base64":"AQID","subType":"+1"}}"#, "$binary");
    check_refused(r#"{"$binary":{"base64":"AQID"}}"#, "$binary");
    check_refused(r#"{"$binary":"AQID","$type":"00"}"#, "beside `$type`");
}

#[test]
fn times() {
    let at = |millis| Bson::DateTime(DateTime::from_millis(millis));
    check(r#"{"$date":"1970-01-01T00:00:00Z"}"#, at(0));
    check(
        r#"{"$date":"2012-12-24T12:15:30.501Z"}"#,
        at(1_356_351_330_501),
    );
    check(
        r#"{"$date":"2000-02-29T23:59:59.001Z"}"#,
        at(951_868_799_001),
    );
    check(r#"{"$date":"2100-03-01T00:00:00Z"}"#, at(4_107_542_400_000));
    check(
        r#"{"$date":"9999-12-31T23:59:59.999Z"}"#,
        at(253_402_300_799_999),
    );
    check(
        r#"{"$date":{"$numberLong":"253402300800000"}}"#,
        at(253_402_300_800_000),
    );
    check(r#"{"$date":{"$numberLong":"-1"}}"#, at(-1));
    check(
        r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#,
        at(i64::MIN),
    );
    check_read(r#"{"$date":"1969-12-31T23:59:59.999Z"}"#, at(-1));
    check_read(r#"{"$date":"1970-01-01T01:00:00+01:00"}"#, at(0));
    check_read(r#"{"$date":5}"#, at(5));
    check_read(r#"{"$date":1356351330501}"#, at(1_356_351_330_501));
    for text in [
        r#""yesterday""#,
        r#""2012-13-01T00:00:00Z""#,
        "1.5",
        "null",
        "{}",
        r#"{"$numberLong":"x"}"#,
    ] {
        check_refused(&format!(r#"{{"$date":{text}}}"#), "takes");
    }
    let stamp = Timestamp {
        time: 4_294_967_295,
        increment: 1,
    };
    check(
        r#"{"$timestamp":{"t":4294967295,"i":1}}"#,
        Bson::Timestamp(stamp),
    );
    check_refused(r#"{"$timestamp":{"t":-1,"i":1}}"#, "unsigned");
    check_refused(r#"{"$timestamp":{"t":1}}"#, "unsigned");
}

#[test]
fn the_rare_types() {
    let regex = |pattern: &str, options: &str| {
        Bson::RegularExpression(Regex {
            pattern: pattern.try_into().unwrap(),
            options: options.try_into().unwrap(),
        })
    };
    check(
        r#"{"$regularExpression":{"pattern":"^a\"","options":"im"}}"#,
        regex("^a\"", "im"),
    );
    check_read(
        r#"{"$regularExpression":{"pattern":"a","options":"mi"}}"#,
        regex("a", "im"),
    );
    check_refused(
        r#"{"$regularExpression":{"pattern":"a"}}"#,
        "$regularExpression",
    );
    check_refused(
        r#"{"$regularExpression":{"pattern":"a\u0000","options":""}}"#,
        "$regularExpression",
    );
    check(r#"{"$minKey":1}"#, Bson::MinKey);
    check(r#"{"$maxKey":1}"#, Bson::MaxKey);
    check_refused(r#"{"$minKey":2}"#, "number 1");
    check(r#"{"$undefined":true}"#, Bson::Undefined);
    check(r#"{"$symbol":"s"}"#, Bson::Symbol("s".into()));
    check(r#"{"$code":"f()"}"#, Bson::JavaScriptCode("f()".into()));
    let code = JavaScriptCodeWithScope {
        code: "f()".into(),
        scope: doc! { "a": 1 },
    };
    check(
        r#"{"$code":"f()","$scope":{"a":1}}"#,
        Bson::JavaScriptCodeWithScope(code),
    );
    check_refused(r#"{"$code":"f()","$scope":1}"#, "$scope");
    check_refused(r#"{"$dbPointer":{}}"#, "not supported");
}

#[test]
fn operators_are_no_wrappers() {
    check(
        r#"{"a":{"$gt":1,"$lt":{"$date":"1970-01-01T00:00:00Z"}}}"#,
        doc! {
            "a": { "$gt": 1, "$lt": DateTime::from_millis(0) }
        },
    );
    check(
        r#"{"a":{"$regex":"^x","$options":"i"}}"#,
        doc! { "a": { "$regex": "^x", "$options": "i" } },
    );
    check(
        r#"{"$or":[{"a":{"$type":"date"}},{"b":{"$in":[1,"x"]}}]}"#,
        doc! {
            "$or": [{ "a": { "$type": "date" } }, { "b": { "$in": [1, "x"] } }]
        },
    );
    check(
        r#"{"$set":{"a.b":1},"$currentDate":{"t":{"$type":"date"}}}"#,
        doc! {
            "$set": { "a.b": 1 }, "$currentDate": { "t": { "$type": "date" } }
        },
    );
    check(r#"{"$ref":"c","$id":1}"#, doc! { "$ref": "c", "$id": 1 });
}

#[test]
fn what_is_ambiguous_or_broken_is_refused() {
    check_refused(r#"{"a":1,"a":2}"#, "`a` is there twice");
    check_refused(r#"{"x":[{"a":1,"a":1}]}"#, "at `x.0`");
    check_refused("{\"a\\u0000\":1}", "NUL");
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        r#"{"a":1,}"#,
        "{a:1}",
        "'a'",
        "1 2",
        "{} x",
        "tru",
        "\u{feff}{}",
        r#""\ud800""#,
    ] {
        check_refused(text, "not valid JSON");
    }
    let not_utf8 = parse_value(b"\"\xff\"", 10).unwrap_err();
    assert!(matches!(not_utf8, Error::Invalid(_)));
    for text in ["[]", "1", "null", r#"{"$oid":"507f1f77bcf86cd799439011"}"#] {
        let error = parse_document(text.as_bytes(), 10).unwrap_err();
        assert_eq!(error.to_string(), "a JSON object is expected");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse_value(nested(5).as_bytes(), 5).is_ok());
    assert!(read(&nested(100)).is_ok());
    for (text, depth) in [
        (nested(6), 5),
        (nested(101), 100),
        (nested(1_000_000), 100),
        (nested(1_000_000), 1_000_000),
    ] {
        let error = parse_value(text.as_bytes(), depth).unwrap_err().to_string();
        assert!(error.contains("nested deeper than"), "{error}");
        assert!(error.len() < 400, "{} bytes", error.len());
    }
    let objects = format!("{}1{}", r#"{"a":"#.repeat(6), "}".repeat(6));
    assert!(parse_value(objects.as_bytes(), 6).is_ok());
    assert!(parse_value(objects.as_bytes(), 5).is_err());
}

#[test]
fn a_text_of_too_many_values_is_too_large() {
    let text = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert!(matches!(
        parse_value(text.as_bytes(), 5),
        Err(Error::TooLarge(_))
    ));
}

#[test]
fn damaged_bytes_are_an_error() {
    let mut bytes = RawDocumentBuf::try_from(&doc! { "a": "bcd" })
        .unwrap()
        .into_bytes();
    bytes[7] = 0xff; // The string's length.
    let raw = RawDocument::from_bytes(&bytes).unwrap();
    assert!(matches!(
        write_document(raw, &mut Vec::new()),
        Err(Error::Unavailable(_))
    ));
}

/// Every type but those that relaxed Extended JSON cannot tell apart: an
/// `Int64` that fits an `Int32`.
fn values() -> impl Strategy<Value = Bson> {
    let scalar = prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>()
            .prop_filter("told apart", |n| i32::try_from(*n).is_err())
            .prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        (-1e6..1e6_f64).prop_map(|n| Bson::Double(n.round())),
        any::<String>().prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
        any::<i64>().prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        (0..253_402_300_800_000_i64)
            .prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        (any::<u8>(), any::<Vec<u8>>()).prop_map(|(subtype, bytes)| {
            Bson::Binary(Binary {
                subtype: BinarySubtype::from(subtype),
                bytes,
            })
        }),
        (any::<u32>(), any::<u32>())
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        any::<i64>().prop_map(|n| Bson::Decimal128(format!("{n}E-3").parse().unwrap())),
        ("[^\0]*", "[imsx]?").prop_map(|(pattern, options)| {
            Bson::RegularExpression(Regex {
                pattern: pattern.try_into().unwrap(),
                options: options.try_into().unwrap(),
            })
        }),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Undefined),
        any::<String>().prop_map(Bson::Symbol),
        any::<String>().prop_map(Bson::JavaScriptCode),
    ];
    scalar.prop_recursive(5, 64, 8, |inner| {
        // Keys of operators appear, wrappers do not: a document that looks like
        // one cannot be told from one, in MongoDB's tools neither.
        let key = prop_oneof![9 => "[a-zA-Z0-9_.é \"\\\\]{0,8}", 1 => Just("$gt".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Bson::Array),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|entries| Bson::Document(entries.into_iter().collect::<Document>())),
        ]
    })
}

/// NaN is not equal to itself; its bytes are.
fn bytes(value: &Bson) -> Vec<u8> {
    RawDocumentBuf::try_from(&doc! { "v": value.clone() })
        .unwrap()
        .into_bytes()
}

proptest! {
    #[test]
    fn values_survive_being_written_and_read(value in values()) {
        let text = written(&value);
        let back = read(&text).unwrap();
        prop_assert_eq!(bytes(&value), bytes(&back), "{}", text);
        prop_assert_eq!(written(&back), text);
    }

    #[test]
    fn the_bson_crate_reads_what_we_write_alike(value in values()) {
        let ours: serde_json::Value = serde_json::from_str(&written(&value)).unwrap();
        prop_assert_eq!(bytes(&Bson::try_from(ours).unwrap()), bytes(&value));
    }

    #[test]
    fn reading_never_panics(text in any::<Vec<u8>>()) {
        let _ = parse_value(&text, 100);
    }

    #[test]
    fn reading_what_is_nearly_json_never_panics(text in r#"[\[\]{}:,"0-9eE.\-a$oidtruenumbrLg ]{0,80}"#) {
        if let Ok(value) = read(&text) {
            prop_assert_eq!(bytes(&read(&written(&value)).unwrap()), bytes(&value));
        }
    }
}
