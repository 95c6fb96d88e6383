//! What operators see of the door: request metrics, trace ids, log lines.
//!
//! Labels are names from our own source (routes, statuses, outcomes), never anything a caller sent, so
//! the number of series is fixed and no user id can get into one. A `traceparent` (W3C) that comes in
//! is continued, otherwise one is made; the answer carries it, and so does the log line of every
//! request that failed on our side. Everything that a request does is part of that step: nodes are told the
//! trace of what is followed, and of what operators do.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use metrics::Counter;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use spans::{Kind, Span, TraceContext};

use crate::{
    checkout,
    door::Door,
    error::{self, Problem},
    json,
    options::{Options, StartError},
    payment::breaker,
    routes,
};

const REQUESTS: &str = "holdfast_http_requests_total";
const DURATION: &str = "holdfast_http_request_duration_seconds";
const CLAIMS: &str = "holdfast_claims_total";
const LIVE_SALES: &str = "holdfast_live_sales";

/// Upper bounds of the duration histogram, in seconds: from a cached read to a claim that waited for
/// an election.
const DURATION_BUCKETS_S: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Upper bounds of the histogram of checkouts, in seconds: from a provider next door to a shopper's whole
/// patience, with a bound at the 3 s that an alert asks about.
const CHECKOUT_BUCKETS_S: [f64; 13] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0,
];

/// Upper bounds of the duration histogram of payment calls, in s: from a provider next door to one that
/// uses up a call's whole deadline.
const PAYMENT_BUCKETS_S: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
];

/// Where a trace comes in and goes out.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The process's recorder, installed by whichever door opens first.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// Metrics of the door.
pub(crate) struct Telemetry {
    handle: PrometheusHandle,
    granted: Counter,
    repeated: Counter,
    already: Counter,
    sold_out: Counter,
    claims_answered: AtomicU64,
}

impl Telemetry {
    pub(crate) fn new(options: &Options) -> Result<Self, StartError> {
        let handle = match &options.metrics {
            Some(handle) => handle.clone(),
            None => install()?,
        };
        metrics::describe_counter!(REQUESTS, "HTTP requests answered, by route and status.");
        metrics::describe_histogram!(
            DURATION,
            metrics::Unit::Seconds,
            "Time to answer an HTTP request."
        );
        metrics::describe_counter!(CLAIMS, "Claims answered, by outcome.");
        metrics::describe_gauge!(LIVE_SALES, "Sales whose counters are watched live.");
        breaker::describe_metrics();
        let claims = |outcome: &'static str| metrics::counter!(CLAIMS, "outcome" => outcome);
        Ok(Telemetry {
            handle,
            granted: claims("granted"),
            repeated: claims("repeated"),
            already: claims("already"),
            sold_out: claims("sold-out"),
            claims_answered: AtomicU64::new(0),
        })
    }

    /// Counts how a claim was answered.
    pub(crate) fn claimed(&self, answer: Result<client::Grant, &Problem>) {
        self.claims_answered.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(client::Grant::Granted) => self.granted.increment(1),
            Ok(client::Grant::Repeated) => self.repeated.increment(1),
            Ok(client::Grant::Already) => self.already.increment(1),
            Ok(grant) => metrics::counter!(CLAIMS, "outcome" => json::outcome(grant)).increment(1),
            Err(problem) if problem.kind() == error::Kind::SoldOut => self.sold_out.increment(1),
            Err(problem) => metrics::counter!(CLAIMS, "outcome" => problem.slug()).increment(1),
        }
    }

    /// Claims answered since this process started.
    pub(crate) fn claims_answered(&self) -> u64 {
        self.claims_answered.load(Ordering::Relaxed)
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Notes how many sales are watched live, and folds samples into their buckets; without that they
    /// would pile up until somebody scrapes.
    pub(crate) fn keep_house(&self, live_sales: usize) {
        metrics::gauge!(LIVE_SALES).set(live_sales as f64);
        self.handle.run_upkeep();
    }
}

fn install() -> Result<PrometheusHandle, StartError> {
    let _installing = INSTALLING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &DURATION_BUCKETS_S)
        .and_then(|builder| {
            let payments = Matcher::Full(breaker::DURATION.to_owned());
            builder.set_buckets_for_metric(payments, &PAYMENT_BUCKETS_S)
        })
        .expect("the buckets are not empty")
        .set_buckets_for_metric(
            Matcher::Full(checkout::metrics::DURATION.to_owned()),
            &CHECKOUT_BUCKETS_S,
        )
        .expect("the buckets are not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| StartError::Metrics)?;
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// Measures a request, gives it a trace id, and makes sure that every error is a problem.
pub(crate) async fn observe(State(_): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(routes::UNMATCHED, |matched| routes::name(matched.as_str()));
    let method = request.method().clone();
    let caller = request.headers().get(&TRACEPARENT);
    let caller = caller.and_then(|value| TraceContext::parse(value.as_bytes()));
    let trace = match caller {
        Some(caller) => caller.child(client::chance::random()),
        None => TraceContext::new(
            client::chance::random(),
            client::chance::random(),
            spans::samples(),
        ),
    };
    let mut span = Span::of(trace, caller.map(|caller| caller.span_id()), Kind::Server, || {
        format!("{method} {route}").into()
    });
    // Whatever is said about this request further in is said under the same trace.
    request.headers_mut().insert(TRACEPARENT, header(&trace));

    let answer = spans::within(trace, next.run(request));
    let mut response = error::conform(answer.await);

    let took = began.elapsed();
    let status = response.status();
    metrics::counter!(REQUESTS, "route" => route, "status" => status_label(status.as_u16())).increment(1);
    metrics::histogram!(DURATION, "route" => route).record(took.as_secs_f64());
    span.set("http.route", route);
    span.set("http.response.status_code", u64::from(status.as_u16()));
    if error::is_failure(&response) {
        span.fail(status);
        let trace_id = trace.trace();
        tracing::warn!(trace_id, %method, route, status = status.as_u16(), ?took, "request failed");
    } else {
        let trace_id = format_args!("{:032x}", trace.trace_id());
        tracing::debug!(%trace_id, %method, route, status = status.as_u16(), ?took, "request answered");
    }
    response.headers_mut().insert(TRACEPARENT, header(&trace));
    response
}

fn header(trace: &TraceContext) -> HeaderValue {
    HeaderValue::from_bytes(&trace.header()).expect("hex digits and dashes")
}

/// Statuses as label values: those that this door gives, by class otherwise.
fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        202 => "202",
        303 => "303",
        304 => "304",
        400 => "400",
        401 => "401",
        402 => "402",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        410 => "410",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        500 => "500",
        503 => "503",
        other => match other / 100 {
            1 | 2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}
