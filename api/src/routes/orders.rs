//! Orders: shoppers see their own, and cancel them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::checkout;
use crate::{
    auth::{Caller, Role},
    checkout::Standing,
    documents::Documents,
    door::Door,
    error::{Kind, Problem},
    extract::{IdempotencyKey, OrderId},
    idempotency::{self, RequestHash, Scope, Ticket},
    json::{OrderJson, ProblemJson, StandingJson},
    orders::{self, Order, OrderError},
};

/// What the work of one request may take beyond its patience, in ms: its own reads and writes.
const SLACK_MS: u64 = 15_000;

/// One order
///
/// Shoppers see their own; anybody else's does not exist for them.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}", tag = "orders", security(("bearer" = [])),
    params(("order_id" = String, Path, description = "The order")),
    responses(
        (status = 200, description = "The order, as of now", body = OrderJson<'static>),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "order-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    caller: Caller,
    OrderId(order_id): OrderId,
) -> Result<Response, Problem> {
    let order = own(&door, &caller, &order_id).await?;
    Ok(show(&order))
}

/// Cancels an order: its money is refunded, its units go back on sale
///
/// Shoppers their own, operators and platforms any. Refunds everything that was not refunded before.
/// Repeating it is harmless: a cancelled order is simply shown.
#[utoipa::path(
    post, path = "/v1/orders/{order_id}/cancel", tag = "orders", security(("bearer" = [])),
    params(
        ("order_id" = String, Path, description = "The order"),
        ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes; saved before sending"),
    ),
    responses(
        (status = 200, description = "Cancelled, now or before", body = OrderJson<'static>),
        (status = 202, description = "Being cancelled; ask at Location", body = StandingJson),
        (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "order-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "refund-refused: the order stands; key-in-flight, checkout-in-progress", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "checkout-not-configured, unknown-outcome, unavailable: the same key is safe", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn cancel(
    State(door): State<Arc<Door>>,
    caller: Caller,
    OrderId(order_id): OrderId,
    IdempotencyKey(key): IdempotencyKey,
) -> Result<Response, Problem> {
    let scope = Scope {
        caller: &caller.0.user,
        route: "/v1/orders/{order_id}/cancel",
        key: &key,
        work_ms_max: door.options.checkout.budget_ms_max + SLACK_MS,
    };
    let hash = RequestHash::of(&[order_id.as_bytes()]);
    let store: Arc<dyn Documents> = door.store.clone();
    let work = async {
        let order = own(&door, &caller, &order_id).await?;
        let claim_id = order.claim_id.clone();
        match door.checkouts.cancel(order, key.clone()).await? {
            Standing::Ordered(order) => Ok(show(&order)),
            Standing::Ended { ending, .. } => Err(checkout::refusal(ending)),
            standing => {
                let url = format!("/v1/orders/{order_id}");
                Ok(checkout::undecided(&claim_id, &standing, &url))
            }
        }
    };
    let response = idempotency::once(Ticket::new(store, scope, &hash), work).await;
    caller.answered(&order_id, response.status());
    Ok(response)
}

/// An order that the caller may see.
async fn own(door: &Door, caller: &Caller, order_id: &str) -> Result<Order, Problem> {
    let found = orders::load(&*door.store, order_id).await?;
    found
        .map(|(order, _)| order)
        .filter(|order| caller.0.role != Role::Shopper || order.user == caller.0.user)
        .ok_or_else(|| Problem::new(Kind::OrderUnknown, ""))
}

/// An order as an answer.
pub(super) fn show(order: &Order) -> Response {
    let mut response = Json(OrderJson::new(order)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Store(error) => Problem::from(error),
            OrderError::Changed { .. } => {
                Problem::busy("the order was changed by somebody else at the same time; send this again")
            }
            OrderError::PaidOtherwise { .. }
            | OrderError::Implausible { .. }
            | OrderError::Unreadable { .. } => {
                tracing::error!(%error, "an order is not as it should be");
                Problem::new(Kind::Internal, "this order needs somebody to look at it")
            }
        }
    }
}
