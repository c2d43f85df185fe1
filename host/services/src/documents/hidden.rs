//! Taking the auth service's fields out of what leaves. Works on raw bytes: it
//! runs for every document that is read, and nearly none has such a field.

use std::borrow::Cow;

use bson::{RawDocument, RawDocumentBuf};

use super::rules::HIDDEN;
use crate::grants::Fields;
use crate::storage::{Result, StoreError};

/// The document without its hidden fields; the same allocation when it has none.
pub(crate) fn strip(document: RawDocumentBuf) -> Result<RawDocumentBuf> {
    match without_hidden(&document)? {
        Cow::Borrowed(_) => Ok(document),
        Cow::Owned(shown) => Ok(shown),
    }
}

/// The granted fields of a document, without its hidden ones.
pub(super) fn cut(document: &RawDocument, fields: &Fields) -> Result<RawDocumentBuf> {
    let mut shown = RawDocumentBuf::new();
    for element in document.iter() {
        let (key, value) = element.map_err(damaged)?;
        if fields.cover(key.as_str()) && !is_hidden(key.as_str()) {
            shown.append(key, value);
        }
    }
    Ok(shown)
}

fn without_hidden(document: &RawDocument) -> Result<Cow<'_, RawDocument>> {
    let mut hidden = false;
    for element in document.iter_elements() {
        hidden |= is_hidden(element.map_err(damaged)?.key().as_str());
    }
    if !hidden {
        return Ok(Cow::Borrowed(document));
    }
    let mut shown = RawDocumentBuf::new();
    for element in document.iter() {
        let (key, value) = element.map_err(damaged)?;
        if !is_hidden(key.as_str()) {
            shown.append(key, value);
        }
    }
    Ok(Cow::Owned(shown))
}

fn is_hidden(key: &str) -> bool {
    HIDDEN.contains(&key)
}

/// What the store returned is not BSON: its file is damaged.
fn damaged(error: bson::error::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};

    #[test]
    fn hidden_fields_are_taken_out_at_the_top_only() {
        let document = doc! { "_id": 1, "_password": "x", "a": { "b": [1, "c"] }, "_coglex": { "sessions": {} }, "z": 2.5 };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        let shown = Document::try_from(strip(raw).unwrap()).unwrap();
        assert_eq!(shown, doc! { "_id": 1, "a": { "b": [1, "c"] }, "z": 2.5 });
    }

    #[test]
    fn only_granted_fields_are_kept() {
        let document = doc! { "_id": 1, "_password": "x", "a": { "b": 1 }, "c": 2 };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        let shown = cut(&raw, &Fields::new(["a"]).unwrap()).unwrap();
        assert_eq!(
            Document::try_from(shown).unwrap(),
            doc! { "_id": 1, "a": { "b": 1 } }
        );
    }

    #[test]
    fn a_document_without_them_is_not_copied() {
        let raw = RawDocumentBuf::try_from(&doc! { "_id": 1, "a": { "_passwords": 1 } }).unwrap();
        let before = raw.as_bytes().as_ptr();
        let shown = strip(raw).unwrap();
        assert_eq!(shown.as_bytes().as_ptr(), before);
    }

    #[test]
    fn damaged_bytes_are_an_error_not_a_panic() {
        // A string that claims more bytes than there are.
        let mut bytes = RawDocumentBuf::try_from(&doc! { "_password": "abc" })
            .unwrap()
            .into_bytes();
        bytes[15] = 0xff;
        if let Ok(raw) = RawDocumentBuf::from_bytes(bytes) {
            assert!(strip(raw).is_err());
        }
    }
}
