//! The provider behind HTTP.
//!
//! Requests are decoded, timed and answered here; what is answered, when and whether at all is decided by
//! [`Provider`]. A lost answer is a connection that is cut before its first byte; one that hangs is held
//! until the caller gives up, or for a while.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    call::{Answer, Method, Request},
    error::ApiError,
    event::{API_VERSION, Delivery},
    help::help,
    journal::{Journal, JournalError},
    options::Options,
    provider::Provider,
    sender::{self, Webhooks},
    wire::{authorize, challenged, cut, decode, pairs, refuse},
};
use crate::serve::{Connections, ServeError, serve_router};

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The provider. Whether it has webhooks is decided by `webhooks` below; an empty `base_url` becomes the
    /// address it listens at.
    pub provider: Options,
    /// The only key that is taken; without it any that begins with `sk_test_`.
    pub api_key: Option<String>,
    /// Where webhooks go, if anywhere.
    pub webhooks: Option<Webhooks>,
    /// File that outlives this process.
    pub journal: Option<PathBuf>,
    /// Open connections; beyond it new ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Largest body, in bytes: the largest sensible one has 50 metadata entries, some 30 KB.
    pub body_bytes_max: usize,
    /// Longest a head or a body may take to arrive, in ms.
    pub read_ms_max: u64,
    /// Longest a call hangs before its connection is cut, in ms: longer than any caller should wait.
    pub hang_ms_max: u64,
    /// Longest a stop waits for calls being answered, in ms.
    pub drain_ms_max: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            provider: Options::default(),
            api_key: None,
            webhooks: None,
            journal: None,
            connections_max: 4_096,
            body_bytes_max: 64 * 1024,
            read_ms_max: 30_000,
            hang_ms_max: 120_000,
            drain_ms_max: 5_000,
        }
    }
}

/// Why it does not serve, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// Its past cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its own address cannot be learned.
    #[error("listener: {0}")]
    Listener(#[from] io::Error),
    /// Stopping took too long.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Wall time that never falls, in this process: it goes on as the runtime's own time does.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::showing(millis(since))
    }

    fn showing(started_ms: u64) -> Clock {
        Clock {
            started: Instant::now(),
            started_ms,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started_ms + millis(self.started.elapsed())
    }

    fn instant(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms.saturating_sub(self.started_ms))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The provider, shared by those who call and the one who sends.
#[derive(Debug)]
pub(super) struct Shop {
    books: Mutex<Books>,
    pub(super) clock: Clock,
    /// Something may have become due.
    pub(super) news: Notify,
}

#[derive(Debug)]
struct Books {
    provider: Provider,
    journal: Option<Journal>,
}

impl Shop {
    /// The provider as it was, or a new one, with the faults that are asked for now.
    fn open(options: &ServerOptions, clock: Clock) -> Result<Shop, SimulatorError> {
        let (journal, provider) = match &options.journal {
            None => (None, Provider::new(options.provider.clone())),
            Some(path) => {
                let (journal, provider) = Journal::open(path, &options.provider)?;
                (Some(journal), provider)
            }
        };
        let shop = Shop {
            books: Mutex::new(Books { provider, journal }),
            clock,
            news: Notify::new(),
        };
        // As a call, so that the journal knows when they changed.
        let faults = serde_json::to_value(&options.provider.faults).expect("faults are plain data");
        let pairs: Vec<_> = faults.as_object().expect("an object").iter().collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_string()))
            .collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = shop.call(&Request::post("/_/faults", &pairs));
        assert!(
            answer.status == 200 || options.journal.is_some(),
            "faults are understood"
        );
        Ok(shop)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // A call that panicked has broken an invariant of the books: nobody may trust them any more.
        self.books
            .lock()
            .unwrap_or_else(|_: PoisonError<_>| panic!("the provider's books are broken"))
    }

    fn call(&self, request: &Request) -> Answer {
        let mut books = self.books();
        let now_ms = books.provider.advance(self.clock.now_ms());
        if request.method == Method::Post
            && let Some(journal) = &mut books.journal
            && let Err(error) = journal.called(now_ms, request)
        {
            tracing::error!(%error, path = request.path, "refused, nothing happened");
            return Answer::new("req_none".into(), Err(ApiError::full("calls in its journal")));
        }
        let answer = books.provider.call(request, now_ms);
        drop(books);
        self.news.notify_one();
        answer
    }

    pub(super) fn deliveries(&self, count: usize) -> Vec<Delivery> {
        self.books().provider.deliveries(self.clock.now_ms(), count)
    }

    pub(super) fn delivered(&self, delivery: Delivery, taken: bool) {
        let now_ms = self.clock.now_ms();
        let (id, event) = (delivery.id, Arc::clone(&delivery.event));
        let mut books = self.books();
        let over = books.provider.delivered(delivery, taken, now_ms);
        if over && !taken {
            tracing::warn!(
                event = event.id,
                kind = event.kind,
                object = event.object_id,
                "webhook given up"
            );
        }
        if over
            && let Some(journal) = &mut books.journal
            && let Err(error) = journal.ended(now_ms, id)
        {
            // It will be sent once more after a restart; receivers know the event's id.
            tracing::warn!(%error, event = event.id, "a webhook's end was not noted");
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let due_ms = self.books().provider.next_due_ms()?;
        Some(self.clock.instant(due_ms))
    }
}

