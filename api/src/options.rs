//! Every limit of the HTTP door, with its unit and the reason for its default.

use std::{num::NonZeroU32, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use security::Tokens;
use tokio::sync::watch;

use crate::{
    auth::Auth,
    checkout::{CheckoutOptions, Payments},
};

/// Longest the counters of a sale may be kept before they are read again, in ms: the `max-age=1` that
/// every answer promises.
pub const SALE_CACHE_MS_MAX: u64 = 1_000;

/// What to do with a claim when the rate limiter has no room to remember one more user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Let it through unmetered: a sale matters more than the limit.
    Open,
    /// Refuse it as `unavailable`: the limit matters more than the sale.
    Closed,
}

/// Settings of the door. [`Options::new`] gives the defaults; only who may enter has none.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose tokens are believed.
    pub auth: Auth,
    /// API tokens that are believed as well; `None`: none.
    pub tokens: Option<Arc<Tokens>>,
    /// Claim attempts a user may make per minute, all at once if he likes. Ten is more than a person
    /// with a button needs and little enough that a script gains nothing.
    pub claims_per_user_minute: NonZeroU32,
    /// Where that limit changes while the door is open; `None`: it does not.
    pub claims_per_user_minute_changes: Option<watch::Receiver<NonZeroU32>>,
    /// Users the rate limiter remembers, about 40 bytes each: 1,000,000 is 40 MB.
    pub rate_users_max: usize,
    /// What happens to claims beyond that.
    pub rate_when_full: WhenFull,
    /// Requests under `/v1` being answered at one time; more are refused at once, because a queue here
    /// would only hide the wait from the shopper. 16,384 at some 10 KB each is 160 MB.
    pub requests_in_flight_max: usize,
    /// Of these, public reads that ask for linearizability: each costs the leader a round, and nobody
    /// has to show a token for one.
    pub linearizable_reads_in_flight_max: usize,
    /// Open connections. Beyond it new ones wait in the kernel's queue. Must lie below the process's
    /// limit of open files.
    pub connections_max: usize,
    /// Largest request body, in bytes: the largest valid one (a new sale) has about 1 KB.
    pub body_bytes_max: usize,
    /// Longest a body may take to arrive, in ms: slow phones yes, deliberate dripping no.
    pub body_read_ms_max: u64,
    /// Longest a request's head may take to arrive, and longest a connection may idle, in ms.
    pub header_read_ms_max: u64,
    /// Verified tokens remembered until they expire, some 500 bytes each: 100,000 is 50 MB.
    pub tokens_cached_max: usize,
    /// Age in ms up to which a sale's counters are answered from memory; at most
    /// [`SALE_CACHE_MS_MAX`]. One read per sale and second, however many ask.
    pub sale_cache_ms: u64,
    /// Age in ms of the state that such a read may see on a node. Small, so that counters are current;
    /// not zero, so that any node can answer while a leader is being elected.
    pub sale_read_age_ms_max: u64,
    /// Answers about sales kept at one time, some 1 KB each.
    pub sales_cached_max: usize,
    /// Listeners of live counters, over all sales: each is an open connection.
    pub live_listeners_max: usize,
    /// Sales watched live at one time: each is one stream from the store.
    pub live_sales_max: usize,
    /// Shortest time between two live events of a sale, in ms: faster than anybody reads, and times
    /// the listeners it is what the network pays.
    pub live_interval_ms_min: u64,
    /// Silence after which a live stream sends a comment, in ms: below the 30–60 s at which proxies
    /// give up on a quiet connection.
    pub live_keep_alive_ms: u64,
    /// How long a stopping node goes on taking connections while already "not ready", in ms: the time a
    /// balancer needs to notice. Zero where nobody balances.
    pub drain_notice_ms: u64,
    /// Longest a stop then waits for requests being answered, in ms: above the store client's own limit for
    /// one call (5 s), so that no claim is cut off while its outcome is on its way.
    pub drain_ms_max: u64,
    /// Who takes the money; `None`: checkout answers that it is not configured.
    pub payments: Option<Payments>,
    /// Limits of the checkout.
    pub checkout: CheckoutOptions,
    /// Origin of the demo's controls, for the page alone: `http://127.0.0.1:port`. `None` outside a demo.
    pub demo_control: Option<String>,
    /// Where `/metrics` reads from when the process has installed a recorder itself; by default the
    /// door installs one.
    pub metrics: Option<PrometheusHandle>,
}

