//! Every route by every role, as the document lists them; and the lines that operators leave.

mod common;

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use api::{Auth, Keys, Options, Role};
use axum::{
    Router,
    http::{Method, StatusCode},
};
use client::ClaimStatus;
use common::*;
use security::{
    Kind,
    access::{HTTP, Row, Who},
    tokens::new_token,
};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

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

fn scripted() -> Router {
    let store = Shared::default();
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    routes(&store)
}

/// Makes a call with whatever its route wants.
async fn call(router: &Router, row: &Row, authorization: Option<&str>) -> Answer {
    let (method, route) = row.call.split_once(' ').unwrap();
    let path = route
        .replace("{sale_id}", "drop-7")
        .replace("{claim_id}", "c_abc")
        .replace("{order_id}", "o_abc")
        .replace("{*rest}", "index.css");
    let body = match route {
        "/v1/sales" => json!({"sale_id": "drop-7", "units_total": 7}),
        _ if route.ends_with("/restock") || route.ends_with("/withdraw") => json!({"units": 7}),
        _ if route.ends_with("/confirm") => json!({"fencing_token": 55}),
        _ if route.ends_with("/checkout") => json!({"payment_method": "pm_card_visa"}),
        _ => json!({}),
    };
    let mut headers = vec![("content-type", "application/json"), ("idempotency-key", "k")];
    headers.extend(authorization.map(|text| ("authorization", text)));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let body = if method == Method::GET {
        String::new()
    } else {
        body.to_string()
    };
    send(router, request(method, &path, &headers, body)).await
}

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
        let nobody = call(&router, row, None).await;
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
            let answer = call(&router, row, Some(&bearer("ada", role))).await;
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

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn take_audit(&self) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["target"] == "audit")
            .collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;
    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[tokio::test]
async fn every_action_of_an_operator_leaves_a_line() {
    let lines = Lines::default();
    tracing_subscriber::fmt().json().with_writer(lines.clone()).init();
    let router = scripted();
    let field =
        |line: &serde_json::Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    for row in HTTP {
        let Who::Only(kinds) = row.who else { continue };
        lines.take_audit();
        let answer = call(&router, row, Some(&bearer("ada", Role::Operator))).await;
        let told = lines.take_audit();
        let acts = kinds.contains(&Kind::Operator) && !row.call.starts_with("GET");
        if !acts {
            assert!(
                told.iter().all(|line| field(line, "outcome") != "ok"),
                "{}: {told:?}",
                row.call
            );
            continue;
        }
        let [line] = told.as_slice() else {
            panic!("{}: {told:?}", row.call)
        };
        assert_eq!(
            (field(line, "who"), field(line, "role"), field(line, "call")),
            ("ada".to_owned(), "operator".to_owned(), row.call.to_owned())
        );
        let arguments = field(line, "arguments");
        assert!(
            ["drop-7", "c_abc", "o_abc"]
                .iter()
                .any(|named| arguments.contains(named)),
            "{arguments}"
        );
        // The same trace as the answer's own.
        assert!(
            answer.header("traceparent").contains(&field(line, "trace_id")),
            "{line} {answer:?}"
        );
        assert_ne!(field(line, "outcome"), "");
    }
    // Who may not and tries leaves one, too.
    let close = HTTP.iter().find(|row| row.call.ends_with("/close")).unwrap();
    call(&router, close, Some(&bearer("eve", Role::Shopper))).await;
    let told = lines.take_audit();
    assert_eq!(
        (field(&told[0], "who"), told.len()),
        ("eve".to_owned(), 1),
        "{told:?}"
    );
}
