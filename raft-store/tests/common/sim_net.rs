//! The simulator's network as a node sees it: turmoil's sockets behind [`Net`].

use std::{io, net::SocketAddr};

use futures::future::BoxFuture;
use raft_store::seams::{BoxConnection, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// Sockets inside a simulation. Hosts are named; addresses are `host:port`.
pub struct SimNet;

struct SimListener(TcpListener);

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        Box::pin(async move { Ok(Box::pin(TcpStream::connect(address).await?) as BoxConnection) })
    }
}

impl Listener for SimListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::pin(stream) as BoxConnection, peer))
        })
    }
}
