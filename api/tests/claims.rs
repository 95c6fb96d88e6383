//! Claims over HTTP: every answer of the contract's table, with its body and headers.

mod common;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use api::{Role, Settle, Step, Take};
use axum::{
    Router,
    http::{Method, StatusCode},
};
use client::{ClaimStatus, Claimed, Error, Grant, Reason, SaleStatus};
use common::*;
use serde_json::json;

async fn post_claim(router: &Router, headers: &[(&str, &str)], body: &'static str) -> Answer {
    send(
        router,
        request(Method::POST, "/v1/sales/drop-7/claims", headers, body),
    )
    .await
}

/// A claim of a shopper of his own, answered by the store like this.
async fn answered(answer: Result<Claimed, Error>) -> Answer {
    let store = Shared::default();
    let mut answer = Some(answer);
    script(&store.claim, move |_| {
        answer.take().expect("the store is asked once")
    });
    let auth = bearer("ada", Role::Shopper);
    post_claim(
        &routes(&store),
        &[("authorization", &auth), ("idempotency-key", "k")],
        "",
    )
    .await
}

#[tokio::test]
async fn a_grant_is_created_with_all_that_a_shopper_needs() {
    let answer = answered(Ok(claimed(Grant::Granted, ClaimStatus::Held))).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(
        answer.json(),
        json!({
            "claim_id": "c_abc",
            "sale_id": "drop-7",
            "outcome": "granted",
            "status": "held",
            "quantity": 2,
            "held_until": "2023-11-14T22:14:50.500Z",
            "seconds_remaining": 90,
            "rank": 41,
            "fencing_token": 55,
            "checkout_url": "/v1/claims/c_abc/checkout",
            "receipt": {"log_index": 55, "position": 6, "term": 3, "log_time_ms": 910_500},
        })
    );
    assert_eq!(answer.header("location"), "/v1/claims/c_abc");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("holdfast-applied-index"), "77");
    assert_eq!(answer.header("ratelimit-policy"), "\"claims\";q=10;w=60");
    assert_eq!(answer.header("ratelimit"), "\"claims\";r=9;t=6");
    assert_eq!(answer.header("x-ratelimit-limit"), "10");
    assert_eq!(answer.header("x-ratelimit-remaining"), "9");
    assert_eq!(answer.header("x-ratelimit-reset"), "6");
    assert_eq!(answer.header("traceparent").len(), 55);
}

#[tokio::test]
async fn the_same_claim_again_is_ok_whatever_became_of_it() {
    for (grant, outcome) in [(Grant::Repeated, "repeated"), (Grant::Already, "already")] {
        for (status, named) in [(ClaimStatus::Held, "held"), (ClaimStatus::Expired, "expired")] {
            let answer = answered(Ok(claimed(grant, status))).await;
            assert_eq!(answer.status, StatusCode::OK);
            let json = answer.json();
            assert_eq!(json["outcome"], outcome);
            assert_eq!(json["status"], named);
            assert_eq!(json.get("held_until").is_some(), named == "held");
            assert_eq!(json.get("seconds_remaining").is_some(), named == "held");
        }
    }
}

#[tokio::test]
async fn what_is_sent_reaches_the_store_as_it_is() {
    let store = Shared::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    script(&store.claim, move |take| {
        keep.lock().unwrap().push(take);
        Ok(claimed(Grant::Granted, ClaimStatus::Held))
    });
    let (router, auth) = (routes(&store), bearer("ada", Role::Shopper));
    let json = ("content-type", "application/json; charset=utf-8");
    for (key, body) in [
        ("\"a \\\"b\\\"\"", "{\"quantity\":3}"),
        ("bare-key", "{}"),
        ("bare-key", ""),
    ] {
        let headers = [("authorization", auth.as_str()), ("idempotency-key", key), json];
        assert_eq!(
            post_claim(&router, &headers, body).await.status,
            StatusCode::CREATED
        );
    }
    let take = |key: &str, quantity| Take {
        sale_id: "drop-7".to_owned(),
        user: "ada".to_owned(),
        key: key.to_owned(),
        quantity,
    };
    assert_eq!(
        *seen.lock().unwrap(),
        [take("a \"b\"", 3), take("bare-key", 1), take("bare-key", 1)]
    );
}