struct Server {
    shop: Arc<Shop>,
    options: ServerOptions,
    stopping: watch::Receiver<bool>,
}

/// A provider that knows its past and has its address, and has not answered anybody yet.
#[derive(Debug)]
pub struct Opened {
    listener: TcpListener,
    address: SocketAddr,
    options: ServerOptions,
    shop: Arc<Shop>,
}

/// Opens the provider that will serve on a bound listener, with everything its journal knows.
///
/// # Errors
/// When its journal cannot be used.
pub fn open(listener: TcpListener, mut options: ServerOptions) -> Result<Opened, SimulatorError> {
    let address = listener.local_addr()?;
    options.webhooks = options.webhooks.filter(|webhooks| !webhooks.urls.is_empty());
    options.provider.webhooks = options.webhooks.is_some();
    if options.provider.base_url.is_empty() {
        options.provider.base_url = format!("http://{address}");
    }
    let shop = Arc::new(Shop::open(&options, Clock::new())?);
    Ok(Opened {
        listener,
        address,
        options,
        shop,
    })
}

/// Opens the provider and serves until `shutdown` completes.
///
/// # Errors
/// As [`open`] and [`Opened::serve`].
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), SimulatorError> {
    open(listener, options)?.serve(shutdown).await
}

impl Opened {
    /// Serves until `shutdown` completes.
    ///
    /// # Errors
    /// When stopping took longer than [`ServerOptions::drain_ms_max`].
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), SimulatorError> {
        let Opened {
            listener,
            address,
            options,
            shop,
        } = self;
        let (stop, stopping) = watch::channel(false);
        let http = sender::client(HttpConnector::new());
        let sender = options
            .webhooks
            .clone()
            .map(|webhooks| tokio::spawn(sender::send(Arc::clone(&shop), webhooks, http, stopping.clone())));
        let limits = Connections {
            connections_max: options.connections_max,
            header_read_ms_max: options.read_ms_max,
            drain_ms_max: options.drain_ms_max,
        };
        log_start(address, &options, &shop);
        let server = Server {
            shop,
            options,
            stopping,
        };
        let router = Router::new().fallback(answer).with_state(Arc::new(server));
        let served = serve_router(listener, router, &limits, shutdown, || {
            stop.send_replace(true);
        })
        .await;
        if let Some(sender) = sender {
            // It ends at once; its only failure is a panic, which has been logged.
            let _ = sender.await;
        }
        Ok(served?)
    }
}

/// The provider's routes, for whoever brings sockets and a clock of his own: its time begins at `now_ms` and goes
/// on as the runtime's does. Webhooks go out over `connector` for as long as the runtime lives.
///
/// # Errors
/// When its journal cannot be used.
///
/// # Panics
/// Outside a tokio runtime.
pub fn router<C>(options: ServerOptions, now_ms: u64, connector: C) -> Result<Router, SimulatorError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let shop = Arc::new(Shop::open(&options, Clock::showing(now_ms))?);
    let (stop, stopping) = watch::channel(false);
    if let Some(webhooks) = options.webhooks.clone() {
        let (shop, http, stopping) = (Arc::clone(&shop), sender::client(connector), stopping.clone());
        tokio::spawn(async move {
            sender::send(shop, webhooks, http, stopping).await;
            // Kept until here, so that nobody is told to stop.
            drop(stop);
        });
    }
    let server = Server {
        shop,
        options,
        stopping,
    };
    Ok(Router::new().fallback(answer).with_state(Arc::new(server)))
}

