//! What each answer and each refusal is in HTTP: the only place that knows status codes.
//!
//! Every refusal is an RFC 9457 problem, `application/problem+json`, with a `urn:holdfast:problem:…`
//! type that never changes its meaning. Refusals that leave the caller in doubt say whether the same
//! `Idempotency-Key` may be sent again (`same_key_safe`), which for Holdfast is always yes: a key has
//! at most one effect.
//!
//! What the store refuses becomes one of these in `refusal`. [`conform`] turns whatever the framework itself refuses (unknown route, wrong method, a panic) into
//! a problem as well, so that no caller ever needs a second way of reading errors.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use client::Grant;
use serde::Serialize;

use crate::refusal;

/// Media type of problems.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What can be wrong, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    KeyMissing,
    Unauthenticated,
    Forbidden,
    NotFound,
    SaleUnknown,
    ClaimUnknown,
    OrderUnknown,
    MethodNotAllowed,
    BodyTimeout,
    SoldOut,
    NotOpenYet,
    SalePaused,
    SaleExists,
    SaleTransition,
    ClaimsExhausted,
    UserLimit,
    ClaimConfirmed,
    StaleToken,
    KeyFenced,
    UnitsInUse,
    SaleClosed,
    HoldGone,
    BodyTooLarge,
    UnsupportedMediaType,
    KeyReused,
    KeyInFlight,
    RateLimited,
    Declined,
    CheckoutInProgress,
    CheckoutFailed,
    AttemptsExhausted,
    NotPayable,
    AmountDiffers,
    RefundRefused,
    SignatureInvalid,
    CheckoutNotConfigured,
    ProviderUnavailable,
    Internal,
    UnknownOutcome,
    Unavailable,
}

