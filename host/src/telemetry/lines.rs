//! Lines of the log that say which request they belong to.

use std::fmt::{self, Write as _};

use serde::Serialize;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::http::scope;

/// Lines of another format, with the current request at their end: as fields, or
/// as the member `request` of a JSON object.
pub(super) struct WithRequest<F> {
    pub(super) inner: F,
    pub(super) json: bool,
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    method: &'a str,
    path: &'a str,
}

impl<S, N, F> FormatEvent<S, N> for WithRequest<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(subject) = scope::current() else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        let view = View {
            id: &subject.id,
            method: subject.method.as_str(),
            path: subject.uri.path(),
        };
        writer.write_str(&extended(&line, &view, self.json))
    }
}

fn extended(line: &str, view: &View<'_>, json: bool) -> String {
    let text = line.trim_end();
    let mut out = String::with_capacity(text.len() + 128);
    match text.strip_suffix('}').filter(|_| json) {
        Some(open) => {
            let request = serde_json::to_string(view).unwrap_or_default();
            let _ = write!(out, "{open},\"request\":{request}}}");
        }
        // Quoted: a client chooses the path.
        None => {
            let View { id, method, path } = view;
            let _ = write!(
                out,
                "{text} request.id={id} request.method={method} request.path={path:?}"
            );
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_request_at_its_end() {
        let view = View {
            id: "r1",
            method: "GET",
            path: "/a\"b",
        };
        assert_eq!(
            extended("{\"level\":\"INFO\"}\n", &view, true),
            "{\"level\":\"INFO\",\"request\":{\"id\":\"r1\",\"method\":\"GET\",\"path\":\"/a\\\"b\"}}\n"
        );
        assert_eq!(
            extended("INFO hello\n", &view, false),
            "INFO hello request.id=r1 request.method=GET request.path=\"/a\\\"b\"\n"
        );
    }
}
