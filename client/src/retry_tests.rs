use proto::v1::{Claim, Receipt, Rejected, Unknown, Unsubmitted};

use super::*;

const LEFT: Duration = Duration::from_secs(5);

fn at(log_time_ms: u64) -> Position {
    Position {
        log_time_ms,
        ..Position::default()
    }
}

fn granted(grant: Grant) -> Kind {
    Kind::Claim(Granted {
        grant: grant.into(),
        claim: Some(Claim {
            claim_id: "c_1".into(),
            ..Claim::default()
        }),
    })
}

fn refused(reason: Reason) -> Kind {
    Kind::Rejected(Rejected {
        reason: reason.into(),
        ..Rejected::default()
    })
}

fn unsubmitted(cause: Cause, retry_after_ms: u64) -> Kind {
    Kind::Unsubmitted(Unsubmitted {
        cause: cause.into(),
        retry_after_ms,
        ..Unsubmitted::default()
    })
}

fn unknown(not_after_ms: u64) -> Kind {
    Kind::Unknown(Unknown {
        message: "the leader stepped down".into(),
        not_after_ms,
    })
}

/// A call under test, with budget and time to spare.
struct Call {
    attempts: Attempts,
    budget: Budget,
}

impl Call {
    fn new() -> Call {
        Call {
            attempts: Attempts::new(60_000),
            budget: Budget::default(),
        }
    }

    fn hears(&mut self, kind: Kind, log_time_ms: u64) -> Step {
        let answer = Ok((Outcome { kind: Some(kind) }, at(log_time_ms)));
        self.attempts.answered(answer, &self.budget, LEFT, 0.5)
    }

    fn fails(&mut self, failure: Failure) -> Step {
        self.attempts.answered(Err(failure), &self.budget, LEFT, 0.5)
    }
}

fn is_again(step: &Step) -> bool {
    matches!(step, Step::Again(_))
}

#[test]
fn first_answers_are_final() {
    for kind in [
        granted(Grant::Granted),
        granted(Grant::Repeated),
        granted(Grant::Already),
        Kind::Settled(Claim::default()),
        Kind::Done(Receipt::default()),
    ] {
        let step = Call::new().hears(kind.clone(), 10);
        assert!(
            matches!(&step, Step::Finish(Ok((told, _))) if *told == kind),
            "{step:?}"
        );
    }
    let step = Call::new().hears(refused(Reason::SoldOut), 10);
    let Step::Finish(Err(Error::Rejected(rejected))) = step else {
        panic!("{step:?}")
    };
    assert_eq!(
        (rejected.reason, rejected.position.log_time_ms),
        (Reason::SoldOut, 10)
    );
}

#[test]
fn an_effect_after_an_unknown_is_final() {
    for kind in [
        granted(Grant::Granted),
        granted(Grant::Repeated),
        Kind::Settled(Claim::default()),
        Kind::Done(Receipt::default()),
    ] {
        let mut call = Call::new();
        assert!(is_again(&call.hears(unknown(60_000), 10)));
        let step = call.hears(kind.clone(), 20);
        assert!(
            matches!(&step, Step::Finish(Ok((told, _))) if *told == kind),
            "{step:?}"
        );
    }
}

#[test]
fn nothing_happened_after_an_unknown_is_resolved_first() {
    for kind in [
        refused(Reason::SoldOut),
        refused(Reason::KeyFenced),
        granted(Grant::Already),
    ] {
        let mut call = Call::new();
        assert!(is_again(&call.hears(unknown(60_000), 10)));
        assert!(
            matches!(call.hears(kind.clone(), 60_000), Step::Resolve),
            "{kind:?}: the straggler may still apply"
        );

        // The straggler was granted after all.
        let claim = Claim {
            claim_id: "c_straggler".into(),
            ..Claim::default()
        };
        let told = call
            .attempts
            .resolved(Ok((resolution::Kind::Claim(claim), at(30))), true)
            .unwrap();
        let (Kind::Claim(granted), position) = told else {
            panic!("{told:?}")
        };
        assert_eq!(position, at(30), "as the resolve saw it");
        assert_eq!(
            (granted.grant(), granted.claim.unwrap().claim_id.as_str()),
            (Grant::Repeated, "c_straggler")
        );
    }
}

