//! How often the server may be asked: by one address, with one scoped key, by one user.
//! A bucket each, of the same kind as those of apps' routes, which are counted besides;
//! what is left is told in `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers).
//!
//! Off unless configured. What is right depends on what stands in front: behind a proxy
//! that is not in `server.trusted_proxies` all clients have one address, and a limit on
//! it would be one for all of them together. Whoever holds the server's own API key is
//! not counted but by address: it is the operator's own backend.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coglex_runtime::{Rate, RateScope};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::error::ApiError;
use crate::app::AppState;
use crate::config::LimitsConfig;
use crate::gateway::Verdict;

pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What limits are told in.
const PERIOD: Duration = Duration::from_secs(60);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    /// Requests from one address, or from one /64 of IPv6.
    Address,
    /// Requests with one scoped API key.
    Key,
    /// Requests of one signed-in user.
    User,
}

impl Bucket {
    fn name(self) -> &'static str {
        match self {
            Bucket::Address => "address",
            Bucket::Key => "key",
            Bucket::User => "user",
        }
    }

    fn requests(self, config: &LimitsConfig) -> u32 {
        match self {
            Bucket::Address => config.address_requests,
            Bucket::Key => config.key_requests,
            Bucket::User => config.user_requests,
        }
    }
}

/// What the buckets have said to one request, for its answer. Rides its extensions.
#[derive(Clone, Default)]
pub(crate) struct Limits(Option<Arc<Mutex<Told>>>);

/// The values of the two headers, as far as they are known.
#[derive(Default)]
struct Told {
    policy: String,
    left: String,
}

impl Limits {
    /// For a request; none where nothing is limited, which costs nothing.
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let kinds = [Bucket::Address, Bucket::Key, Bucket::User];
        let any = kinds.iter().any(|kind| kind.requests(config) > 0);
        Self(any.then(Arc::default))
    }

    /// Those that ride a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Takes the request out of the bucket of `who`; 429 where it is empty.
    pub(crate) fn take(
        &self,
        state: &AppState,
        kind: Bucket,
        who: impl Hash,
    ) -> Result<(), ApiError> {
        let requests = kind.requests(&state.config.limits);
        let (Some(told), true) = (&self.0, requests > 0) else {
            return Ok(());
        };
        let rate = Rate {
            requests,
            period: PERIOD,
            per: RateScope::Caller,
        };
        let verdict = state.rate_limits.take((kind, who), rate);
        {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let told = &mut *told;
            let (policy, left) = verdict.told(kind.name(), rate);
            for (all, one) in [(&mut told.policy, policy), (&mut told.left, left)] {
                if !all.is_empty() {
                    all.push_str(", ");
                }
                all.push_str(&one);
            }
        }
        match verdict.admitted {
            true => Ok(()),
            false => Err(too_often(verdict)),
        }
    }

    /// Adds what was said to the answer's headers, before what an app's route says.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some(told) = &self.0 else { return };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, text) in [(RATE_LIMIT_POLICY, &told.policy), (RATE_LIMIT, &told.left)] {
            if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
                headers.append(name, value);
            }
        }
    }
}

/// 429.
pub(crate) fn too_often(verdict: Verdict) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "This has been asked too often; try again later.",
    )
    .with_retry_after(verdict.retry_after)
}
