//! The routes, one file per resource, and the document that describes them.

mod checkout;
mod claims;
mod dev;
mod docs;
mod live;
mod orders;
mod page;
mod probes;
mod sales;
mod status;
mod webhooks;

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use client::Position;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    admission::crowd,
    door::Door,
    error::{Kind, Problem},
    telemetry,
};

/// What metrics call a request that matched no route.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Every route by the pattern it is matched by: names for metrics, and the list the document is
/// checked against.
pub(crate) const ROUTES: [&str; 26] = [
    "/v1/sales/{sale_id}/claims",
    "/v1/sales/{sale_id}",
    "/v1/sales",
    "/v1/claims/{claim_id}",
    "/v1/claims/{claim_id}/confirm",
    "/v1/claims/{claim_id}/checkout",
    "/v1/orders/{order_id}",
    "/v1/orders/{order_id}/cancel",
    "/v1/webhooks/stripe",
    "/v1/sales/{sale_id}/live",
    "/v1/sales/{sale_id}/open",
    "/v1/sales/{sale_id}/pause",
    "/v1/sales/{sale_id}/close",
    "/v1/sales/{sale_id}/restock",
    "/v1/sales/{sale_id}/withdraw",
    "/v1/status",
    "/",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/",
    "/docs/{*rest}",
    "/dev/token",
    UNMATCHED,
];

/// A route's name in metrics.
pub(crate) fn name(matched: &str) -> &'static str {
    ROUTES
        .into_iter()
        .find(|route| *route == matched)
        .unwrap_or(UNMATCHED)
}

/// All routes.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let v1 = Router::new()
        .route("/v1/sales", get(sales::list).post(sales::create))
        .route("/v1/sales/{sale_id}", get(sales::get))
        .route("/v1/sales/{sale_id}/open", post(sales::open))
        .route("/v1/sales/{sale_id}/pause", post(sales::pause))
        .route("/v1/sales/{sale_id}/close", post(sales::close))
        .route("/v1/sales/{sale_id}/restock", post(sales::restock))
        .route("/v1/sales/{sale_id}/withdraw", post(sales::withdraw))
        .route("/v1/sales/{sale_id}/claims", post(claims::claim))
        .route("/v1/sales/{sale_id}/live", get(live::live))
        .route("/v1/claims/{claim_id}", get(claims::get).delete(claims::release))
        .route("/v1/claims/{claim_id}/confirm", post(claims::confirm))
        .route(
            "/v1/claims/{claim_id}/checkout",
            get(checkout::status).post(checkout::pay),
        )
        .route("/v1/orders/{order_id}", get(orders::get))
        .route("/v1/orders/{order_id}/cancel", post(orders::cancel))
        .route("/v1/webhooks/stripe", post(webhooks::stripe))
        .route("/v1/status", get(status::status))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&door), crowd::admit));
    let mut router = Router::new()
        .merge(v1)
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics));
    if door.verifier.is_development() {
        router = router.route("/dev/token", post(dev::token));
    }
    router
        .merge(docs::router(door.verifier.is_development()))
        .merge(page::router(
            door.verifier.is_development(),
            door.options.demo_control.as_deref(),
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&door),
            telemetry::observe,
        ))
        .with_state(door)
}

/// A mistake of ours must cost one request, not its whole connection.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::new(Kind::Internal, "").into_response()
}

const APPLIED_INDEX: HeaderName = HeaderName::from_static("holdfast-applied-index");
const LOG_TIME_MS: HeaderName = HeaderName::from_static("holdfast-log-time-ms");
const TERM: HeaderName = HeaderName::from_static("holdfast-term");

/// Tells what an answer reflects, in headers: bodies stay a function of their entity tag.
fn tell_position(position: &Position, headers: &mut HeaderMap) {
    headers.insert(APPLIED_INDEX, HeaderValue::from(position.applied_index));
    headers.insert(LOG_TIME_MS, HeaderValue::from(position.log_time_ms));
    headers.insert(TERM, HeaderValue::from(position.term));
}
