//! What stands before any provider: retries, a breaker, and the measure of every call.
//!
//! - **Retries** repeat a call with *its own key* while its deadline allows, with jittered, growing
//!   waits: what was not taken on, and what may have happened. A decline or a refusal is an answer.
//! - **A doubt stays.** Once a call may have happened, a later attempt that is merely not taken on does
//!   not make it undone: the call still ends as `Unknown`.
//! - **The breaker** counts what a provider suffers from (timeouts, lost connections, 5xx, answers that
//!   are none), never declines or refusals. Open, it refuses unseen and says for how long; then one call
//!   at a time may probe, and its success closes it.
//! - A call that has too little time left is not begun: it would only end as unknown.
//!
//! The breaker is `tower-resilience`'s and reads the process's clock, not tokio's, and the jitter is really
//! random: a simulation with virtual time goes without this. Left out: a queue or limit of its own; how many
//! checkouts run at once is decided before they begin.

use std::{
    future::Future,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant as ProcessInstant},
};

use backon::{ExponentialBuilder, Retryable};
use futures::{FutureExt, future::BoxFuture};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, FailureClassifier,
    SlidingWindowType,
};

use super::{
    BreakerState, Call, Money, NewPayment, Payment, PaymentError, PaymentProvider, ProviderKey, Refund,
    Unavailability,
};

/// Time of one attempt, by call and outcome.
pub(crate) const DURATION: &str = "holdfast_payment_duration_seconds";
const STATE: &str = "holdfast_breaker_state";
const RETRIES: &str = "holdfast_payment_retries_total";

/// The breaker's name in metrics.
const NAME: &str = "payment";

/// When the breaker opens and tries again.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerOptions {
    /// Time over which calls are judged, in ms: long enough to hold several timeouts, short enough that
    /// a provider that went down is noticed within one checkout's patience.
    pub window_ms: u64,
    /// Calls in that time below which nothing is judged: one lost connection proves nothing.
    pub calls_min: usize,
    /// Share of them that must fail, in percent, for the breaker to open.
    pub failures_percent: u8,
    /// How long it stays open before one call may probe, in ms.
    pub open_ms: u64,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        BreakerOptions {
            window_ms: 20_000,
            calls_min: 5,
            failures_percent: 50,
            open_ms: 5_000,
        }
    }
}

/// Limits of what stands before a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardOptions {
    /// Attempts after the first.
    pub retries_max: usize,
    /// Shortest wait before an attempt is repeated, in ms; grows twofold, jittered.
    pub retry_wait_ms_min: u64,
    /// Longest such wait, in ms. A provider that asks for a longer one is not asked again by this call.
    pub retry_wait_ms_max: u64,
    /// Time that must be left for an attempt to be begun, in ms: below what a provider usually needs, it
    /// would only produce another unknown.
    pub attempt_ms_min: u64,
    /// None: no breaker.
    pub breaker: Option<BreakerOptions>,
}

impl Default for GuardOptions {
    fn default() -> Self {
        GuardOptions {
            retries_max: 3,
            retry_wait_ms_min: 100,
            retry_wait_ms_max: 2_000,
            attempt_ms_min: 500,
            breaker: Some(BreakerOptions::default()),
        }
    }
}

/// Options that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, but must be {rule}")]
pub struct GuardOptionError {
    /// Which.
    pub name: &'static str,
    /// As given.
    pub value: u64,
    /// What is allowed.
    pub rule: &'static str,
}

impl GuardOptions {
    fn check(&self) -> Result<(), GuardOptionError> {
        let refuse = |name, value, rule| Err(GuardOptionError { name, value, rule });
        if self.retry_wait_ms_min == 0 || self.retry_wait_ms_min > self.retry_wait_ms_max {
            let rule = "at least 1 and at most retry_wait_ms_max";
            return refuse("retry_wait_ms_min", self.retry_wait_ms_min, rule);
        }
        let Some(breaker) = &self.breaker else {
            return Ok(());
        };
        for (name, value) in [
            ("breaker_window_ms", breaker.window_ms),
            ("breaker_calls_min", breaker.calls_min as u64),
            ("breaker_open_ms", breaker.open_ms),
        ] {
            if value == 0 {
                return refuse(name, value, "at least 1");
            }
        }
        if !(1..=100).contains(&breaker.failures_percent) {
            return refuse(
                "breaker_failures_percent",
                breaker.failures_percent.into(),
                "1 to 100",
            );
        }
        Ok(())
    }
}