#[tokio::test]
async fn refusals_have_their_status_and_type() {
    let with_sale = |status| rejected(Reason::SaleNotOpen, |r| r.sale_status = status);
    let plain = |reason| rejected(reason, |_| {});
    for (error, status, slug) in [
        (plain(Reason::SoldOut), 409, "sold-out"),
        (with_sale(SaleStatus::Scheduled), 409, "not-open-yet"),
        (with_sale(SaleStatus::Paused), 409, "sale-paused"),
        (with_sale(SaleStatus::Closed), 410, "sale-closed"),
        (plain(Reason::SaleUnknown), 404, "sale-unknown"),
        (plain(Reason::ClaimsExhausted), 409, "claims-exhausted"),
        (plain(Reason::UserLimit), 409, "user-limit"),
        (plain(Reason::KeyReused), 422, "key-reused"),
        (plain(Reason::KeyFenced), 409, "key-fenced"),
        (plain(Reason::OutOfRange), 400, "invalid-request"),
        (plain(Reason::Invalid), 400, "invalid-request"),
        (plain(Reason::TooLate), 503, "unavailable"),
        (unavailable(), 503, "unavailable"),
        (unknown(), 503, "unknown-outcome"),
        (plain(Reason::VersionMismatch), 500, "internal"),
        (plain(Reason::Unspecified), 500, "internal"),
    ] {
        let answer = answered(Err(error)).await;
        answer.problem(status, slug);
        assert_eq!(
            answer.header("x-ratelimit-limit"),
            "10",
            "{slug}: refusals tell the standing too"
        );
    }
}

#[tokio::test]
async fn sold_out_says_until_when_there_may_be_more_and_that_it_is_sure() {
    let held = rejected(Reason::SoldOut, |r| {
        r.value = 1;
        r.until_ms = LOG_MS + 10_000;
    });
    let json = answered(Err(held)).await.problem(409, "sold-out");
    assert_eq!(json["authoritative"], true);
    assert_eq!(json["units_available"], 1);
    assert_eq!(json["maybe_more_until"], "2023-11-14T22:13:30.000Z");
    assert_eq!(json["log_index"], INDEX);

    let json = answered(Err(rejected(Reason::SoldOut, |_| {})))
        .await
        .problem(409, "sold-out");
    assert!(
        json.get("maybe_more_until").is_none(),
        "nothing is held any more: {json}"
    );
}

#[tokio::test]
async fn not_open_yet_says_when_and_spreads_those_who_come_back() {
    let soon = || {
        rejected(Reason::SaleNotOpen, |r| {
            r.sale_status = SaleStatus::Scheduled;
            r.opens_at_ms = WALL_MS + 60_000;
        })
    };
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let answer = answered(Err(soon())).await;
        let json = answer.problem(409, "not-open-yet");
        assert_eq!(json["opens_at"], "2023-11-14T22:14:20.000Z");
        assert_eq!(json["sale_status"], "scheduled");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert_eq!(json["retry_after_seconds"], wait);
        waits.insert(wait);
    }
    assert!(waits.iter().all(|wait| (60..=63).contains(wait)), "{waits:?}");
    // All 64 alike by chance: once in 4^63 runs.
    assert!(waits.len() > 1, "no jitter: {waits:?}");
}

#[tokio::test]
async fn those_in_doubt_are_told_that_the_same_key_is_safe() {
    for (error, wait) in [(unavailable(), "2"), (unknown(), "1")] {
        let answer = answered(Err(error)).await;
        assert_eq!(answer.json()["same_key_safe"], true);
        assert_eq!(answer.header("retry-after"), wait);
    }
}