impl Kind {
    /// Type URI, status and title.
    fn spec(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Kind::Invalid => (
                "urn:holdfast:problem:invalid-request",
                S::BAD_REQUEST,
                "Invalid request",
            ),
            Kind::KeyMissing => (
                "urn:holdfast:problem:idempotency-key-missing",
                S::BAD_REQUEST,
                "Idempotency-Key is missing",
            ),
            Kind::Unauthenticated => (
                "urn:holdfast:problem:unauthenticated",
                S::UNAUTHORIZED,
                "Not authenticated",
            ),
            Kind::Forbidden => ("urn:holdfast:problem:forbidden", S::FORBIDDEN, "Not allowed"),
            Kind::NotFound => ("urn:holdfast:problem:not-found", S::NOT_FOUND, "Nothing here"),
            Kind::SaleUnknown => ("urn:holdfast:problem:sale-unknown", S::NOT_FOUND, "No such sale"),
            Kind::ClaimUnknown => (
                "urn:holdfast:problem:claim-unknown",
                S::NOT_FOUND,
                "No such claim",
            ),
            Kind::OrderUnknown => (
                "urn:holdfast:problem:order-unknown",
                S::NOT_FOUND,
                "No such order",
            ),
            Kind::MethodNotAllowed => (
                "urn:holdfast:problem:method-not-allowed",
                S::METHOD_NOT_ALLOWED,
                "Method not allowed",
            ),
            Kind::BodyTimeout => (
                "urn:holdfast:problem:body-timeout",
                S::REQUEST_TIMEOUT,
                "Body took too long",
            ),
            Kind::SoldOut => ("urn:holdfast:problem:sold-out", S::CONFLICT, "Sold out"),
            Kind::NotOpenYet => (
                "urn:holdfast:problem:not-open-yet",
                S::CONFLICT,
                "Sale is not open yet",
            ),
            Kind::SalePaused => ("urn:holdfast:problem:sale-paused", S::CONFLICT, "Sale is paused"),
            Kind::SaleExists => (
                "urn:holdfast:problem:sale-exists",
                S::CONFLICT,
                "Sale exists already",
            ),
            Kind::SaleTransition => (
                "urn:holdfast:problem:sale-transition",
                S::CONFLICT,
                "Not possible in the sale's status",
            ),
            Kind::ClaimsExhausted => (
                "urn:holdfast:problem:claims-exhausted",
                S::CONFLICT,
                "The sale has made all the claims it may",
            ),
            Kind::UserLimit => (
                "urn:holdfast:problem:user-limit",
                S::CONFLICT,
                "More than one user may have",
            ),
            Kind::ClaimConfirmed => (
                "urn:holdfast:problem:claim-confirmed",
                S::CONFLICT,
                "Claim is confirmed already",
            ),
            Kind::StaleToken => (
                "urn:holdfast:problem:stale-token",
                S::CONFLICT,
                "Fencing token is stale",
            ),
            Kind::KeyFenced => (
                "urn:holdfast:problem:key-fenced",
                S::CONFLICT,
                "Idempotency-Key was resolved as abandoned",
            ),
            Kind::UnitsInUse => (
                "urn:holdfast:problem:units-in-use",
                S::CONFLICT,
                "Units are held or confirmed",
            ),
            Kind::SaleClosed => ("urn:holdfast:problem:sale-closed", S::GONE, "Sale is closed"),
            Kind::HoldGone => (
                "urn:holdfast:problem:hold-gone",
                S::GONE,
                "Claim is no longer held",
            ),
            Kind::BodyTooLarge => (
                "urn:holdfast:problem:body-too-large",
                S::PAYLOAD_TOO_LARGE,
                "Body is too large",
            ),
            Kind::UnsupportedMediaType => (
                "urn:holdfast:problem:unsupported-media-type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Body is not JSON",
            ),
            Kind::KeyReused => (
                "urn:holdfast:problem:key-reused",
                S::UNPROCESSABLE_ENTITY,
                "Idempotency-Key was used for another request",
            ),
            Kind::KeyInFlight => (
                "urn:holdfast:problem:key-in-flight",
                S::CONFLICT,
                "A request with this Idempotency-Key is being carried out",
            ),
            Kind::RateLimited => (
                "urn:holdfast:problem:rate-limited",
                S::TOO_MANY_REQUESTS,
                "Too many attempts",
            ),
            Kind::Declined => (
                "urn:holdfast:problem:declined",
                S::PAYMENT_REQUIRED,
                "The payment was declined",
            ),
            Kind::CheckoutInProgress => (
                "urn:holdfast:problem:checkout-in-progress",
                S::CONFLICT,
                "A checkout is in progress",
            ),
            Kind::CheckoutFailed => (
                "urn:holdfast:problem:checkout-failed",
                S::PAYMENT_REQUIRED,
                "The payment failed, and the units went back",
            ),
            Kind::AttemptsExhausted => (
                "urn:holdfast:problem:attempts-exhausted",
                S::CONFLICT,
                "Too many attempts to pay",
            ),
            Kind::NotPayable => (
                "urn:holdfast:problem:not-payable",
                S::UNPROCESSABLE_ENTITY,
                "This cannot be paid for",
            ),
            Kind::AmountDiffers => (
                "urn:holdfast:problem:amount-differs",
                S::UNPROCESSABLE_ENTITY,
                "Amount or currency is another one",
            ),
            Kind::RefundRefused => (
                "urn:holdfast:problem:refund-refused",
                S::CONFLICT,
                "The refund was refused, the order stands",
            ),
            Kind::SignatureInvalid => (
                "urn:holdfast:problem:signature-invalid",
                S::BAD_REQUEST,
                "The webhook's signature is not believed",
            ),
            Kind::CheckoutNotConfigured => (
                "urn:holdfast:problem:checkout-not-configured",
                S::SERVICE_UNAVAILABLE,
                "No payment is configured here",
            ),
            Kind::ProviderUnavailable => (
                "urn:holdfast:problem:provider-unavailable",
                S::SERVICE_UNAVAILABLE,
                "The payment provider is not to be reached",
            ),
            Kind::Internal => (
                "urn:holdfast:problem:internal",
                S::INTERNAL_SERVER_ERROR,
                "Something went wrong here",
            ),
            Kind::UnknownOutcome => (
                "urn:holdfast:problem:unknown-outcome",
                S::SERVICE_UNAVAILABLE,
                "The outcome is not known yet",
            ),
            Kind::Unavailable => (
                "urn:holdfast:problem:unavailable",
                S::SERVICE_UNAVAILABLE,
                "Not available now",
            ),
        }
    }
}

