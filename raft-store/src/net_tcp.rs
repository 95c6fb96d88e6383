//! Sockets of the operating system: [`Net`] on tokio's TCP.
//!
//! Every connection has Nagle's algorithm off: raft messages are small, and each waits for the answer
//! to the last. Left out: timeouts and reconnecting, which belong to whoever connects; encryption,
//! which is put on top where there are certificates.

use std::{io, net::SocketAddr};

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};

use crate::seams::{BoxConnection, Listener, Net};

/// The operating system's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::pin(stream) as BoxConnection)
        })
    }
}

impl Listener for TcpListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            // A connection that broke between the handshake and here fails on its first read.
            let _ = stream.set_nodelay(true);
            Ok((Box::pin(stream) as BoxConnection, peer))
        })
    }
}
