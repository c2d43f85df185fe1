//! The driver's errors in the port's words. The server's own sentences repeat
//! stored values, those that are hidden from clients among them, and so go to
//! the log and no further.

use bson::Document;
use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::schema::failures;
use crate::storage::StoreError;

const DUPLICATE_KEY: [i32; 3] = [11000, 11001, 12582];
/// The operation's time limit, and the server's own.
const OUT_OF_TIME: [i32; 2] = [50, 262];
/// A document, or what a stage has to hold, that is over the server's own bounds.
const TOO_LARGE: [i32; 5] = [10334, 17280, 17419, 292, 146];
/// Mistakes of whoever wrote the filter, update or index: bad value, cannot
/// parse, type mismatch, path not viable, conflicting operators, `$` and `.` in
/// names, overflow, immutable field, index options, namespace, failed conversion.
const CLIENT: [i32; 24] = [
    2, 9, 14, 15, 16, 28, 40, 52, 53, 54, 55, 56, 57, 66, 67, 72, 73, 85, 86, 168, 197, 225, 238,
    241,
];
/// A document does not satisfy its collection's validator.
const DOCUMENT_INVALID: i32 = 121;
/// No such collection, no such index.
const ABSENT: [i32; 2] = [26, 27];
/// Codes of five digits and more are the server's assertions about what it was
/// asked, but for these: it is no primary any more, or it is going down.
const STATE: [i32; 8] = [10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436];
const ILLEGAL_OPERATION: i32 = 20;

/// The driver's error in the port's words.
pub(super) fn store_error(error: Error) -> StoreError {
    // Whatever the driver would retry is about the server, not the question.
    if error.contains_label("RetryableWriteError")
        || error.contains_label("TransientTransactionError")
    {
        return StoreError::Unavailable(Box::new(error));
    }
    let fault = fault(&error);
    if let Some((code, message)) = fault {
        tracing::debug!(code, message, "MongoDB refused an operation");
    }
    match fault {
        Some((code, message)) if DUPLICATE_KEY.contains(&code) => StoreError::DuplicateKey {
            index: index_name(message).to_owned(),
        },
        Some((DOCUMENT_INVALID, _)) => StoreError::DocumentInvalid {
            failures: details(&error).map(failures).unwrap_or_default(),
        },
        Some((code, _)) if OUT_OF_TIME.contains(&code) => StoreError::Timeout,
        Some((code, _)) if TOO_LARGE.contains(&code) => {
            StoreError::TooLarge("a document, key or result is over MongoDB's limit".into())
        }
        Some((code, _)) if CLIENT.contains(&code) || (code >= 10_000 && !STATE.contains(&code)) => {
            StoreError::Invalid(sentence(code))
        }
        _ => match &*error.kind {
            ErrorKind::InvalidArgument { message, .. } => StoreError::Invalid(message.clone()),
            _ => StoreError::Unavailable(Box::new(error)),
        },
    }
}

/// What a client reads of a mistake of its own: by the code alone.
fn sentence(code: i32) -> String {
    let sentence = match code {
        2 => "a value does not fit where it stands in the filter, update, pipeline or index",
        9 => "the filter, update or pipeline is malformed",
        14 => "a value's type does not fit the operation",
        15 => "a number is too large for the operation",
        28 => "the update does not fit the document at this path",
        40 => "two parts of the update change the same path",
        52 => "a field's name begins with `$`",
        53 | 54 | 66 => "the update would change `_id`, or give it a value that it cannot have",
        55 => "a DBRef is malformed",
        56 => "a field's name is empty",
        57 => "a field's name contains a dot",
        67 | 197 => "the index cannot be made of these keys and options",
        72 => "the options do not fit the operation",
        73 => "the collection's name is not valid",
        85 | 86 => "there is an index with this name or these keys already, but with other options",
        168 => "the pipeline has an operator that is not known or used wrongly",
        241 => "a value cannot be converted as the operation asks",
        31249 | 31250 => "the projection names a part of a path twice",
        31253 | 31254 => "the projection cannot both show and hide fields",
        51091 | 51108 => "a regular expression is not valid",
        _ => return format!("MongoDB does not accept this operation (its code {code})"),
    };
    sentence.to_owned()
}

/// Whether the collection or index that was asked for is not there.
pub(super) fn is_absent(error: &Error) -> bool {
    fault(error).is_some_and(|(code, _)| ABSENT.contains(&code))
}

/// Whether the server refused a transaction because it has none.
pub(super) fn is_without_transactions(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::SessionsNotSupported)
        || fault(error).is_some_and(|(code, message)| {
            code == ILLEGAL_OPERATION && message.contains("Transaction numbers")
        })
}

