//! HTTP over the simulator's network: a connection for each request, and a server for whoever has routes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, Uri},
};
use futures::{FutureExt, future::BoxFuture};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use raft_store::seams::{BoxConnection, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where doors and provider listen.
pub(super) const PORT: u16 = 8080;

/// Largest answer that is read, in bytes: the provider's books of a run.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connects by these sockets.
#[derive(Clone)]
pub(super) struct Road(pub Arc<dyn Net>);

impl tower::Service<Uri> for Road {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = self.0.clone();
        async move {
            let address = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(TokioIo::new(Wire(net.connect(address.as_str()).await?)))
        }
        .boxed()
    }
}

/// One connection.
pub(super) struct Wire(BoxConnection);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    Unsent(String),
    /// It may have arrived.
    Lost(String),
}

/// Sends requests, each over a connection of its own: how connections are kept is no part of what is simulated.
#[derive(Clone)]
pub(super) struct Http(Client<Road, Body>);

impl Http {
    pub fn over(net: Arc<dyn Net>) -> Http {
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(Road(net));
        Http(http)
    }

    pub async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Unanswered> {
        let response = self.0.request(request.map(Body::from)).await.map_err(|error| {
            let said = error.to_string();
            if error.is_connect() {
                Unanswered::Unsent(said)
            } else {
                Unanswered::Lost(said)
            }
        })?;
        let (parts, body) = response.into_parts();
        let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX)
            .await
            .map_err(|error| Unanswered::Lost(error.to_string()))?;
        Ok(Response::from_parts(parts, body))
    }
}

/// Serves these routes until the simulation drops it.
pub(super) async fn serve(net: &dyn Net, router: Router) -> io::Result<()> {
    let mut listener = net.listen(&format!("0.0.0.0:{PORT}")).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let router = router.clone();
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new()).http1_only();
            let service = TowerToHyperService::new(router);
            // Callers hang up and links break all the time; that is not news.
            let _ = server.serve_connection(TokioIo::new(connection), service).await;
        });
    }
}
