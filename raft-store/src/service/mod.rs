//! gRPC in: what peers and operators call. Thin: each handler checks who is meant, converts, and asks
//! the part that knows.
//!
//! Also here: what every server of ours needs before its first call, the connections ([`incoming`]), who may
//! make which call ([`access`]) and the limits ([`server`]), and the one shape of errors ([`refusal`]).

use std::{collections::HashMap, time::Duration};

use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Server,
};
use tonic_types::{ErrorDetails, StatusExt};

use crate::network::{
    CONNECTION_WINDOW_BYTES, ClusterId, Identity, METADATA_CLUSTER, STREAM_WINDOW_BYTES, cluster_id_text,
};

pub mod access;
pub mod archive;
pub(crate) mod chain;
pub mod cluster;
pub mod connections;
pub mod inventory;
pub mod outcome;
pub mod prepare;
pub mod raft;
pub(crate) mod source;
pub mod watch;

pub use connections::{Accepted, Arrived, ConnectionLimits, incoming, incoming_with};

/// The domain of every error reason of ours.
pub const ERROR_DOMAIN: &str = "holdfast";

/// Most streams one connection may have open: a client needs one, a peer a handful; a connection with
/// thousands is an attack or a leak.
const STREAMS_MAX: u32 = 1_024;

/// Largest header list of a call, in bytes: ours have some 300, a token and a trace included.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Largest HTTP/2 frame taken, in bytes: the protocol's smallest limit, so that the bytes of one stream do not
/// hold up another's.
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Streams that a caller may have reset and we not yet noticed: more, and he only makes work (the "rapid
/// reset" attack); the connection is closed.
const RESETS_PENDING_MAX: usize = 64;

/// A client that is silent is asked for a sign of life this often, in ms: often enough that a vanished
/// client's streams are freed within seconds, rare enough to cost nothing.
const KEEPALIVE_INTERVAL_MS: u64 = 5_000;

/// A client that then stays silent for this long, in ms, is disconnected.
const KEEPALIVE_TIMEOUT_MS: u64 = 5_000;

/// A server with our limits, to which services can be added.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_PENDING_MAX))
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_INTERVAL_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_TIMEOUT_MS)))
}

/// An error as every caller gets it: a code and a sentence for people, and `google.rpc.ErrorInfo` with
/// a reason and values for programs.
pub fn refusal<'a>(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    values: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let values: HashMap<String, String> = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, values),
    )
}

/// Refuses what comes from another cluster: by an address used again or a configuration copied, a call may stray,
/// and must neither change anything here nor be answered as if it were at home.
///
/// Either side may not know its cluster yet: the founding entry reaches a node through such calls.
pub fn of_cluster(identity: &Identity, metadata: &MetadataMap) -> Result<(), Status> {
    let theirs = metadata.get(METADATA_CLUSTER);
    let theirs = theirs.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match identity.cluster_id() {
        Some(ours) if !theirs.is_empty() && cluster_id_text(Some(ours)) != theirs => {
            Err(wrong_cluster(identity, theirs, ours))
        }
        _ => Ok(()),
    }
}

fn wrong_cluster(identity: &Identity, theirs: &str, ours: ClusterId) -> Status {
    let (own, ours) = (identity.node_id(), cluster_id_text(Some(ours)));
    refusal(
        Code::FailedPrecondition,
        "WRONG_CLUSTER",
        format!("this call comes from cluster {theirs:?}; node {own} belongs to cluster {ours}"),
        [("theirs", theirs.to_owned()), ("ours", ours)],
    )
}

/// A service that answers no calls from another cluster.
pub fn at_home<S>(
    service: S,
    identity: &Identity,
) -> InterceptedService<S, impl Interceptor + Clone + use<S>> {
    let identity = identity.clone();
    InterceptedService::new(service, move |request: Request<()>| {
        of_cluster(&identity, request.metadata())?;
        Ok(request)
    })
}

/// Another node leads, or none: says which, if it is known.
pub fn not_leader(leader_endpoint: &str) -> Status {
    if leader_endpoint.is_empty() {
        return refusal(
            Code::Unavailable,
            "NOT_LEADER",
            "no leader is known; try again",
            [],
        );
    }
    let message = format!("this node does not lead; ask {leader_endpoint}");
    refusal(
        Code::Unavailable,
        "NOT_LEADER",
        message,
        [("leader", leader_endpoint.to_owned())],
    )
}

/// Asked wrongly; nothing changed.
pub fn invalid(message: impl Into<String>) -> Status {
    refusal(Code::InvalidArgument, "INVALID", message, [])
}

/// How long the caller will wait, from its `grpc-timeout`, less a tenth for the answer's way back; at
/// most `longest`, which is also what a caller gets that does not say.
pub fn patience(metadata: &MetadataMap, longest: Duration) -> Duration {
    let said = metadata
        .get("grpc-timeout")
        .and_then(|value| timeout_in(value.to_str().ok()?));
    said.map_or(longest, |said| (said * 9 / 10).min(longest))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_in(text: &str) -> Option<Duration> {
    let (unit, digits) = (text.chars().last()?, &text[..text.len().checked_sub(1)?]);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3_600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_what_the_caller_said_within_bounds() {
        let longest = Duration::from_secs(10);
        let said = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            patience(&metadata, longest)
        };
        assert_eq!(patience(&MetadataMap::new(), longest), longest);
        assert_eq!(said("1S"), Duration::from_millis(900));
        assert_eq!(said("500m"), Duration::from_millis(450));
        assert_eq!(said("99999999H"), longest);
        for nonsense in ["", "S", "123456789S", "-1S", "+1S", "1x", "1.5S"] {
            assert_eq!(said(nonsense), longest, "{nonsense}");
        }
    }
}
