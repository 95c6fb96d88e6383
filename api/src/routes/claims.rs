//! Claims: shoppers make, see and give back their own; platforms confirm.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use client::{Claim, ClaimStatus, Claimed, Grant, Position};

use super::tell_position;
use crate::{
    auth::{Caller, Role},
    door::Door,
    error::{self, Problem},
    extract::{ClaimId, IdempotencyKey, JsonBody, SaleId, idempotency_key},
    json::{ClaimJson, ConfirmJson, ProblemJson, TakeJson},
    store::{Settle, Step, Take},
};

/// Claims units of a sale
///
/// At most one effect per key: repeating a request with its key returns the claim it made, whatever
/// became of it. A refusal is not remembered, so the same key may be granted later.
#[utoipa::path(
    post, path = "/v1/sales/{sale_id}/claims", tag = "claims", request_body = Option<TakeJson>,
    security(("bearer" = [])),
    params(
        ("sale_id" = String, Path, description = "The sale"),
        ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes; saved before sending"),
    ),
    responses(
        (status = 201, description = "Granted", body = ClaimJson<'static>,
            headers(("RateLimit" = String), ("RateLimit-Policy" = String))),
        (status = 200, description = "The claim this key made before, or the one you have at your limit, as of now",
            body = ClaimJson<'static>),
        (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "sale-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "sold-out, not-open-yet, sale-paused, user-limit, claims-exhausted, key-fenced", body = ProblemJson, content_type = "application/problem+json"),
        (status = 410, description = "sale-closed", body = ProblemJson, content_type = "application/problem+json"),
        (status = 413, description = "body-too-large", body = ProblemJson, content_type = "application/problem+json"),
        (status = 415, description = "unsupported-media-type", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
        (status = 429, description = "rate-limited", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unknown-outcome, unavailable: the same key is safe", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn claim(
    State(door): State<Arc<Door>>,
    caller: Caller,
    SaleId(sale_id): SaleId,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<TakeJson>,
) -> Result<Response, Problem> {
    let quantity = body.map_or(1, |take| take.quantity);
    if quantity == 0 {
        return Err(Problem::invalid("quantity must be at least 1"));
    }
    let (standing, admitted) = door.claim_rate.attempt(&caller.0.user);
    let answer = match admitted {
        Ok(()) => {
            let take = Take {
                sale_id: sale_id.clone(),
                user: caller.0.user.clone(),
                key,
                quantity,
            };
            door.store.claim(take).await.map_err(Problem::from)
        }
        Err(refusal) => Err(refusal),
    };
    door.telemetry
        .claimed(answer.as_ref().map(|claimed| claimed.grant));
    let mut response = match answer {
        Ok(Claimed {
            grant,
            claim,
            position,
        }) => {
            let mut response = show(&claim, Some(&sale_id), Some(grant), &position);
            *response.status_mut() = error::status_of_grant(grant);
            // Ids come from the store, but a header is no place to find out that one is odd.
            if let Ok(location) = HeaderValue::try_from(format!("/v1/claims/{}", claim.claim_id)) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Err(problem) => problem.into_response(),
    };
    door.claim_rate.tell(standing, response.headers_mut());
    Ok(response)
}

fn show(claim: &Claim, sale_id: Option<&str>, grant: Option<Grant>, position: &Position) -> Response {
    let mut response = Json(ClaimJson::new(claim, sale_id, grant, position)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tell_position(position, headers);
    response
}

/// Whose claims a caller may see: his own, or everybody's.
fn whose(caller: &Caller) -> Option<&str> {
    match caller.0.role {
        Role::Shopper => Some(&caller.0.user),
        Role::Platform | Role::Operator | Role::Auditor => None,
    }
}

/// One claim
///
/// Shoppers see their own; anybody else's does not exist for them.
#[utoipa::path(
    get, path = "/v1/claims/{claim_id}", tag = "claims", security(("bearer" = [])),
    params(("claim_id" = String, Path, description = "The claim")),
    responses(
        (status = 200, description = "The claim, as of now", body = ClaimJson<'static>),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "claim-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    caller: Caller,
    ClaimId(claim_id): ClaimId,
) -> Result<Response, Problem> {
    let (claim, sale_id, position) = door.store.find_claim(&claim_id, whose(&caller)).await?;
    Ok(show(&claim, Some(&sale_id), None, &position))
}

/// Gives a held claim back
///
/// Shoppers their own, platforms and operators any. Repeating it is harmless: a claim that is
/// released already is simply shown. An Idempotency-Key may be sent but is not needed.
#[utoipa::path(
    delete, path = "/v1/claims/{claim_id}", tag = "claims", security(("bearer" = [])),
    params(
        ("claim_id" = String, Path, description = "The claim"),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, 1 to 64 bytes"),
    ),
    responses(
        (status = 200, description = "Released", body = ClaimJson<'static>),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "claim-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "claim-confirmed, stale-token", body = ProblemJson, content_type = "application/problem+json"),
        (status = 410, description = "hold-gone", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unknown-outcome, unavailable: the same request is safe", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn release(
    State(door): State<Arc<Door>>,
    caller: Caller,
    ClaimId(claim_id): ClaimId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let released = give_back(&door, &caller, claim_id.clone(), key).await;
    caller.acted(&claim_id, &released);
    released
}

async fn give_back(
    door: &Door,
    caller: &Caller,
    claim_id: String,
    key: Option<String>,
) -> Result<Response, Problem> {
    let (claim, sale_id, position) = door.store.find_claim(&claim_id, whose(caller)).await?;
    if claim.status == ClaimStatus::Released {
        return Ok(show(&claim, Some(&sale_id), None, &position));
    }
    let settle = Settle {
        step: Step::Release,
        // There is but one way to release this claim, so the claim and its token make a good key.
        key: key.unwrap_or_else(|| format!("r{}-{}", claim.fencing_token, short(&claim_id))),
        fencing_token: claim.fencing_token,
        claim_id,
        principal: caller.0.user.clone(),
    };
    let (claim, position) = door.store.settle(settle).await?;
    Ok(show(&claim, Some(&sale_id), None, &position))
}

/// As much of a claim id as fits in a key beside a token of 20 digits: real ids fit whole.
fn short(claim_id: &str) -> &str {
    claim_id.get(..42).unwrap_or(claim_id)
}

/// Makes a held claim final
///
/// For platforms with their own payment.
#[utoipa::path(
    post, path = "/v1/claims/{claim_id}/confirm", tag = "claims", request_body = ConfirmJson,
    security(("bearer" = [])),
    params(
        ("claim_id" = String, Path, description = "The claim"),
        ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes; saved before sending"),
    ),
    responses(
        (status = 200, description = "Confirmed, now or by the same key before", body = ClaimJson<'static>),
        (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "claim-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "stale-token, claim-confirmed (by another key), key-fenced", body = ProblemJson, content_type = "application/problem+json"),
        (status = 410, description = "hold-gone", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unknown-outcome, unavailable: the same key is safe", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn confirm(
    State(door): State<Arc<Door>>,
    caller: Caller,
    ClaimId(claim_id): ClaimId,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBody<ConfirmJson>,
) -> Result<Response, Problem> {
    let ConfirmJson { fencing_token } = body.required()?;
    let settle = Settle {
        step: Step::Confirm,
        claim_id,
        fencing_token,
        key,
        principal: caller.0.user.clone(),
    };
    let (claim, position) = door.store.settle(settle).await?;
    Ok(show(&claim, None, None, &position))
}