#[test]
fn an_abandoned_key_lets_the_refusal_be_told() {
    let mut call = Call::new();
    assert!(is_again(&call.fails(Failure::Lost("reset".into()))));
    assert!(matches!(call.hears(refused(Reason::SoldOut), 99), Step::Resolve));
    let told = call
        .attempts
        .resolved(Ok((resolution::Kind::AbandonedUntilMs(70_000), at(120))), true);
    assert!(matches!(told, Err(Error::Rejected(rejected)) if rejected.reason == Reason::SoldOut));
}

#[test]
fn an_abandoned_key_lets_another_claim_be_told() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    assert!(matches!(call.hears(granted(Grant::Already), 99), Step::Resolve));
    let told = call
        .attempts
        .resolved(Ok((resolution::Kind::AbandonedUntilMs(70_000), at(120))), true)
        .unwrap();
    assert_eq!(told, (granted(Grant::Already), at(99)));
}

#[test]
fn a_refusal_past_the_stragglers_bound_needs_no_resolve() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    let step = call.hears(refused(Reason::SoldOut), 60_001);
    assert!(matches!(step, Step::Finish(Err(Error::Rejected(_)))), "{step:?}");
}

#[test]
fn too_late_begins_anew_and_is_never_told() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    let step = call.hears(refused(Reason::TooLate), 60_001);
    assert!(matches!(step, Step::Renew(_)), "{step:?}");

    let mut poor = Call {
        attempts: Attempts::new(60_000),
        budget: Budget::of(0),
    };
    let step = poor.hears(refused(Reason::TooLate), 60_001);
    assert!(
        matches!(step, Step::Finish(Err(Error::Unavailable { .. }))),
        "nothing happened, and nothing will: {step:?}"
    );
}

#[test]
fn a_reused_key_is_never_resolved() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    let step = call.hears(refused(Reason::KeyReused), 20);
    assert!(matches!(step, Step::Finish(Err(Error::Rejected(_)))), "{step:?}");
}

#[test]
fn a_settled_or_done_key_is_told_in_its_own_words() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    assert!(matches!(
        call.hears(refused(Reason::ClaimGone), 20),
        Step::Resolve
    ));
    let told = call
        .attempts
        .resolved(Ok((resolution::Kind::Claim(Claim::default()), at(30))), false)
        .unwrap();
    assert!(matches!(told, (Kind::Settled(_), _)));

    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    assert!(matches!(
        call.hears(refused(Reason::SaleExists), 20),
        Step::Resolve
    ));
    let told = call
        .attempts
        .resolved(Ok((resolution::Kind::Effect(Receipt::default()), at(30))), false)
        .unwrap();
    assert!(matches!(told, (Kind::Done(_), _)));
}

#[test]
fn a_key_that_cannot_be_resolved_stays_unknown() {
    let mut call = Call::new();
    assert!(is_again(&call.hears(unknown(60_000), 10)));
    assert!(matches!(call.hears(refused(Reason::SoldOut), 20), Step::Resolve));
    let told = call
        .attempts
        .resolved(Err(Error::unavailable("nobody leads")), true);
    assert!(
        matches!(
            told,
            Err(Error::Unknown {
                not_after_ms: 60_000,
                ..
            })
        ),
        "{told:?}"
    );
}

#[test]
fn a_failover_costs_no_budget_and_no_pause() {
    let mut call = Call {
        attempts: Attempts::new(60_000),
        budget: Budget::of(0),
    };
    for cause in [Cause::NotLeader, Cause::Starting, Cause::Stopping] {
        let step = call.hears(unsubmitted(cause, 0), 0);
        assert!(matches!(step, Step::Again(Duration::ZERO)), "{step:?}");
    }
}

