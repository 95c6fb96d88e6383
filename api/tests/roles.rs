//! Every route by every role, as the document lists them.

mod common;

use std::{collections::BTreeSet, sync::Arc};

use api::{Auth, Keys, Options, Role};
use axum::http::{Method, StatusCode};
use client::ClaimStatus;
use common::*;
use security::{
    Kind,
    access::{HTTP, Who},
    tokens::new_token,
};

const ROLES: [Role; 4] = [Role::Shopper, Role::Platform, Role::Operator, Role::Auditor];

/// Calls that are served and stand in no document.
const OWN: [&str; 9] = [
    "GET /",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/",
    "GET /docs/{*rest}",
    "POST /dev/token",
];

#[tokio::test]
async fn every_documented_call_has_a_row_and_every_row_a_call() {
    let router = scripted();
    let document = get(&router, "/openapi.json", &[]).await.json();
    let mut calls: BTreeSet<String> = OWN.into_iter().map(str::to_owned).collect();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            calls.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let rows: BTreeSet<String> = HTTP.iter().map(|row| row.call.to_owned()).collect();
    assert_eq!(
        calls, rows,
        "a call without a row is refused to everybody; add it to security::access::HTTP"
    );
}

#[tokio::test]
async fn every_call_is_for_the_roles_of_its_row_and_for_nobody_else() {
    let router = scripted();
    for row in HTTP
        .iter()
        .filter(|row| row.call != "GET /v1/sales/{sale_id}/live")
    {
        let nobody = call_row(&router, row, None).await;
        let Who::Only(kinds) = row.who else {
            assert!(
                nobody.status != StatusCode::UNAUTHORIZED && nobody.status != StatusCode::FORBIDDEN,
                "{}: {nobody:?}",
                row.call
            );
            continue;
        };
        nobody.problem(401, "unauthenticated");
        for role in ROLES {
            let answer = call_row(&router, row, Some(&bearer("ada", role))).await;
            if kinds.contains(&Kind::from(role)) {
                assert!(
                    answer.status != StatusCode::FORBIDDEN && answer.status != StatusCode::UNAUTHORIZED,
                    "{} by {role:?}: {answer:?}",
                    row.call
                );
            } else {
                let problem = answer.problem(403, "forbidden");
                let detail = problem["detail"].as_str().unwrap();
                assert!(
                    detail.contains("needs the role") && detail.contains("`ada`"),
                    "{}: {detail}",
                    row.call
                );
            }
        }
    }
}

#[tokio::test]
async fn api_tokens_open_what_their_role_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.toml");
    let (auditor, auditor_toml) = new_token("grafana", Kind::Auditor).unwrap();
    let (door, door_toml) = new_token("door", Kind::Api).unwrap();
    std::fs::write(&path, format!("{auditor_toml}{door_toml}")).unwrap();
    let store = Shared::default();
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    // They do without any key for JWTs.
    let tokens = security::Tokens::load(&path).unwrap();
    let options = Options {
        tokens: Some(Arc::clone(&tokens)),
        ..Options::new(Auth::Keys(Keys::default()))
    };
    let router = api::router(store, options).unwrap();
    let see = async |token: &str| {
        let shown = format!("Bearer {token}");
        get(&router, "/v1/claims/c_abc", &[("authorization", &shown)]).await
    };
    assert_eq!(see(&auditor).await.status, StatusCode::OK);
    let shown = format!("Bearer {auditor}");
    let headers = [("authorization", &*shown), ("idempotency-key", "k")];
    let refused = send(
        &router,
        request(Method::POST, "/v1/sales/drop-7/close", &headers, ""),
    )
    .await;
    let detail = refused.problem(403, "forbidden")["detail"].to_string();
    assert!(detail.contains("platform or operator"), "{detail}");
    // A door's token is for the nodes.
    see(&door).await.problem(401, "unauthenticated");
    see("holdfast_0000").await.problem(401, "unauthenticated");
    // Taken out of the file, it opens nothing any more, however often it did.
    std::fs::write(&path, door_toml).unwrap();
    tokens.refresh().unwrap();
    see(&auditor).await.problem(401, "unauthenticated");
}
