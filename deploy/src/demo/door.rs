//! Real HTTP to the door, and its answers in the journal's words.

use std::time::Duration;

use reqwest::{Client, Response, header};
use serde::Deserialize;

use super::journal::{Answer, Told};
use crate::exit::Failure;

/// Longest one request may take: above the door's own limit for a call, so that its word comes first.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// Longest body kept of an answer that was not expected, in characters.
const ODD_CHARS_MAX: usize = 300;

/// The door, as shoppers and the platform see it.
pub struct Door {
    http: Client,
    claims_url: String,
    claim_url: String,
}

/// What a problem document says that shoppers act on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    maybe_more_until: Option<String>,
}

impl Door {
    /// The door at `host:port`, for one sale; connections are kept, at most `callers` idle ones.
    pub fn new(address: &str, sale_id: &str, callers: usize) -> Result<Door, Failure> {
        api::payment::use_ring();
        let http = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(callers)
            .timeout(REQUEST_MAX)
            .build()
            .map_err(|error| Failure::Failed(format!("HTTP client: {error}")))?;
        Ok(Door {
            http,
            claims_url: format!("http://{address}/v1/sales/{sale_id}/claims"),
            claim_url: format!("http://{address}/v1/claims"),
        })
    }

    /// A shopper claims one unit. Gives the HTTP status and the answer.
    pub async fn claim(&self, token: &str, key: &str) -> (u16, Answer) {
        let request = self
            .http
            .post(&self.claims_url)
            .header(header::AUTHORIZATION, token)
            .header("idempotency-key", key)
            .header(header::CONTENT_TYPE, "application/json")
            .body(r#"{"quantity":1}"#);
        read(request.send().await, Answer::Claim).await
    }

    /// The platform confirms a claim, after it was paid.
    pub async fn confirm(&self, token: &str, key: &str, claim: &Told) -> (u16, Answer) {
        let request = self
            .http
            .post(format!("{}/{}/confirm", self.claim_url, claim.claim_id))
            .header(header::AUTHORIZATION, token)
            .header("idempotency-key", key)
            .header(header::CONTENT_TYPE, "application/json")
            .body(format!(r#"{{"fencing_token":{}}}"#, claim.fencing_token));
        read(request.send().await, Answer::Confirmed).await
    }
}

async fn read(answer: reqwest::Result<Response>, granted: fn(Told) -> Answer) -> (u16, Answer) {
    let silence = |error: reqwest::Error| {
        (
            0,
            Answer::Silence {
                error: error.without_url().to_string(),
            },
        )
    };
    let response = match answer {
        Ok(response) => response,
        Err(error) => return silence(error),
    };
    let status = response.status().as_u16();
    let retry_after_s = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(1);
    match response.bytes().await {
        Ok(body) => (status, parse(status, &body, retry_after_s, granted)),
        Err(error) => silence(error),
    }
}

fn parse(status: u16, body: &[u8], retry_after_s: u64, granted: fn(Told) -> Answer) -> Answer {
    let odd = || Answer::Odd {
        body: String::from_utf8_lossy(body)
            .chars()
            .take(ODD_CHARS_MAX)
            .collect(),
    };
    if (200..300).contains(&status) {
        return serde_json::from_slice(body).map_or_else(|_| odd(), granted);
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return odd();
    };
    match problem.kind.strip_prefix("urn:holdfast:problem:") {
        Some("sold-out") => Answer::SoldOut {
            more_until: problem.maybe_more_until,
        },
        Some("hold-gone") => Answer::Gone,
        Some("key-fenced") => Answer::Fenced,
        Some("unknown-outcome") => Answer::Unknown { retry_after_s },
        Some("unavailable" | "rate-limited" | "sale-paused" | "not-open-yet") => {
            Answer::Later { retry_after_s }
        }
        _ => odd(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, rest: &str) -> Vec<u8> {
        format!(r#"{{"type":"urn:holdfast:problem:{kind}","title":"t","status":409{rest}}}"#).into_bytes()
    }

    #[test]
    fn answers_are_read_as_the_door_writes_them() {
        let claim = br#"{"claim_id":"c1","outcome":"granted","status":"held","quantity":1,"held_until":"x",
            "seconds_remaining":4,"rank":9,"fencing_token":7,
            "receipt":{"log_index":5,"position":2,"term":1,"log_time_ms":33}}"#;
        let Answer::Claim(told) = parse(201, claim, 0, Answer::Claim) else {
            panic!("not read")
        };
        assert_eq!((told.rank, told.fencing_token, told.receipt.position), (9, 7, 2));
        assert!(matches!(
            parse(200, claim, 0, Answer::Confirmed),
            Answer::Confirmed(_)
        ));
        let until = r#","maybe_more_until":"2030-01-01T00:00:00Z""#;
        let table: [(Vec<u8>, Answer); 7] = [
            (
                problem("sold-out", until),
                Answer::SoldOut {
                    more_until: Some("2030-01-01T00:00:00Z".into()),
                },
            ),
            (problem("sold-out", ""), Answer::SoldOut { more_until: None }),
            (problem("hold-gone", ""), Answer::Gone),
            (problem("key-fenced", ""), Answer::Fenced),
            (
                problem("unknown-outcome", ""),
                Answer::Unknown { retry_after_s: 2 },
            ),
            (problem("unavailable", ""), Answer::Later { retry_after_s: 2 }),
            (problem("rate-limited", ""), Answer::Later { retry_after_s: 2 }),
        ];
        for (body, answer) in table {
            assert_eq!(parse(409, &body, 2, Answer::Claim), answer);
        }
        for body in [&b"oops"[..], b"{}", &problem("stale-token", "")] {
            assert!(matches!(parse(500, body, 0, Answer::Claim), Answer::Odd { .. }));
        }
        assert!(matches!(parse(200, b"{}", 0, Answer::Claim), Answer::Odd { .. }));
    }
}
