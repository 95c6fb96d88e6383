//! The HTTP door's settings. Their defaults are the door's own; the names too.

use std::{num::NonZeroU32, path::PathBuf};

use api::{
    Auth, CheckoutOptions, Options, WhenFull,
    payment::{BreakerOptions, GuardOptions, SecretString, stripe::StripeOptions},
};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The `[api]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    pub listen: String,
    pub hs256_secret_files: Vec<PathBuf>,
    pub ed25519_public_files: Vec<PathBuf>,
    pub token_issuer: String,
    pub token_audience: String,
    pub dev: bool,
    pub demo_control: String,
    pub claims_per_user_minute: u32,
    pub rate_users_max: usize,
    pub rate_when_full: RateWhenFull,
    pub requests_in_flight_max: usize,
    pub linearizable_reads_in_flight_max: usize,
    pub connections_max: usize,
    pub body_bytes_max: usize,
    pub body_read_ms_max: u64,
    pub header_read_ms_max: u64,
    pub tokens_cached_max: usize,
    pub sale_cache_ms: u64,
    pub sale_read_age_ms_max: u64,
    pub sales_cached_max: usize,
    pub live_listeners_max: usize,
    pub live_sales_max: usize,
    pub live_interval_ms_min: u64,
    pub live_keep_alive_ms: u64,
    pub drain_ms_max: u64,
    pub payment_url: String,
    pub payment_key_file: PathBuf,
    pub webhook_secret_files: Vec<PathBuf>,
    pub payment_call_ms_max: u64,
    pub payment_connect_ms_max: u64,
    pub payment_idle_connections_max: usize,
    pub payment_idle_ms_max: u64,
    pub payment_answer_bytes_max: usize,
    pub payment_retries_max: usize,
    pub payment_retry_wait_ms_min: u64,
    pub payment_retry_wait_ms_max: u64,
    pub payment_attempt_ms_min: u64,
    pub payment_breaker: bool,
    pub payment_breaker_window_ms: u64,
    pub payment_breaker_calls_min: usize,
    pub payment_breaker_failures_percent: u8,
    pub payment_breaker_open_ms: u64,
    pub checkout_store_call_ms_max: u64,
    pub checkout_budget_ms_max: u64,
    pub checkout_lease_ms: u64,
    pub checkouts_in_flight_max: usize,
    pub checkout_sweep_ms: u64,
    pub checkouts_resumed_at_once_max: usize,
}

/// What happens to claims of users that the rate limiter has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateWhenFull {
    /// Let them through unmetered.
    Open,
    /// Refuse them.
    Closed,
}

impl Default for ApiSettings {
    fn default() -> Self {
        let options = Options::new(Auth::Development);
        let stripe = StripeOptions::new("", SecretString::default());
        let (guard, breaker) = (GuardOptions::default(), BreakerOptions::default());
        ApiSettings {
            listen: "127.0.0.1:7480".into(),
            hs256_secret_files: Vec::new(),
            ed25519_public_files: Vec::new(),
            token_issuer: String::new(),
            token_audience: String::new(),
            dev: false,
            demo_control: String::new(),
            claims_per_user_minute: options.claims_per_user_minute.get(),
            rate_users_max: options.rate_users_max,
            rate_when_full: match options.rate_when_full {
                WhenFull::Open => RateWhenFull::Open,
                WhenFull::Closed => RateWhenFull::Closed,
            },
            requests_in_flight_max: options.requests_in_flight_max,
            linearizable_reads_in_flight_max: options.linearizable_reads_in_flight_max,
            connections_max: options.connections_max,
            body_bytes_max: options.body_bytes_max,
            body_read_ms_max: options.body_read_ms_max,
            header_read_ms_max: options.header_read_ms_max,
            tokens_cached_max: options.tokens_cached_max,
            sale_cache_ms: options.sale_cache_ms,
            sale_read_age_ms_max: options.sale_read_age_ms_max,
            sales_cached_max: options.sales_cached_max,
            live_listeners_max: options.live_listeners_max,
            live_sales_max: options.live_sales_max,
            live_interval_ms_min: options.live_interval_ms_min,
            live_keep_alive_ms: options.live_keep_alive_ms,
            drain_ms_max: options.drain_ms_max,
            payment_url: String::new(),
            payment_key_file: PathBuf::new(),
            webhook_secret_files: Vec::new(),
            payment_call_ms_max: options.checkout.payment_call_ms_max,
            payment_connect_ms_max: stripe.connect_ms_max,
            payment_idle_connections_max: stripe.idle_connections_max,
            payment_idle_ms_max: stripe.idle_ms_max,
            payment_answer_bytes_max: stripe.answer_bytes_max,
            payment_retries_max: guard.retries_max,
            payment_retry_wait_ms_min: guard.retry_wait_ms_min,
            payment_retry_wait_ms_max: guard.retry_wait_ms_max,
            payment_attempt_ms_min: guard.attempt_ms_min,
            payment_breaker: guard.breaker.is_some(),
            payment_breaker_window_ms: breaker.window_ms,
            payment_breaker_calls_min: breaker.calls_min,
            payment_breaker_failures_percent: breaker.failures_percent,
            payment_breaker_open_ms: breaker.open_ms,
            checkout_store_call_ms_max: options.checkout.store_call_ms_max,
            checkout_budget_ms_max: options.checkout.budget_ms_max,
            checkout_lease_ms: options.checkout.lease_ms,
            checkouts_in_flight_max: options.checkout.in_flight_max,
            checkout_sweep_ms: options.checkout.sweep_ms,
            checkouts_resumed_at_once_max: options.checkout.resumed_at_once_max,
        }
    }
}

impl ApiSettings {
    /// Claim attempts a user may make per minute.
    pub fn claims_per_user_minute(&self) -> Result<NonZeroU32, Failure> {
        NonZeroU32::new(self.claims_per_user_minute).ok_or_else(|| {
            Failure::Usage(
                "`api.claims_per_user_minute` is 0: nobody could ever claim; use at least 1".into(),
            )
        })
    }

    /// The door's options, for these tokens.
    pub fn options(&self, auth: Auth) -> Result<Options, Failure> {
        Ok(Options {
            demo_control: (!self.demo_control.is_empty()).then(|| self.demo_control.clone()),
            claims_per_user_minute: self.claims_per_user_minute()?,
            rate_users_max: self.rate_users_max,
            rate_when_full: match self.rate_when_full {
                RateWhenFull::Open => WhenFull::Open,
                RateWhenFull::Closed => WhenFull::Closed,
            },
            requests_in_flight_max: self.requests_in_flight_max,
            linearizable_reads_in_flight_max: self.linearizable_reads_in_flight_max,
            connections_max: self.connections_max,
            body_bytes_max: self.body_bytes_max,
            body_read_ms_max: self.body_read_ms_max,
            header_read_ms_max: self.header_read_ms_max,
            tokens_cached_max: self.tokens_cached_max,
            sale_cache_ms: self.sale_cache_ms,
            sale_read_age_ms_max: self.sale_read_age_ms_max,
            sales_cached_max: self.sales_cached_max,
            live_listeners_max: self.live_listeners_max,
            live_sales_max: self.live_sales_max,
            live_interval_ms_min: self.live_interval_ms_min,
            live_keep_alive_ms: self.live_keep_alive_ms,
            drain_ms_max: self.drain_ms_max,
            checkout: CheckoutOptions {
                payment_call_ms_max: self.payment_call_ms_max,
                store_call_ms_max: self.checkout_store_call_ms_max,
                budget_ms_max: self.checkout_budget_ms_max,
                lease_ms: self.checkout_lease_ms,
                in_flight_max: self.checkouts_in_flight_max,
                sweep_ms: self.checkout_sweep_ms,
                resumed_at_once_max: self.checkouts_resumed_at_once_max,
            },
            ..Options::new(auth)
        })
    }

    /// How the payment provider is called, with this key.
    pub fn stripe(&self, key: SecretString) -> StripeOptions {
        StripeOptions {
            connect_ms_max: self.payment_connect_ms_max,
            idle_connections_max: self.payment_idle_connections_max,
            idle_ms_max: self.payment_idle_ms_max,
            answer_bytes_max: self.payment_answer_bytes_max,
            ..StripeOptions::new(&self.payment_url, key)
        }
    }

    /// What stands before it.
    pub fn guard(&self) -> Result<GuardOptions, Failure> {
        let (attempt, call) = (self.payment_attempt_ms_min, self.payment_call_ms_max);
        if attempt > call {
            return Err(Failure::Usage(format!(
                "`api.payment_attempt_ms_min` is {attempt}, above `api.payment_call_ms_max`, {call}: no call could ever \
                 be begun"
            )));
        }
        Ok(GuardOptions {
            retries_max: self.payment_retries_max,
            retry_wait_ms_min: self.payment_retry_wait_ms_min,
            retry_wait_ms_max: self.payment_retry_wait_ms_max,
            attempt_ms_min: attempt,
            breaker: self.payment_breaker.then_some(BreakerOptions {
                window_ms: self.payment_breaker_window_ms,
                calls_min: self.payment_breaker_calls_min,
                failures_percent: self.payment_breaker_failures_percent,
                open_ms: self.payment_breaker_open_ms,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_arrives_at_the_door() {
        let settings = ApiSettings {
            claims_per_user_minute: 11,
            rate_when_full: RateWhenFull::Closed,
            drain_ms_max: 12,
            checkout_budget_ms_max: 13,
            ..ApiSettings::default()
        };
        let options = settings.options(Auth::Development).unwrap();
        let changed = Options {
            claims_per_user_minute: NonZeroU32::new(11).unwrap(),
            rate_when_full: WhenFull::Closed,
            drain_ms_max: 12,
            checkout: CheckoutOptions {
                budget_ms_max: 13,
                ..CheckoutOptions::default()
            },
            ..Options::new(Auth::Development)
        };
        assert_eq!(format!("{options:?}"), format!("{changed:?}"));
        let defaults = ApiSettings::default();
        assert_eq!(defaults.guard().unwrap(), GuardOptions::default());
        let key = || SecretString::from("sk_test_a");
        let stripe = |settings: &ApiSettings| format!("{:?}", settings.stripe(key()));
        assert_eq!(stripe(&defaults), format!("{:?}", StripeOptions::new("", key())));
        let changed = ApiSettings {
            payment_connect_ms_max: 1,
            payment_idle_connections_max: 2,
            payment_idle_ms_max: 3,
            payment_answer_bytes_max: 4,
            payment_retries_max: 5,
            payment_retry_wait_ms_min: 6,
            payment_retry_wait_ms_max: 7,
            payment_attempt_ms_min: 8,
            payment_breaker_window_ms: 9,
            payment_breaker_calls_min: 10,
            payment_breaker_failures_percent: 11,
            payment_breaker_open_ms: 12,
            ..defaults
        };
        let shown = format!("{} {:?}", stripe(&changed), changed.guard().unwrap());
        let numbers: Vec<&str> = shown
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .collect();
        assert_eq!(
            numbers,
            ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"],
            "{shown}"
        );
        let unguarded = ApiSettings {
            payment_breaker: false,
            ..changed
        };
        assert_eq!(unguarded.guard().unwrap().breaker, None);
        let never = ApiSettings {
            payment_attempt_ms_min: 10_001,
            ..ApiSettings::default()
        };
        assert_eq!(never.guard().unwrap_err().code(), 2);
        let zero = ApiSettings {
            claims_per_user_minute: 0,
            ..ApiSettings::default()
        };
        assert_eq!(zero.options(Auth::Development).unwrap_err().code(), 2);
    }
}