/// What a problem says beyond its kind; absent members are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Members {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authoritative: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) units_available: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maybe_more_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) opens_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sale_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claim_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) same_key_safe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_seconds: Option<u64>,
}

impl Members {
    /// The same key may be sent again.
    pub(crate) fn same_key_safe() -> Self {
        Members {
            same_key_safe: Some(true),
            ..Members::default()
        }
    }
}

/// One refusal on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    detail: Cow<'static, str>,
    members: Members,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(flatten)]
    members: &'a Members,
}

impl Problem {
    /// A problem of a kind, with a sentence for people.
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem(Box::new(Inner {
            kind,
            detail: detail.into(),
            members: Members::default(),
        }))
    }

    /// A problem with more to say.
    pub(crate) fn with(kind: Kind, detail: impl Into<Cow<'static, str>>, members: Members) -> Self {
        Problem(Box::new(Inner {
            kind,
            detail: detail.into(),
            members,
        }))
    }

    /// Shape: the request could never have been right.
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(Kind::Invalid, detail)
    }

    /// This node takes no more work now; nothing was proposed.
    pub(crate) fn busy(detail: &'static str) -> Self {
        Problem::with(Kind::Unavailable, detail, Members::same_key_safe())
            .retry_after(1 + refusal::jitter_s())
    }

    /// When to come back.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.members.retry_after_seconds = Some(seconds);
        self
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its name in metrics: the last part of its type.
    pub(crate) fn slug(&self) -> &'static str {
        let (uri, _, _) = self.0.kind.spec();
        uri.rsplit_once(':').map_or(uri, |(_, slug)| slug)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner {
            kind,
            detail,
            members,
        } = *self.0;
        let (uri, status, title) = kind.spec();
        let wire = Wire {
            kind: uri,
            title,
            status: status.as_u16(),
            detail: &detail,
            members: &members,
        };
        let body = serde_json::to_vec(&wire).expect("a problem is a plain map of texts and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = members.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if kind == Kind::Unauthenticated {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"holdfast\""),
            );
        }
        response
    }
}

/// Makes an error that is not a problem yet (the framework's own refusals) into one, keeping what the
/// framework said in headers, such as `Allow`.
pub(crate) fn conform(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error())
        || response.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM_JSON)
    {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(Kind::NotFound, "see /openapi.json for what there is"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            Kind::MethodNotAllowed,
            "see the Allow header for what is allowed here",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::BodyTooLarge, ""),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Kind::UnsupportedMediaType, ""),
        status if status.is_client_error() => Problem::invalid(""),
        _ => Problem::new(Kind::Internal, ""),
    };
    let mut conformed = problem.into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        conformed.headers_mut().insert(header::ALLOW, allow.clone());
    }
    conformed
}

/// Status of an answered claim: made now, or known already.
pub(crate) fn status_of_grant(grant: Grant) -> StatusCode {
    match grant {
        Grant::Granted => StatusCode::CREATED,
        Grant::Repeated | Grant::Already | Grant::Unspecified => StatusCode::OK,
    }
}

/// Status of a mere yes.
pub(crate) const OK: StatusCode = StatusCode::OK;

/// Status of an answer that is not decided yet.
pub(crate) const ACCEPTED: StatusCode = StatusCode::ACCEPTED;

/// Status of something newly made.
pub(crate) const CREATED: StatusCode = StatusCode::CREATED;

/// Status of "what you have is still so".
pub(crate) const NOT_MODIFIED: StatusCode = StatusCode::NOT_MODIFIED;

/// Whether an answer is the last word on a request: sent again, it would be answered the same. Not so where
/// work goes on, somebody else is at it, or the caller was let in too late or too often.
pub(crate) fn is_final(status: StatusCode) -> bool {
    use StatusCode as S;
    let for_now = [
        S::ACCEPTED,
        S::UNAUTHORIZED,
        S::FORBIDDEN,
        S::REQUEST_TIMEOUT,
        S::CONFLICT,
        S::TOO_EARLY,
        S::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !for_now.contains(&status)
}

/// Whether an answer is our own failure, worth a line in the log.
pub(crate) fn is_failure(response: &Response) -> bool {
    response.status().is_server_error()
}
