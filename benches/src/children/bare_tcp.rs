//! A bare TCP server: the kernel, tokio's sockets, and nothing that is ours.
//!
//! A connection begins with two numbers, little-endian u32: the bytes of a request and of an answer. From then on
//! every request is answered when all of it has come, whatever it holds. Requests of no bytes ask for a stream:
//! answers are written for as long as somebody reads.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::failure::{Doing, Failure};

/// Most bytes of a request or an answer: twice what is written at once by anybody here.
const BYTES_MAX: u32 = 512 << 10;

/// Runs the server.
///
/// # Errors
/// It does not start.
pub fn run() -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        super::until_told(async {
            loop {
                match listener.accept().await {
                    // An end of the connection is how every caller says that it has measured enough.
                    Ok((stream, _)) => drop(tokio::spawn(answer(stream))),
                    Err(error) => return Failure::new("accepting", error.to_string()),
                }
            }
        })
        .await
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (request_bytes, answer_bytes) = (stream.read_u32_le().await?, stream.read_u32_le().await?);
    if request_bytes.max(answer_bytes) > BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = vec![0; request_bytes as usize];
    let answer = vec![0x5a; answer_bytes as usize];
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&answer).await?;
    }
}
