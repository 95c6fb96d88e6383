//! Checkout: shoppers pay for their claims, and see how that stands.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::orders;
use crate::{
    auth::{Caller, Role},
    checkout::{Asked, First, Standing, journal::Request, terms::Ending},
    documents::Documents,
    door::Door,
    error::{self, Kind, Members, Problem},
    extract::{ClaimId, IdempotencyKey, JsonBody},
    idempotency::{self, RequestHash, Scope, Ticket},
    json::{CheckoutJson, OrderJson, ProblemJson, StandingJson},
    orders::Order,
    payment::{Currency, Money},
    refusal::jitter_s,
};

/// Longest token of a payment method, in bytes: the providers' have some 30.
const PAYMENT_METHOD_BYTES_MAX: usize = 255;

/// Longest return URL, in bytes: with ten attempts they fit one document.
const RETURN_URL_BYTES_MAX: usize = 1_024;

/// Wait suggested when the provider named none, in seconds: what a breaker stays open for.
const PROVIDER_WAIT_S: u64 = 5;

/// What the work of one request may take beyond the shopper's patience, in ms: its own reads and writes
/// before and after.
const SLACK_MS: u64 = 15_000;

/// Pays for a held claim
///
/// The hold is extended once, the card is authorized, the claim confirmed, the money taken: in the end
/// there is one order and one charge, or none. An answer of 202 means that it is not decided yet, or that
/// the shopper has to go to `next_action_url` first; ask at `Location`. A declined card keeps the hold:
/// try another one under a new key while time remains.
#[utoipa::path(
    post, path = "/v1/claims/{claim_id}/checkout", tag = "checkout", request_body = CheckoutJson,
    security(("bearer" = [])),
    params(
        ("claim_id" = String, Path, description = "The claim"),
        ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes; saved before sending"),
    ),
    responses(
        (status = 201, description = "Paid: the order", body = OrderJson<'static>),
        (status = 202, description = "Not decided yet, or the shopper has to act; ask at Location", body = StandingJson),
        (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 402, description = "declined: the hold is kept; checkout-failed: authorized, but the money could not be taken", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "claim-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "key-in-flight, checkout-in-progress, claim-confirmed, attempts-exhausted", body = ProblemJson, content_type = "application/problem+json"),
        (status = 410, description = "hold-gone: nothing was charged", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused, not-payable, amount-differs", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "provider-unavailable: the hold is extended; checkout-not-configured, unknown-outcome, unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pay(
    State(door): State<Arc<Door>>,
    caller: Caller,
    ClaimId(claim_id): ClaimId,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBody<CheckoutJson>,
) -> Result<Response, Problem> {
    let wanted = body.required()?;
    let amount = believed(&wanted)?;
    let request = request(wanted)?;
    let scope = Scope {
        caller: &caller.0.user,
        route: "/v1/claims/{claim_id}/checkout",
        key: &key,
        work_ms_max: door.options.checkout.budget_ms_max + SLACK_MS,
    };
    let believed = amount.map(|amount| amount.to_string()).unwrap_or_default();
    let hash = RequestHash::of(&[
        claim_id.as_bytes(),
        request.payment_method.as_bytes(),
        request.return_url.as_deref().unwrap_or_default().as_bytes(),
        believed.as_bytes(),
    ]);
    let asked = Asked {
        user: caller.0.user.clone(),
        claim_id: claim_id.clone(),
        key: key.clone(),
        request,
        amount,
    };
    let store: Arc<dyn Documents> = door.store.clone();
    let ticket = Ticket::new(store, scope, &hash);
    let First { key, begun } = door.checkouts.begin(&asked, ticket, paid).await;
    let work = async {
        let standing = door.checkouts.pay(asked, begun).await?;
        answer(&claim_id, standing)
    };
    Ok(match key {
        Ok(guard) => guard.finish_with(work).await,
        Err(ticket) => idempotency::once(ticket, work).await,
    })
}

/// How the checkout of a claim stands
///
/// Shoppers see their own; anybody else's does not exist for them.
#[utoipa::path(
    get, path = "/v1/claims/{claim_id}/checkout", tag = "checkout", security(("bearer" = [])),
    params(("claim_id" = String, Path, description = "The claim")),
    responses(
        (status = 200, description = "As of now", body = StandingJson),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "claim-unknown, not-found: no checkout was begun", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn status(
    State(door): State<Arc<Door>>,
    caller: Caller,
    ClaimId(claim_id): ClaimId,
) -> Result<Response, Problem> {
    let whose = (caller.0.role == Role::Shopper).then_some(caller.0.user.as_str());
    let standing = door.checkouts.standing(&claim_id, whose).await?;
    let standing =
        standing.ok_or_else(|| Problem::new(Kind::NotFound, "no checkout was begun for this claim"))?;
    let mut response = Json(StandingJson::new(&claim_id, &standing)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What he believes to pay, checked for shape.
fn believed(wanted: &CheckoutJson) -> Result<Option<Money>, Problem> {
    match (wanted.amount_minor, &wanted.currency) {
        (None, None) => Ok(None),
        (Some(minor), Some(code)) => {
            let currency = Currency::from_code(code).map_err(|error| Problem::invalid(error.to_string()))?;
            Ok(Some(Money::new(minor, currency)))
        }
        _ => Err(Problem::invalid("amount_minor and currency go together")),
    }
}

fn request(wanted: CheckoutJson) -> Result<Request, Problem> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !(1..=PAYMENT_METHOD_BYTES_MAX).contains(&wanted.payment_method.len())
        || !plain(&wanted.payment_method)
        // Whatever else it is, a row of digits this long is a card number, and must not come near us.
        || is_card_number(&wanted.payment_method)
    {
        return Err(Problem::invalid(
            "payment_method is the provider's token for a card or account (pm_…), 1 to 255 visible ASCII \
             characters; never a card number",
        ));
    }
    if let Some(url) = &wanted.return_url {
        let known = url.starts_with("https://") || url.starts_with("http://");
        if !known || url.len() > RETURN_URL_BYTES_MAX || !plain(url) {
            return Err(Problem::invalid(
                "return_url is an http or https URL of at most 1024 bytes",
            ));
        }
    }
    Ok(Request {
        payment_method: wanted.payment_method,
        return_url: wanted.return_url,
    })
}

fn is_card_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (12..=19).contains(&digits) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The answer to who wanted to pay.
fn answer(claim_id: &str, standing: Standing) -> Result<Response, Problem> {
    let url = format!("/v1/claims/{claim_id}/checkout");
    match standing {
        Standing::Ordered(order) => Ok(paid(&order)),
        standing @ (Standing::Pending { .. } | Standing::ActionRequired { .. } | Standing::Cancelling) => {
            Ok(undecided(claim_id, &standing, &url))
        }
        Standing::Ended { ending, .. } => Err(refusal(ending)),
    }
}

/// There is an order.
fn paid(order: &Order) -> Response {
    let mut response = orders::show(order);
    *response.status_mut() = error::CREATED;
    locate(&mut response, &format!("/v1/orders/{}", order.order_id));
    response
}

/// 202, and where to ask.
pub(super) fn undecided(claim_id: &str, standing: &Standing, url: &str) -> Response {
    let mut response = Json(StandingJson::new(claim_id, standing)).into_response();
    *response.status_mut() = error::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
    locate(&mut response, url);
    response
}

fn locate(response: &mut Response, url: &str) {
    if let Ok(url) = HeaderValue::try_from(url) {
        response.headers_mut().insert(header::LOCATION, url);
    }
}

/// Why there is no order.
pub(super) fn refusal(ending: Ending) -> Problem {
    let told = |kind, said: crate::checkout::terms::Refusal| {
        let members = Members {
            payment_code: Some(said.code),
            decline_code: said.decline_code,
            ..Members::default()
        };
        Problem::with(kind, said.message, members)
    };
    match ending {
        Ending::Declined(said) | Ending::Refused(said) => told(Kind::Declined, said),
        Ending::CaptureFailed(said) | Ending::Mismatch(said) => told(Kind::CheckoutFailed, said),
        Ending::CancelRefused(said) => told(Kind::RefundRefused, said),
        Ending::HoldGone => Problem::new(
            Kind::HoldGone,
            "the hold ended before the payment was done; nothing was charged",
        ),
        Ending::ConfirmedElsewhere => Problem::new(
            Kind::ClaimConfirmed,
            "the claim was confirmed by somebody else meanwhile; nothing was charged",
        ),
        Ending::BegunElsewhere | Ending::Superseded => Problem::new(
            Kind::CheckoutInProgress,
            "somebody else has begun to settle this claim; nothing was charged",
        ),
        Ending::ProviderUnavailable { retry_after_ms } => {
            let wait_s = match retry_after_ms.div_ceil(1_000) {
                0 => PROVIDER_WAIT_S,
                wait_s => wait_s,
            };
            Problem::with(
                Kind::ProviderUnavailable,
                "the payment provider is not to be reached; nothing was charged, and the hold is extended",
                Members::same_key_safe(),
            )
            .retry_after(wait_s + jitter_s())
        }
        Ending::Paid | Ending::Cancelled => {
            tracing::error!(?ending, "an order is missing");
            Problem::new(
                Kind::Internal,
                "the order is written and was not found; ask for it again",
            )
        }
    }
}
