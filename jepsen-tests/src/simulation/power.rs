//! A machine's power: cut in the middle of an instruction, it takes everything with it.
//!
//! Code of a simulated machine cannot be stopped half-way through a poll. So from the moment its power is
//! gone it runs into the void: its disk takes nothing, and its sockets neither send nor receive, until the
//! simulation drops it at the next step. What it had sent before is on its way, as on a real network.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use raft_store::seams::{BoxConnection, Listener, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a machine has power. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Power(Arc<AtomicBool>);

impl Power {
    /// On.
    pub fn new() -> Power {
        Power(Arc::new(AtomicBool::new(true)))
    }

    /// Gone, for good: a machine that is started again has another.
    pub fn lose(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is there.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Power {
    fn default() -> Power {
        Power::new()
    }
}

/// Sockets that are silent once the power is gone.
pub struct PoweredNet<N> {
    net: N,
    power: Power,
}

impl<N> PoweredNet<N> {
    /// These sockets, as long as there is power.
    pub fn new(net: N, power: Power) -> PoweredNet<N> {
        PoweredNet { net, power }
    }
}

struct Powered {
    connection: BoxConnection,
    power: Power,
}

struct PoweredListener {
    listener: Box<dyn Listener>,
    power: Power,
}

impl<N: Net> Net for PoweredNet<N> {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move {
            let listener = self.net.listen(address).await?;
            let power = self.power.clone();
            Ok(Box::new(PoweredListener { listener, power }) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        async move {
            if !self.power.is_on() {
                std::future::pending::<()>().await;
            }
            let connection = self.net.connect(address).await?;
            let power = self.power.clone();
            Ok(Box::pin(Powered { connection, power }) as BoxConnection)
        }
        .boxed()
    }
}

impl Listener for PoweredListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        async move {
            let (connection, peer) = self.listener.accept().await?;
            let power = self.power.clone();
            Ok((Box::pin(Powered { connection, power }) as BoxConnection, peer))
        }
        .boxed()
    }
}

impl Powered {
    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut dyn raft_store::seams::Connection>) -> Poll<T>,
    ) -> Poll<T> {
        // Nobody is woken again: nothing of this machine goes on.
        if self.power.is_on() {
            poll(self.connection.as_mut())
        } else {
            Poll::Pending
        }
    }
}

impl AsyncRead for Powered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|connection| connection.poll_read(cx, into))
    }
}

impl AsyncWrite for Powered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|connection| connection.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|connection| connection.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|connection| connection.poll_shutdown(cx))
    }
}