#[tokio::test]
async fn shape_is_refused_before_the_store_is_asked() {
    let store = Shared::default();
    script(&store.claim, |take| panic!("the store was asked: {take:?}"));
    let (router, auth) = (routes(&store), bearer("ada", Role::Shopper));
    let auth = ("authorization", auth.as_str());
    let (key, json) = (("idempotency-key", "k"), ("content-type", "application/json"));
    let long = "k".repeat(65);

    post_claim(&router, &[auth], "")
        .await
        .problem(400, "idempotency-key-missing");
    for bad in ["", "\"\"", "\"open", "a,b", long.as_str()] {
        let answer = post_claim(&router, &[auth, ("idempotency-key", bad)], "").await;
        answer.problem(400, "invalid-request");
    }
    let two = post_claim(&router, &[auth, key, ("idempotency-key", "l")], "").await;
    two.problem(400, "invalid-request");
    for body in [
        "{",
        "[]",
        "3",
        "{\"quantity\":0}",
        "{\"quantity\":-1}",
        "{\"quantity\":\"1\"}",
        "{\"n\":1}",
    ] {
        post_claim(&router, &[auth, key, json], body)
            .await
            .problem(400, "invalid-request");
    }
    post_claim(&router, &[auth, key], "{}")
        .await
        .problem(415, "unsupported-media-type");
    post_claim(&router, &[auth, key, ("content-type", "text/plain")], "{}")
        .await
        .problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn a_user_who_tries_too_often_waits_and_nobody_else_does() {
    let store = Shared::default();
    script(&store.claim, |_| Ok(claimed(Grant::Granted, ClaimStatus::Held)));
    let mut options = options();
    options.claims_per_user_minute = NonZeroU32::new(2).unwrap();
    let router = api::router(store.clone(), options).unwrap();
    let ada = bearer("ada", Role::Shopper);
    let headers = [("authorization", ada.as_str()), ("idempotency-key", "k")];
    for left in ["1", "0"] {
        let answer = post_claim(&router, &headers, "").await;
        assert_eq!(answer.header("x-ratelimit-remaining"), left);
    }
    let refused = post_claim(&router, &headers, "").await;
    refused.problem(429, "rate-limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert_eq!(refused.header("ratelimit"), format!("\"claims\";r=0;t={wait}"));

    let grace = bearer("grace", Role::Shopper);
    let answer = post_claim(
        &router,
        &[("authorization", &grace), ("idempotency-key", "k")],
        "",
    )
    .await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_shopper_sees_his_own_claims_and_staff_see_all() {
    let store = Shared::default();
    script(&store.find, |(claim_id, user)| match user.as_deref() {
        None | Some("ada") => Ok((
            claim(&claim_id, ClaimStatus::Held),
            "drop-7".to_owned(),
            position(),
        )),
        Some(_) => Err(rejected(Reason::ClaimUnknown, |_| {})),
    });
    let router = routes(&store);
    for (user, role, sees) in [
        ("ada", Role::Shopper, true),
        ("grace", Role::Shopper, false),
        ("shop", Role::Platform, true),
        ("ops", Role::Operator, true),
        ("audit", Role::Auditor, true),
    ] {
        let auth = bearer(user, role);
        let answer = get(&router, "/v1/claims/c_abc", &[("authorization", &auth)]).await;
        if sees {
            assert_eq!(answer.status, StatusCode::OK);
            let json = answer.json();
            assert_eq!(
                (&json["claim_id"], &json["sale_id"]),
                (&json!("c_abc"), &json!("drop-7"))
            );
            assert_eq!(json["held_until"], "2023-11-14T22:14:50.500Z");
            assert!(json.get("outcome").is_none());
            assert_eq!(answer.header("cache-control"), "no-store");
        } else {
            answer.problem(404, "claim-unknown");
        }
    }
    let auth = bearer("ada", Role::Shopper);
    for odd in ["a%2Fb", "%2E%2E%2F%2E%2E%2Fetc", "c-abc", &"c".repeat(65)] {
        let answer = get(&router, &format!("/v1/claims/{odd}"), &[("authorization", &auth)]).await;
        answer.problem(404, "claim-unknown");
    }
}

async fn delete(router: &Router, headers: &[(&str, &str)]) -> Answer {
    send(router, request(Method::DELETE, "/v1/claims/c_abc", headers, "")).await
}

#[tokio::test]
async fn releasing_uses_the_current_token_and_a_key_that_repeats_itself() {
    let store = Shared::default();
    let asked = Arc::new(Mutex::new(Vec::<Settle>::new()));
    let keep = Arc::clone(&asked);
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    script(&store.settle, move |settle| {
        keep.lock().unwrap().push(settle);
        Ok((claim("c_abc", ClaimStatus::Released), position()))
    });
    let (router, auth) = (routes(&store), bearer("ada", Role::Shopper));
    for _ in 0..2 {
        let answer = delete(&router, &[("authorization", &auth)]).await;
        assert_eq!(answer.status, StatusCode::OK);
        let json = answer.json();
        assert_eq!(
            (&json["status"], &json["sale_id"]),
            (&json!("released"), &json!("drop-7"))
        );
        assert!(json.get("held_until").is_none());
    }
    delete(&router, &[("authorization", &auth), ("idempotency-key", "mine")]).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0].step, Step::Release);
    assert_eq!((asked[0].fencing_token, asked[0].principal.as_str()), (55, "ada"));
    assert_eq!(asked[2].key, "mine");
}

