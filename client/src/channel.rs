//! Connections: what an endpoint is, how a channel to one is kept alive and protected, and what every call over
//! it shows.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use security::{Expect, Tls};
use tonic::{
    body::Body,
    codegen::{Service, http},
    transport::{self, Endpoint, Uri},
};

use crate::{Connector, Error};

/// How long a connection may take to be made: generous within a region, short within a call's timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a silent connection is probed, and how long the answer may take: a peer that vanished
/// without a word is noticed in a few seconds even when nothing is in flight.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// HTTP/2 windows for answers, in bytes: eight full frames of answers (about 100 KB each) without
/// waiting for a window update.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Calls to one endpoint, each with the token, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    inner: transport::Channel,
    authorization: Option<http::HeaderValue>,
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = <transport::Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, authorization.clone());
        }
        self.inner.call(request)
    }
}

/// The header that shows a token.
///
/// # Errors
/// The token is none: it holds characters that no header may.
pub(crate) fn authorization(token: &str) -> Result<http::HeaderValue, Error> {
    let mut value = http::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Error::invalid("the token holds characters that none has; copy it whole, without spaces")
    })?;
    // Kept out of whatever prints headers.
    value.set_sensitive(true);
    Ok(value)
}

/// A channel to an endpoint; it connects when used, and again when broken.
pub(crate) fn open(
    address: &str,
    connector: &Connector,
    authorization: Option<http::HeaderValue>,
) -> Result<Channel, Error> {
    let connector = connector.clone();
    let target = address.to_string();
    let inner = endpoint(address)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connecting = connector(target.clone());
            async move { connecting.await.map(TokioIo::new) }
        }));
    Ok(Channel { inner, authorization })
}

/// An endpoint: `host:port` and nothing else.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let invalid = || {
        Error::invalid(format!(
            "`{address}` is no endpoint: give host:port, like 127.0.0.1:7401"
        ))
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| invalid())?;
    let uri = endpoint.uri();
    let whole = uri
        .authority()
        .is_some_and(|authority| authority.as_str() == address);
    if !whole || uri.port_u16().is_none() || address.contains('@') {
        return Err(invalid());
    }
    Ok(endpoint)
}

/// Connections over TCP, without Nagle's delay.
pub(crate) fn tcp() -> Connector {
    Arc::new(|address: String| {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn crate::Io>)
        })
    })
}

/// The connections of another connector, protected: each leads to a node of our cluster, or nowhere.
pub(crate) fn protected(connector: Connector, tls: Arc<Tls>) -> Connector {
    Arc::new(move |address: String| {
        let (connecting, tls) = (connector(address), tls.clone());
        Box::pin(async move {
            let stream = tls.connect(connecting.await?, Expect::AnyNode).await?;
            Ok(Box::new(stream) as Box<dyn crate::Io>)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port_and_nothing_else() {
        for good in [
            "127.0.0.1:7401",
            "localhost:1",
            "node-2.holdfast.svc:7401",
            "[::1]:7401",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "7401",
            "localhost",
            "http://a:1",
            "a:1/path",
            "a b:1",
            "u@a:1",
            "a:99999",
            "a:",
        ] {
            let error = endpoint(bad).expect_err(bad);
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
