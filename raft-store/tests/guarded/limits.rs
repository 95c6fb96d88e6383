//! The limits of the port, each on a real socket.

use std::{io, time::Duration};

use futures::StreamExt;
use raft_store::{
    net_tcp::TcpNet,
    seams::Net,
    service::{ConnectionLimits, incoming_with},
};
use security::Kind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Request, metadata::MetadataValue};

use crate::shop::{Shop, channel, start};

/// What an HTTP/2 client says first, its settings included.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections_max: 2,
        handshakes_max: 1,
        handshake_ms_max: 200,
        preface_ms_max: 200,
    }
}

/// Whether the other side has closed.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1_024];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => return true,
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let mut taken = Box::pin(incoming_with(listener, None, limits()));
    let _callers = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let first = taken.next().await.unwrap().unwrap();
    let _second = taken.next().await.unwrap().unwrap();
    let mut third = taken.next();
    // Nothing to wait for in time: as long as both are there, a poll gives nothing.
    for _ in 0..3 {
        assert!(futures::poll!(&mut third).is_pending());
        tokio::task::yield_now().await;
    }
    drop(first);
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_not_kept() {
    let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let mut taken = Box::pin(incoming_with(listener, None, limits()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    // A byte is not enough.
    silent.write_all(&PREFACE[..1]).await.unwrap();
    let mut accepted = taken.next().await.unwrap().unwrap();
    let mut bytes = [0; 64];
    assert_eq!(accepted.read(&mut bytes).await.unwrap(), 1);
    let error = accepted.read(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(accepted);

    // Who has begun may be silent for longer; what then ends it is HTTP/2's own keepalive.
    let mut talker = TcpStream::connect(address).await.unwrap();
    talker.write_all(PREFACE).await.unwrap();
    let mut accepted = taken.next().await.unwrap().unwrap();
    let mut whole = vec![0; PREFACE.len()];
    accepted.read_exact(&mut whole).await.unwrap();
    let silence = Duration::from_millis(limits().preface_ms_max * 3);
    let more = tokio::time::timeout(silence, accepted.read(&mut bytes)).await;
    assert!(more.is_err(), "nothing came, and nothing ended: {more:?}");
}

#[tokio::test]
async fn a_slow_handshake_ends_and_the_next_one_is_taken() {
    let shop = Shop::new();
    let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let mut taken = Box::pin(incoming_with(listener, Some(shop.node(1)), limits()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let caller = shop.caller(Kind::Operator);
    // Only one handshake at a time here, and the silent caller has begun his.
    let calling = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = caller.connect(stream, security::Expect::Node(1)).await.unwrap();
        (stream, ends(&mut silent).await)
    };
    let taking = async {
        let mut accepted = taken.next().await.unwrap().unwrap();
        // Servers of HTTP/2 speak first, and callers wait for that.
        accepted.write_all(b"!").await.unwrap();
        accepted.flush().await.unwrap();
        accepted
    };
    let (_accepted, (_stream, ended)) = tokio::join!(taking, calling);
    assert!(ended, "the silent one was let go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_messages_beyond_the_limits_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), 1, security::Guard::open()).await.unwrap();
    let address = node.address().to_string();
    let mut inventory = proto::v1::inventory_client::InventoryClient::new(channel(address.clone(), None));
    let ask = |bytes: usize| {
        let mut request = Request::new(proto::v1::GetSaleRequest::default());
        let padding = MetadataValue::try_from("x".repeat(bytes)).unwrap();
        request.metadata_mut().insert("padding", padding);
        request
    };
    // Refused for what it asks, not for its length.
    assert_eq!(
        inventory.get_sale(ask(1_000)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let status = inventory.get_sale(ask(32 * 1024)).await.unwrap_err();
    assert_ne!(status.code(), Code::InvalidArgument, "{status}");

    let large = proto::v1::GetSaleRequest {
        sale_id: "x".repeat(raft_store::limits::MESSAGE_BYTES_MAX),
        ..Default::default()
    };
    let mut inventory = inventory.max_encoding_message_size(usize::MAX);
    let status = inventory.get_sale(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    node.stop().await;
}

/// What the node says in its settings, by number.
async fn settings(address: &str) -> Vec<(u16, u32)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        const SETTINGS: u8 = 4;
        if head[3] == SETTINGS && head[4] == 0 {
            let pairs = body.chunks_exact(6);
            return pairs
                .map(|pair| {
                    let number = u16::from_be_bytes([pair[0], pair[1]]);
                    (number, u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
                })
                .collect();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_frames_and_header_lists_are_announced_with_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), 1, security::Guard::open()).await.unwrap();
    let settings = settings(&node.address().to_string()).await;
    const STREAMS: u16 = 3;
    const FRAME: u16 = 5;
    const HEADERS: u16 = 6;
    for (number, value) in [(STREAMS, 1_024), (FRAME, 16 * 1024), (HEADERS, 16 * 1024)] {
        assert!(settings.contains(&(number, value)), "{number}: {settings:?}");
    }
    node.stop().await;
}
