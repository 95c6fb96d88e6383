//! From a span that has ended to the collector: a bounded queue, a thread that sends what is in it, our HTTP client.
//!
//! What does not fit into the queue is dropped and counted by the exporter, which says so in the log, as it does
//! when the collector cannot be reached. No request waits for any of it.

use std::{
    error::Error,
    fmt::Display,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value as OtelValue,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor},
};
use spans::{Finished, Kind, TraceContext, Value};
use tokio::runtime::Handle;

use crate::{config::LogSettings, exit::Failure};

/// Most spans that wait to be sent: some 4 MB.
const QUEUE_SPANS_MAX: usize = 8_192;

/// Most spans in one request: some 256 KB.
const EXPORT_SPANS_MAX: usize = 512;

/// How long a span may wait for others to be sent with.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long one request to the collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that stops waits for its last spans to be sent: one request.
const STOP_TIMEOUT: Duration = EXPORT_TIMEOUT;

/// Largest answer of a collector that is read, in bytes: it says how many spans it refused, and why.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Spans on their way to the collector, if one is set.
pub struct Traces(Option<Arc<BatchSpanProcessor>>);

impl Traces {
    /// Sends what ends in this process from now on. Call once, on the runtime that requests will use.
    pub fn start(settings: &LogSettings, service: &'static str, instance: String) -> Result<Traces, Failure> {
        let endpoint = &settings.otlp_endpoint;
        if endpoint.is_empty() {
            return Ok(Traces(None));
        }
        let failed =
            |error: &dyn Display| Failure::Failed(format!("`log.otlp_endpoint`: \"{endpoint}\": {error}"));
        let client = reqwest::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| failed(&error))?;
        let http = Http {
            client,
            runtime: Handle::current(),
            fails: AtomicBool::new(false),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| failed(&error))?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(EXPORT_SPANS_MAX)
            .with_scheduled_delay(EXPORT_INTERVAL)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, config);
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&resource);
        let processor = Arc::new(processor);
        let scope = InstrumentationScope::builder("holdfast").build();
        let queue = Arc::clone(&processor);
        let listens = spans::listen(settings.otlp_sample_per_mille, move |span| {
            queue.on_end(exported(span, scope.clone()));
        });
        assert!(listens, "a process runs one command, and that starts this once");
        tracing::info!(endpoint, "traces are sent");
        Ok(Traces(Some(processor)))
    }

    /// Sends the last of them.
    pub async fn stop(self) {
        let Some(processor) = self.0 else { return };
        // It waits for its own thread, which sends through this runtime.
        let stopping = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(STOP_TIMEOUT));
        match stopping.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

/// A span as OpenTelemetry has it.
fn exported(span: Finished, instrumentation_scope: InstrumentationScope) -> SpanData {
    let attribute = |(key, value): (&'static str, Value)| {
        let value = match value {
            // Its numbers are signed; none of ours gets near.
            Value::Number(number) => OtelValue::I64(i64::try_from(number).unwrap_or(i64::MAX)),
            Value::Text(text) => OtelValue::String(text.into()),
        };
        KeyValue::new(key, value)
    };
    let mut links = SpanLinks::default();
    let linked = span
        .links
        .iter()
        .map(|link| Link::new(step(link, true), Vec::new(), 0));
    links.links = linked.collect();
    SpanData {
        span_context: step(&span.context, false),
        parent_span_id: span
            .parent
            .map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
        parent_span_is_remote: span.parent.is_some() && span.kind == Kind::Server,
        span_kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        },
        name: span.name,
        start_time: span.began,
        end_time: span.began + span.took,
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope,
    }
}

fn step(context: &TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id().to_be_bytes()),
        SpanId::from_bytes(context.span_id().to_be_bytes()),
        // Nothing else has spans.
        TraceFlags::SAMPLED,
        is_remote,
        TraceState::NONE,
    )
}

/// Our HTTP client, on our runtime, for a thread that has none.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last attempt failed.
    fails: AtomicBool,
}

type Answer = Result<Response<Bytes>, Box<dyn Error + Send + Sync>>;

impl HttpClient for Http {
    fn send_bytes<'client, 'answer>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'answer>>
    where
        'client: 'answer,
        Self: 'answer,
    {
        let sent = self.runtime.spawn(send(self.client.clone(), request));
        Box::pin(async move {
            let answer = sent.await?;
            let failed_before = self.fails.swap(answer.is_err(), Ordering::Relaxed);
            // What the exporter says of each failure has no reason; one line of ours has it, not one an attempt.
            if let (Err(error), false) = (&answer, failed_before) {
                let why = reasons(error.as_ref());
                tracing::warn!(why, "the collector at `log.otlp_endpoint` takes no spans");
            }
            answer
        })
    }
}

/// An error and what led to it, in one line.
fn reasons(error: &(dyn Error + 'static)) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    why
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Answer {
    let mut answer = client.execute(request.try_into()?).await?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("the collector's answer is longer than {ANSWER_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response::builder().status(status).body(body.into())?)
}