/// The server's code and sentence.
fn fault(error: &Error) -> Option<(i32, &str)> {
    match &*error.kind {
        ErrorKind::Command(error) => Some((error.code, &error.message)),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some((error.code, &error.message)),
        ErrorKind::InsertMany(error) => {
            let first = error.write_errors.as_ref()?.first()?;
            Some((first.code, &first.message))
        }
        _ => None,
    }
}

/// What the server adds to a refusal of a document (`errInfo`).
fn details(error: &Error) -> Option<&Document> {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.details.as_ref(),
        ErrorKind::InsertMany(error) => error.write_errors.as_ref()?.first()?.details.as_ref(),
        _ => None,
    }
}

/// The index that a duplicate key's sentence names: `… index: a_1 dup key: …`.
/// The sentence itself shows values of another document, and goes no further.
fn index_name(message: &str) -> &str {
    let after = message.split_once("index: ").map_or("", |(_, after)| after);
    // Of a sentence in another form nothing is taken.
    let name = after.split_once(" dup key").map_or("", |(name, _)| name);
    // Old servers write `database.collection.$name`.
    name.rsplit_once(".$").map_or(name, |(_, name)| name).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(code: i32, message: &str) -> Error {
        let error = serde_json::json!({ "code": code, "errmsg": message });
        Error::from(ErrorKind::Command(serde_json::from_value(error).unwrap()))
    }

    #[test]
    fn each_code_has_its_word() {
        let word = |code| match store_error(command(code, "index: a_1 dup key: {}")) {
            StoreError::Invalid(_) => "invalid",
            StoreError::DuplicateKey { .. } => "duplicate",
            StoreError::TooLarge(_) => "too large",
            StoreError::Timeout => "timeout",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::DocumentInvalid { .. } => "document invalid",
            other => panic!("{other:?}"),
        };
        for (codes, expected) in [
            (&[2, 9, 14, 40, 66, 86, 241, 31249, 15998][..], "invalid"),
            (&[121], "document invalid"),
            (&[11000, 11001], "duplicate"),
            (&[10334, 292, 146], "too large"),
            (&[50, 262], "timeout"),
            // Not primary, interrupted, unauthorized, host unreachable, unknown.
            (
                &[10107, 11600, 11602, 13435, 13, 18, 6, 91, 8000, 9999, 1],
                "unavailable",
            ),
        ] {
            for code in codes {
                assert_eq!(word(*code), expected, "{code}");
            }
        }
        let gone = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(store_error(gone), StoreError::Unavailable(_)));
    }

    #[test]
    fn a_server_that_stands_alone_is_known_by_its_refusal() {
        let refusal = "Transaction numbers are only allowed on a replica set member or mongos";
        assert!(is_without_transactions(&command(20, refusal)));
        assert!(!is_without_transactions(&command(20, "not allowed")));
        assert!(!is_without_transactions(&command(11000, refusal)));
    }

    #[test]
    fn a_duplicate_says_which_index_and_nothing_of_the_other_document() {
        let error = store_error(command(
            11000,
            r#"E11000 … index: mail_1 dup key: { mail: "eve@example.com" }"#,
        ));
        assert_eq!(error.to_string(), "duplicate key for index mail_1");
    }

    #[test]
    fn nothing_of_the_servers_sentence_reaches_a_client() {
        for code in CLIENT.iter().chain(&[17287, 31249, 40415, 51091, 99_999]) {
            let error = store_error(command(*code, "Cannot … in element {_password: \"x\"}"));
            let sentence = error.to_string();
            assert!(matches!(error, StoreError::Invalid(_)), "{code}");
            assert!(!sentence.contains("_password"), "{code}: {sentence}");
        }
        for code in DUPLICATE_KEY.iter().chain(&TOO_LARGE).chain(&OUT_OF_TIME) {
            let error = store_error(command(*code, "index: _password"));
            assert!(!error.to_string().contains("_password"), "{code}");
        }
    }

    #[test]
    fn the_index_is_found_in_the_sentence() {
        for (message, name) in [
            (
                r#"E11000 duplicate key error collection: d.users index: _key_1 dup key: { _key: "a" }"#,
                "_key_1",
            ),
            (
                r#"E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: "index: x dup key" }"#,
                "_id_",
            ),
            (
                "E11000 duplicate key error index: d.c.$a_1_b_-1 dup key: { : 1 }",
                "a_1_b_-1",
            ),
            ("E11000", ""),
        ] {
            assert_eq!(index_name(message), name, "{message}");
        }
    }
}
