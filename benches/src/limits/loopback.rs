//! Bare connections: a request of a claim's length there, an answer of a grant's length back, as no server on
//! loopback can do faster; and bytes one way, for as long as the window lasts.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::frame::FrameBytes;
use crate::{
    failure::{Doing, Failure},
    load::{Caller, Measured, Tally, drive},
    report::{Figure, Run, id},
};

/// Connections at one time, as many as the HTTP scenario has.
const CONNECTIONS: usize = 64;

/// Bytes of one write of a stream, far above what a socket buffers by default in one go.
const CHUNK_BYTES: usize = 256 << 10;

/// Measures bare connections, a third of the window for each way.
///
/// # Errors
/// The server does not start, or a connection ends.
pub async fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    let (server, _dir) = super::server(place, "bare-tcp").await?;
    let frame = FrameBytes::of(1);
    for (id, connections) in [(id::LOOPBACK_ONE, 1), (id::LOOPBACK_64, CONNECTIONS)] {
        let measured = calls(server.address(), window / 3, connections, frame).await?;
        let value = match id {
            id::LOOPBACK_ONE => measured.latency_ms(0.50),
            _ => measured.rate(),
        };
        run.add(id, measured.figure(value));
    }
    let stream = FrameBytes {
        request: 0,
        answer: CHUNK_BYTES,
    };
    let measured = calls(server.address(), window / 3, 1, stream).await?;
    let bytes_per_second = measured.rate() * CHUNK_BYTES as f64;
    run.add(
        id::LOOPBACK_STREAM,
        Figure::new(bytes_per_second / f64::from(1 << 20)),
    );
    server.stop().await
}

async fn calls(
    address: &str,
    window: Duration,
    connections: usize,
    frame: FrameBytes,
) -> Result<Measured, Failure> {
    let mut callers = Vec::new();
    for _ in 0..connections {
        let connection = Connection::open(address, frame).await;
        callers.push(connection.doing("connecting to a bare server")?);
    }
    let (measured, tally) = drive(window, callers).await?;
    tally.all_answered("calling a bare server")?;
    Ok(measured)
}

/// A connection that asks again and again.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(address: &str, frame: FrameBytes) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        for bytes in [frame.request, frame.answer] {
            stream
                .write_u32_le(bytes.try_into().map_err(io::Error::other)?)
                .await?;
        }
        Ok(Connection {
            stream,
            request: vec![0x5a; frame.request],
            answer: vec![0; frame.answer],
        })
    }

    async fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request).await?;
        self.stream.read_exact(&mut self.answer).await?;
        Ok(())
    }
}

impl Caller for Connection {
    async fn call(&mut self) -> Option<Tally> {
        let mut tally = Tally::default();
        match self.exchange().await {
            Ok(()) => tally.read = 1,
            Err(error) => tally.fail(|| error.to_string()),
        }
        Some(tally)
    }
}
