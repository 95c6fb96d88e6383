//! Connections: accepted up to a limit, with a time limit on every head, ended gracefully.
//!
//! An accept loop of our own, because the framework's sets neither limit: without them a few thousand
//! silent connections would take all the files this process may open.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Sleep, sleep, timeout},
};

use crate::{
    door::Door,
    options::{Options, StartError},
    routes,
    store::Store,
};

/// Pause after a failed accept (most often: no file descriptors left), in ms. Connections that end in
/// the meantime make room.
const ACCEPT_RETRY_MS: u64 = 50;

/// Streams one HTTP/2 connection may have open: as many as a browser uses, times ten.
const HTTP2_STREAMS_MAX: u32 = 1_000;

/// Largest head of an HTTP/1 request, in bytes, and largest header list of an HTTP/2 one: a token of 4 KiB, a
/// key, a trace, and what proxies add.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Most headers of an HTTP/1 request: browsers and proxies send some thirty.
const HEADERS_MAX: usize = 100;

/// HTTP/2 streams that a caller may have reset and we not yet noticed: more, and he only makes work (the "rapid
/// reset" attack); the connection is closed.
const HTTP2_RESETS_PENDING_MAX: usize = 64;

/// Bytes after which it is clear which HTTP is spoken: those of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

/// What that preface begins with, and no request of HTTP/1 does.
const PREFACE_START: &[u8] = b"PRI ";

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It never began.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Requests were still being answered when the time for stopping was over. Those callers do not
    /// know the outcome; their keys do.
    #[error("stopped after {drain_ms} ms with {connections} connections still open")]
    Cut {
        /// How long was waited, in ms.
        drain_ms: u64,
        /// Connections that were cut.
        connections: usize,
    },
}

/// The door's routes over a store, for whoever wants to serve them himself.
///
/// # Errors
/// When the options do not allow a safe start: no keys, a bad key, a limit of zero.
///
/// # Panics
/// Outside a tokio runtime.
pub fn router(store: impl Store, options: Options) -> Result<Router, StartError> {
    Ok(routes::router(Door::new(Arc::new(store), options)?))
}

/// Serves the door on a bound listener until `shutdown` completes; then says "not ready" for
/// [`Options::drain_notice_ms`], takes no new connections, ends live streams, finishes what is being
/// answered, and returns.
///
/// # Errors
/// When the options do not allow a safe start, or when stopping took longer than
/// [`Options::drain_ms_max`].
pub async fn serve(
    listener: TcpListener,
    store: impl Store,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let door = Door::new(Arc::new(store), options)?;
    let router = routes::router(Arc::clone(&door));
    let limits = Connections {
        connections_max: door.options.connections_max,
        header_read_ms_max: door.options.header_read_ms_max,
        drain_ms_max: door.options.drain_ms_max,
    };
    let leaving = async {
        shutdown.await;
        door.leave();
        sleep(Duration::from_millis(door.options.drain_notice_ms)).await;
    };
    serve_router(listener, router, &limits, leaving, || door.stop()).await
}

/// Limits of whoever serves connections; their reasons stand where they are set.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Open at one time; others wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest that a request's head may take, and a connection may be silent, in ms.
    pub header_read_ms_max: u64,
    /// Longest that stopping may take, in ms.
    pub drain_ms_max: u64,
}

/// Serves a router of anybody's within these limits until `leaving` completes; then takes no new connections,
/// calls `stop` for those that would never end, and finishes what is being answered.
///
/// # Errors
/// [`ServeError::Cut`].
///
/// # Panics
/// If more connections are allowed than 32 bits count.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: &Connections,
    leaving: impl Future<Output = ()> + Send,
    stop: impl FnOnce() + Send,
) -> Result<(), ServeError> {
    let connections_max = limits.connections_max;
    let room = Arc::new(Semaphore::new(connections_max));
    let (close, closing) = watch::channel(false);
    let builder = Arc::new(builder(limits));

    let mut leaving = pin!(leaving);
    loop {
        let stream = tokio::select! {
            () = leaving.as_mut() => break,
            stream = accept(&listener, &room) => stream,
        };
        let Some((stream, place)) = stream else { continue };
        let stream = Opening::new(stream, Duration::from_millis(limits.header_read_ms_max));
        let connection = serve_one(stream, router.clone(), Arc::clone(&builder), closing.clone());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }

    // New connections are refused by the kernel from here on.
    drop(listener);
    stop();
    close.send_replace(true);
    let drain_ms = limits.drain_ms_max;
    let all = u32::try_from(connections_max).expect("checked when the options were");
    match timeout(Duration::from_millis(drain_ms), room.acquire_many(all)).await {
        Ok(_) => Ok(()),
        Err(_) => {
            let connections = connections_max - room.available_permits();
            Err(ServeError::Cut {
                drain_ms,
                connections,
            })
        }
    }
}

fn builder(limits: &Connections) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .header_read_timeout(Duration::from_millis(limits.header_read_ms_max));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(HTTP2_RESETS_PENDING_MAX)
        .keep_alive_interval(Duration::from_millis(limits.header_read_ms_max));
    builder
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// One connection and its place; `None` when accepting failed for now.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, Place)> {
    // The place first: a connection that cannot be served is better left in the kernel's queue.
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and complete: waiting to fill a segment only delays them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            Some((stream, place))
        }
        Err(error) => {
            if !is_of_the_peer(&error) {
                tracing::error!(%error, "accepting a connection failed");
                sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
            None
        }
    }
}

/// Whether accepting failed only because the other side went away again.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn serve_one(
    stream: Opening,
    router: Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    mut closing: watch::Receiver<bool>,
) {
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // The guard that `wait_for` gives is dropped at once: it must not live across the next await.
    let closed = async { drop(closing.wait_for(|closing| *closing).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = closed => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Callers hang up and time out all the time; that is not news.
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection that must say something soon. The framework's own limit on heads begins only when it knows which
/// HTTP is spoken, and it waits for that without one.
struct Opening {
    stream: TcpStream,
    /// Until it is known which HTTP is spoken: when it must be, and the bytes so far.
    unknown: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Opening {
    fn new(stream: TcpStream, patience: Duration) -> Opening {
        Opening {
            stream,
            unknown: Some((Box::pin(sleep(patience)), 0)),
        }
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(context, into);
        if let Some((end, heard)) = &mut this.unknown {
            let new = &into.filled()[before..];
            let is_http1 =
                *heard == 0 && !new.is_empty() && !PREFACE_START.starts_with(&new[..new.len().min(4)]);
            *heard += new.len();
            if is_http1 || *heard >= PREFACE_BYTES {
                this.unknown = None;
            } else if read.is_pending() && end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
