//! Development mode only: tokens for everybody who asks. The route does not exist outside that mode.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::{self, Role},
    door::Door,
    error::{Kind, Problem},
    extract::JsonBody,
    json::ProblemJson,
    time,
};

/// How long a token is valid unless asked otherwise, in seconds.
const TTL_S: u64 = 3_600;

/// Longest a token may be valid, in seconds: a day of development.
const TTL_S_MAX: u64 = 86_400;

/// Whom to make a token for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MintJson {
    /// The user, 1 to 64 bytes.
    sub: String,
    /// Default shopper.
    role: Option<Role>,
    /// How long it is valid, 1 to 86,400 s; default 3,600.
    ttl_seconds: Option<u64>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenJson {
    /// Send it as `Authorization: Bearer …`.
    token: String,
    /// Until when it is valid, RFC 3339.
    expires_at: String,
}

/// Mints a token (development mode only)
#[utoipa::path(
    post, path = "/dev/token", tag = "development", request_body = MintJson,
    responses(
        (status = 200, description = "A token", body = TokenJson),
        (status = 400, description = "invalid-request", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn token(
    State(door): State<Arc<Door>>,
    body: JsonBody<MintJson>,
) -> Result<Response, Problem> {
    let MintJson {
        sub,
        role,
        ttl_seconds,
    } = body.required()?;
    if !(1..=auth::USER_BYTES_MAX).contains(&sub.len()) {
        return Err(Problem::invalid("sub must have 1 to 64 bytes"));
    }
    let ttl_s = ttl_seconds.unwrap_or(TTL_S);
    if !(1..=TTL_S_MAX).contains(&ttl_s) {
        return Err(Problem::invalid("ttl_seconds must be 1 to 86400"));
    }
    let expires_at_s = auth::now_s() + ttl_s;
    let token = door
        .verifier
        .mint(&sub, role.unwrap_or(Role::Shopper), expires_at_s)
        .ok_or_else(|| Problem::new(Kind::NotFound, ""))?;
    Ok(Json(TokenJson {
        token,
        expires_at: time::rfc3339(expires_at_s * 1_000),
    })
    .into_response())
}
