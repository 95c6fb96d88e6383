use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{
    history::{Header, Recorder},
    properties::SeenEvent,
};

fn recorder() -> Recorder {
    let now = AtomicU64::new(0);
    Recorder::new(Header::one(1_000, [("s", 10)]), move || {
        now.fetch_add(1, Ordering::Relaxed)
    })
}

fn idx(log_index: u64, position: u64) -> Index {
    Index { log_index, position }
}

fn moved(places: &Places) -> Vec<(u64, Index, u64)> {
    let moved = places.moved.iter();
    moved.map(|(id, effect)| (*id, effect.idx, effect.lt)).collect()
}

fn granted(at: Index) -> Answer<&'static str> {
    Answer {
        idx: Some(at),
        lt: at.log_index * 10,
        outcome: Outcome::Granted {
            hold: "h",
            deadline: 1_050,
        },
    }
}

fn confirmed(at: Index) -> Answer<&'static str> {
    Answer {
        idx: Some(at),
        lt: at.log_index * 10,
        outcome: Outcome::Confirmed,
    }
}

fn claim(recorder: &Recorder) -> u64 {
    recorder.invoke(recorder.process(), "s", Call::claim("u", "k"))
}

fn confirm(recorder: &Recorder) -> u64 {
    let call = Call::Confirm { hold: "h", key: "c" };
    recorder.invoke(recorder.process(), "s", call)
}

/// The claim of key `k` was made here.
fn taken_at(at: Index) -> HashMap<String, Effect> {
    let effect = Effect {
        idx: at,
        lt: at.log_index * 10,
        outcome: Outcome::Granted {
            hold: "h".to_owned(),
            deadline: 1_050,
        },
    };
    HashMap::from([("k".to_owned(), effect)])
}

fn settled_at(at: Index) -> Settled {
    Settled::from([(("h".to_owned(), Kind::Confirm), (at, at.log_index * 10, 1_050))])
}

fn placed(
    recorder: &Recorder,
    taken: &HashMap<String, Effect>,
    settled: &Settled,
    resolved: &[(u64, bool)],
) -> Places {
    let resolved = resolved.iter().copied().collect();
    place(&recorder.finish(), taken, settled, &resolved)
}

#[test]
fn an_answer_that_stands_at_its_effect_stays_there() {
    let recorder = recorder();
    let id = claim(&recorder);
    recorder.ok(id, granted(idx(5, 2)));
    let places = placed(&recorder, &taken_at(idx(5, 2)), &Settled::new(), &[]);
    assert_eq!(places, Places::default());
}

#[test]
fn an_answer_to_a_later_attempt_moves_to_the_effect_of_the_first() {
    let recorder = recorder();
    let id = claim(&recorder);
    recorder.ok(id, granted(idx(9, 0)));
    let settled = confirm(&recorder);
    recorder.ok(settled, confirmed(idx(12, 0)));
    let places = placed(&recorder, &taken_at(idx(5, 2)), &settled_at(idx(11, 3)), &[]);
    assert_eq!(moved(&places), [(id, idx(5, 2), 50), (settled, idx(11, 3), 110)]);
    let mut history = recorder.finish();
    apply_moves(&mut history, &places.moved);
    let told = history.events.iter().filter_map(|event| match event.what {
        What::Ok { id, answer } => Some((id, answer.idx, answer.lt)),
        _ => None,
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(id, Some(idx(5, 2)), 50), (settled, Some(idx(11, 3)), 110)]
    );
}

