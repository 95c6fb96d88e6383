//! What the crowd saw, as rows: pure.

use std::time::Duration;

use super::{books::Books, file::SaleLike, load::Tally};
use crate::{
    commands::readiness::{Row, Verdict},
    exit::Failure,
    output::grouped,
};

/// Share of the expected rate that counts as reached: a claim in a hundred may be slow, as in the p99.
const CAPACITY_SHARE_MIN: f64 = 0.99;

const CAPACITY: &str = "capacity";
const CLAIM_P99: &str = "claim p99";
const GRANTS: &str = "grants exact";
const FAILOVER: &str = "failover";

fn capacity_wanted(like: &SaleLike) -> String {
    format!("{} claims/s", grouped(like.claims_per_s_expected))
}

fn p99_wanted(like: &SaleLike) -> String {
    format!("below {} ms", like.claim_p99_ms_max)
}

fn failover_wanted(like: &SaleLike) -> String {
    format!("below {} ms without an answer", like.failover_ms_max)
}

const GRANTS_WANTED: &str = "every grant in the records as its owner was told, no other";
const GRANTS_ACTION: &str = "`holdfast verify`; open no sale, and keep every node's directory";
const FAILOVER_ACTION: &str = "are elections slow, or a voter far away? repeat with --transfer-leader";

/// The rows where there was no crowd.
pub fn not_run(like: &SaleLike, why: &str) -> Vec<Row> {
    let again = "see the rows that say NO-GO, then rehearse again";
    vec![
        Row::not_checked(CAPACITY, why, capacity_wanted(like), again),
        Row::not_checked(CLAIM_P99, why, p99_wanted(like), again),
        Row::not_checked(GRANTS, why, GRANTS_WANTED.into(), again),
        Row::not_checked(FAILOVER, why, failover_wanted(like), again),
    ]
}

/// Whether the expected rate was answered.
pub fn capacity(like: &SaleLike, tally: &Tally) -> Row {
    let per_s = tally.answered_per_s(like);
    let mut measured = format!("{} claims/s answered", grouped(per_s.round() as u64));
    let failed = tally.unanswered + tally.unresolved;
    if failed > 0 {
        let first = tally.first_failure.as_deref().unwrap_or_default();
        measured.push_str(&format!("; {} had no answer, such as: {first}", grouped(failed)));
    }
    let late_ms = tally.late_max.as_millis() as u64;
    if late_ms > like.claim_p99_ms_max / 2 {
        measured.push_str(&format!("; sent up to {} ms late from here", grouped(late_ms)));
    }
    Row::judged(
        CAPACITY,
        per_s >= CAPACITY_SHARE_MIN * like.claims_per_s_expected as f64,
        measured,
        capacity_wanted(like),
        "faster disks or processors for the nodes, or fewer people at once; sent late: rehearse from a faster machine",
    )
}

/// Whether claims are fast enough.
pub fn claim_p99(like: &SaleLike, tally: &Tally) -> Row {
    let p99_ms = tally.took_ms(0.99);
    Row::judged(
        CLAIM_P99,
        p99_ms < like.claim_p99_ms_max as f64,
        format!("{p99_ms:.1} ms"),
        p99_wanted(like),
        "look at holdfast_wal_fsync_duration_seconds and holdfast_queue_commands while rehearsing",
    )
}

/// Whether the books are what everybody was told. `None`: the records never held still.
pub fn grants(books: Option<&Books>, unresolved: u64) -> Row {
    let Some(books) = books else {
        return Row::judged(
            GRANTS,
            false,
            "the records never held still to be read".into(),
            GRANTS_WANTED.into(),
            "rehearse again",
        );
    };
    if !books.faults.is_empty() {
        return Row {
            verdict: Verdict::NoGo,
            violation: true,
            ..Row::judged(
                GRANTS,
                false,
                books.faults.join("; "),
                GRANTS_WANTED.into(),
                GRANTS_ACTION,
            )
        };
    }
    let mut measured = format!(
        "{} granted = {} confirmed + {} released + {} expired",
        grouped(books.claims),
        grouped(books.confirmed),
        grouped(books.released),
        grouped(books.expired)
    );
    if books.held > 0 {
        measured.push_str(&format!(" + {} held still", grouped(books.held)));
    }
    if unresolved > 0 {
        measured.push_str(&format!("; of {} claims nobody knows", grouped(unresolved)));
    }
    Row::judged(
        GRANTS,
        unresolved == 0,
        measured,
        GRANTS_WANTED.into(),
        "outcomes could not be resolved: is a majority of the voters reachable from here? rehearse again",
    )
}

/// Afterwards there was nothing to look at any more.
pub fn felled(why: &Failure) -> Row {
    Row::judged(
        "ready afterwards",
        false,
        why.to_string(),
        "nodes that answer, and one that leads".into(),
        "why did they stop? see their logs",
    )
}

/// How a hand-over of leadership went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// Nobody asked for one.
    NotAsked,
    /// It failed.
    Failed(String),
    /// The longest time without an answer around it; `None`: nothing was answered any more.
    Silence(Option<Duration>),
}

