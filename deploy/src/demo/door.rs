//! Real HTTP to the doors, and their answers in the journal's words.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, header};
use serde::Deserialize;

use super::journal::{Answer, Ordered};
use crate::exit::Failure;

/// Longest one request may take: above the door's own limit for a call, so that its word comes first.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// Longest body kept of an answer that was not expected, in characters.
const ODD_CHARS_MAX: usize = 300;

/// The doors, as shoppers see them. Any is as good as any other.
pub struct Doors {
    http: Client,
    addresses: Vec<String>,
    sale_id: String,
}

/// What a problem document says that shoppers act on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    maybe_more_until: Option<String>,
}

/// How a checkout stands.
#[derive(Deserialize)]
struct Standing {
    claim_id: String,
    status: String,
    next_action_url: Option<String>,
    order_id: Option<String>,
}

impl Doors {
    /// The doors at `host:port` each, for one sale; connections are kept, at most `callers` idle ones.
    pub fn new(addresses: Vec<String>, sale_id: &str, callers: usize) -> Result<Doors, Failure> {
        let http = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(callers)
            .timeout(REQUEST_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::Failed(format!("HTTP client: {error}")))?;
        Ok(Doors {
            http,
            addresses,
            sale_id: sale_id.to_owned(),
        })
    }

    fn url(&self, door: usize, path: &str) -> String {
        format!("http://{}/v1/{path}", self.addresses[door % self.addresses.len()])
    }

    /// A shopper claims one unit. Gives the HTTP status and the answer.
    pub async fn claim(&self, door: usize, token: &str, key: &str) -> (u16, Answer) {
        let url = self.url(door, &format!("sales/{}/claims", self.sale_id));
        let request = post(&self.http, url, token, key).body(r#"{"quantity":1}"#);
        read(request.send().await, granted).await
    }

    /// He pays for it.
    pub async fn pay(
        &self,
        door: usize,
        token: &str,
        key: &str,
        claim_id: &str,
        card: &str,
    ) -> (u16, Answer) {
        let url = self.url(door, &format!("claims/{claim_id}/checkout"));
        let body = format!(r#"{{"payment_method":"{card}"}}"#);
        let request = post(&self.http, url, token, key).body(body);
        read(request.send().await, paid).await
    }

    /// He looks how that stands.
    pub async fn look(&self, door: usize, token: &str, claim_id: &str) -> (u16, Answer) {
        let url = self.url(door, &format!("claims/{claim_id}/checkout"));
        let request = self.http.get(url).header(header::AUTHORIZATION, token);
        read(request.send().await, paid).await
    }

    /// He shows himself to his bank. Whether it worked is seen where the checkout stands.
    pub async fn see_bank(&self, url: &str) {
        let _ = self.http.post(url).send().await;
    }
}

fn post(http: &Client, url: String, token: &str, key: &str) -> RequestBuilder {
    http.post(url)
        .header(header::AUTHORIZATION, token)
        .header("idempotency-key", key)
        .header(header::CONTENT_TYPE, "application/json")
}

/// The body of a granted claim.
fn granted(_: u16, body: &[u8]) -> Option<Answer> {
    serde_json::from_slice(body).ok().map(Answer::Claim)
}

/// The body of an order, or of how a checkout stands.
fn paid(status: u16, body: &[u8]) -> Option<Answer> {
    if status == 201 {
        return serde_json::from_slice(body).ok().map(Answer::Paid);
    }
    let standing: Standing = serde_json::from_slice(body).ok()?;
    match standing.status.as_str() {
        "paid" => Some(Answer::Paid(Ordered {
            order_id: standing.order_id?,
            claim_id: standing.claim_id,
        })),
        "in-progress" => Some(Answer::Pending {
            next_action_url: None,
        }),
        "action-required" => Some(Answer::Pending {
            next_action_url: Some(standing.next_action_url?),
        }),
        "declined" | "refused" => Some(Answer::Declined),
        "hold-gone" | "capture-failed" => Some(Answer::Gone),
        "provider-unavailable" => Some(Answer::Later { retry_after_s: 1 }),
        _ => None,
    }
}

/// Reads the body of a success.
type Success = fn(u16, &[u8]) -> Option<Answer>;

async fn read(answer: reqwest::Result<Response>, success: Success) -> (u16, Answer) {
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
        Ok(body) => (status, parse(status, &body, retry_after_s, success)),
        Err(error) => silence(error),
    }
}

fn parse(status: u16, body: &[u8], retry_after_s: u64, success: Success) -> Answer {
    let odd = || Answer::Odd {
        body: String::from_utf8_lossy(body)
            .chars()
            .take(ODD_CHARS_MAX)
            .collect(),
    };
    if (200..300).contains(&status) {
        return success(status, body).unwrap_or_else(odd);
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return odd();
    };
    match problem.kind.strip_prefix("urn:holdfast:problem:") {
        Some("sold-out") => Answer::SoldOut {
            more_until: problem.maybe_more_until,
        },
        Some("declined") => Answer::Declined,
        Some("hold-gone" | "checkout-failed") => Answer::Gone,
        Some("key-fenced") => Answer::Fenced,
        Some("unknown-outcome") => Answer::Unknown { retry_after_s },
        Some(
            "unavailable"
            | "rate-limited"
            | "sale-paused"
            | "not-open-yet"
            | "provider-unavailable"
            | "checkout-in-progress"
            | "key-in-flight",
        ) => Answer::Later { retry_after_s },
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
        let Answer::Claim(told) = parse(201, claim, 0, granted) else {
            panic!("not read")
        };
        assert_eq!((told.rank, told.fencing_token, told.receipt.position), (9, 7, 2));
        let order = Answer::Paid(Ordered {
            order_id: "o_1".into(),
            claim_id: "c_1".into(),
        });
        let body = br#"{"order_id":"o_1","claim_id":"c_1","status":"paid","quantity":1}"#;
        assert_eq!(parse(201, body, 0, paid), order);
        let standing = |status: &str, more: &str| {
            let body = format!(r#"{{"claim_id":"c_1","status":"{status}"{more}}}"#);
            parse(202, body.as_bytes(), 0, paid)
        };
        assert_eq!(standing("paid", r#","order_id":"o_1""#), order);
        let pending = |url: Option<&str>| Answer::Pending {
            next_action_url: url.map(str::to_owned),
        };
        assert_eq!(standing("in-progress", ""), pending(None));
        let url = r#","next_action_url":"http://bank/""#;
        assert_eq!(standing("action-required", url), pending(Some("http://bank/")));
        assert_eq!(standing("declined", ""), Answer::Declined);
        assert_eq!(standing("hold-gone", ""), Answer::Gone);
        for odd in [
            standing("paid", ""),
            standing("action-required", ""),
            standing("eaten", ""),
        ] {
            assert!(matches!(odd, Answer::Odd { .. }), "{odd:?}");
        }
        let until = r#","maybe_more_until":"2030-01-01T00:00:00Z""#;
        let table: [(Vec<u8>, Answer); 9] = [
            (problem("declined", ""), Answer::Declined),
            (problem("checkout-failed", ""), Answer::Gone),
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
            assert_eq!(parse(409, &body, 2, granted), answer);
        }
        for body in [&b"oops"[..], b"{}", &problem("stale-token", "")] {
            assert!(matches!(parse(500, body, 0, granted), Answer::Odd { .. }));
        }
        assert!(matches!(parse(200, b"{}", 0, granted), Answer::Odd { .. }));
    }
}
