//! The page, and who may see the cluster behind it.

mod common;

use api::{Auth, NodeSeen, Role};
use axum::http::Method;
use client::{Event, EventKind, NodeStatus, Update};
use common::*;
use futures::{StreamExt, stream};

fn nodes() -> Vec<NodeSeen> {
    let node = |node_id: u64, role: &str, applied_index: u64| NodeSeen {
        endpoint: format!("127.0.0.1:740{node_id}"),
        status: Some(NodeStatus {
            node_id,
            role: role.to_owned(),
            term: 3,
            committed_index: 80,
            applied_index,
            ..NodeStatus::default()
        }),
    };
    let down = NodeSeen {
        endpoint: "127.0.0.1:7403".to_owned(),
        status: None,
    };
    vec![node(2, "leader", 80), node(1, "follower", 77), down]
}

#[tokio::test]
async fn the_page_is_one_document_under_a_strict_policy() {
    let router = api::router(Shared::default(), options()).unwrap();
    let page = get(&router, "/", &[]).await;
    assert_eq!(page.status.as_u16(), 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "frame-ancestors 'none'",
        "form-action 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let html = String::from_utf8(page.body).unwrap();
    assert!(
        html.contains("data-mode=\"plain\" data-control=\"\""),
        "no demo, no development"
    );
}

#[tokio::test]
async fn the_page_knows_its_mode() {
    let mut demo = options();
    demo.demo_control = Some("http://127.0.0.1:9".to_owned());
    let router = api::router(Shared::default(), demo.clone()).unwrap();
    let page = get(&router, "/", &[]).await;
    assert!(
        page.header("content-security-policy")
            .contains("connect-src 'self' http://127.0.0.1:9;")
    );
    assert!(
        String::from_utf8(page.body)
            .unwrap()
            .contains("data-mode=\"demo\"")
    );
    demo.auth = Auth::Development;
    demo.demo_control = None;
    let router = api::router(Shared::default(), demo.clone()).unwrap();
    let page = get(&router, "/", &[]).await;
    assert!(
        String::from_utf8(page.body)
            .unwrap()
            .contains("data-mode=\"development\"")
    );
    for elsewhere in [
        "http://10.0.0.1:9",
        "http://127.0.0.1:9/x",
        "https://127.0.0.1:9",
        "http://127.0.0.1:9; script-src *",
    ] {
        demo.demo_control = Some(elsewhere.to_owned());
        assert!(
            api::router(Shared::default(), demo.clone()).is_err(),
            "{elsewhere}"
        );
    }
}

#[tokio::test]
async fn shoppers_do_not_see_the_cluster() {
    let store = Shared::default();
    *store.nodes.lock().unwrap() = nodes();
    let router = api::router(store, options()).unwrap();
    get(&router, "/v1/status", &[])
        .await
        .problem(401, "unauthenticated");
    let asked = async |role| {
        get(
            &router,
            "/v1/status",
            &[("authorization", &bearer("somebody", role))],
        )
        .await
    };
    asked(Role::Shopper).await.problem(403, "forbidden");
    for role in [Role::Platform, Role::Operator, Role::Auditor] {
        let status = asked(role).await;
        assert_eq!(status.status.as_u16(), 200, "{role:?}");
        assert_eq!(status.header("cache-control"), "no-store");
        let nodes = status.json()["nodes"].clone();
        assert_eq!(nodes[0]["lag_entries"], 3);
        assert_eq!(
            (&nodes[1]["role"], &nodes[1]["lag_entries"]),
            (&"leader".into(), &0.into())
        );
        assert_eq!(nodes[2]["role"], "unreachable");
        assert!(nodes[2]["node_id"].is_null());
    }
    for wrong in ["/v1/status?sale=a%2Fb", "/v1/status?sal=a"] {
        let operator = bearer("somebody", Role::Operator);
        get(&router, wrong, &[("authorization", &operator)])
            .await
            .problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn the_last_events_of_a_sale_are_kept_while_somebody_listens() {
    let store = Shared::default();
    script(&store.sale, |_| Ok((sale("drop-7", 50), position())));
    *store.watch.lock().unwrap() = Box::new(|_| {
        let event = |ordinal: u32, kind| Event {
            log_index: 51,
            ordinal,
            log_time_ms: LOG_MS,
            kind,
            sale_id: "drop-7".to_owned(),
            claim: None,
            value: 0,
            command: None,
        };
        let update = Update {
            events: vec![
                event(0, EventKind::ClaimExpired),
                event(1, EventKind::ClaimGranted),
                event(2, EventKind::ClaimGranted),
            ],
            sale: Some(sale("drop-7", 51)),
            position: position(),
        };
        stream::iter([Ok(update)]).chain(stream::pending()).boxed()
    });
    let router = api::router(store, options()).unwrap();
    let auditor = bearer("somebody", Role::Auditor);
    let events = async || {
        let status = get(&router, "/v1/status?sale=drop-7", &[("authorization", &auditor)]).await;
        status.json()["events"].clone()
    };
    assert_eq!(events().await, serde_json::json!([]));
    let listening = open(&router, request(Method::GET, "/v1/sales/drop-7/live", &[], "")).await;
    let seen = loop {
        let seen = events().await;
        if seen != serde_json::json!([]) {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (&seen[0]["kind"], &seen[0]["count"]),
        (&"claim-granted".into(), &2.into())
    );
    assert_eq!(seen[1]["kind"], "claim-expired");
    drop(listening);
}