/// Whether the store answers again soon enough.
pub fn failover(like: &SaleLike, hand_over: &HandOver) -> Row {
    let judged = |go, measured| Row::judged(FAILOVER, go, measured, failover_wanted(like), FAILOVER_ACTION);
    match hand_over {
        HandOver::NotAsked => Row::not_checked(
            FAILOVER,
            "no leader was handed over",
            failover_wanted(like),
            "ask for it with --transfer-leader",
        ),
        HandOver::Failed(why) => judged(false, why.clone()),
        HandOver::Silence(None) => judged(false, "no claim was answered afterwards".into()),
        HandOver::Silence(Some(silence)) => {
            let silence_ms = silence.as_millis() as u64;
            judged(
                silence_ms < like.failover_ms_max,
                format!("{} ms without an answer", grouped(silence_ms)),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::rehearse::visit::{End, Visit};

    /// So many answers in a second, each `took_ms` after it was due.
    fn tally(answers: u64, took_ms: u64) -> Tally {
        let mut tally = Tally::new();
        for place in 0..answers {
            let due = Duration::from_micros(place * 1_000_000 / answers);
            tally.take(Visit {
                due,
                sent: due,
                answered: due + Duration::from_millis(took_ms),
                end: End::Refused,
            });
        }
        tally
    }

    fn like() -> SaleLike {
        SaleLike {
            claims_per_s_expected: 1_000,
            seconds: 1,
            ..SaleLike::example()
        }
    }

    #[test]
    fn capacity_is_what_was_answered_in_time() {
        let reached = capacity(&like(), &tally(1_000, 5));
        assert_eq!(reached.verdict, Verdict::Go, "{reached:?}");
        let few = capacity(&like(), &tally(980, 5));
        assert_eq!(few.verdict, Verdict::NoGo);
        assert!(few.measured.starts_with("980 claims/s"), "{few:?}");
        // All were answered, but it took two seconds.
        let slow = capacity(&like(), &tally(1_000, 1_000));
        assert_eq!(slow.verdict, Verdict::NoGo, "{slow:?}");
        let mut silent = tally(980, 5);
        for _ in 0..20 {
            silent.take(Visit {
                due: Duration::ZERO,
                sent: Duration::from_millis(400),
                answered: Duration::from_millis(900),
                end: End::Unanswered("full".into()),
            });
        }
        let silent = capacity(&like(), &silent);
        assert_eq!(silent.verdict, Verdict::NoGo);
        for says in ["20 had no answer, such as: full", "sent up to 400 ms late"] {
            assert!(silent.measured.contains(says), "{silent:?}");
        }
    }

    #[test]
    fn one_slow_claim_of_a_hundred_is_too_many() {
        assert_eq!(claim_p99(&like(), &tally(100, 499)).verdict, Verdict::Go);
        assert_eq!(claim_p99(&like(), &tally(100, 501)).verdict, Verdict::NoGo);
    }

    #[test]
    fn grants_are_exact_or_it_is_a_violation() {
        let good = Books {
            claims: 10,
            confirmed: 7,
            released: 2,
            expired: 1,
            ..Books::default()
        };
        let row = grants(Some(&good), 0);
        assert_eq!((row.verdict, row.violation), (Verdict::Go, false));
        assert_eq!(row.measured, "10 granted = 7 confirmed + 2 released + 1 expired");
        let unknown = grants(Some(&good), 3);
        assert_eq!((unknown.verdict, unknown.violation), (Verdict::NoGo, false));
        assert_eq!(grants(None, 0).verdict, Verdict::NoGo);
        let wrong = Books {
            faults: vec!["claim c was granted and is not there".into()],
            ..good
        };
        let row = grants(Some(&wrong), 0);
        assert_eq!((row.verdict, row.violation), (Verdict::NoGo, true));
        assert!(row.measured.contains("not there"));
    }

    #[test]
    fn a_failover_is_short_or_a_no() {
        let judged = |hand_over| failover(&like(), &hand_over).verdict;
        let silence = |ms| HandOver::Silence(Some(Duration::from_millis(ms)));
        assert_eq!(judged(HandOver::NotAsked), Verdict::NotChecked);
        assert_eq!(judged(silence(2_999)), Verdict::Go);
        assert_eq!(judged(silence(3_000)), Verdict::NoGo);
        assert_eq!(judged(HandOver::Silence(None)), Verdict::NoGo);
        assert_eq!(judged(HandOver::Failed("no successor".into())), Verdict::NoGo);
    }

    #[test]
    fn without_a_crowd_nothing_is_said() {
        let rows = not_run(&like(), "not ready");
        assert_eq!(rows.len(), 4);
        let felled = felled(&Failure::NoQuorum("none leads".into()));
        assert_eq!((felled.verdict, &*felled.measured), (Verdict::NoGo, "none leads"));
        assert!(rows.iter().all(|row| row.verdict == Verdict::NotChecked));
    }
}
