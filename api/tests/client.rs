//! The shipped store behind the door: the real client, whose cluster cannot be reached.

mod common;

use std::{io, sync::Arc, time::Duration};

use api::Role;
use axum::http::Method;
use client::Client;
use common::*;
use futures::FutureExt;

/// A client whose every connection is refused, without any port being involved.
fn cut_off() -> Client {
    Client::builder()
        .endpoints(["node-1.example:7401", "node-2.example:7401"])
        .timeout(Duration::from_millis(50))
        .connector(Arc::new(|_| {
            async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) }.boxed()
        }))
        .build()
        .unwrap()
}

#[tokio::test]
async fn without_a_cluster_everything_is_unavailable_and_the_same_key_is_safe() {
    let router = api::router(cut_off(), options()).unwrap();
    let (shopper, platform) = (bearer("ada", Role::Shopper), bearer("shop", Role::Platform));
    let ask = |method: Method, path: &'static str, auth: &str, body: &'static str| {
        let headers = [
            ("authorization", auth),
            ("idempotency-key", "k"),
            ("content-type", "application/json"),
        ];
        let request = request(method, path, &headers, body);
        let router = router.clone();
        async move { send(&router, request).await }
    };
    for answer in [
        ask(Method::POST, "/v1/sales/drop-7/claims", &shopper, "").await,
        ask(Method::DELETE, "/v1/claims/c_abc", &shopper, "").await,
        ask(Method::GET, "/v1/claims/c_abc", &shopper, "").await,
        ask(
            Method::POST,
            "/v1/claims/c_abc/confirm",
            &platform,
            "{\"fencing_token\":1}",
        )
        .await,
        ask(
            Method::POST,
            "/v1/sales",
            &platform,
            "{\"sale_id\":\"s\",\"units_total\":1}",
        )
        .await,
        ask(Method::POST, "/v1/sales/drop-7/open", &platform, "").await,
        ask(
            Method::POST,
            "/v1/sales/drop-7/restock",
            &platform,
            "{\"units\":1}",
        )
        .await,
        ask(Method::GET, "/v1/sales/drop-7", "", "").await,
        ask(Method::GET, "/v1/sales", "", "").await,
        ask(Method::GET, "/v1/sales/drop-7/live", "", "").await,
        ask(Method::GET, "/readyz", "", "").await,
    ] {
        assert_eq!(answer.problem(503, "unavailable")["same_key_safe"], true);
        assert!(!answer.header("retry-after").is_empty());
    }
}
