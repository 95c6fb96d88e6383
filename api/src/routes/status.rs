//! What operators see of the cluster through a door: nodes, breakers, the last events of a sale.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use client::NodeStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    door::Door,
    error::Problem,
    extract::{is_sale_id, not_a_sale_id},
    json::ProblemJson,
    live::SeenEvent,
    payment::BreakerState,
    store::NodeSeen,
};

/// Age up to which the nodes' own views are answered from memory: however many look, each node is asked
/// twice a second at most.
const NODES_AGE_MAX: Duration = Duration::from_millis(500);

/// What to show beside the nodes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusQuery {
    sale: Option<String>,
}

/// The cluster and this door.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusJson {
    nodes: Vec<NodeJson>,
    breakers: Vec<BreakerJson>,
    /// The sale's last events, newest first, runs of the same kind as one; kept while somebody listens to the sale.
    events: Vec<EventJson>,
    /// Claims that this door has answered since it started, whatever the answer.
    claims_answered: u64,
}

/// One node.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct NodeJson {
    endpoint: String,
    /// Null when it does not answer.
    node_id: Option<u64>,
    /// leader, follower, candidate, learner, uninitialized, stopping; unreachable when it does not answer.
    role: String,
    term: u64,
    applied_index: u64,
    /// Entries it has not applied of those that the leader has committed; null while nobody leads.
    lag_entries: Option<u64>,
}

/// What stands between this door and somebody who may fail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BreakerJson {
    name: &'static str,
    /// closed (calls pass), half-open (one probes), open (calls are refused).
    state: &'static str,
}

/// A run of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventJson {
    kind: &'static str,
    count: u64,
    /// Of the last of them.
    log_index: u64,
    log_time_ms: u64,
}

/// How the cluster is, for everybody but shoppers
#[utoipa::path(
    get, path = "/v1/status", tag = "operating", security(("bearer" = [])),
    params(("sale" = Option<String>, Query, description = "Whose events to show")),
    responses(
        (status = 200, description = "Nodes, breakers, events", body = StatusJson),
        (status = 400, description = "invalid-request", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn status(
    State(door): State<Arc<Door>>,
    _: Caller,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(StatusQuery { sale }) =
        query.map_err(|_| Problem::invalid("the only parameter here is sale"))?;
    if sale.as_ref().is_some_and(|sale| !is_sale_id(sale)) {
        return Err(not_a_sale_id());
    }
    let seen = door
        .nodes
        .get(NODES_AGE_MAX, || async { Ok(Arc::new(door.store.nodes().await)) })
        .await?;
    let breaker = door.checkouts.till.as_ref().and_then(|till| till.breaker());
    let body = StatusJson {
        nodes: nodes(&seen),
        breakers: breaker
            .map(|state| BreakerJson {
                name: "payment",
                state: match state {
                    BreakerState::Closed => "closed",
                    BreakerState::HalfOpen => "half-open",
                    BreakerState::Open => "open",
                },
            })
            .into_iter()
            .collect(),
        events: sale.map_or_else(Vec::new, |sale| {
            door.live.events(&sale).iter().map(EventJson::from).collect()
        }),
        claims_answered: door.telemetry.claims_answered(),
    };
    let mut response = Json(body).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl From<&SeenEvent> for EventJson {
    fn from(event: &SeenEvent) -> Self {
        EventJson {
            kind: event.kind,
            count: event.count,
            log_index: event.log_index,
            log_time_ms: event.log_time_ms,
        }
    }
}

/// The nodes by id, those that do not answer last, each against what the newest leader has committed.
fn nodes(seen: &[NodeSeen]) -> Vec<NodeJson> {
    let committed = seen
        .iter()
        .filter_map(|node| node.status.as_ref())
        .filter(|status| status.role == "leader")
        .max_by_key(|status| status.term)
        .map(|leader| leader.committed_index);
    let mut nodes: Vec<NodeJson> = seen
        .iter()
        .map(|node| {
            let view = |status: &NodeStatus| NodeJson {
                endpoint: node.endpoint.clone(),
                node_id: Some(status.node_id),
                role: status.role.clone(),
                term: status.term,
                applied_index: status.applied_index,
                lag_entries: committed.map(|committed| committed.saturating_sub(status.applied_index)),
            };
            node.status.as_ref().map_or_else(
                || NodeJson {
                    endpoint: node.endpoint.clone(),
                    node_id: None,
                    role: "unreachable".to_owned(),
                    term: 0,
                    applied_index: 0,
                    lag_entries: None,
                },
                view,
            )
        })
        .collect();
    nodes.sort_by(|one, other| one.endpoint.cmp(&other.endpoint));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(node_id: u64, role: &str, term: u64, committed_index: u64, applied_index: u64) -> NodeSeen {
        NodeSeen {
            endpoint: format!("n{node_id}:1"),
            status: Some(NodeStatus {
                node_id,
                role: role.into(),
                term,
                committed_index,
                applied_index,
                ..NodeStatus::default()
            }),
        }
    }

    #[test]
    fn lag_is_against_the_newest_leader() {
        let down = NodeSeen {
            endpoint: "n9:1".into(),
            status: None,
        };
        let shown = nodes(&[
            down.clone(),
            seen(2, "leader", 5, 90, 88),
            // It has not heard yet that it was deposed.
            seen(1, "leader", 4, 70, 70),
        ]);
        let lags: Vec<_> = shown
            .iter()
            .map(|node| (node.node_id, node.lag_entries))
            .collect();
        assert_eq!(lags, [(Some(1), Some(20)), (Some(2), Some(2)), (None, None)]);
        assert_eq!(shown[2].role, "unreachable");
        let leaderless = nodes(&[seen(1, "candidate", 5, 0, 88), down]);
        assert_eq!(leaderless[0].lag_entries, None);
    }
}