#[test]
fn a_claim_that_was_told_as_it_was_extended_is_moved_with_its_first_deadline() {
    let recorder = recorder();
    let id = claim(&recorder);
    let extended = Answer {
        outcome: Outcome::Granted {
            hold: "h",
            deadline: 1_550,
        },
        ..granted(idx(9, 0))
    };
    recorder.ok(id, extended);
    let places = placed(&recorder, &taken_at(idx(5, 2)), &Settled::new(), &[]);
    let mut history = recorder.finish();
    apply_moves(&mut history, &places.moved);
    let deadlines = history.events.iter().filter_map(|event| match event.what {
        What::Ok { answer, .. } => match answer.outcome {
            Outcome::Granted { deadline, .. } => Some(deadline),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(deadlines.collect::<Vec<_>>(), [1_050]);
}

#[test]
fn of_two_that_used_a_key_the_one_answered_at_the_effect_has_it() {
    let recorder = recorder();
    let (first, second) = (claim(&recorder), claim(&recorder));
    recorder.ok(second, granted(idx(5, 2)));
    recorder.info(first, "lost");
    let places = placed(&recorder, &taken_at(idx(5, 2)), &Settled::new(), &[(first, true)]);
    let nothing = Learned {
        id: first,
        effect: None,
    };
    assert_eq!((moved(&places), places.learned), (vec![], vec![nothing]));
}

#[test]
fn an_unknown_that_came_first_has_the_effect_that_its_repetition_tells() {
    let recorder = recorder();
    let first = claim(&recorder);
    recorder.info(first, "lost");
    let again = claim(&recorder);
    recorder.ok(again, granted(idx(9, 0)));
    let taken = taken_at(idx(5, 2));
    let places = placed(&recorder, &taken, &Settled::new(), &[(first, true)]);
    let effect = Some(taken["k"].clone());
    assert_eq!(moved(&places), []);
    assert_eq!(places.learned, [Learned { id: first, effect }]);
}

#[test]
fn who_was_refused_before_has_no_effect() {
    let recorder = recorder();
    let refused = claim(&recorder);
    let sold_out = Answer {
        idx: Some(idx(3, 0)),
        lt: 30,
        outcome: Outcome::SoldOut,
    };
    recorder.ok(refused, sold_out);
    let failed = claim(&recorder);
    recorder.fail(failed);
    let third = claim(&recorder);
    recorder.ok(third, granted(idx(9, 0)));
    let places = placed(&recorder, &taken_at(idx(5, 2)), &Settled::new(), &[]);
    assert_eq!(moved(&places), [(third, idx(5, 2), 50)]);
}

#[test]
fn an_abandoned_key_had_no_effect_and_one_nobody_can_tell_of_stays_unknown() {
    let recorder = recorder();
    let abandoned = claim(&recorder);
    recorder.info(abandoned, "lost");
    let silent = confirm(&recorder);
    recorder.info(silent, "lost");
    let places = placed(&recorder, &HashMap::new(), &Settled::new(), &[(abandoned, false)]);
    let nothing = Learned {
        id: abandoned,
        effect: None,
    };
    assert_eq!(places.learned, [nothing]);
    assert!(places.lost.is_empty());
}

#[test]
fn what_was_settled_in_a_gap_and_answered_behind_it_is_told_as_an_unknown() {
    let recorder = recorder();
    let p = recorder.process();
    let confirm = |p, hold, key| recorder.invoke(p, "s", Call::Confirm { hold, key });
    let in_gap = confirm(p, "h", "c");
    recorder.ok(in_gap, confirmed(idx(12, 0)));
    let behind = confirm(p, "i", "d");
    recorder.ok(behind, confirmed(idx(60, 0)));
    let next = confirm(p, "j", "e");
    recorder.ok(next, confirmed(idx(61, 0)));
    let mut history = recorder.finish();
    let settled = Settled::from([(("j".to_owned(), Kind::Confirm), (idx(61, 0), 610, 0))]);
    let feed = SeenFeed {
        resumed: vec![40],
        reached: 61,
        ..SeenFeed::default()
    };
    let feeds = [feed];
    assert_eq!(unplaced(&history, &feeds, &settled), [behind]);
    forget(&mut history, &[behind]);
    let told: Vec<String> = history
        .events
        .iter()
        .map(|event| match &event.what {
            What::Invoke { id, p, .. } => format!("{id} by {p}"),
            What::Ok { id, .. } => format!("{id} ok"),
            What::Info { id, .. } => format!("{id} info"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        ["0 by 0", "0 ok", "1 by 0", "1 info", "2 by 1", "2 ok"],
        "the next one is by another process"
    );
}

#[test]
fn the_first_that_may_have_settled_in_a_gap_stays_unknown() {
    let recorder = recorder();
    let first = confirm(&recorder);
    recorder.info(first, "lost");
    let again = confirm(&recorder);
    recorder.ok(again, confirmed(idx(60, 0)));
    let later = confirm(&recorder);
    recorder.info(later, "lost");
    let resolved = [(first, true), (later, true)];
    let places = placed(&recorder, &HashMap::new(), &Settled::new(), &resolved);
    let nothing = Learned {
        id: later,
        effect: None,
    };
    assert_eq!((places.learned, places.lost), (vec![nothing], vec![first]));
}

#[test]
fn a_gap_hides_only_what_every_feed_may_have_leapt_over() {
    let recorder = recorder();
    let early = confirm(&recorder);
    recorder.info(early, "lost");
    let late = confirm(&recorder);
    let t_late = recorder.finish().events.last().unwrap().t;
    recorder.info(late, "lost");
    let history = recorder.finish();
    let event = |t, log_index| SeenEvent {
        t,
        log_index,
        ordinal: 0,
        lt: 0,
        command: None,
        kind: EventKind::ClaimExpired,
        sale: "s".to_owned(),
        claim: None,
        value: 0,
    };
    // Entry 40, behind the gap, was seen before the second one began.
    let gap = SeenFeed {
        resumed: vec![40],
        events: vec![event(0, 10), event(t_late - 1, 40)],
        ..SeenFeed::default()
    };
    let in_gaps = |feeds: &[SeenFeed]| super::in_gaps(&history, feeds, &[early, late]);
    assert_eq!(in_gaps(std::slice::from_ref(&gap)), [early]);
    let whole = SeenFeed::default();
    assert!(in_gaps(&[gap, whole]).is_empty());
}

#[test]
fn an_unknown_confirm_stands_where_the_feed_has_it_and_is_lost_without() {
    let recorder = recorder();
    let id = confirm(&recorder);
    recorder.info(id, "lost");
    let resolved = [(id, true)];
    let places = placed(&recorder, &HashMap::new(), &settled_at(idx(11, 3)), &resolved);
    let effect = Effect {
        idx: idx(11, 3),
        lt: 110,
        outcome: Outcome::Confirmed,
    };
    let effect = Some(effect);
    assert_eq!(places.learned, [Learned { id, effect }]);
    let places = placed(&recorder, &HashMap::new(), &Settled::new(), &resolved);
    assert_eq!((places.learned, places.lost), (vec![], vec![id]));
}
