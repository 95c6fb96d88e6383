//! Retries and the breaker, over real sockets.

use std::sync::Arc;

use api::payment::{
    Call, Doubt, GuardOptions, Guarded, Payment, PaymentError, PaymentProvider, PaymentStatus,
    Unavailability, breaker::BreakerOptions, stripe::Stripe,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;

use crate::{
    requests::{intent, key, new_payment},
    server::{Act, Server, answer, answer_with, soon},
};

/// Retries at once, and no breaker unless asked for.
fn options() -> GuardOptions {
    GuardOptions {
        retry_wait_ms_min: 1,
        retry_wait_ms_max: 2,
        breaker: None,
        ..GuardOptions::default()
    }
}

/// A breaker that opens after three failures, for this long.
fn with_breaker(open_ms: u64) -> GuardOptions {
    GuardOptions {
        retries_max: 0,
        breaker: Some(BreakerOptions {
            window_ms: 600_000,
            calls_min: 3,
            failures_percent: 50,
            open_ms,
        }),
        ..options()
    }
}

fn guard(server: &Server, options: GuardOptions) -> Guarded<Stripe> {
    Guarded::new(Arc::new(server.stripe()), options).unwrap()
}

async fn confirm(guarded: &Guarded<Stripe>) -> Result<Payment, PaymentError> {
    guarded.confirm("pi_1", None, &key(Call::Confirm), soon()).await
}

fn failed() -> Act {
    answer(500, json!({"error": {"type": "api_error", "message": "oops"}}))
}

fn throttled(headers: &'static str) -> Act {
    answer_with(
        429,
        headers,
        json!({"error": {"type": "rate_limit_error", "code": "rate_limit"}}),
    )
}

fn declined() -> Act {
    answer(
        402,
        json!({"error": {"type": "card_error", "code": "card_declined"}}),
    )
}

#[tokio::test]
async fn what_may_end_otherwise_is_repeated_with_the_same_key() {
    let busy = json!({"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}});
    let server = Server::start([
        failed(),
        Act::Cut(0),
        answer(409, busy),
        answer(200, intent("requires_confirmation")),
    ])
    .await;
    let created = guard(&server, options())
        .create(&new_payment(), &key(Call::Create), soon())
        .await;
    assert_eq!(created.unwrap().status, PaymentStatus::RequiresConfirmation);
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    for again in &seen[1..] {
        assert_eq!((&again.line, &again.body), (&seen[0].line, &seen[0].body));
        assert_eq!(again.header("idempotency-key"), Some("c_7f.a2.create"));
    }
}

#[tokio::test]
async fn what_is_final_is_asked_once() {
    let refused = json!({"error": {"type": "invalid_request_error", "code": "amount_too_large"}});
    let server_error = json!({"error": {"type": "api_error"}});
    for act in [
        declined(),
        answer(400, refused),
        answer(401, json!({"error": {"type": "invalid_request_error"}})),
        answer_with(500, "idempotent-replayed: true\r\n", &server_error),
        answer_with(500, "stripe-should-retry: false\r\n", &server_error),
        throttled("retry-after: 3600\r\n"),
    ] {
        let server = Server::start([act.clone()]).await;
        assert!(confirm(&guard(&server, options())).await.is_err());
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn retries_end() {
    let server = Server::start([failed()]).await;
    let error = confirm(&guard(&server, options())).await.unwrap_err();
    assert!(
        matches!(
            error,
            PaymentError::Unknown {
                cause: Doubt::ServerError,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1 + options().retries_max);
}

#[tokio::test]
async fn a_doubt_outlives_what_was_not_taken_on() {
    let server = Server::start([Act::Cut(0), throttled("")]).await;
    let error = confirm(&guard(&server, options())).await.unwrap_err();
    assert!(
        matches!(
            error,
            PaymentError::Unknown {
                cause: Doubt::ConnectionLost,
                ..
            }
        ),
        "{error}"
    );
    // Without a doubt it is what it is.
    let server = Server::start([throttled("")]).await;
    let error = confirm(&guard(&server, options())).await.unwrap_err();
    let cause = Unavailability::Throttled;
    assert!(
        matches!(error, PaymentError::Unavailable { cause: was, .. } if was == cause),
        "{error}"
    );
}

#[tokio::test]
async fn a_definite_answer_ends_a_doubt() {
    let server = Server::start([Act::Cut(0), declined()]).await;
    let error = confirm(&guard(&server, options())).await.unwrap_err();
    assert!(matches!(error, PaymentError::Declined { .. }), "{error}");
}

#[tokio::test]
async fn too_little_time_is_not_begun() {
    let server = Server::start([answer(200, intent("succeeded"))]).await;
    let guarded = guard(
        &server,
        GuardOptions {
            attempt_ms_min: 120_000,
            ..options()
        },
    );
    let error = confirm(&guarded).await.unwrap_err();
    assert!(
        matches!(
            error,
            PaymentError::Unavailable {
                cause: Unavailability::NoTime,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.seen(), []);
}

/// Fails until the breaker is open.
async fn open(guarded: &Guarded<Stripe>) {
    for _ in 0..3 {
        assert_eq!(guarded.refusing(), None);
        assert!(matches!(
            confirm(guarded).await,
            Err(PaymentError::Unknown { .. })
        ));
    }
}

#[tokio::test]
async fn the_breaker_opens_on_failures_and_says_for_how_long() {
    let server = Server::start([failed(), Act::Cut(10), answer(200, "<html>"), declined()]).await;
    let guarded = guard(&server, with_breaker(600_000));
    open(&guarded).await;
    let open_for = guarded.refusing().unwrap();
    let error = confirm(&guarded).await.unwrap_err();
    let PaymentError::Unavailable {
        cause, retry_after, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(cause, Unavailability::BreakerOpen);
    assert!(retry_after.unwrap() <= open_for && !retry_after.unwrap().is_zero());
    assert_eq!(server.seen().len(), 3, "it was asked unseen");
}

/// Not all of so many calls are judged: of those that go well as many as of those that fail.
#[tokio::test]
async fn it_opens_under_any_number_of_calls() {
    const WELL: usize = 1_000;
    let acts = (0..WELL).map(|_| answer(200, intent("requires_capture")));
    let server = Server::start(acts.chain([failed()])).await;
    let guarded = guard(&server, with_breaker(600_000));
    for _ in 0..WELL {
        confirm(&guarded).await.unwrap();
    }
    let mut failures = 0;
    while guarded.refusing().is_none() {
        assert!(failures < 100 * WELL, "it never opens");
        assert!(confirm(&guarded).await.is_err());
        failures += 1;
    }
}

#[tokio::test]
async fn declines_and_refusals_never_open_it() {
    let refused = answer(
        404,
        json!({"error": {"type": "invalid_request_error", "code": "resource_missing"}}),
    );
    let replayed = answer_with(
        500,
        "idempotent-replayed: true\r\n",
        json!({"error": {"type": "api_error"}}),
    );
    for act in [declined(), refused, throttled(""), replayed] {
        let server = Server::start([act.clone()]).await;
        let guarded = guard(&server, with_breaker(600_000));
        for _ in 0..10 {
            assert!(confirm(&guarded).await.is_err());
        }
        assert_eq!((guarded.refusing(), server.seen().len()), (None, 10), "{act:?}");
    }
}

/// Calls until the breaker lets the call through.
async fn probe(guarded: &Guarded<Stripe>) -> Result<Payment, PaymentError> {
    loop {
        match confirm(guarded).await {
            Err(PaymentError::Unavailable {
                cause: Unavailability::BreakerOpen,
                ..
            }) => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

#[tokio::test]
async fn a_probe_that_succeeds_closes_it() {
    let server = Server::start([failed(), failed(), failed(), answer(200, intent("succeeded"))]).await;
    let guarded = guard(&server, with_breaker(1));
    open(&guarded).await;
    assert!(probe(&guarded).await.is_ok());
    for _ in 0..3 {
        assert!(confirm(&guarded).await.is_ok());
    }
}

#[tokio::test]
async fn a_probe_that_fails_opens_it_again() {
    let server = Server::start([failed()]).await;
    let guarded = guard(&server, with_breaker(1));
    open(&guarded).await;
    assert!(matches!(probe(&guarded).await, Err(PaymentError::Unknown { .. })));
    assert!(matches!(probe(&guarded).await, Err(PaymentError::Unknown { .. })));
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn one_probe_at_a_time_and_a_cancelled_one_gives_its_place_back() {
    let server = Server::start([
        failed(),
        failed(),
        failed(),
        Act::Hang,
        answer(200, intent("succeeded")),
    ])
    .await;
    let guarded = Arc::new(guard(&server, with_breaker(1)));
    open(&guarded).await;
    let probing = guarded.clone();
    let stuck = tokio::spawn(async move { probe(&probing).await });
    while server.seen().len() < 4 {
        tokio::task::yield_now().await;
    }
    let error = confirm(&guarded).await.unwrap_err();
    assert!(
        matches!(
            error,
            PaymentError::Unavailable {
                cause: Unavailability::BreakerOpen,
                ..
            }
        ),
        "{error}"
    );
    stuck.abort();
    assert!(stuck.await.unwrap_err().is_cancelled());
    assert!(confirm(&guarded).await.is_ok());
    assert!(confirm(&guarded).await.is_ok());
}

#[tokio::test]
async fn everything_is_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let server = Server::start([failed(), failed(), failed(), failed(), declined()]).await;
    let guarded = guard(
        &server,
        GuardOptions {
            retries_max: 1,
            ..with_breaker(600_000)
        },
    );
    assert!(guarded.retrieve("pi_1", soon()).await.is_err());
    assert!(
        metrics
            .render()
            .contains("holdfast_breaker_state{name=\"payment\"} 0"),
        "{}",
        metrics.render()
    );
    assert!(confirm(&guarded).await.is_err());
    assert!(
        guarded
            .capture("pi_1", &key(Call::Capture), soon())
            .await
            .is_err()
    );
    let page = metrics.render();
    for line in [
        "holdfast_breaker_state{name=\"payment\"} 2",
        "holdfast_payment_duration_seconds_count{call=\"retrieve\",outcome=\"unknown\"} 2",
        "holdfast_payment_duration_seconds_count{call=\"confirm\",outcome=\"unknown\"} 1",
        "holdfast_payment_retries_total{call=\"retrieve\"} 1",
    ] {
        assert!(page.contains(line), "{line} not in\n{page}");
    }
    assert!(
        !page.contains("capture"),
        "a call that was not made was measured\n{page}"
    );
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let server = Server::start([declined()]).await;
    let breaker = BreakerOptions::default;
    for options in [
        GuardOptions {
            retry_wait_ms_min: 0,
            ..options()
        },
        GuardOptions {
            retry_wait_ms_min: 3,
            ..options()
        },
        GuardOptions {
            breaker: Some(BreakerOptions {
                window_ms: 0,
                ..breaker()
            }),
            ..options()
        },
        GuardOptions {
            breaker: Some(BreakerOptions {
                calls_min: 0,
                ..breaker()
            }),
            ..options()
        },
        GuardOptions {
            breaker: Some(BreakerOptions {
                open_ms: 0,
                ..breaker()
            }),
            ..options()
        },
        GuardOptions {
            breaker: Some(BreakerOptions {
                failures_percent: 0,
                ..breaker()
            }),
            ..options()
        },
        GuardOptions {
            breaker: Some(BreakerOptions {
                failures_percent: 101,
                ..breaker()
            }),
            ..options()
        },
    ] {
        assert!(
            Guarded::new(Arc::new(server.stripe()), options.clone()).is_err(),
            "{options:?}"
        );
    }
}
