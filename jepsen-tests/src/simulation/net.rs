//! The simulator's sockets, as nodes and clients take them.

use std::{io, net::SocketAddr, sync::Arc};

use client::{Connector, Io};
use futures::{FutureExt, future::BoxFuture};
use raft_store::seams::{BoxConnection, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// Sockets inside a simulation. Hosts are named; addresses are `host:port`.
pub struct SimNet;

struct SimListener(TcpListener);

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        async move { Ok(Box::pin(TcpStream::connect(address).await?) as BoxConnection) }.boxed()
    }
}

impl Listener for SimListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::pin(stream) as BoxConnection, peer))
        }
        .boxed()
    }
}

/// How a client inside a simulation connects.
pub fn connector() -> Connector {
    Arc::new(|address: String| {
        async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Io>) }.boxed()
    })
}
