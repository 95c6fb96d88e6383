//! Connections: what an endpoint is, how a channel to one is kept alive and protected, whose cluster is at its other
//! end, and what every call over it shows.

use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::METADATA_CLUSTER;
use security::{Expect, Tls};
use tonic::{
    body::Body,
    codegen::{Service, http},
    transport::{self, Endpoint, Uri},
};

use crate::{Connector, Error};

/// The cluster that a client belongs to: the first that a node told it of. Addresses are used again, and what
/// listens there then may be of another cluster: its nodes refuse calls that say so, and its answers are refused here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Home(Arc<OnceLock<http::HeaderValue>>);

impl Home {
    /// A node has said which cluster it belongs to; one that belongs to none yet says nothing.
    ///
    /// # Errors
    /// Another than before.
    pub(crate) fn check(&self, address: &str, cluster_id: &str) -> Result<(), Error> {
        if cluster_id.is_empty() {
            return Ok(());
        }
        let theirs = http::HeaderValue::from_str(cluster_id).map_err(|_| Error::malformed("a cluster id"))?;
        let ours = self.0.get_or_init(|| theirs.clone());
        if *ours == theirs {
            return Ok(());
        }
        let ours = ours.to_str().unwrap_or_default();
        Err(Error::wrong_cluster(
            address,
            &format!("it belongs to cluster {cluster_id}, and this client to cluster {ours}"),
        ))
    }
}

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

/// Calls to one endpoint, each with the token, if there is one, and the cluster that it is meant for, once it is known.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    inner: transport::Channel,
    authorization: Option<http::HeaderValue>,
    home: Home,
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
        if let Some(cluster) = self.home.0.get() {
            request.headers_mut().insert(METADATA_CLUSTER, cluster.clone());
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
    home: &Home,
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
    Ok(Channel {
        inner,
        authorization,
        home: home.clone(),
    })
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
    fn the_first_cluster_heard_of_is_home_and_every_other_is_refused() {
        let home = Home::default();
        assert!(home.check("a:1", "").is_ok(), "a node without a cluster");
        assert!(home.check("a:1", "00aa").is_ok());
        assert!(home.check("b:1", "00aa").is_ok() && home.check("c:1", "").is_ok());
        let error = home.clone().check("b:1", "00bb").expect_err("another cluster");
        let Error::Rejected(why) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(why.reason, crate::Reason::WrongCluster);
        for said in ["b:1", "00aa", "00bb", "Correct the endpoints"] {
            assert!(why.message.contains(said), "{error}");
        }
    }

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
