//! Documents of a result as JSON text, written as they come from the store and
//! bounded in number and size: a page is held in memory, so that its status,
//! shape and links are known before the first byte is sent.

use bytes::{BufMut as _, Bytes};
use coglex_services::documents::DocumentStream;
use coglex_services::{Error as ServiceError, json};
use futures_util::StreamExt as _;

use crate::http::error::ApiError;

/// Some documents, and whether there are more.
pub(in crate::http::routes) struct Page {
    /// `[` and the documents, with commas between them.
    text: Vec<u8>,
    /// How many.
    pub(in crate::http::routes) len: u64,
    /// Whether the stream held more than the limit.
    pub(in crate::http::routes) more: bool,
}

impl Page {
    /// Reads at most `limit` documents of at most `bytes` bytes in all.
    pub(in crate::http::routes) async fn read(
        mut found: DocumentStream,
        limit: u64,
        bytes: usize,
    ) -> Result<Self, ApiError> {
        let mut page = Self {
            text: Vec::with_capacity(1024),
            len: 0,
            more: false,
        };
        page.text.put_u8(b'[');
        while let Some(document) = found.next().await {
            let document = document.map_err(ServiceError::from)?;
            if page.len == limit {
                page.more = true;
                break;
            }
            if page.len > 0 {
                page.text.put_u8(b',');
            }
            json::write_document(&document, &mut page.text)?;
            page.len += 1;
            // One document always fits: its own limit is smaller than what a
            // reader could do about it.
            if page.text.len() > bytes && page.len > 1 {
                return Err(too_large(bytes));
            }
            // Documents come in batches: a long page must not keep a worker from
            // the other requests.
            tokio::task::consume_budget().await;
        }
        Ok(page)
    }

    /// The first document alone.
    pub(super) fn into_first(self) -> Bytes {
        Bytes::from(self.text).slice(1..)
    }

    /// The documents as a list.
    pub(in crate::http::routes) fn into_list(mut self) -> Bytes {
        self.text.put_u8(b']');
        Bytes::from(self.text)
    }
}

/// 400 for a result over its limit.
pub(super) fn too_large(bytes: usize) -> ApiError {
    ApiError::bad_request(
        "result_too_large",
        format!(
            "The result is larger than {bytes} bytes; ask for fewer documents, or for less of them."
        ),
    )
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn stream(count: i32) -> DocumentStream {
        let documents: Vec<_> = (0..count).map(|n| Ok(rawdoc! { "n": n })).collect();
        futures_util::stream::iter::<Vec<Result<RawDocumentBuf, _>>>(documents).boxed()
    }

    #[tokio::test]
    async fn a_page_knows_what_it_holds_and_what_is_left() {
        let page = Page::read(stream(0), 3, 1000).await.unwrap();
        assert_eq!(
            (page.len, page.more, page.into_list()),
            (0, false, Bytes::from("[]"))
        );
        let page = Page::read(stream(1), 3, 1000).await.unwrap();
        assert_eq!(
            (page.len, page.more, page.into_first()),
            (1, false, Bytes::from(r#"{"n":0}"#))
        );
        let page = Page::read(stream(3), 3, 1000).await.unwrap();
        assert_eq!((page.len, page.more), (3, false));
        let page = Page::read(stream(9), 2, 1000).await.unwrap();
        assert_eq!(
            (page.len, page.more, page.into_list()),
            (2, true, Bytes::from(r#"[{"n":0},{"n":1}]"#))
        );
    }

    #[tokio::test]
    async fn a_result_over_the_limit_is_refused_rather_than_cut() {
        assert_eq!(
            Page::read(stream(9), 9, 20).await.err().unwrap().status(),
            400
        );
        assert!(Page::read(stream(1), 9, 2).await.is_ok());
    }
}
