//! Sales over HTTP: looking, caching, changing.

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use api::{Role, SaleChange};
use axum::http::{Method, StatusCode};
use client::{Consistency, NewSale, Reason, Receipt};
use common::*;
use serde_json::json;

#[tokio::test]
async fn a_sale_is_shown_with_its_tag_and_may_be_kept_for_a_second() {
    let store = Shared::default();
    script(&store.sale, |(id, consistency)| {
        assert!(matches!(consistency, Consistency::Bounded(_)));
        Ok((sale(&id, 42), position()))
    });
    let router = routes(&store);
    let answer = get(&router, "/v1/sales/drop-7", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.header("cache-control"),
        "public, max-age=1, stale-while-revalidate=1"
    );
    assert_eq!(answer.header("etag"), "\"42\"");
    assert_eq!(answer.header("holdfast-applied-index"), "77");
    assert_eq!(
        answer.json(),
        json!({
            "sale_id": "drop-7", "name": "Drop 7", "status": "open",
            "units_total": 100, "units_available": 60, "units_held": 30, "units_confirmed": 10,
            "per_user_units_max": 2, "hold_ms": 180_000,
            "opens_at": "2023-11-14T22:13:20.000Z",
            "price": {"amount_minor": 12_900, "currency": "EUR"},
            "changed_index": 42,
        })
    );
    for known in ["\"42\"", "W/\"42\"", "\"1\", \"42\"", "*"] {
        let answer = get(&router, "/v1/sales/drop-7", &[("if-none-match", known)]).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{known}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), "\"42\"");
        assert_eq!(
            answer.header("cache-control"),
            "public, max-age=1, stale-while-revalidate=1"
        );
    }
    for other in ["\"41\"", "42", "\"4\"", ""] {
        let answer = get(&router, "/v1/sales/drop-7", &[("if-none-match", other)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{other}");
    }
}

#[tokio::test]
async fn the_store_is_asked_again_for_what_is_too_old_or_must_be_current() {
    let store = Shared::default();
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    script(&store.sale, move |(id, consistency)| {
        let read = count.fetch_add(1, Ordering::SeqCst) + 1;
        let wanted = if read == 3 {
            Consistency::Linearizable
        } else {
            Consistency::Bounded(2_000)
        };
        assert_eq!(consistency, wanted);
        Ok((sale(&id, read), position()))
    });
    let mut options = options();
    options.sale_cache_ms = 0;
    let router = api::router(store.clone(), options).unwrap();
    assert_eq!(get(&router, "/v1/sales/s", &[]).await.header("etag"), "\"1\"");
    assert_eq!(get(&router, "/v1/sales/s", &[]).await.header("etag"), "\"2\"");
    let answer = get(&router, "/v1/sales/s?consistency=linearizable", &[]).await;
    assert_eq!(answer.header("etag"), "\"3\"");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn sales_come_in_pages() {
    let store = Shared::default();
    script(&store.sales, |(after, limit, _)| {
        let from = if after.is_some() { 2 } else { 0 };
        let sales = ["a", "b", "c"][from..].iter().take(limit as usize);
        Ok((
            sales.zip(10..).map(|(id, index)| sale(id, index)).collect(),
            position(),
        ))
    });
    let router = routes(&store);
    let first = get(&router, "/v1/sales?limit=2", &[]).await;
    assert_eq!(first.json()["sales"].as_array().unwrap().len(), 2);
    assert_eq!(first.json()["next_after"], "b");
    assert_eq!(first.header("etag"), "W/\"2-11\"");
    let last = get(&router, "/v1/sales?limit=2&after=b", &[]).await;
    assert_eq!(last.json()["sales"][0]["sale_id"], "c");
    assert!(last.json().get("next_after").is_none());
    let known = get(&router, "/v1/sales?limit=2", &[("if-none-match", "W/\"2-11\"")]).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    let current = get(&router, "/v1/sales?consistency=linearizable", &[]).await;
    assert_eq!(
        (current.status, current.header("cache-control")),
        (StatusCode::OK, "no-store")
    );

    for bad in [
        "limit=0",
        "limit=101",
        "limit=x",
        "after=a%2Fb",
        "consistency=eventual",
        "aftr=b",
    ] {
        get(&router, &format!("/v1/sales?{bad}"), &[])
            .await
            .problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn unknown_sales_and_odd_ids() {
    let store = Shared::default();
    script(&store.sale, |_| Err(rejected(Reason::SaleUnknown, |_| {})));
    let router = routes(&store);
    get(&router, "/v1/sales/nothing", &[])
        .await
        .problem(404, "sale-unknown");
    get(&router, "/v1/sales/nothing/live", &[])
        .await
        .problem(404, "sale-unknown");
    let long = "x".repeat(65);
    for odd in [
        "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
        "..%2f..",
        "a%20b",
        "a%00b",
        "%ff%fe",
        "%C3%A4",
        &long,
    ] {
        get(&router, &format!("/v1/sales/{odd}"), &[])
            .await
            .problem(400, "invalid-request");
    }
    get(&router, "/v1/sales/../../etc/passwd", &[])
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn an_unreachable_store_is_unavailable() {
    let router = routes(&Shared::default());
    let answer = get(&router, "/v1/sales/drop-7", &[]).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn too_many_linearizable_reads_are_refused_at_once() {
    let store = Shared::default();
    let mut arrivals = script_stuck(&store.sale);
    let mut options = options();
    options.linearizable_reads_in_flight_max = 1;
    let router = api::router(store, options).unwrap();
    let current = "/v1/sales/s?consistency=linearizable";
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { get(&router, current, &[]).await }
    });
    arrivals.recv().await.unwrap();
    get(&router, current, &[]).await.problem(503, "unavailable");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_full_node_refuses_instead_of_queueing() {
    let store = Shared::default();
    let mut arrivals = script_stuck(&store.claim);
    let mut options = options();
    options.requests_in_flight_max = 1;
    let router = api::router(store, options).unwrap();
    let auth = bearer("ada", Role::Shopper);
    let claim = || {
        let headers = [("authorization", auth.as_str()), ("idempotency-key", "k")];
        request(Method::POST, "/v1/sales/s/claims", &headers, "")
    };
    let waiting = tokio::spawn({
        let (router, claim) = (router.clone(), claim());
        async move { send(&router, claim).await }
    });
    arrivals.recv().await.unwrap();
    let refused = send(&router, claim()).await;
    assert_eq!(refused.problem(503, "unavailable")["same_key_safe"], true);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(
        get(&router, "/livez", &[]).await.status,
        StatusCode::OK,
        "probes are not turned away"
    );
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // The place of a caller who hung up is free again.
    let next = tokio::spawn({
        let claim = claim();
        async move { send(&router, claim).await }
    });
    arrivals.recv().await.unwrap();
    next.abort();
}

fn receipt() -> Receipt {
    Receipt {
        log_index: 9,
        position: 0,
        term: 2,
        log_time_ms: 5,
    }
}

#[tokio::test]
async fn managers_change_sales_with_a_key() {
    let store = Shared::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    script(&store.change, move |change| {
        keep.lock().unwrap().push(change);
        Ok(receipt())
    });
    let router = routes(&store);
    let id = || "drop-7".to_owned();
    let cases = [
        ("/v1/sales/drop-7/open", "", SaleChange::Open(id())),
        ("/v1/sales/drop-7/pause", "", SaleChange::Pause(id())),
        ("/v1/sales/drop-7/close", "", SaleChange::Close(id())),
        (
            "/v1/sales/drop-7/restock",
            "{\"units\":5}",
            SaleChange::Restock(id(), 5),
        ),
        (
            "/v1/sales/drop-7/withdraw",
            "{\"units\":3}",
            SaleChange::Withdraw(id(), 3),
        ),
        (
            "/v1/sales",
            r#"{"sale_id":"drop-7","units_total":100,"name":"Drop 7","hold_ms":5000,"price_minor":999,
                "opens_at":"2023-11-14T22:13:20Z","currency":"USD","open":false}"#,
            SaleChange::Create(NewSale {
                sale_id: id(),
                name: "Drop 7".to_owned(),
                units_total: 100,
                hold_ms: 5_000,
                price_minor: 999,
                opens_at_ms: WALL_MS,
                currency: "USD".to_owned(),
                ..NewSale::default()
            }),
        ),
    ];
    for (path, body, change) in cases {
        for (role, may) in [
            (Role::Platform, true),
            (Role::Operator, true),
            (Role::Shopper, false),
            (Role::Auditor, false),
        ] {
            let auth = bearer("boss", role);
            let all = [
                ("authorization", auth.as_str()),
                ("idempotency-key", "k-1"),
                ("content-type", "application/json"),
            ];
            let answer = send(&router, request(Method::POST, path, &all, body)).await;
            if !may {
                answer.problem(403, "forbidden");
                continue;
            }
            let is_new = path == "/v1/sales";
            assert_eq!(
                answer.status,
                if is_new {
                    StatusCode::CREATED
                } else {
                    StatusCode::OK
                },
                "{answer:?}"
            );
            assert_eq!(
                answer.header("location"),
                if is_new { "/v1/sales/drop-7" } else { "" }
            );
            assert_eq!(answer.json()["sale_id"], "drop-7");
            assert_eq!(answer.json()["receipt"]["log_index"], 9);
            let asked = seen.lock().unwrap().pop().unwrap();
            assert_eq!(asked, (change.clone(), "k-1".to_owned(), "boss".to_owned()));

            let keyless = [all[0], all[2]];
            let answer = send(&router, request(Method::POST, path, &keyless, body)).await;
            answer.problem(400, "idempotency-key-missing");
            let nobody = [all[1], all[2]];
            send(&router, request(Method::POST, path, &nobody, body))
                .await
                .problem(401, "unauthenticated");
        }
        assert!(
            seen.lock().unwrap().is_empty(),
            "a refused caller reached the store"
        );
    }
}

#[tokio::test]
async fn a_rehearsal_is_nobodys_sale() {
    // No answer is scripted: a call that reached the store would be answered otherwise.
    let store = Shared::default();
    script(&store.claim, |take| panic!("the store was asked: {take:?}"));
    script(&store.change, |change| panic!("the store was asked: {change:?}"));
    script(&store.sale, |asked| panic!("the store was asked: {asked:?}"));
    let router = routes(&store);
    let sale = format!("/v1/sales/{}4711", client::REHEARSAL_PREFIX);
    for path in [
        sale.clone(),
        format!("{sale}?consistency=linearizable"),
        format!("{sale}/live"),
    ] {
        get(&router, &path, &[]).await.problem(404, "sale-unknown");
    }
    for (role, path) in [
        (Role::Shopper, format!("{sale}/claims")),
        (Role::Operator, format!("{sale}/open")),
        (Role::Operator, format!("{sale}/close")),
    ] {
        let auth = bearer("ada", role);
        let headers = [("authorization", auth.as_str()), ("idempotency-key", "k")];
        let answer = send(&router, request(Method::POST, &path, &headers, "")).await;
        answer.problem(404, "sale-unknown");
    }
    let auth = bearer("boss", Role::Operator);
    let headers = [
        ("authorization", auth.as_str()),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let body = r#"{"sale_id":"_rehearsal.4711","name":"","units_total":1,"price_minor":0}"#;
    let answer = send(&router, request(Method::POST, "/v1/sales", &headers, body)).await;
    let refused = answer.problem(400, "invalid-request");
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("kept for rehearsals"),
        "{refused}"
    );
}

#[tokio::test]
async fn refused_changes() {
    let store = Shared::default();
    let router = routes(&store);
    let auth = bearer("boss", Role::Operator);
    let headers = [
        ("authorization", auth.as_str()),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let post = |path: &'static str, body: &'static str| {
        let (router, request) = (router.clone(), request(Method::POST, path, &headers, body));
        async move { send(&router, request).await }
    };
    for (reason, status, slug) in [
        (Reason::SaleUnknown, 404, "sale-unknown"),
        (Reason::SaleTransition, 409, "sale-transition"),
        (Reason::UnitsInUse, 409, "units-in-use"),
        (Reason::SaleExists, 409, "sale-exists"),
        (Reason::KeyReused, 422, "key-reused"),
    ] {
        script(&store.change, move |_| Err(rejected(reason, |r| r.value = 4)));
        let json = post("/v1/sales/s/withdraw", "{\"units\":5}")
            .await
            .problem(status, slug);
        assert_eq!(
            json.get("units_available").is_some(),
            reason == Reason::UnitsInUse
        );
    }
    script(&store.change, |change| panic!("the store was asked: {change:?}"));
    for body in [
        "",
        "{}",
        r#"{"sale_id":"a b","units_total":1}"#,
        r#"{"sale_id":"s","units_total":-1}"#,
        r#"{"sale_id":"s","units_total":1,"hold_ms":0}"#,
        r#"{"sale_id":"s","units_total":1,"opens_at":"tomorrow"}"#,
        r#"{"sale_id":"s","units_total":1,"unit_total":1}"#,
    ] {
        post("/v1/sales", body).await.problem(400, "invalid-request");
    }
    post("/v1/sales/s/restock", "{\"units\":0}")
        .await
        .problem(400, "invalid-request");
    post("/v1/sales/s/restock", "")
        .await
        .problem(400, "invalid-request");
}
