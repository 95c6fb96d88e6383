//! Over real sockets: serving, stopping, and the limits on connections.

mod common;

use std::time::Duration;

use api::{Options, Role, ServeError};
use client::{ClaimStatus, Grant};
use common::*;
use futures::{StreamExt, stream};
use reqwest::{Client, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

/// A deadline for what must come; never reached unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    address: String,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

async fn serve(store: &Shared, options: Options) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let store = store.clone();
    let ended = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        api::serve(listener, store, options, shutdown).await
    });
    Served { address, stop, ended }
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn end(self) -> Result<(), ServeError> {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.ended)
            .await
            .expect("it stops")
            .unwrap()
    }
}

/// A client of HTTP; none can be made before the process has chosen its cryptography.
fn http() -> Client {
    api::payment::use_ring();
    Client::new()
}

async fn get(client: &Client, url: String) -> Response {
    client.get(url).send().await.unwrap()
}

#[tokio::test]
async fn a_claim_over_a_socket_and_a_clean_stop() {
    let store = Shared::default();
    script(&store.claim, |_| Ok(claimed(Grant::Granted, ClaimStatus::Held)));
    let served = serve(&store, options()).await;
    let client = http();
    let answer = client
        .post(served.url("/v1/sales/drop-7/claims"))
        .header("authorization", bearer("ada", Role::Shopper))
        .header("idempotency-key", "\"k-1\"")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let json: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(json["claim_id"], "c_abc");
    // The client keeps its idle connection; that must not hold up the stop.
    let address = served.address.clone();
    served.end().await.unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_stopping_node_first_says_that_it_is_not_ready() {
    let store = Shared::default();
    script(&store.sales, |_| Ok((Vec::new(), position())));
    let mut options = options();
    options.drain_notice_ms = 3_600_000;
    let served = serve(&store, options).await;
    // A new connection each time, as a balancer's probe would make.
    let url = served.url("/readyz");
    let ready = || async { get(&http(), url.clone()).await.status().as_u16() };
    assert_eq!(ready().await, 200);
    served.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, async { while ready().await != 503 {} })
        .await
        .expect("it leaves");
    assert_eq!(
        get(&http(), format!("http://{}/livez", served.address))
            .await
            .status(),
        200
    );
    served.ended.abort();
}

#[tokio::test]
async fn stopping_finishes_what_is_being_answered() {
    let store = Shared::default();
    let (answer, gate) = oneshot::channel();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let mut gate = Some(gate);
    *store.claim.lock().unwrap() = Box::new(move |_| {
        begun.send(()).unwrap();
        let gate = gate.take().unwrap();
        Box::pin(async { gate.await.unwrap() })
    });
    let served = serve(&store, options()).await;
    let request = http()
        .post(served.url("/v1/sales/drop-7/claims"))
        .header("authorization", bearer("ada", Role::Shopper))
        .header("idempotency-key", "k");
    let asking = tokio::spawn(request.send());
    begins.recv().await.unwrap();
    let address = served.address.clone();
    let ending = tokio::spawn(served.end());
    // Once nobody can connect any more, the stop has begun.
    tokio::time::timeout(PATIENCE, async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the door closes");
    assert!(!ending.is_finished(), "a claim is still being answered");
    answer
        .send(Ok(claimed(Grant::Granted, ClaimStatus::Held)))
        .unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status(), 201);
    ending.await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_ends_live_streams() {
    let store = Shared::default();
    script(&store.sale, |(id, _)| Ok((sale(&id, 10), position())));
    *store.watch.lock().unwrap() = Box::new(|_| stream::pending().boxed());
    let served = serve(&store, options()).await;
    let response = get(&http(), served.url("/v1/sales/drop-7/live")).await;
    let mut events = response.bytes_stream();
    let first = events.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("id: 10"));
    served.end().await.unwrap();
    assert!(
        events.next().await.is_none(),
        "a clean end, not a broken connection"
    );
}

#[tokio::test]
async fn a_stop_that_takes_too_long_says_so() {
    let store = Shared::default();
    let mut begins = script_stuck(&store.claim);
    let mut options = options();
    options.drain_ms_max = 1;
    let served = serve(&store, options).await;
    let request = http()
        .post(served.url("/v1/sales/drop-7/claims"))
        .header("authorization", bearer("ada", Role::Shopper))
        .header("idempotency-key", "k");
    let asking = tokio::spawn(request.send());
    begins.recv().await.unwrap();
    let error = served.end().await.unwrap_err();
    assert!(
        matches!(
            error,
            ServeError::Cut {
                drain_ms: 1,
                connections: 1
            }
        ),
        "{error}"
    );
    asking.abort();
}

#[tokio::test]
async fn a_head_that_does_not_come_costs_its_connection() {
    let mut options = options();
    options.header_read_ms_max = 1;
    let served = serve(&Shared::default(), options).await;
    let mut dripping = TcpStream::connect(&served.address).await.unwrap();
    dripping
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, dripping.read_to_end(&mut rest))
        .await
        .expect("it is closed");
    assert!(
        read.is_err() || !rest.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    served.end().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_does_not_even_say_which_http_is_let_go() {
    let mut options = options();
    options.header_read_ms_max = 1;
    let served = serve(&Shared::default(), options).await;
    for begun in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"G"] {
        let mut silent = TcpStream::connect(&served.address).await.unwrap();
        silent.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "kept after {begun:?}");
    }
    served.end().await.unwrap();
}

#[tokio::test]
async fn heads_beyond_the_limit_are_refused() {
    let served = serve(&Shared::default(), options()).await;
    let ask = async |headers: String| {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // What was refused early may break off while it is still being sent.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(
        ask(format!("Padding: {}\r\n", "x".repeat(8_000)))
            .await
            .starts_with("HTTP/1.1 200")
    );
    let long = ask(format!("Padding: {}\r\n", "x".repeat(64 * 1024))).await;
    assert!(!long.starts_with("HTTP/1.1 200"), "{long}");
    assert!(ask("A: b\r\n".repeat(50)).await.starts_with("HTTP/1.1 200"));
    let many = ask("A: b\r\n".repeat(200)).await;
    assert!(!many.starts_with("HTTP/1.1 200"), "{many}");
    served.end().await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_room() {
    let mut options = options();
    options.connections_max = 1;
    let served = serve(&Shared::default(), options).await;
    let ask = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = TcpStream::connect(&served.address).await.unwrap();
    first.write_all(ask).await.unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).await.unwrap();
    // The second is in the kernel's queue: connected, but answered only when the first has gone. The
    // first is answered many times in the meantime, so there was every occasion to answer the second.
    let mut second = TcpStream::connect(&served.address).await.unwrap();
    second.write_all(ask).await.unwrap();
    let mut answers = [0; 2_048];
    for _ in 0..20 {
        first.write_all(ask).await.unwrap();
        assert!(first.read(&mut answers).await.unwrap() > 0);
    }
    assert!(second.try_read(&mut byte).is_err(), "answered beyond the limit");
    drop(first);
    tokio::time::timeout(PATIENCE, second.read_exact(&mut byte))
        .await
        .expect("room in time")
        .unwrap();
    drop(second);
    served.end().await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_socket_harms_nobody() {
    let served = serve(&Shared::default(), options()).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"POST /v1/sales/drop-7/claims HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage that is no frame at all",
    ] {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Whatever it answers, it answers and hangs up.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "hangs on {garbage:?}");
    }
    assert_eq!(get(&http(), served.url("/livez")).await.status(), 200);
    served.end().await.unwrap();
}