/// Says in the process's recorder what is measured here.
pub(crate) fn describe_metrics() {
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time of one attempt at a call of the payment provider, by call and outcome."
    );
    metrics::describe_counter!(
        RETRIES,
        "Attempts beyond the first at a call of the payment provider."
    );
    metrics::describe_gauge!(STATE, "Breakers: 0 closed, 1 half-open, 2 open.");
}

/// A provider behind retries and a breaker.
pub struct Guarded<P: ?Sized> {
    provider: Arc<P>,
    options: GuardOptions,
    breaker: Option<Breaker>,
}

impl<P: PaymentProvider + ?Sized> Guarded<P> {
    /// Guards a provider.
    ///
    /// # Errors
    /// Options that cannot work.
    pub fn new(provider: Arc<P>, options: GuardOptions) -> Result<Self, GuardOptionError> {
        options.check()?;
        describe_metrics();
        Ok(Guarded {
            provider,
            breaker: options.breaker.as_ref().map(Breaker::new),
            options,
        })
    }

    /// Attempts a call until it ends otherwise than *try again*, or its time is up.
    async fn call<T, F>(&self, call: Call, deadline: Instant, attempt: F) -> Result<T, PaymentError>
    where
        T: Send + 'static,
        F: Fn(Arc<P>) -> BoxFuture<'static, Result<T, PaymentError>> + Sync,
    {
        let (wait_min, wait_max) = (
            Duration::from_millis(self.options.retry_wait_ms_min),
            Duration::from_millis(self.options.retry_wait_ms_max),
        );
        let attempt_min = Duration::from_millis(self.options.attempt_ms_min);
        let waits = ExponentialBuilder::default()
            .with_min_delay(wait_min)
            .with_max_delay(wait_max)
            .with_max_times(self.options.retries_max)
            .with_jitter();
        let mut doubt = None;
        let once = || self.attempt(call, deadline, &attempt);
        let result = once
            .retry(waits)
            .sleep(tokio::time::sleep)
            .when(PaymentError::is_transient)
            .adjust(|error, wait| {
                let asked = retry_after(error).unwrap_or_default();
                let wait = wait?.max(asked);
                let in_time = Instant::now() + wait + attempt_min <= deadline;
                (asked <= wait_max && in_time).then_some(wait)
            })
            .notify(|error, wait| {
                tracing::debug!(call = call.name(), %error, ?wait, "payment call is repeated");
                metrics::counter!(RETRIES, "call" => call.name()).increment(1);
                if let PaymentError::Unknown { .. } = error {
                    doubt.get_or_insert_with(|| error.clone());
                }
            })
            .await;
        match (result, doubt) {
            (
                Err(PaymentError::Unavailable { why, .. }),
                Some(PaymentError::Unknown { cause, why: first }),
            ) => Err(PaymentError::Unknown {
                cause,
                why: format!("{first}; asked again: {why}"),
            }),
            (result, _) => result,
        }
    }

    /// One attempt, if there is time and the breaker lets it.
    async fn attempt<T, F>(&self, call: Call, deadline: Instant, attempt: &F) -> Result<T, PaymentError>
    where
        T: Send + 'static,
        F: Fn(Arc<P>) -> BoxFuture<'static, Result<T, PaymentError>> + Sync,
    {
        let attempt_min = Duration::from_millis(self.options.attempt_ms_min);
        if deadline.saturating_duration_since(Instant::now()) < attempt_min {
            return Err(PaymentError::Unavailable {
                cause: Unavailability::NoTime,
                retry_after: None,
                why: format!(
                    "less than {} ms were left to ask the payment provider",
                    attempt_min.as_millis()
                ),
            });
        }
        let measured = measured(call, attempt(self.provider.clone())).boxed();
        match &self.breaker {
            Some(breaker) => breaker.run(Attempt(measured)).await,
            None => measured.await,
        }
    }
}

