//! Keys over the real machine in memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Json, response::AppendHeaders};
use serde_json::json;

use super::*;
use crate::machine_store::MachineStore;

const WORK_MS_MAX: u64 = 30_000;

const SCOPE: Scope<'static> = Scope {
    caller: "alice",
    route: "/v1/claims/{claim_id}/checkout",
    key: "k1",
    work_ms_max: WORK_MS_MAX,
};

fn store() -> Arc<MachineStore> {
    Arc::new(MachineStore::new())
}

fn request(body: &str) -> RequestHash {
    RequestHash::of(&[b"c_1", body.as_bytes()])
}

fn answer(status: StatusCode, text: &str) -> Response {
    let headers = AppendHeaders([(header::LOCATION, "/v1/orders/o_1"), (header::VIA, "here")]);
    (status, headers, Json(json!({ "text": text }))).into_response()
}

/// Status, location, whether replayed, body.
async fn read(response: Response) -> (u16, Option<String>, bool, String) {
    let (parts, body) = response.into_parts();
    let text = |name| {
        let value: Option<&HeaderValue> = parts.headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (
        parts.status.as_u16(),
        text(header::LOCATION),
        text(REPLAYED).as_deref() == Some("true"),
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

/// Asks, with work that counts how often it is done.
async fn ask(
    store: &Arc<MachineStore>,
    scope: Scope<'_>,
    body: &str,
    done: &AtomicUsize,
    status: StatusCode,
) -> Response {
    once(
        Ticket::new(Arc::clone(store) as _, scope, &request(body)),
        async {
            let times = done.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(answer(status, &format!("work {times}")))
        },
    )
    .await
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Fresh(_) => "fresh",
        Outcome::Replay(_) => "replay",
        Outcome::InFlight { .. } => "in flight",
        Outcome::Mismatch => "mismatch",
    }
}

async fn start(store: &Arc<MachineStore>, body: &str) -> Outcome {
    begin(Ticket::new(Arc::clone(store) as _, SCOPE, &request(body)))
        .await
        .unwrap()
}

fn guard(outcome: Outcome) -> Guard {
    match outcome {
        Outcome::Fresh(guard) => guard,
        other => panic!("{}", kind(&other)),
    }
}

#[tokio::test]
async fn the_same_request_hears_the_same_answer_and_another_is_refused() {
    let (store, done) = (store(), AtomicUsize::new(0));
    let first = read(ask(&store, SCOPE, "{}", &done, StatusCode::CREATED).await).await;
    assert_eq!(
        first,
        (
            201,
            Some("/v1/orders/o_1".into()),
            false,
            r#"{"text":"work 1"}"#.into()
        )
    );
    assert_eq!(store.changes(), 2, "one write before the work, one after");
    let again = ask(&store, SCOPE, "{}", &done, StatusCode::CREATED).await;
    assert_eq!(again.headers()[header::CONTENT_TYPE], "application/json");
    assert!(
        !again.headers().contains_key(header::VIA),
        "how it came is not what it says"
    );
    assert_eq!(read(again).await, (201, first.1, true, first.3));
    let other = read(ask(&store, SCOPE, "{ }", &done, StatusCode::CREATED).await).await;
    assert_eq!(other.0, 422);
    assert!(other.3.contains("urn:holdfast:problem:key-reused"), "{}", other.3);
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn work_may_take_the_key_and_leave_the_answer_with_writes_of_its_own() {
    let (store, done) = (store(), AtomicUsize::new(0));
    let ticket = || Ticket::new(Arc::clone(&store) as _, SCOPE, &request("{}"));
    let taken = write(&*store, ticket().write()).await.unwrap();
    let guard = ticket().taken(taken);
    let told = || answer(StatusCode::CREATED, "paid");
    let left = guard.place().write(told()).unwrap();
    write(&*store, left.clone()).await.unwrap();
    guard.place().written();
    let changes = store.changes();
    guard.finish(told()).await;
    assert_eq!(store.changes(), changes, "it is there already");
    let again = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((again.0, again.2, &*again.3), (201, true, r#"{"text":"paid"}"#));
    let used = write(&*store, ticket().write()).await.unwrap_err();
    assert!(is_version_mismatch(&used), "{used}");
    assert_eq!(done.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_left_too_late_is_refused_and_one_that_is_not_final_is_none() {
    let (store, done) = (store(), AtomicUsize::new(0));
    let guard = guard(start(&store, "{}").await);
    let place = guard.place();
    assert_eq!(place.write(answer(StatusCode::ACCEPTED, "wait")), None);
    guard.finish(answer(StatusCode::ACCEPTED, "wait")).await;
    let late = place.write(answer(StatusCode::CREATED, "paid")).unwrap();
    let late = write(&*store, late).await.unwrap_err();
    assert!(is_version_mismatch(&late), "{late}");
    let again = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((again.0, again.2), (200, false));
}

#[tokio::test]
async fn a_key_belongs_to_its_caller_and_its_route() {
    let (store, done) = (store(), AtomicUsize::new(0));
    let others = [
        SCOPE,
        Scope {
            caller: "bob",
            ..SCOPE
        },
        Scope { key: "k2", ..SCOPE },
        Scope {
            route: "/v1/orders/{order_id}/cancel",
            ..SCOPE
        },
        // What belongs to one field must not look like the next.
        Scope {
            caller: "alice/v1",
            route: "/claims/{claim_id}/checkout",
            ..SCOPE
        },
    ];
    for (place, scope) in others.into_iter().enumerate() {
        let answered = read(ask(&store, scope, "{}", &done, StatusCode::OK).await).await;
        assert_eq!(answered.3, format!(r#"{{"text":"work {}"}}"#, place + 1));
    }
}

#[tokio::test]
async fn a_record_is_kept_for_a_day_after_its_answer() {
    let (store, done) = (store(), AtomicUsize::new(0));
    ask(&store, SCOPE, "{}", &done, StatusCode::GONE).await;
    store.pass_ms(24 * 3_600_000 - 1);
    assert_eq!(
        read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await)
            .await
            .0,
        410
    );
    store.pass_ms(1);
    assert_eq!(
        read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await)
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn while_one_works_the_others_wait() {
    let store = store();
    let working = guard(start(&store, "{}").await);
    let Outcome::InFlight { remaining_ms } = start(&store, "{}").await else {
        panic!("two at work")
    };
    assert_eq!(remaining_ms, WORK_MS_MAX);
    assert_eq!(kind(&start(&store, "other").await), "mismatch");
    let told = in_flight(remaining_ms).into_response();
    let wait_s: u64 = told.headers()[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&wait_s), "{wait_s}");
    assert_eq!(told.status(), StatusCode::CONFLICT);
    working.finish(answer(StatusCode::OK, "done")).await;
    assert_eq!(kind(&start(&store, "{}").await), "replay");
}

#[tokio::test]
async fn the_key_of_an_owner_that_died_comes_free_to_one_and_the_dead_record_nothing() {
    let store = store();
    let mut dead = guard(start(&store, "{}").await);
    dead.finished = true; // As if its process were gone: nobody frees the key.
    store.pass_ms(WORK_MS_MAX - 1);
    let Outcome::InFlight { remaining_ms } = start(&store, "{}").await else {
        panic!("taken too early")
    };
    assert_eq!(remaining_ms, 1);
    store.pass_ms(1);
    assert_eq!(
        kind(&start(&store, "other").await),
        "mismatch",
        "the request is still known"
    );
    let heir = guard(start(&store, "{}").await);
    assert_eq!(kind(&start(&store, "{}").await), "in flight", "one heir, not two");
    // It was not dead after all. Its answer is true, but not the one on record.
    let late = dead.finish(answer(StatusCode::OK, "late")).await;
    assert_eq!(read(late).await.3, r#"{"text":"late"}"#);
    assert_eq!(kind(&start(&store, "{}").await), "in flight");
    heir.finish(answer(StatusCode::OK, "heir")).await;
    let Outcome::Replay(answer) = start(&store, "{}").await else {
        panic!("not recorded")
    };
    assert_eq!(answer.body, r#"{"text":"heir"}"#);
}

#[tokio::test]
async fn answers_that_are_not_final_free_the_key_for_the_same_request() {
    let (store, done) = (store(), AtomicUsize::new(0));
    for status in [202, 401, 403, 408, 409, 425, 429, 500, 502, 503, 504] {
        let status = StatusCode::from_u16(status).unwrap();
        let answered = read(ask(&store, SCOPE, "{}", &done, status).await).await;
        assert_eq!((answered.0, answered.2), (status.as_u16(), false));
        assert_eq!(kind(&start(&store, "other").await), "mismatch");
    }
    assert_eq!(done.load(Ordering::SeqCst), 11);
    for status in [200, 201, 400, 402, 404, 410, 422] {
        assert!(error::is_final(StatusCode::from_u16(status).unwrap()), "{status}");
    }
}

#[tokio::test]
async fn whoever_goes_without_an_answer_frees_the_key() {
    let store = store();
    drop(guard(start(&store, "{}").await));
    // The write that frees it is on its way.
    while kind(&start(&store, "{}").await) == "in flight" {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.changes(), 3 + store.refused(), "take, free, take");
}

#[tokio::test]
async fn a_lost_write_is_no_answer_and_the_key_comes_free() {
    let (store, done) = (store(), AtomicUsize::new(0));
    store.lose_answers(1);
    let lost = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert_eq!(
        (lost.0, done.load(Ordering::SeqCst)),
        (503, 0),
        "nothing was begun"
    );
    store.pass_ms(WORK_MS_MAX);
    let answered = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((answered.0, answered.2), (200, false));
    // The record of the answer is written, and nobody hears of that: the answer is given all the same.
    store.lose_answers(0);
    let scope = Scope { key: "k2", ..SCOPE };
    let work = async {
        store.lose_answers(1);
        Ok(answer(StatusCode::OK, "done"))
    };
    let shared = Arc::clone(&store) as Arc<dyn Documents>;
    let answered = read(once(Ticket::new(shared, scope, &request("{}")), work).await).await;
    assert_eq!((answered.0, answered.2), (200, false));
    let again = read(ask(&store, scope, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((again.2, again.3), (true, r#"{"text":"done"}"#.into()));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_answered_all_the_same() {
    let (store, done) = (store(), AtomicUsize::new(0));
    let work = async {
        done.fetch_add(1, Ordering::SeqCst);
        Ok((StatusCode::OK, "x".repeat(ANSWER_BYTES_MAX + 1)).into_response())
    };
    let shared = Arc::clone(&store) as Arc<dyn Documents>;
    let answered = read(once(Ticket::new(shared, SCOPE, &request("{}")), work).await).await;
    assert_eq!((answered.0, answered.3.len()), (200, ANSWER_BYTES_MAX + 1));
    let again = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert!(!again.2);
    // The largest that can be recorded, of characters that JSON writes in two.
    let scope = Scope { key: "k2", ..SCOPE };
    let largest = "\"".repeat(ANSWER_BYTES_MAX);
    let work = async { Ok((StatusCode::OK, largest.clone()).into_response()) };
    let shared = Arc::clone(&store) as Arc<dyn Documents>;
    once(Ticket::new(shared, scope, &request("{}")), work).await;
    let again = read(ask(&store, scope, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((again.2, again.3), (true, largest));
}

#[tokio::test]
async fn a_record_of_a_newer_release_is_not_guessed_at() {
    let store = store();
    let write = DocumentWrite {
        document: SCOPE.document(),
        body: r#"{"format":2,"request":"","kept_ms":1,"state":"free"}"#.into(),
        ..DocumentWrite::default()
    };
    store.write_document(write, "k".into()).await.unwrap();
    let done = AtomicUsize::new(0);
    let answered = read(ask(&store, SCOPE, "{}", &done, StatusCode::OK).await).await;
    assert_eq!((answered.0, done.load(Ordering::SeqCst)), (500, 0));
}
