//! The network between nodes, and between clients and nodes: a TCP proxy in user space, one for each directed
//! pair, so that any of them can be cut, slowed, stalled or reset, alone.
//!
//! A node's own connections come here because its fault library rewrites where they go ([`super::preload`]);
//! clients dial through [`Links::dial`]. Bytes of a cut direction wait, as they do while TCP retransmits, and
//! arrive when it is healed: late messages are part of the fault. A lost packet is a stall of one
//! retransmission timeout. Delays differ from chunk to chunk and from connection to connection, so messages of
//! different connections overtake one another; within one connection TCP keeps their order and drops
//! duplicates, and so does this.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use client::Io;
use futures::future::BoxFuture;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::processes::{free_address, loopback};

/// Who stands at an end of a link: a node's id, or [`CLIENTS`].
pub type End = u64;

/// All clients together: nodes count from one.
pub const CLIENTS: End = 0;

/// What is read at once, in bytes: a few packets.
const CHUNK_BYTES: usize = 16 << 10;

/// Chunks on their way in one direction of one connection: as much as a socket's buffers hold.
const CHUNKS_MAX: usize = 64;

/// What a lost packet costs, in ms: Linux's shortest retransmission timeout.
const RETRANSMIT_MS: u64 = 200;

/// What one direction between two ends suffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing arrives.
    pub cut: bool,
    /// So many of a hundred chunks are lost once, and come a retransmission later.
    pub loss_percent: u32,
    /// Each chunk takes up to this much longer, in ms.
    pub delay_ms_max: u64,
}

/// All links. Clones share them.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    weather: HashMap<(End, End), watch::Sender<Weather>>,
    resets: HashMap<(End, End), watch::Sender<u64>>,
    listeners: HashMap<(End, End), Listener>,
    /// Where each node listens.
    ports: HashMap<u16, End>,
}

struct Listener {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Links {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node listens on `port`.
    pub fn join(&self, node: End, port: u16) {
        self.state().ports.insert(port, node);
    }

    /// A node is gone for good.
    pub fn leave(&self, node: End) {
        let mut state = self.state();
        state.ports.retain(|_, end| *end != node);
        state
            .listeners
            .retain(|&(from, to), _| from != node && to != node);
    }

    /// The port where `from` finds `to`, which listens on `port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn port(&self, from: End, to: End, port: u16) -> io::Result<u16> {
        if let Some(listener) = self.state().listeners.get(&(from, to)) {
            return Ok(listener.port);
        }
        let listener = TcpListener::bind(free_address()?).await?;
        let proxy = listener.local_addr()?.port();
        let links = self.clone();
        let accepting = tokio::spawn(async move {
            loop {
                // A connection that was gone before it was taken is nobody's.
                let Ok((near, _)) = listener.accept().await else {
                    continue;
                };
                let links = links.clone();
                tokio::spawn(async move {
                    match TcpStream::connect((loopback(), port)).await {
                        Ok(far) => links.carry(from, to, near, far).await,
                        Err(_) => abort(&near),
                    }
                });
            }
        });
        let listener = Listener {
            port: proxy,
            accepting,
        };
        self.state().listeners.insert((from, to), listener);
        Ok(proxy)
    }

    /// Opens a client's connection to `host:port`.
    pub fn dial(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let links = self.clone();
        Box::pin(async move {
            let far = TcpStream::connect(&address).await?;
            far.set_nodelay(true)?;
            let to = links.state().ports.get(&far.peer_addr()?.port()).copied();
            let Some(to) = to else {
                return Ok(Box::new(far) as Box<dyn Io>);
            };
            let (ours, theirs) = tokio::io::duplex(CHUNK_BYTES * 4);
            tokio::spawn(async move { links.carry(CLIENTS, to, ours, far).await });
            Ok(Box::new(theirs) as Box<dyn Io>)
        })
    }

    /// Sets what one direction suffers from now on.
    pub fn set(&self, from: End, to: End, weather: Weather) {
        self.state()
            .weather
            .entry((from, to))
            .or_default()
            .send_replace(weather);
    }

    /// Breaks every connection between two ends, whoever opened it.
    pub fn reset(&self, one: End, other: End) {
        let mut state = self.state();
        for pair in [(one, other), (other, one)] {
            state
                .resets
                .entry(pair)
                .or_default()
                .send_modify(|times| *times += 1);
        }
    }

    /// Fair weather everywhere.
    pub fn heal(&self) {
        for weather in self.state().weather.values() {
            weather.send_replace(Weather::default());
        }
    }

    /// Carries one connection that `from` opened to `to`, until an end closes it or it is reset.
    async fn carry<A: Stream, B: Stream>(&self, from: End, to: End, near: A, far: B) {
        let (there, back, mut reset) = {
            let mut state = self.state();
            let there = state.weather.entry((from, to)).or_default().subscribe();
            let back = state.weather.entry((to, from)).or_default().subscribe();
            let reset = state.resets.entry((from, to)).or_default().subscribe();
            (there, back, reset)
        };
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let mut there = Box::pin(pump(near_read, far_write, there));
        let mut back = Box::pin(pump(far_read, near_write, back));
        tokio::select! {
            // Dropping both ends with bytes on their way is what a reset is.
            _ = reset.changed() => {}
            // One end closed: what the other one still says is delivered.
            (_, writer) = &mut there => { back.await; drop(writer); }
            (_, writer) = &mut back => { there.await; drop(writer); }
        }
    }
}

/// Bytes that come and go.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Ends a connection with a reset.
fn abort(connection: &TcpStream) {
    // One that is broken already needs no breaking.
    let _ = connection.set_zero_linger();
}

/// Carries one direction. Gives both halves back when it is over.
async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: R,
    mut to: W,
    weather: watch::Receiver<Weather>,
) -> (R, W) {
    let (sender, receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let read = async {
        let mut chance = SmallRng::from_rng(&mut rand::rng());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut due = Instant::now();
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let Weather { delay_ms_max, .. } = *weather.borrow();
            let delay_ms = chance.random_range(0..=delay_ms_max);
            due = due.max(Instant::now() + Duration::from_millis(delay_ms));
            let chunk = Bytes::copy_from_slice(&buffer[..count]);
            if sender.send((due, chunk)).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = deliver(&mut to, receiver, weather.clone());
    tokio::join!(read, write);
    // An end that is gone needs no farewell.
    let _ = to.shutdown().await;
    (from, to)
}

async fn deliver<W: AsyncWrite + Unpin>(
    to: &mut W,
    mut chunks: mpsc::Receiver<(Instant, Bytes)>,
    mut weather: watch::Receiver<Weather>,
) {
    let mut chance = SmallRng::from_rng(&mut rand::rng());
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        let loss_percent = weather.borrow().loss_percent;
        if chance.random_range(0..100) < loss_percent {
            sleep(Duration::from_millis(RETRANSMIT_MS)).await;
        }
        // The links are gone: so is the connection.
        let Ok(_) = weather.wait_for(|weather| !weather.cut).await else {
            return;
        };
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}