#[test]
fn an_overloaded_node_is_given_the_time_it_asks_for() {
    let step = Call::new().hears(unsubmitted(Cause::Overloaded, 700), 0);
    assert!(
        matches!(step, Step::Again(pause) if pause == Duration::from_millis(700)),
        "{step:?}"
    );
    let step = Call::new().hears(unsubmitted(Cause::Overloaded, 6_000), 0);
    assert!(
        matches!(
            step,
            Step::Finish(Err(Error::Unavailable {
                retry_after_ms: 6_000,
                ..
            }))
        ),
        "longer than the call has: {step:?}"
    );
}

#[test]
fn a_command_that_a_member_does_not_know_yet_is_not_tried_again() {
    let step = Call::new().hears(unsubmitted(Cause::Upgrade, 10_000), 0);
    assert!(
        matches!(
            step,
            Step::Finish(Err(Error::Unavailable {
                retry_after_ms: 10_000,
                ..
            }))
        ),
        "nothing was proposed, and nothing changes within a call: {step:?}"
    );
}

#[test]
fn without_budget_nothing_is_tried_again() {
    let mut call = Call {
        attempts: Attempts::new(60_000),
        budget: Budget::of(1),
    };
    assert!(is_again(&call.hears(unsubmitted(Cause::Overloaded, 0), 0)));
    let step = call.hears(unsubmitted(Cause::Overloaded, 0), 0);
    assert!(
        matches!(step, Step::Finish(Err(Error::Unavailable { .. }))),
        "{step:?}"
    );

    let mut call = Call {
        attempts: Attempts::new(60_000),
        budget: Budget::of(0),
    };
    let step = call.hears(unknown(60_000), 0);
    assert!(
        matches!(
            step,
            Step::Finish(Err(Error::Unknown {
                not_after_ms: 60_000,
                ..
            }))
        ),
        "{step:?}"
    );
}

#[test]
fn once_unknown_a_call_never_ends_as_merely_unavailable() {
    for failure in [Failure::Full, Failure::NotSent("no leader".into())] {
        let step = Call::new().fails(failure.clone());
        assert!(
            matches!(step, Step::Finish(Err(Error::Unavailable { .. }))),
            "{step:?}"
        );

        let mut call = Call::new();
        assert!(is_again(&call.hears(unknown(60_000), 10)));
        let step = call.fails(failure);
        assert!(
            matches!(
                step,
                Step::Finish(Err(Error::Unknown {
                    not_after_ms: 60_000,
                    ..
                }))
            ),
            "{step:?}"
        );
    }
}

#[test]
fn an_answer_without_an_outcome_proves_nothing() {
    let mut call = Call::new();
    let answer = Ok((Outcome { kind: None }, at(1)));
    assert!(is_again(&call.attempts.answered(answer, &call.budget, LEFT, 0.5)));
    assert!(matches!(call.hears(refused(Reason::SoldOut), 2), Step::Resolve));
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let mut attempts = Attempts::new(60_000);
    let lost = Err(Failure::Lost("reset".into()));
    let step = attempts.answered(lost, &Budget::default(), Duration::ZERO, 0.5);
    assert!(
        matches!(
            step,
            Step::Finish(Err(Error::Unknown {
                not_after_ms: 60_000,
                ..
            }))
        ),
        "{step:?}"
    );
}

#[test]
fn the_budget_is_a_share_of_the_calls_and_a_burst() {
    let budget = Budget::of(0);
    assert!(!budget.spend());
    budget.earn(5);
    assert!(budget.spend(), "five calls earn one retry");
    assert!(!budget.spend());

    let full = Budget::default();
    full.earn(1_000_000);
    let mut retries = 0;
    while full.spend() {
        retries += 1;
    }
    assert_eq!(retries, RETRY_BURST);
}

#[test]
fn pauses_double_are_jittered_and_bounded() {
    assert_eq!(pause(1, 1.0), PAUSE_MIN);
    assert_eq!(pause(1, 0.0), PAUSE_MIN / 2);
    assert_eq!(pause(3, 1.0), PAUSE_MIN * 4);
    assert_eq!(pause(u32::MAX, 1.0), PAUSE_MAX);
}