/// The wait that an error asks for.
fn retry_after(error: &PaymentError) -> Option<Duration> {
    match error {
        PaymentError::Unavailable { retry_after, .. } => *retry_after,
        _ => None,
    }
}

async fn measured<T>(
    call: Call,
    attempt: impl Future<Output = Result<T, PaymentError>>,
) -> Result<T, PaymentError> {
    let began = Instant::now();
    let result = attempt.await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(error) => error.name(),
    };
    metrics::histogram!(DURATION, "call" => call.name(), "outcome" => outcome).record(began.elapsed());
    result
}

/// While it is closed, so many calls are judged at once and one more each [`JUDGED_EVERY`]; others pass. The library
/// looks at all that it judged in its window at every call: at 500 checkouts a second these were 30,000, and took 3%
/// of two cores. So they are 2,100 at most; a share of failures is known well enough by them.
const JUDGED_AT_ONCE: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const JUDGED_EVERY: Duration = Duration::from_millis(10);

/// The breaker, and since when it is open.
struct Breaker {
    service: CircuitBreaker<RunAttempt, ProviderFault>,
    opened: Arc<Mutex<Option<ProcessInstant>>>,
    open: Duration,
    judged: DefaultDirectRateLimiter,
}

impl Breaker {
    fn new(options: &BreakerOptions) -> Self {
        let opened = Arc::new(Mutex::new(None));
        let noted = opened.clone();
        let open = Duration::from_millis(options.open_ms);
        // One probe at a time: with several, those that ended would age out of the window before the last
        // one, and nobody would be left to close the breaker.
        let layer = CircuitBreakerLayer::builder()
            .name(NAME)
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_millis(options.window_ms))
            .minimum_number_of_calls(options.calls_min)
            .failure_rate_threshold(f64::from(options.failures_percent) / 100.0)
            .wait_duration_in_open(open)
            .permitted_calls_in_half_open(1)
            .on_state_transition(move |from, to| {
                show(to);
                *noted.lock().unwrap_or_else(PoisonError::into_inner) =
                    (to == CircuitState::Open).then(ProcessInstant::now);
                tracing::warn!(?from, ?to, "payment breaker changed its state");
            })
            .failure_classifier_type(ProviderFault)
            .build()
            .expect("the options were checked");
        let judged = Quota::with_period(JUDGED_EVERY).expect("not zero");
        let judged = judged.allow_burst(JUDGED_AT_ONCE);
        Breaker {
            service: layer.layer(RunAttempt),
            opened,
            open,
            judged: RateLimiter::direct(judged),
        }
    }

    async fn run<T: Send + 'static>(&self, attempt: Attempt<T>) -> Result<T, PaymentError> {
        // Also while nothing changes: the recorder may be younger than the breaker.
        let state = self.service.state_sync();
        show(state);
        if state == CircuitState::Closed && self.judged.check().is_err() {
            return attempt.0.await;
        }
        let result = self.service.clone().oneshot(attempt).await;
        result.map_err(|error| match error {
            CircuitBreakerError::Inner(error) => error,
            CircuitBreakerError::OpenCircuit => PaymentError::Unavailable {
                cause: Unavailability::BreakerOpen,
                // Half open, somebody is probing: the answer will not take long.
                retry_after: Some(self.remaining().unwrap_or(PROBE_RETRY_AFTER)),
                why: "the payment provider is failing; it is given time to recover".into(),
            },
        })
    }

    /// How long it stays open still.
    fn remaining(&self) -> Option<Duration> {
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let remaining = self.open.saturating_sub(opened?.elapsed());
        (!remaining.is_zero()).then_some(remaining)
    }
}

