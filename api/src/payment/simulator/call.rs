//! What goes into a provider and what comes out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Reads; never changes anything, and needs no key.
    Get,
    /// May change something.
    Post,
}

/// One call, as it comes off the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// Body or query, decoded into pairs in their order.
    pub form: Vec<(String, String)>,
    /// The `Idempotency-Key` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl Request {
    /// A read.
    pub fn get(path: impl Into<String>) -> Request {
        Request {
            method: Method::Get,
            path: path.into(),
            form: Vec::new(),
            idempotency_key: None,
        }
    }

    /// A change.
    pub fn post(path: impl Into<String>, form: &[(&str, &str)]) -> Request {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request {
            method: Method::Post,
            path: path.into(),
            form: form.iter().map(owned).collect(),
            idempotency_key: None,
        }
    }

    /// With an idempotency key.
    pub fn key(mut self, key: impl Into<String>) -> Request {
        self.idempotency_key = Some(key.into());
        self
    }
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Arc<str>,
    /// How long after the call it is given, in ms.
    pub delay_ms: u64,
    /// It is never given: the connection is cut in its place.
    pub lose_answer: bool,
    /// It is never given, and the caller waits.
    pub hang: bool,
    /// It was saved under the call's key before.
    pub replayed: bool,
    /// Id of this call.
    pub request_id: String,
    /// Id of the call that was saved, if this is a replay.
    pub original_request_id: Option<String>,
    /// What Stripe would say in `Stripe-Should-Retry`.
    pub should_retry: Option<bool>,
    /// What went wrong on purpose, for the log.
    pub mishap: Option<&'static str>,
}

impl Answer {
    pub(super) fn new(request_id: String, outcome: Result<Value, ApiError>) -> Answer {
        let (status, body) = match outcome {
            Ok(value) => (200, value),
            Err(error) => (error.status, error.body()),
        };
        Answer {
            status,
            body: body.to_string().into(),
            delay_ms: 0,
            lose_answer: false,
            hang: false,
            replayed: false,
            request_id,
            original_request_id: None,
            should_retry: matches!(status, 409 | 429 | 503).then_some(true),
            mishap: None,
        }
    }

    /// The body, parsed.
    ///
    /// # Panics
    /// Never: bodies are JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("bodies are JSON")
    }
}
