//! A bare gRPC server: tonic with a node's limits, and one stream that answers every frame with the same bytes.
//!
//! Frames are bytes in one field of a message, copied and not looked at: what a node reads out of its frames, and
//! writes into its answers, is its own work and not tonic's. How long an answer is, the caller says when the
//! stream begins.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use raft_store::service;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::failure::{Doing, Failure};

/// The one stream.
pub const PATH: &str = "/bare.Stream/Answer";

/// Metadata that says how many bytes an answer has.
pub const ANSWER_BYTES: &str = "answer-bytes";

/// Most bytes of an answer: gRPC's usual limit of a message.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Frames as they are on either side.
pub type FrameCodec = ProstCodec<Bytes, Bytes>;

/// Runs the server.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run() -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        });
        let router = service::server().add_service(Answers);
        super::until_told(async {
            match router.serve_with_incoming(incoming).await {
                Ok(()) => Failure::new("serving", "it ended"),
                Err(error) => Failure::new("serving", error.to_string()),
            }
        })
        .await
    })
}

/// The service that has the one stream.
#[derive(Clone, Copy)]
struct Answers;

impl NamedService for Answers {
    const NAME: &'static str = "bare.Stream";
}

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(FrameCodec::default());
            Ok(grpc.streaming(service_fn(answers), request).await)
        })
    }
}

/// An answer for every frame, in order.
async fn answers(
    request: Request<Streaming<Bytes>>,
) -> Result<Response<impl futures::Stream<Item = Result<Bytes, Status>>>, Status> {
    let said = request.metadata().get(ANSWER_BYTES);
    let bytes = said
        .and_then(|said| said.to_str().ok()?.parse().ok())
        .filter(|&bytes: &usize| bytes <= ANSWER_BYTES_MAX)
        .ok_or_else(|| Status::invalid_argument("say answer-bytes"))?;
    let answer = Bytes::from(vec![0x5a; bytes]);
    Ok(Response::new(
        request
            .into_inner()
            .map(move |frame| frame.map(|_| answer.clone())),
    ))
}
