//! What does not fit: unknown routes, wrong methods, bodies too large or broken; and what is always
//! there: probes, metrics, the document.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use api::Role;
use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode},
};
use client::{ClaimStatus, Grant, Reason};
use common::*;
use futures::stream;
use serde_json::Value;

#[tokio::test]
async fn wrong_routes_and_methods_are_problems_too() {
    let router = routes(&Shared::default());
    for path in [
        "/index.html",
        "/v1",
        "/v1/sale",
        "/v1/sales/",
        "/v1/claims",
        "/v1/sales/a/b/c",
        "/docs/nothing",
        "/%ff",
    ] {
        get(&router, path, &[]).await.problem(404, "not-found");
    }
    for (method, path, allow) in [
        (Method::PUT, "/v1/sales", "GET,HEAD,POST"),
        (Method::POST, "/v1/claims/c_abc", "GET,HEAD,DELETE"),
        (Method::GET, "/v1/sales/drop-7/claims", "POST"),
        (Method::DELETE, "/livez", "GET,HEAD"),
    ] {
        let answer = send(&router, request(method, path, &[], "")).await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow);
        assert_eq!(answer.header("traceparent").len(), 55);
    }
}

#[tokio::test]
async fn bodies_too_large_are_not_read() {
    let store = Shared::default();
    script(&store.claim, |_| Ok(claimed(Grant::Granted, ClaimStatus::Held)));
    let router = routes(&store);
    let auth = bearer("ada", Role::Shopper);
    let headers = [
        ("authorization", auth.as_str()),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let post = |body: Body, extra: Option<(&'static str, &'static str)>| {
        let headers: Vec<_> = headers.iter().copied().chain(extra).collect();
        let request = request(Method::POST, "/v1/sales/drop-7/claims", &headers, body);
        let router = router.clone();
        async move { send(&router, request).await }
    };
    let padded = |bytes: usize| format!("{{\"quantity\":1{}}}", " ".repeat(bytes - 14));
    assert_eq!(
        post(padded(16_384).into(), None).await.status,
        StatusCode::CREATED
    );
    post(padded(16_385).into(), None)
        .await
        .problem(413, "body-too-large");

    // Announced too large: refused without reading a byte.
    let unread = Body::from_stream(stream::once(async {
        Err::<Bytes, std::io::Error>(std::io::Error::other("the body was read"))
    }));
    post(unread, Some(("content-length", "1000000")))
        .await
        .problem(413, "body-too-large");

    // Not announced, and endless: refused as soon as it is too large.
    static PIECES: AtomicUsize = AtomicUsize::new(0);
    let endless = Body::from_stream(stream::repeat_with(|| {
        PIECES.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1_024]))
    }));
    post(endless, None).await.problem(413, "body-too-large");
    assert_eq!(PIECES.load(Ordering::SeqCst), 17);

    let pieces = ["{\"quan", "tity\"", ":2}"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    assert_eq!(
        post(Body::from_stream(stream::iter(pieces)), None).await.status,
        StatusCode::CREATED
    );

    let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("hung up")) });
    post(Body::from_stream(broken), None)
        .await
        .problem(400, "invalid-request");
    post(Body::from(&b"{\"quantity\":\xff}"[..]), None)
        .await
        .problem(400, "invalid-request");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_forever() {
    let mut options = options();
    options.body_read_ms_max = 1;
    let router = api::router(Shared::default(), options).unwrap();
    let auth = bearer("ada", Role::Shopper);
    let headers = [("authorization", auth.as_str()), ("idempotency-key", "k")];
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = send(
        &router,
        request(Method::POST, "/v1/sales/drop-7/claims", &headers, never),
    )
    .await;
    answer.problem(408, "body-timeout");
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let store = Shared::default();
    script(&store.find, |_| panic!("on purpose"));
    let router = routes(&store);
    let auth = bearer("ada", Role::Shopper);
    get(&router, "/v1/claims/c_abc", &[("authorization", &auth)])
        .await
        .problem(500, "internal");
    assert_eq!(get(&router, "/livez", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn ready_means_that_a_leader_answers() {
    let store = Shared::default();
    let router = routes(&store);
    assert_eq!(
        get(&router, "/livez", &[]).await.status,
        StatusCode::OK,
        "alive without a leader"
    );
    get(&router, "/readyz", &[]).await.problem(503, "unavailable");

    let store = Shared::default();
    script(&store.sales, |(_, _, consistency)| {
        assert_eq!(consistency, client::Consistency::Linearizable);
        Ok((Vec::new(), position()))
    });
    let router = routes(&store);
    assert_eq!(get(&router, "/readyz", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_by_route_and_outcome_and_name_nobody() {
    let store = Shared::default();
    script(&store.claim, |take| match take.quantity {
        1 => Ok(claimed(Grant::Granted, ClaimStatus::Held)),
        _ => Err(rejected(Reason::SoldOut, |_| {})),
    });
    let router = routes(&store);
    let auth = bearer("somebody-in-particular", Role::Shopper);
    let headers = [
        ("authorization", auth.as_str()),
        ("idempotency-key", "a-key-of-his-own"),
        ("content-type", "application/json"),
    ];
    for body in ["", "{\"quantity\":2}"] {
        send(
            &router,
            request(Method::POST, "/v1/sales/a-sale-id/claims", &headers, body),
        )
        .await;
    }
    get(&router, "/v1/no/such/path", &[]).await;
    let answer = get(&router, "/metrics", &[]).await;
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        r#"holdfast_http_requests_total{route="/v1/sales/{sale_id}/claims",status="201"}"#,
        r#"holdfast_http_requests_total{route="/v1/sales/{sale_id}/claims",status="409"}"#,
        r#"holdfast_http_requests_total{route="unmatched",status="404"}"#,
        r#"holdfast_http_request_duration_seconds_bucket{route="/v1/sales/{sale_id}/claims",le="0.001"}"#,
        r#"holdfast_claims_total{outcome="granted"}"#,
        r#"holdfast_claims_total{outcome="sold-out"}"#,
    ] {
        assert!(text.contains(line), "{line} is missing from\n{text}");
    }
    for secret in ["somebody", "a-key-of", "a-sale-id", "c_abc", "no/such"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

#[tokio::test]
async fn a_trace_goes_through() {
    let router = routes(&Shared::default());
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = get(&router, "/livez", &[("traceparent", sent)]).await;
    let got = answer.header("traceparent");
    assert_eq!(got[..36], sent[..36]);
    assert_ne!(got, sent);
}

/// Every `$ref` in a document, resolved.
fn check_refs(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                let pointer = target
                    .strip_prefix('#')
                    .expect("only references into the document itself");
                assert!(document.pointer(pointer).is_some(), "{target} points nowhere");
            }
            members.values().for_each(|member| check_refs(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| check_refs(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_whole_and_true() {
    let router = routes(&Shared::default());
    let answer = get(&router, "/openapi.json", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    check_refs(&document, &document);
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());

    let paths = document["paths"].as_object().unwrap();
    assert!(
        !paths.contains_key("/dev/token"),
        "no development mode, no such route"
    );
    for (path, operations) in paths {
        let concrete = path.replace("{sale_id}", "drop-7").replace("{claim_id}", "c_abc");
        for (method, operation) in operations.as_object().unwrap() {
            // What is documented exists, and needs a token exactly where the document says so.
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = send(&router, request(method.clone(), &concrete, &[], "")).await;
            let what = format!("{method} {path}");
            assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{what}");
            assert_ne!(answer.json_type(), "urn:holdfast:problem:not-found", "{what}");
            let is_secured = operation.get("security").is_some();
            assert_eq!(answer.status == StatusCode::UNAUTHORIZED, is_secured, "{what}");
            let status = answer.status.as_str();
            assert!(
                operation["responses"].get(status).is_some(),
                "{what} answers {status}, undocumented"
            );
        }
    }
}

#[tokio::test]
async fn the_docs_page_needs_nothing_from_elsewhere() {
    let router = routes(&Shared::default());
    let moved = get(&router, "/docs", &[]).await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (StatusCode::SEE_OTHER, "/docs/")
    );
    let page = get(&router, "/docs/", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    let html = String::from_utf8(page.body).unwrap();
    assert!(
        html.contains("swagger-ui") && !html.contains("https://"),
        "{html}"
    );
    assert!(
        html.contains("width=device-width"),
        "a phone would show a tiny desktop"
    );
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        let answer = get(&router, &format!("/docs/{file}"), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        assert!(!answer.body.is_empty());
    }
    let settings = get(&router, "/docs/swagger-initializer.js", &[]).await;
    let settings = String::from_utf8(settings.body).unwrap();
    assert!(
        settings.contains("\"validatorUrl\": \"none\""),
        "the page would ask a validator elsewhere: {settings}"
    );
}

#[tokio::test]
async fn the_body_of_a_claim_may_be_left_out() {
    let router = routes(&Shared::default());
    let document = get(&router, "/openapi.json", &[]).await.json();
    let is_required = |path: &str| document["paths"][path]["post"]["requestBody"]["required"] == true;
    assert!(!is_required("/v1/sales/{sale_id}/claims"));
    assert!(is_required("/v1/sales"));
}
