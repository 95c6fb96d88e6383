//! Connections of a node's port: taken up to a limit, protected if there are certificates, and closed when
//! they do not begin.
//!
//! A connection counts from when it is accepted, handshake included. Handshakes go on side by side, so that a
//! caller who is slow at his delays nobody else's. One who then says nothing is not kept: HTTP/2's own
//! keepalive begins only after the preface.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, future::BoxFuture, stream, stream::FuturesUnordered};
use security::{Name, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, timeout},
};
use tonic::transport::server::Connected;

use crate::seams::{BoxConnection, Listener};

/// Pause after a failed accept, in ms: the usual cause, too many open files, does not go away at once.
const ACCEPT_PAUSE_MS: u64 = 50;

/// How connections are limited. [`ConnectionLimits::default`] is what nodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections. More wait in the kernel's queue: each costs two HTTP/2 windows and a file, and a
    /// cluster has peers, doors and platforms for callers, not shoppers.
    pub connections_max: usize,
    /// Handshakes under way at one time: each is half a millisecond of signing, which calls wait for.
    pub handshakes_max: usize,
    /// Longest a handshake may take, in ms: several round trips across a continent.
    pub handshake_ms_max: u64,
    /// Longest until the HTTP/2 preface has come, in ms. Clients send it at once.
    pub preface_ms_max: u64,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            connections_max: 4_096,
            handshakes_max: 64,
            handshake_ms_max: 5_000,
            preface_ms_max: 5_000,
        }
    }
}

/// Bytes of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

/// Failed handshakes are told once in so many ms, with how many there were: anybody can cause them.
const TOLD_EVERY_MS: u64 = 1_000;

/// Name of the counter of connections that were refused in their handshake.
const REFUSED_METRIC: &str = "holdfast_tls_refused_total";

/// The connections of a listener, unprotected, as tonic takes them. Never ends.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Accepted>> + Send {
    incoming_with(listener, None, ConnectionLimits::default())
}

/// The connections of a listener, as tonic takes them. Never ends.
pub fn incoming_with(
    listener: Box<dyn Listener>,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
) -> impl Stream<Item = io::Result<Accepted>> + Send {
    let taking = Taking {
        listener,
        tls,
        limits,
        room: Arc::new(Semaphore::new(limits.connections_max)),
        handshakes: FuturesUnordered::new(),
        told: None,
        untold: 0,
    };
    stream::unfold(taking, |mut taking| async {
        let accepted = taking.next().await;
        Some((accepted, taking))
    })
}

struct Taking {
    listener: Box<dyn Listener>,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    room: Arc<Semaphore>,
    handshakes: FuturesUnordered<BoxFuture<'static, (SocketAddr, io::Result<Accepted>)>>,
    /// When a failed handshake was last told, and how many there were since.
    told: Option<Instant>,
    untold: u64,
}

impl Taking {
    async fn next(&mut self) -> io::Result<Accepted> {
        loop {
            let more = self.handshakes.len() < self.limits.handshakes_max;
            // In order, so that a simulated run repeats to the byte.
            let (connection, peer, place) = tokio::select! {
                biased;
                Some((peer, done)) = self.handshakes.next() => match done {
                    Ok(accepted) => return Ok(accepted),
                    Err(error) => {
                        self.refused(peer, &error);
                        continue;
                    }
                },
                accepted = accept(&mut self.listener, &self.room), if more => accepted?,
            };
            let preface = Duration::from_millis(self.limits.preface_ms_max);
            let arrived = |name| Arrived { peer, name };
            match self.tls.clone() {
                None => return Ok(Accepted::new(connection, arrived(None), place, preface)),
                Some(tls) => {
                    let patience = Duration::from_millis(self.limits.handshake_ms_max);
                    self.handshakes.push(Box::pin(async move {
                        let shaken = timeout(patience, tls.accept(connection)).await;
                        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                        let accepted = shaken.map(|(stream, name)| {
                            let arrived = Arrived {
                                peer,
                                name: name.map(Arc::new),
                            };
                            Accepted::new(Box::pin(stream), arrived, place, preface)
                        });
                        (peer, accepted)
                    }));
                }
            }
        }
    }

    fn refused(&mut self, peer: SocketAddr, error: &io::Error) {
        metrics::counter!(REFUSED_METRIC).increment(1);
        let now = Instant::now();
        let every = Duration::from_millis(TOLD_EVERY_MS);
        if self.told.is_some_and(|told| now.duration_since(told) < every) {
            self.untold += 1;
            return;
        }
        let others = std::mem::take(&mut self.untold);
        self.told = Some(now);
        tracing::warn!(%peer, %error, others, "a connection was refused in its handshake");
    }
}

/// The next connection and its place. Dropped half-way it loses neither.
async fn accept(
    listener: &mut Box<dyn Listener>,
    room: &Arc<Semaphore>,
) -> io::Result<(BoxConnection, SocketAddr, OwnedSemaphorePermit)> {
    // The place first: what cannot be served is better left in the kernel's queue.
    let place = Arc::clone(room)
        .acquire_owned()
        .await
        .expect("this semaphore is never closed");
    match listener.accept().await {
        Ok((connection, peer)) => Ok((connection, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            Err(error)
        }
    }
}

/// Where a call comes from.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The address at the other end.
    pub peer: SocketAddr,
    /// The name in the certificate that was shown, if one was.
    pub name: Option<Arc<Name>>,
}

/// An accepted connection.
pub struct Accepted {
    connection: BoxConnection,
    arrived: Arrived,
    /// Until the preface has come: when it must have, and how much of it has.
    beginning: Option<(Pin<Box<Sleep>>, usize)>,
    _place: OwnedSemaphorePermit,
}

impl Accepted {
    fn new(
        connection: BoxConnection,
        arrived: Arrived,
        place: OwnedSemaphorePermit,
        preface: Duration,
    ) -> Accepted {
        Accepted {
            connection,
            arrived,
            beginning: Some((Box::pin(sleep(preface)), 0)),
            _place: place,
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Arrived;
    fn connect_info(&self) -> Arrived {
        self.arrived.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.connection.as_mut().poll_read(context, into);
        if let Some((end, heard)) = &mut self.beginning {
            *heard += into.filled().len() - before;
            if *heard >= PREFACE_BYTES {
                self.beginning = None;
            } else if read.is_pending() && end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.as_mut().poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.as_mut().poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.as_mut().poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.as_mut().poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}
