//! Errors as Stripe writes them.

use serde_json::{Map, Value, json};

use super::magic::Decline;

/// A refusal: the status, and what goes under `error`.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    param: Option<String>,
    /// Objects that explain it, as in `payment_intent`.
    with: Map<String, Value>,
}

impl ApiError {
    pub(super) fn new(
        status: u16,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        ApiError {
            status,
            kind,
            code: Some(code),
            message: message.into(),
            param: None,
            with: Map::new(),
        }
    }

    /// One without a code.
    pub(super) fn uncoded(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let mut error = ApiError::new(status, kind, "", message);
        error.code = None;
        error
    }

    /// 400: the request is wrong as it stands.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(400, "invalid_request_error", code, message)
    }

    /// 400: a parameter is.
    pub(super) fn param(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        let mut error = ApiError::invalid(code, message);
        error.param = Some(param.to_owned());
        error
    }

    /// 404: no object of this id.
    pub(super) fn missing(what: &str, param: &str, id: &str) -> Self {
        let mut error = ApiError::new(
            404,
            "invalid_request_error",
            "resource_missing",
            format!("No such {what}: '{id}'"),
        );
        error.param = Some(param.to_owned());
        error
    }

    /// 404: no such road.
    pub(super) fn unknown_url(method: &str, path: &str) -> Self {
        ApiError::uncoded(
            404,
            "invalid_request_error",
            format!("Unrecognized request URL ({method}: {path}). GET / lists what there is."),
        )
    }

    /// 401: who is asking?
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        ApiError::uncoded(401, "invalid_request_error", message)
    }

    /// 429: too many calls.
    pub(super) fn rate_limited() -> Self {
        ApiError::new(
            429,
            "invalid_request_error",
            "rate_limit",
            "Too many requests in too little time; back off and try again",
        )
    }

    /// 429: somebody else holds the object.
    pub(super) fn locked() -> Self {
        ApiError::new(
            429,
            "invalid_request_error",
            "lock_timeout",
            "Another request is working on this object; try again shortly",
        )
    }

    /// 500: nobody knows.
    pub(super) fn internal() -> Self {
        ApiError::uncoded(500, "api_error", "Something went wrong on the provider's side")
    }

    /// 503: a limit of this simulator, not of Stripe.
    pub(super) fn full(what: &str) -> Self {
        ApiError::uncoded(
            503,
            "api_error",
            format!("this simulator holds all the {what} it may; start a new one, or raise the limit"),
        )
    }

    /// 402: the card.
    pub(super) fn card(decline: &Decline) -> Self {
        let mut error = ApiError::new(402, "card_error", decline.code, decline.message);
        if let Some(decline_code) = decline.decline_code {
            error = error.with("decline_code", decline_code.into());
        }
        error
    }

    /// Explained by an object.
    pub(super) fn with(mut self, name: &str, object: Value) -> Self {
        self.with.insert(name.to_owned(), object);
        self
    }

    /// The error alone, as in `last_payment_error`.
    pub(super) fn object(&self) -> Value {
        let mut object = self.with.clone();
        object.insert("type".into(), self.kind.into());
        object.insert("message".into(), self.message.clone().into());
        if let Some(code) = self.code {
            object.insert("code".into(), code.into());
            let page = code.replace('_', "-");
            object.insert(
                "doc_url".into(),
                format!("https://stripe.com/docs/error-codes/{page}").into(),
            );
        }
        if let Some(param) = &self.param {
            object.insert("param".into(), param.clone().into());
        }
        Value::Object(object)
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> Value {
        json!({ "error": self.object() })
    }
}
