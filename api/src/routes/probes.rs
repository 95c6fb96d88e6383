//! What orchestrators and Prometheus ask. Open to everybody who reaches the port, and telling nothing
//! about anybody.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{door::Door, error::Problem, json::ProblemJson};

/// The text format's media type.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// This process is alive
#[utoipa::path(get, path = "/livez", tag = "operating",
    responses((status = 200, description = "Alive", content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// This process should be sent shoppers: it knows a leader and is not stopping
#[utoipa::path(get, path = "/readyz", tag = "operating",
    responses(
        (status = 200, description = "Ready", content_type = "text/plain"),
        (status = 503, description = "unavailable: no leader, or stopping", body = ProblemJson, content_type = "application/problem+json"),
    ))]
pub(super) async fn readyz(State(door): State<Arc<Door>>) -> Result<&'static str, Problem> {
    door.ready().await?;
    Ok("ok\n")
}

/// Metrics, in Prometheus text format
#[utoipa::path(get, path = "/metrics", tag = "operating",
    responses((status = 200, description = "Metrics", content_type = "text/plain")))]
pub(super) async fn metrics(State(door): State<Arc<Door>>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], door.telemetry.render()).into_response()
}
