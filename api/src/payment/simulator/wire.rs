//! HTTP on its way in and out: keys, forms, refusals, redirects, cuts.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{call::Answer, error::ApiError};

/// A body that fails before it begins: the connection is closed with the answer unsent.
pub(super) fn cut() -> Body {
    let failure = io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose");
    Body::from_stream(futures::stream::once(async { Err::<Bytes, _>(failure) }))
}

pub(super) fn refuse(error: ApiError) -> Response {
    let status = StatusCode::from_u16(error.status).expect("statuses are written here");
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        error.body().to_string(),
    )
        .into_response()
}

/// Sends the shopper back to the shop.
pub(super) fn challenged(answer: &Answer) -> Response {
    let object = answer.json();
    if answer.status != 200 {
        let status = StatusCode::from_u16(answer.status).expect("statuses are written here");
        return (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            answer.body.to_string(),
        )
            .into_response();
    }
    let status = object["status"].as_str().unwrap_or_default();
    let outcome = if status == "requires_payment_method" {
        "failed"
    } else {
        "succeeded"
    };
    let Some(back) = object["return_url"].as_str() else {
        return format!("Authentication {outcome}. Go back to the shop.").into_response();
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("payment_intent", object["id"].as_str().unwrap_or_default())
        .append_pair(
            "payment_intent_client_secret",
            object["client_secret"].as_str().unwrap_or_default(),
        )
        .append_pair("redirect_status", outcome);
    let (base, fragment) = back
        .split_once('#')
        .map_or((back, None), |(base, rest)| (base, Some(rest)));
    let mark = if base.contains('?') { '&' } else { '?' };
    let mut location = format!("{base}{mark}{}", query.finish());
    if let Some(fragment) = fragment {
        location = format!("{location}#{fragment}");
    }
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

pub(super) fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// The parameters in a body: a form, or, for those who write by hand, a flat JSON object.
pub(super) fn decode(headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, String)>, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return Ok(pairs(body));
    }
    let wrong = || {
        let words = "Send a form (application/x-www-form-urlencoded), or a flat JSON object under /_/";
        ApiError::uncoded(400, "invalid_request_error", words)
    };
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(wrong());
    };
    let pair = |(name, value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        _ => Err(wrong()),
    };
    fields.into_iter().map(pair).collect()
}

/// Bearer, or basic with the key as user name, as Stripe takes it.
pub(super) fn authorize(headers: &HeaderMap, wanted: Option<&str>) -> Result<(), ApiError> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some((scheme, credentials)) = given.and_then(|given| given.split_once(' ')) else {
        let words = "You did not provide an API key: send it as Authorization: Bearer sk_test_…";
        return Err(ApiError::unauthorized(words));
    };
    let key = if scheme.eq_ignore_ascii_case("bearer") {
        Some(credentials.trim().to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64_STANDARD.decode(credentials.trim()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.map(|pair| pair.split(':').next().unwrap_or_default().to_owned())
    } else {
        None
    };
    let known = key.is_some_and(|key| match wanted {
        Some(wanted) => key == wanted,
        None => key.starts_with("sk_test_"),
    });
    if known {
        Ok(())
    } else {
        Err(ApiError::unauthorized("Invalid API key provided"))
    }
}
