//! The terms on which a route is answered, beside its guards: rate, caching,
//! kinds of bodies, schemas. Checked here, applied by the host.

use std::time::Duration;

use crate::bindings::gateway::app;
use crate::schema::{QuerySchema, Schema};

const MAX_MEDIA_TYPES: usize = 16;
const MAX_MEDIA_TYPE: usize = 100;
const MAX_PERIOD: u32 = 24 * 60 * 60;
/// A year, which caches take for ever.
const MAX_AGE: u32 = 365 * 24 * 60 * 60;

/// The terms of a route. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// What a body may be, in lower case: `image/png`, `text/*`. Empty: anything.
    pub media_types: Vec<String>,
    /// How often the route may be asked.
    pub rate: Option<Rate>,
    /// What caches may do with its answers.
    pub cache: Option<CacheHints>,
    /// What the body looks like.
    pub body: Option<Schema>,
    /// What the query looks like.
    pub query: Option<QuerySchema>,
    /// What the body of a good answer looks like.
    pub output: Option<Schema>,
}

/// So many requests in each period, of whoever shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The bucket's size; at least 1.
    pub requests: u32,
    /// In which it fills; whole seconds, at least one.
    pub period: Duration,
    /// Who shares one.
    pub per: RateScope,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateScope {
    /// One signed-in user's; one address's where no guard knows a user.
    Caller,
    /// Those from one network address.
    Address,
    /// All.
    Everyone,
}

/// What `Cache-Control` says of an answer that does not say it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheHints {
    /// Seconds for which it is fresh.
    pub max_age: u32,
    /// Whether caches of many clients may keep it.
    pub shared: bool,
}

impl Terms {
    /// Checks what a route declares; else the rest of "the route … with".
    /// `guarded` says whether its answers are for one caller.
    pub(super) fn check(route: &mut app::Route, guarded: bool) -> Result<Self, String> {
        let schema = |what: &str, text: Option<String>| {
            text.map(|text| Schema::compile(&text))
                .transpose()
                .map_err(|why| format!("a schema of its {what} {why}"))
        };
        let body = schema("body", route.body_schema.take())?;
        let output = schema("output", route.output_schema.take())?;
        let query = route
            .query_schema
            .take()
            .map(|text| QuerySchema::compile(&text))
            .transpose()
            .map_err(|why| format!("a schema of its query {why}"))?;
        let mut media_types = media_types(&route.media_types)?;
        if body.is_some() {
            if let Some(other) = media_types.iter().find(|name| !is_json(name)) {
                return Err(format!(
                    "a schema of its body beside the media type {other}, which is not JSON"
                ));
            }
            if media_types.is_empty() {
                media_types = vec![
                    "application/json".to_owned(),
                    "application/*+json".to_owned(),
                ];
            }
        }
        Ok(Self {
            media_types,
            rate: route.rate.map(rate).transpose()?,
            cache: route.cache.map(|hints| cache(hints, guarded)).transpose()?,
            body,
            query,
            output,
        })
    }

    /// Whether a body of this `Content-Type` may come in.
    #[must_use]
    pub fn takes(&self, content_type: Option<&str>) -> bool {
        if self.media_types.is_empty() {
            return true;
        }
        let Some(given) = content_type.and_then(|text| text.split(';').next()) else {
            return false;
        };
        let given = given.trim().to_ascii_lowercase();
        self.media_types.iter().any(|allowed| {
            match allowed.split_once('*') {
                // `text/*`, `application/*+json`
                Some((start, end)) => {
                    given.len() > start.len() + end.len()
                        && given.starts_with(start)
                        && given.ends_with(end)
                }
                None => *allowed == given,
            }
        })
    }
}