/// Shows a state in the metrics.
fn show(state: CircuitState) {
    let state = match state {
        CircuitState::Closed => 0.0,
        CircuitState::HalfOpen => 1.0,
        CircuitState::Open => 2.0,
    };
    metrics::gauge!(STATE, "name" => NAME).set(state);
}

/// When to come back while another call probes.
const PROBE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A call about to be made.
struct Attempt<T>(BoxFuture<'static, Result<T, PaymentError>>);

/// The breaker's inner service: a request is the attempt itself.
#[derive(Clone, Copy, Debug)]
struct RunAttempt;

impl<T> Service<Attempt<T>> for RunAttempt {
    type Response = T;
    type Error = PaymentError;
    type Future = BoxFuture<'static, Result<T, PaymentError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PaymentError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt<T>) -> Self::Future {
        attempt.0
    }
}

/// What counts against a provider.
#[derive(Clone, Copy, Debug)]
struct ProviderFault;

impl<T> FailureClassifier<T, PaymentError> for ProviderFault {
    fn classify(&self, result: &Result<T, PaymentError>) -> bool {
        matches!(result, Err(error) if error.is_provider_fault())
    }
}

impl<P: PaymentProvider + ?Sized> PaymentProvider for Guarded<P> {
    fn breaker(&self) -> Option<BreakerState> {
        let breaker = self.breaker.as_ref()?;
        Some(match breaker.service.state_sync() {
            CircuitState::Closed => BreakerState::Closed,
            CircuitState::HalfOpen => BreakerState::HalfOpen,
            // The library leaves it open until somebody calls again; whoever does would probe.
            CircuitState::Open if breaker.remaining().is_none() => BreakerState::HalfOpen,
            CircuitState::Open => BreakerState::Open,
        })
    }

    fn create<'a>(
        &'a self,
        new: &'a NewPayment,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        self.call(Call::Create, deadline, move |provider| {
            let (new, key) = (new.clone(), key.clone());
            async move { provider.create(&new, &key, deadline).await }.boxed()
        })
        .boxed()
    }

    fn confirm<'a>(
        &'a self,
        payment_id: &'a str,
        return_url: Option<&'a str>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        self.call(Call::Confirm, deadline, move |provider| {
            let (id, key, url) = (payment_id.to_owned(), key.clone(), return_url.map(str::to_owned));
            async move { provider.confirm(&id, url.as_deref(), &key, deadline).await }.boxed()
        })
        .boxed()
    }

    fn capture<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        self.call(Call::Capture, deadline, move |provider| {
            let (id, key) = (payment_id.to_owned(), key.clone());
            async move { provider.capture(&id, &key, deadline).await }.boxed()
        })
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        payment_id: &'a str,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        self.call(Call::Cancel, deadline, move |provider| {
            let (id, key) = (payment_id.to_owned(), key.clone());
            async move { provider.cancel(&id, &key, deadline).await }.boxed()
        })
        .boxed()
    }

    fn refund<'a>(
        &'a self,
        payment_id: &'a str,
        amount: Option<Money>,
        key: &'a ProviderKey,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        self.call(Call::Refund, deadline, move |provider| {
            let (id, key) = (payment_id.to_owned(), key.clone());
            async move { provider.refund(&id, amount, &key, deadline).await }.boxed()
        })
        .boxed()
    }

    fn retrieve<'a>(
        &'a self,
        payment_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Payment, PaymentError>> {
        self.call(Call::Retrieve, deadline, move |provider| {
            let id = payment_id.to_owned();
            async move { provider.retrieve(&id, deadline).await }.boxed()
        })
        .boxed()
    }

    fn retrieve_refund<'a>(
        &'a self,
        refund_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        self.call(Call::Retrieve, deadline, move |provider| {
            let id = refund_id.to_owned();
            async move { provider.retrieve_refund(&id, deadline).await }.boxed()
        })
        .boxed()
    }

    fn refusing(&self) -> Option<Duration> {
        self.breaker.as_ref().and_then(Breaker::remaining)
    }
}
