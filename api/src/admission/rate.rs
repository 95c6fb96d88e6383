//! How often one user may try to claim: a token bucket per user (GCRA), told to the caller in the
//! IETF draft's `RateLimit` fields and the older `X-RateLimit-*`.
//!
//! Users are remembered by a seeded 64-bit hash, so that neither their ids nor their lengths are kept;
//! two of a million sharing a bucket is a one in ten million chance, and harmless. Who has not tried
//! for a while is forgotten by [`ClaimRate::forget_idle`], which must be called now and then.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};

use crate::{
    error::{Kind, Problem},
    options::{Options, WhenFull},
};

/// The window that the limit is stated for, in seconds.
const WINDOW_S: u64 = 60;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Claim attempts per user and minute.
pub(crate) struct ClaimRate {
    buckets: RwLock<Arc<Buckets>>,
    hasher: RandomState,
    clock: DefaultClock,
    users_max: usize,
    when_full: WhenFull,
    full: AtomicBool,
}

/// Everybody's bucket under one limit.
struct Buckets {
    limiter: RateLimiter<u64, DashMapStateStore<u64>, DefaultClock, StateInformationMiddleware>,
    limit: NonZeroU32,
    policy: HeaderValue,
}

impl Buckets {
    fn new(limit: NonZeroU32) -> Arc<Self> {
        Arc::new(Buckets {
            limiter: RateLimiter::dashmap(Quota::per_minute(limit))
                .with_middleware::<StateInformationMiddleware>(),
            limit,
            policy: HeaderValue::try_from(format!("\"claims\";q={limit};w={WINDOW_S}"))
                .expect("digits and visible ASCII"),
        })
    }
}

/// What a caller is told about his limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    remaining: u32,
    /// Seconds until the whole limit is there again, or, when refused, until the next attempt.
    reset_s: u64,
}

impl ClaimRate {
    pub(crate) fn new(options: &Options) -> Self {
        ClaimRate {
            buckets: RwLock::new(Buckets::new(options.claims_per_user_minute)),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
            users_max: options.rate_users_max,
            when_full: options.rate_when_full,
            full: AtomicBool::new(false),
        }
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another limit from now on, with a fresh bucket for everybody.
    pub(crate) fn set_limit(&self, limit: NonZeroU32) {
        if self.buckets().limit != limit {
            *self.buckets.write().unwrap_or_else(PoisonError::into_inner) = Buckets::new(limit);
        }
    }

    /// Counts one attempt: where the user stands now, and whether it may go on. No standing when the
    /// limiter is full and open.
    pub(crate) fn attempt(&self, user: &str) -> (Option<Standing>, Result<(), Problem>) {
        if self.full.load(Ordering::Relaxed) {
            return match self.when_full {
                WhenFull::Open => (None, Ok(())),
                WhenFull::Closed => (
                    None,
                    Err(Problem::busy(
                        "more users are claiming than this node keeps count of",
                    )),
                ),
            };
        }
        let buckets = self.buckets();
        let limit = buckets.limit;
        match buckets.limiter.check_key(&self.hasher.hash_one(user)) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = u64::from(limit.get().saturating_sub(remaining));
                let reset_s = (used * WINDOW_S).div_ceil(u64::from(limit.get()));
                (Some(Standing { remaining, reset_s }), Ok(()))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let reset_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let detail = format!("at most {limit} claim attempts a minute; wait {reset_s} s");
                let problem = Problem::new(Kind::RateLimited, detail).retry_after(reset_s.max(1));
                (
                    Some(Standing {
                        remaining: 0,
                        reset_s,
                    }),
                    Err(problem),
                )
            }
        }
    }

    /// Writes a standing into the headers of whatever the attempt is answered with.
    pub(crate) fn tell(&self, standing: Option<Standing>, headers: &mut HeaderMap) {
        let Some(Standing { remaining, reset_s }) = standing else {
            return;
        };
        let buckets = self.buckets();
        headers.insert(RATE_LIMIT_POLICY, buckets.policy.clone());
        if let Ok(value) = HeaderValue::try_from(format!("\"claims\";r={remaining};t={reset_s}")) {
            headers.insert(RATE_LIMIT, value);
        }
        headers.insert(X_LIMIT, HeaderValue::from(buckets.limit.get()));
        headers.insert(X_REMAINING, HeaderValue::from(remaining));
        headers.insert(X_RESET, HeaderValue::from(reset_s));
    }

    /// Forgets users whose bucket is full again, and notices whether too many are left.
    pub(crate) fn forget_idle(&self) {
        let buckets = self.buckets();
        buckets.limiter.retain_recent();
        let full = buckets.limiter.len() >= self.users_max;
        if full != self.full.swap(full, Ordering::Relaxed) {
            tracing::warn!(full, users_max = self.users_max, when_full = ?self.when_full, "claim rate limiter");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Auth;

    fn rate(per_minute: u32, users_max: usize, when_full: WhenFull) -> ClaimRate {
        let mut options = Options::new(Auth::Development);
        options.claims_per_user_minute = NonZeroU32::new(per_minute).unwrap();
        options.rate_users_max = users_max;
        options.rate_when_full = when_full;
        ClaimRate::new(&options)
    }

    #[test]
    fn the_limit_is_per_user_and_says_where_he_stands() {
        let rate = rate(2, 100, WhenFull::Open);
        let (standing, answer) = rate.attempt("ada");
        assert_eq!(
            standing,
            Some(Standing {
                remaining: 1,
                reset_s: 30
            })
        );
        assert!(answer.is_ok());
        assert_eq!(
            rate.attempt("ada").0,
            Some(Standing {
                remaining: 0,
                reset_s: 60
            })
        );
        let (standing, refused) = rate.attempt("ada");
        assert_eq!(refused.unwrap_err().kind(), Kind::RateLimited);
        let standing = standing.unwrap();
        assert_eq!(standing.remaining, 0);
        assert!((1..=30).contains(&standing.reset_s), "{standing:?}");
        assert!(rate.attempt("grace").1.is_ok(), "another user is not affected");
    }

    #[test]
    fn a_new_limit_counts_at_once_and_the_same_one_changes_nothing() {
        let rate = rate(1, 100, WhenFull::Open);
        rate.attempt("ada").1.unwrap();
        rate.set_limit(NonZeroU32::new(1).unwrap());
        assert!(rate.attempt("ada").1.is_err(), "his bucket is still empty");
        rate.set_limit(NonZeroU32::new(3).unwrap());
        let (standing, answer) = rate.attempt("ada");
        assert!(answer.is_ok());
        assert_eq!(standing.unwrap().remaining, 2);
        let mut headers = HeaderMap::new();
        rate.tell(standing, &mut headers);
        assert_eq!(headers[RATE_LIMIT_POLICY], "\"claims\";q=3;w=60");
        assert_eq!(headers[X_LIMIT], "3");
    }

    #[test]
    fn full_is_open_or_closed_as_configured() {
        for (when_full, let_in) in [(WhenFull::Open, true), (WhenFull::Closed, false)] {
            let rate = rate(1, 2, when_full);
            rate.attempt("ada").1.unwrap();
            rate.attempt("grace").1.unwrap();
            rate.forget_idle();
            let (standing, answer) = rate.attempt("edsger");
            assert_eq!(standing, None);
            assert_eq!(answer.is_ok(), let_in, "{when_full:?}");
        }
    }
}
