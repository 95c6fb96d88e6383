//! What the payment provider has to say.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderName,
    response::{IntoResponse, Response},
};

use crate::{
    auth::now_s,
    door::Door,
    error::{self, Kind, Problem},
    extract::read,
    json::ProblemJson,
};

const SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");

/// Largest event that is read, in bytes: a payment with its charges has some 10 KB.
const EVENT_BYTES_MAX: usize = 128 * 1024;

/// Takes an event of the payment provider
///
/// The signature is checked, the event is stored, and then it is answered; what it says is acted on
/// afterwards. The same event sent again is answered alike and changes nothing. Events of kinds that mean
/// nothing here are stored as well.
#[utoipa::path(
    post, path = "/v1/webhooks/stripe", tag = "checkout",
    request_body(content = String, content_type = "application/json", description = "The event, as the provider sends it"),
    params(("Stripe-Signature" = String, Header, description = "t=…,v1=…")),
    responses(
        (status = 200, description = "Stored, now or before"),
        (status = 400, description = "signature-invalid, invalid-request", body = ProblemJson, content_type = "application/problem+json"),
        (status = 413, description = "body-too-large", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "checkout-not-configured, unavailable: send it again", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stripe(
    State(door): State<Arc<Door>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let wait = Duration::from_millis(door.options.body_read_ms_max);
    let body = tokio::time::timeout(wait, read(&parts.headers, body, EVENT_BYTES_MAX))
        .await
        .map_err(|_| Problem::new(Kind::BodyTimeout, "the body did not arrive in time"))??;
    let signature = parts.headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    door.checkouts.receive(signature, &body, now_s()).await?;
    Ok(error::OK.into_response())
}