fn media_types(names: &[String]) -> Result<Vec<String>, String> {
    if names.len() > MAX_MEDIA_TYPES {
        return Err(format!("more than {MAX_MEDIA_TYPES} media types"));
    }
    let check = |name: &String| {
        let token = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        let good = name.len() <= MAX_MEDIA_TYPE
            && name.split_once('/').is_some_and(|(kind, subtype)| {
                token(kind)
                    && (subtype == "*" || token(subtype.strip_prefix("*+").unwrap_or(subtype)))
            });
        if good {
            Ok(name.to_ascii_lowercase())
        } else {
            let shown = super::shown(name);
            Err(format!(
                "the media type {shown:?}, which is none such as image/png or text/*"
            ))
        }
    };
    names.iter().map(check).collect()
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn rate(rate: app::RateLimit) -> Result<Rate, String> {
    if rate.requests == 0 || rate.seconds == 0 || rate.seconds > MAX_PERIOD {
        return Err(format!(
            "a rate of {} requests in {} seconds; it takes at least 1 and a period of 1 to {MAX_PERIOD}",
            rate.requests, rate.seconds
        ));
    }
    Ok(Rate {
        requests: rate.requests,
        period: Duration::from_secs(u64::from(rate.seconds)),
        per: match rate.per {
            app::RateScope::Caller => RateScope::Caller,
            app::RateScope::Address => RateScope::Address,
            app::RateScope::Everyone => RateScope::Everyone,
        },
    })
}

fn cache(hints: app::CacheHints, guarded: bool) -> Result<CacheHints, String> {
    if hints.shared && guarded {
        return Err(
            "guards and a cache that clients share, which would give one caller's answers to others"
                .to_owned(),
        );
    }
    if hints.max_age > MAX_AGE {
        return Err(format!("a max-age of more than {MAX_AGE} seconds"));
    }
    Ok(CacheHints {
        max_age: hints.max_age,
        shared: hints.shared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> app::Route {
        app::Route {
            methods: Vec::new(),
            path: "/".to_owned(),
            guards: Vec::new(),
            body_limit: None,
            media_types: Vec::new(),
            rate: None,
            cache: None,
            summary: None,
            body_schema: None,
            query_schema: None,
            output_schema: None,
        }
    }

    fn refused(change: impl Fn(&mut app::Route), guarded: bool, part: &str) {
        let mut route = route();
        change(&mut route);
        let why = Terms::check(&mut route, guarded).unwrap_err();
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn a_body_with_a_schema_is_json() {
        let mut route = route();
        route.body_schema = Some("{}".to_owned());
        let terms = Terms::check(&mut route, false).unwrap();
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.x+json",
        ] {
            assert!(terms.takes(Some(good)), "{good}");
        }
        for bad in [
            "text/json",
            "application/jsonx",
            "text/plain; x=application/json",
            "",
        ] {
            assert!(!terms.takes(Some(bad)), "{bad}");
        }
        assert!(!terms.takes(None));
        assert!(Terms::default().takes(None));
    }

    #[test]
    fn media_types_have_wildcards_for_all_of_a_kind() {
        let mut route = route();
        route.media_types = vec!["image/*".to_owned(), "Text/CSV".to_owned()];
        let terms = Terms::check(&mut route, false).unwrap();
        assert!(terms.takes(Some("image/png")) && terms.takes(Some("text/csv; header=present")));
        assert!(!terms.takes(Some("image/")) && !terms.takes(Some("text/plain")));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        for bad in ["", "image", "*/*", "image/p*", "a b/c", "image/png; x=y"] {
            refused(
                |route| route.media_types = vec![bad.to_owned()],
                false,
                "media type",
            );
        }
        refused(
            |route| route.body_schema = Some("[".to_owned()),
            false,
            "a schema of its body that is not JSON",
        );
        let both = |route: &mut app::Route| {
            route.body_schema = Some("{}".to_owned());
            route.media_types = vec!["image/png".to_owned()];
        };
        refused(both, false, "which is not JSON");
        for (requests, seconds) in [(0, 1), (1, 0), (1, MAX_PERIOD + 1)] {
            let rate = app::RateLimit {
                requests,
                seconds,
                per: app::RateScope::Caller,
            };
            refused(|route| route.rate = Some(rate), false, "a rate of");
        }
        let shared = app::CacheHints {
            max_age: 1,
            shared: true,
        };
        refused(
            |route| route.cache = Some(shared),
            true,
            "guards and a cache",
        );
    }
}
