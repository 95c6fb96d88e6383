//! Where the outside world is plugged in: the same node runs on real parts and inside a simulation.
//!
//! Monotonic time and task spawning are tokio's own, which the simulator already controls; what is
//! left is the disk, the network, the wall clock, and whether workers are threads.

use std::{io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::storage::disk::Disk;

/// The parts a node stands on.
#[derive(Clone)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// This machine's wall clock.
    pub wall_clock: Arc<dyn WallClock>,
    /// How blocking workers run.
    pub workers: Workers,
    /// Where sled keeps the image; `None` where sled cannot run (in simulation): the state is then
    /// rebuilt from snapshot and log.
    pub image_dir: Option<PathBuf>,
}

/// How blocking workers (log writer, image writer, snapshot writer) run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Each on a thread of its own.
    Threads,
    /// As tasks of the current runtime: one thread, repeatable order.
    Tasks,
}

/// A wall clock: it may jump, and decides nothing alone (see the log clock).
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The machine's own wall clock.
#[derive(Debug, Default)]
pub struct SystemWallClock;

impl WallClock for SystemWallClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 counts as 1970: it is then far off the other voters' and reported.
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

/// A connection.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// A connection, boxed.
pub type BoxConnection = Pin<Box<dyn Connection>>;

/// Sockets.
pub trait Net: Send + Sync + 'static {
    /// Listens on `host:port`; port 0 takes a free one.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;
    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>>;
}
