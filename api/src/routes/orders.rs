//! Orders: shoppers see their own.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::{
    auth::{Caller, Role},
    door::Door,
    error::{Kind, Problem},
    extract::OrderId,
    json::{OrderJson, ProblemJson},
    orders::{self, Order, OrderError},
};

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
    let found = orders::load(&*door.store, &order_id).await?;
    let own = |order: &Order| caller.0.role != Role::Shopper || order.user == caller.0.user;
    let (order, _) = found
        .filter(|(order, _)| own(order))
        .ok_or_else(|| Problem::new(Kind::OrderUnknown, ""))?;
    Ok(show(&order))
}

/// An order as an answer.
fn show(order: &Order) -> Response {
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
