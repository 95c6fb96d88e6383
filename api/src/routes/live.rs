//! Live counters as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{KeepAlive, Sse},
    },
};
use futures::StreamExt;

use crate::{
    door::Door,
    error::Problem,
    extract::SaleId,
    json::{CountersJson, ProblemJson},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies that would (nginx) not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Live counters of a sale, as server-sent events
///
/// Each event is named `counters`; its id is the log index of the sale's last change. The newest
/// counters are sent, not every change. Resume with `Last-Event-ID`, as browsers do by themselves.
#[utoipa::path(
    get, path = "/v1/sales/{sale_id}/live", tag = "sales",
    params(
        ("sale_id" = String, Path, description = "The sale"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Id of the last event seen"),
    ),
    responses(
        (status = 200, description = "A stream of events", body = CountersJson<'static>, content_type = "text/event-stream"),
        (status = 400, description = "invalid-request", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "sale-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn live(
    State(door): State<Arc<Door>>,
    SaleId(sale_id): SaleId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last_event_id = match headers.get(LAST_EVENT_ID) {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| Problem::invalid("Last-Event-ID is not the id of an event: a log index"))?,
        ),
    };
    let events = door.live.listen(&sale_id, last_event_id).await?;
    let keep_alive = KeepAlive::new().interval(Duration::from_millis(door.options.live_keep_alive_ms));
    let mut response = Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(keep_alive)
        .into_response();
    response
        .headers_mut()
        .insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}