fn log_start(address: SocketAddr, options: &ServerOptions, shop: &Shop) {
    let ledger = shop.books().provider.ledger();
    tracing::info!(
        %address,
        seed = options.provider.seed,
        payments = ledger.payments.len(),
        webhooks = options.webhooks.as_ref().map_or(0, |webhooks| webhooks.urls.len()),
        "a payment provider to rehearse with: money here is not money; GET / tells what there is"
    );
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "not only this machine can reach it, and /_/ asks for no key");
    }
}

async fn answer(State(server): State<Arc<Server>>, http: HttpRequest) -> Response {
    let (parts, body) = http.into_parts();
    let (headers, path) = (&parts.headers, parts.uri.path());
    let read = parts.method == axum::http::Method::GET || parts.method == axum::http::Method::HEAD;
    if read && path == "/" {
        return help().into_response();
    }
    if read && path == "/_/settlement.csv" {
        let mut books = server.shop.books();
        books.provider.advance(server.shop.clock.now_ms());
        let csv = books.provider.settlement_csv();
        return ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv).into_response();
    }
    if !read && parts.method != axum::http::Method::POST {
        return refuse(ApiError::unknown_url(parts.method.as_str(), path));
    }
    if path.starts_with("/v1/")
        && let Err(error) = authorize(headers, server.options.api_key.as_deref())
    {
        return refuse(error);
    }
    let challenge = path.strip_prefix("/challenge/");
    let query = parts.uri.query().unwrap_or_default();
    let mut form = if read || challenge.is_some() {
        pairs(query.as_bytes())
    } else {
        Vec::new()
    };
    if !read {
        let read_ms_max = Duration::from_millis(server.options.read_ms_max);
        let Ok(body) = timeout(read_ms_max, to_bytes(body, server.options.body_bytes_max)).await else {
            return refuse(ApiError::uncoded(
                408,
                "invalid_request_error",
                "The body took too long",
            ));
        };
        let Ok(body) = body else {
            let words = format!(
                "The body must arrive whole, and have at most {} bytes",
                server.options.body_bytes_max
            );
            return refuse(ApiError::uncoded(413, "invalid_request_error", words));
        };
        match decode(headers, &body) {
            Ok(more) => form.extend(more),
            Err(error) => return refuse(error),
        }
    }
    if let Some(id) = challenge {
        form.push(("payment_intent".into(), id.into()));
        return challenged(&server.shop.call(&Request {
            method: Method::Post,
            path: "/_/challenge".into(),
            form,
            idempotency_key: None,
        }));
    }
    let key = headers.get("idempotency-key").filter(|_| !read);
    let request = Request {
        method: if read { Method::Get } else { Method::Post },
        path: path.to_owned(),
        form,
        idempotency_key: key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
    };
    let answer = server.shop.call(&request);
    log(&request, &answer);
    server.give(answer, headers).await
}

impl Server {
    /// Gives an answer in its own time, or does not.
    async fn give(&self, answer: Answer, asked: &HeaderMap) -> Response {
        let mut stopping = self.stopping.clone();
        let wait_ms = if answer.hang {
            self.options.hang_ms_max
        } else {
            answer.delay_ms
        };
        if wait_ms > 0 {
            tokio::select! {
                () = sleep(Duration::from_millis(wait_ms)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(answer.status).expect("statuses are written here");
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("content-type", "application/json");
        put("content-length", &answer.body.len().to_string());
        put("request-id", &answer.request_id);
        if answer.replayed {
            put("idempotent-replayed", "true");
        }
        if let Some(original) = &answer.original_request_id {
            put("original-request", original);
        }
        if let Some(retry) = answer.should_retry {
            put("stripe-should-retry", if retry { "true" } else { "false" });
        }
        let version = asked.get("stripe-version");
        let default = HeaderValue::from_static(API_VERSION);
        headers.insert("stripe-version", version.cloned().unwrap_or(default));
        if let Some(key) = asked.get("idempotency-key") {
            headers.insert("idempotency-key", key.clone());
        }
        *response.body_mut() = if answer.hang || answer.lose_answer {
            cut()
        } else {
            Body::from(answer.body.to_string())
        };
        response
    }
}

/// What matters is a line; the rest only for those who look closely.
fn log(request: &Request, answer: &Answer) {
    let (path, status, delay_ms) = (&request.path, answer.status, answer.delay_ms);
    let key = request.idempotency_key.as_deref();
    if let Some(mishap) = answer.mishap {
        tracing::info!(path, key, mishap, status, request = answer.request_id, "fault");
    } else if request.method == Method::Post && path.starts_with("/_/") {
        tracing::info!(path, status, "steered");
    } else {
        tracing::debug!(
            path,
            key,
            status,
            delay_ms,
            replayed = answer.replayed,
            "answered"
        );
    }
}