#[tokio::test]
async fn releasing_what_is_released_is_ok_and_what_is_gone_is_not() {
    let store = Shared::default();
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Released), "drop-7".to_owned(), position()))
    });
    let (router, auth) = (routes(&store), bearer("ada", Role::Shopper));
    let headers = [("authorization", auth.as_str())];
    assert_eq!(delete(&router, &headers).await.status, StatusCode::OK);

    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    for (was, status, slug) in [
        (ClaimStatus::Confirmed, 409, "claim-confirmed"),
        (ClaimStatus::Expired, 410, "hold-gone"),
        (ClaimStatus::Cancelled, 410, "hold-gone"),
    ] {
        script(&store.settle, move |_| {
            Err(rejected(Reason::ClaimGone, |r| r.claim_status = was))
        });
        delete(&router, &headers).await.problem(status, slug);
    }
    script(&store.find, |_| Err(rejected(Reason::ClaimUnknown, |_| {})));
    delete(&router, &headers).await.problem(404, "claim-unknown");
    let auditor = bearer("audit", Role::Auditor);
    delete(&router, &[("authorization", &auditor)])
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn a_platform_confirms_with_token_and_key() {
    let store = Shared::default();
    script(&store.settle, |settle| {
        assert_eq!(
            settle,
            Settle {
                step: Step::Confirm,
                claim_id: "c_abc".to_owned(),
                fencing_token: 55,
                key: "pay-1".to_owned(),
                principal: "shop".to_owned(),
            }
        );
        Ok((claim("c_abc", ClaimStatus::Confirmed), position()))
    });
    let (router, auth) = (routes(&store), bearer("shop", Role::Platform));
    let confirm = |headers: Vec<(&'static str, String)>, body: &'static str| {
        let router = router.clone();
        async move {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            send(
                &router,
                request(Method::POST, "/v1/claims/c_abc/confirm", &headers, body),
            )
            .await
        }
    };
    let good = || {
        vec![
            ("authorization", auth.clone()),
            ("idempotency-key", "\"pay-1\"".to_owned()),
            ("content-type", "application/json".to_owned()),
        ]
    };
    let answer = confirm(good(), "{\"fencing_token\":55}").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["status"], "confirmed");

    let mut no_key = good();
    no_key.remove(1);
    confirm(no_key, "{\"fencing_token\":55}")
        .await
        .problem(400, "idempotency-key-missing");
    confirm(good(), "").await.problem(400, "invalid-request");
    confirm(good(), "{}").await.problem(400, "invalid-request");
    for role in [Role::Shopper, Role::Operator, Role::Auditor] {
        let mut headers = good();
        headers[0].1 = bearer("shop", role);
        confirm(headers, "{\"fencing_token\":55}")
            .await
            .problem(403, "forbidden");
    }
    for (reason, was, status, slug) in [
        (Reason::ClaimGone, ClaimStatus::Expired, 410, "hold-gone"),
        (Reason::ClaimGone, ClaimStatus::Confirmed, 409, "claim-confirmed"),
        (Reason::StaleToken, ClaimStatus::Unspecified, 409, "stale-token"),
        (
            Reason::ClaimUnknown,
            ClaimStatus::Unspecified,
            404,
            "claim-unknown",
        ),
        (Reason::KeyReused, ClaimStatus::Unspecified, 422, "key-reused"),
    ] {
        script(&store.settle, move |_| {
            Err(rejected(reason, |r| r.claim_status = was))
        });
        confirm(good(), "{\"fencing_token\":55}")
            .await
            .problem(status, slug);
    }
}
