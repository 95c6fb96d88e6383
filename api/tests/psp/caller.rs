//! The smallest client: one connection a call, no redirects, no TLS.

use std::error::Error;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, request::Builder},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::Value;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there was no answer.
pub type Silence = Box<dyn Error + Send + Sync>;

/// Makes calls.
#[derive(Clone)]
pub struct Caller(Client<HttpConnector, Body>);

impl Caller {
    pub fn new() -> Caller {
        // A connection that was cut must not be blamed on the next call.
        let mut builder = Client::builder(TokioExecutor::new());
        Caller(builder.pool_max_idle_per_host(0).build_http())
    }

    pub fn get(&self, url: impl AsRef<str>) -> Call {
        self.call("GET", url.as_ref())
    }

    pub fn post(&self, url: impl AsRef<str>) -> Call {
        self.call("POST", url.as_ref())
    }

    fn call(&self, method: &str, url: &str) -> Call {
        Call {
            client: self.0.clone(),
            builder: Request::builder().method(method).uri(url),
            body: String::new(),
        }
    }
}

/// One call, being written.
pub struct Call {
    client: Client<HttpConnector, Body>,
    builder: Builder,
    body: String,
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn bearer_auth(self, key: &str) -> Call {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn basic_auth(self, user: &str) -> Call {
        let pair = BASE64_STANDARD.encode(format!("{user}:"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    pub fn form(mut self, form: &[(&str, &str)]) -> Call {
        let mut body = form_urlencoded::Serializer::new(String::new());
        self.body = body.extend_pairs(form).finish();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    pub fn json(mut self, json: &Value) -> Call {
        self.body = json.to_string();
        self.header("content-type", "application/json")
    }

    /// The answer, if one comes, whole.
    pub async fn send(self) -> Result<Told, Silence> {
        let request = self.builder.body(Body::from(self.body))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await?;
        let body = String::from_utf8(body.to_vec())?;
        Ok(Told {
            status: head.status,
            headers: head.headers,
            json: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        })
    }
}

/// What a call was answered.
#[derive(Debug)]
pub struct Told {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body; what is not JSON is a text.
    pub json: Value,
}

impl Told {
    /// The object, if all went well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:#}", self.json);
        self.json
    }

    /// The error's status, type and code.
    pub fn error(&self) -> (u16, &str, &str) {
        let text = |name: &str| self.json["error"][name].as_str().unwrap_or_default();
        (self.status.as_u16(), text("type"), text("code"))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }
}