impl Options {
    /// The defaults, for these tokens.
    pub fn new(auth: Auth) -> Self {
        Options {
            auth,
            tokens: None,
            claims_per_user_minute: NonZeroU32::new(10).expect("ten is not zero"),
            claims_per_user_minute_changes: None,
            rate_users_max: 1_000_000,
            rate_when_full: WhenFull::Open,
            requests_in_flight_max: 16_384,
            linearizable_reads_in_flight_max: 256,
            connections_max: 32_768,
            body_bytes_max: 16 * 1024,
            body_read_ms_max: 10_000,
            header_read_ms_max: 30_000,
            tokens_cached_max: 100_000,
            sale_cache_ms: SALE_CACHE_MS_MAX,
            sale_read_age_ms_max: 2_000,
            sales_cached_max: 10_000,
            live_listeners_max: 10_000,
            live_sales_max: 1_000,
            live_interval_ms_min: 100,
            live_keep_alive_ms: 15_000,
            drain_notice_ms: 0,
            drain_ms_max: 10_000,
            payments: None,
            checkout: CheckoutOptions::default(),
            demo_control: None,
            metrics: None,
        }
    }
}

/// Why the door did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody could ever be let in.
    #[error(
        "no keys to verify bearer tokens with: give at least one HS256 secret or Ed25519 public key, \
         or a file of API tokens, or ask for development mode, which lets everybody who can reach this port mint tokens"
    )]
    NoKeys,
    /// A key that cannot be used.
    #[error("token key {position} ({algorithm}) cannot be used: {why}")]
    Key {
        /// Which of its kind, from one.
        position: usize,
        /// What it was given as.
        algorithm: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A setting outside its limits.
    #[error("{name} is {value}, but must be {rule}")]
    Setting {
        /// Which.
        name: &'static str,
        /// As given.
        value: u64,
        /// What is allowed.
        rule: &'static str,
    },
    /// Controls that are not on this machine.
    #[error(
        "demo_control is {0:?}, but must be http://127.0.0.1:PORT: a demo's controls are on its own machine"
    )]
    DemoControl(String),
    /// The process has a metrics recorder that the door cannot read from.
    #[error("this process already has a metrics recorder; pass its handle in Options::metrics")]
    Metrics,
}

impl Options {
    /// Checks every setting that has a bound.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let positive: [(&'static str, u64); 13] = [
            ("rate_users_max", self.rate_users_max as u64),
            ("requests_in_flight_max", self.requests_in_flight_max as u64),
            (
                "linearizable_reads_in_flight_max",
                self.linearizable_reads_in_flight_max as u64,
            ),
            ("connections_max", self.connections_max as u64),
            ("body_bytes_max", self.body_bytes_max as u64),
            ("body_read_ms_max", self.body_read_ms_max),
            ("header_read_ms_max", self.header_read_ms_max),
            ("tokens_cached_max", self.tokens_cached_max as u64),
            ("sales_cached_max", self.sales_cached_max as u64),
            ("live_listeners_max", self.live_listeners_max as u64),
            ("live_sales_max", self.live_sales_max as u64),
            ("live_interval_ms_min", self.live_interval_ms_min),
            ("live_keep_alive_ms", self.live_keep_alive_ms),
        ];
        if let Some((name, value)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(StartError::Setting {
                name,
                value,
                rule: "at least 1",
            });
        }
        // Semaphores count in the upper bits of a word.
        for (name, value) in positive {
            if value > u64::from(u32::MAX) {
                return Err(StartError::Setting {
                    name,
                    value,
                    rule: "below 2^32",
                });
            }
        }
        if let Some(origin) = &self.demo_control
            && origin
                .strip_prefix("http://127.0.0.1:")
                .is_none_or(|port| port.parse::<u16>().is_err())
        {
            return Err(StartError::DemoControl(origin.clone()));
        }
        if let Err((name, value, rule)) = self.checkout.check() {
            return Err(StartError::Setting { name, value, rule });
        }
        if self.sale_cache_ms > SALE_CACHE_MS_MAX {
            return Err(StartError::Setting {
                name: "sale_cache_ms",
                value: self.sale_cache_ms,
                rule: "at most 1000, since answers promise max-age=1",
            });
        }
        Ok(())
    }
}
