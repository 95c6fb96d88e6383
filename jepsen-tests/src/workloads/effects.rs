//! Where in the log each effect stands, found when all is over.
//!
//! One operation may take several attempts inside the client, and one key may be used by several operations. The
//! answer that is heard last then stands behind the effect: at it a history would claim that a unit changed hands
//! later than it did. Receipts say where claims were made, and the feed says where holds were settled. Each effect
//! is given to one operation:
//! - to the one that was answered exactly there, if there is one;
//! - else to the first that used the key and may have made it: the effect is not older than its invocation, and
//!   if it was answered, not younger than its answer.
//!
//! The others are repetitions, which change nothing; of those whose outcome is unknown, nothing came.
//!
//! A feed may have gaps, which it announces. What was settled in a gap and answered there stands where it was
//! answered. What was settled in a gap and answered by a later attempt stands nobody knows where: its operation is
//! told as an unknown.

use std::collections::HashMap;

use client::EventKind;

use super::shop::{BEYOND, Effect};
use crate::{
    history::{Answer, Call, History, Index, Kind, Name, Outcome, What},
    properties::SeenFeed,
};

/// Steps of holds by id and kind, as the feed tells: where, at which log time, and the hold's deadline from then on.
pub type Settled = HashMap<(String, Kind), (Index, u64, u64)>;

/// Where holds were confirmed, released, extended and cancelled: each of these happens to a hold once.
pub fn settled(feeds: &[SeenFeed]) -> Settled {
    let mut settled = Settled::new();
    for event in feeds.iter().flat_map(|feed| &feed.events) {
        let kind = match event.kind {
            EventKind::ClaimConfirmed => Kind::Confirm,
            EventKind::ClaimReleased => Kind::Release,
            EventKind::ClaimExtended => Kind::Extend,
            EventKind::ClaimCancelled => Kind::Cancel,
            _ => continue,
        };
        if let (Some(claim), Some(command)) = (&event.claim, event.command) {
            let idx = Index {
                log_index: event.log_index,
                position: command.into(),
            };
            settled.insert((claim.claim_id.clone(), kind), (idx, event.lt, claim.deadline_ms));
        }
    }
    settled
}

/// How an operation ended, as far as this matters.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With an answer that tells of an effect.
    Effect(Answer),
    /// With one that tells of none, or not at all.
    None,
    Unknown,
}

struct Use {
    id: u64,
    call: Call,
    end: End,
}

/// What became of an unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// The operation.
    pub id: u64,
    /// Its effect; none: none.
    pub effect: Option<Effect>,
}

/// What is to be told of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// Answers that tell of an effect that stands elsewhere: operation, where it stands, log time.
    pub moved: Vec<(u64, Index, u64)>,
    /// Unknowns of which something is known.
    pub learned: Vec<Learned>,
    /// Unknowns whose key had an effect of which nobody knows where it stands.
    pub lost: Vec<u64>,
}

/// Gives each effect to one operation. `taken` has the effects of claims and other commands by key; `resolved`
/// what the final phase heard of each unknown's key: whether it had an effect.
pub fn place(
    history: &History,
    taken: &HashMap<String, Effect>,
    settled: &Settled,
    resolved: &HashMap<u64, bool>,
) -> Places {
    let mut places = Places::default();
    for ((kind, key), uses) in uses_of_keys(history) {
        let answered = uses.iter().any(|used| matches!(used.end, End::Effect(_)));
        let unknown = |used: &&Use| used.end == End::Unknown;
        let had_effect = answered
            || uses
                .iter()
                .filter(unknown)
                .any(|used| resolved.get(&used.id) == Some(&true));
        let effect = match kind {
            Kind::Confirm | Kind::Release | Kind::Extend | Kind::Cancel => {
                effect_of_settling(history, &uses[0], kind, settled)
            }
            _ => taken.get(history.names.text(key)).cloned(),
        };
        let owner = effect.as_ref().filter(|_| had_effect).and_then(|effect| {
            let exact = uses.iter().find(|used| match used.end {
                End::Effect(answer) => answer.idx == Some(effect.idx),
                _ => false,
            });
            exact.or_else(|| uses.iter().find(|used| used.end != End::None))
        });
        if let (Some(owner), Some(effect)) = (owner, &effect)
            && let End::Effect(answer) = owner.end
            && answer.idx != Some(effect.idx)
        {
            places.moved.push((owner.id, effect.idx, effect.lt));
        }
        // A repetition may have been told by a resolve after an answer that was given before the effect. It is
        // not told before there is something to repeat.
        if let (Some(owner), Some(effect)) = (owner, &effect) {
            for used in uses.iter().filter(|used| used.id != owner.id) {
                if let End::Effect(answer) = used.end
                    && answer.idx < Some(effect.idx)
                {
                    let behind = Index {
                        log_index: effect.idx.log_index,
                        position: BEYOND,
                    };
                    places.moved.push((used.id, behind, effect.lt));
                }
            }
        }
        let settles = matches!(kind, Kind::Confirm | Kind::Release);
        let first = uses.iter().find(|used| used.end != End::None);
        for used in uses.iter().filter(unknown) {
            let owns = owner.is_some_and(|owner| owner.id == used.id);
            // Nobody saw where it was settled, and this is the first that may have done it.
            let hidden = settles && effect.is_none() && first.is_some_and(|first| first.id == used.id);
            match (had_effect, resolved.get(&used.id)) {
                // Answered by another operation of the same key: whatever this one did was a repetition.
                _ if owns => places.learned.push(Learned {
                    id: used.id,
                    effect: effect.clone(),
                }),
                (true, _) if (owner.is_some() || answered) && !hidden => places.learned.push(Learned {
                    id: used.id,
                    effect: None,
                }),
                (true, _) => places.lost.push(used.id),
                (false, Some(_)) => places.learned.push(Learned {
                    id: used.id,
                    effect: None,
                }),
                // Nobody could say: it stays unknown.
                (false, None) => {}
            }
        }
    }
    places
}

/// Operations that were told an effect by a later attempt, where nobody knows its place: no feed has it, and one
/// that saw everything there has nothing at the place of the answer.
pub fn unplaced(history: &History, feeds: &[SeenFeed], settled: &Settled) -> Vec<u64> {
    let mut unplaced = Vec::new();
    for ((kind, _), uses) in uses_of_keys(history) {
        let settles = matches!(kind, Kind::Confirm | Kind::Release);
        if !settles || effect_of_settling(history, &uses[0], kind, settled).is_some() {
            continue;
        }
        let answers = uses.iter().filter_map(|used| match used.end {
            End::Effect(answer) => answer.idx,
            _ => None,
        });
        let first = uses.iter().find(|used| used.end != End::None);
        if let (Some(earliest), Some(first)) = (answers.min(), first)
            && matches!(first.end, End::Effect(_))
            && feeds
                .iter()
                .any(|feed| feed.sale.is_none() && saw(feed, earliest.log_index))
        {
            unplaced.push(first.id);
        }
    }
    unplaced
}

/// Whether an entry stands where this feed has no gap.
fn saw(feed: &SeenFeed, log_index: u64) -> bool {
    let leapt = |&from: &u64| {
        let before = feed.events.partition_point(|event| event.log_index < from);
        let last = feed.events[..before].last().map_or(0, |event| event.log_index);
        last < log_index && log_index < from
    };
    log_index <= feed.reached && !feed.resumed.iter().any(leapt)
}

/// Tells these answers as unknowns: that something was answered is true, but not where it stands. Their processes
/// go on under other names, as after any unknown.
pub fn forget(history: &mut History, ids: &[u64]) {
    let processes = history.events.iter().filter_map(|event| match event.what {
        What::Invoke { p, .. } => Some(p),
        _ => None,
    });
    let mut next = processes.max().map_or(0, |p| p + 1);
    let mut of: HashMap<u64, u64> = HashMap::new();
    let mut renamed: HashMap<u64, u64> = HashMap::new();
    for event in &mut history.events {
        match &mut event.what {
            What::Invoke { id, p, .. } => {
                if ids.contains(id) {
                    of.insert(*id, *p);
                }
                *p = renamed.get(p).copied().unwrap_or(*p);
            }
            What::Ok { id, .. } if ids.contains(id) => {
                renamed.insert(of[id], next);
                next += 1;
                let err = "settled by an earlier attempt, in a gap of the feed".into();
                event.what = What::Info { id: *id, err };
            }
            _ => {}
        }
    }
}

/// Of these operations, those whose effect every feed may have leapt over: each has a gap that ends behind all
/// that it had seen when the operation began. An effect is not older than its invocation.
pub fn in_gaps(history: &History, feeds: &[SeenFeed], lost: &[u64]) -> Vec<u64> {
    let begun = history.events.iter().filter_map(|event| match &event.what {
        What::Invoke { id, .. } if lost.contains(id) => Some((*id, event.t)),
        _ => None,
    });
    let leapt = |feed: &SeenFeed, t: u64| {
        let seen = feed.events.partition_point(|event| event.t < t);
        let reached = feed.events[..seen].last().map_or(0, |event| event.log_index);
        feed.resumed.iter().any(|&from| from > reached)
    };
    let whole = || {
        feeds
            .iter()
            .filter(|feed| feed.sale.is_none() && !feed.ends_early)
    };
    begun
        .filter(|&(_, t)| whole().all(|feed| leapt(feed, t)))
        .map(|(id, _)| id)
        .collect()
}

/// Operations with a key by kind and key, in order of invocation; keys in order of first use.
fn uses_of_keys(history: &History) -> Vec<((Kind, Name), Vec<Use>)> {
    let mut ends = HashMap::new();
    for event in &history.events {
        match &event.what {
            What::Ok { id, answer } if answer.outcome.is_effect() => {
                ends.insert(*id, End::Effect(*answer));
            }
            What::Ok { id, .. } | What::Fail { id } => {
                ends.insert(*id, End::None);
            }
            _ => {}
        }
    }
    let mut order: Vec<((Kind, Name), Vec<Use>)> = Vec::new();
    let mut known: HashMap<(Kind, Name), usize> = HashMap::new();
    for event in &history.events {
        if let What::Invoke { id, call, .. } = &event.what
            && let Some(&key) = call.key()
        {
            let end = ends.get(id).copied().unwrap_or(End::Unknown);
            let place = *known.entry((call.kind(), key)).or_insert_with(|| {
                order.push(((call.kind(), key), Vec::new()));
                order.len() - 1
            });
            order[place].1.push(Use {
                id: *id,
                call: *call,
                end,
            });
        }
    }
    order
}

fn effect_of_settling(history: &History, used: &Use, kind: Kind, settled: &Settled) -> Option<Effect> {
    let hold = history.names.text(*used.call.hold()?).to_owned();
    let &(idx, lt, deadline) = settled.get(&(hold, kind))?;
    let outcome = match kind {
        Kind::Confirm => Outcome::Confirmed,
        Kind::Release => Outcome::Released,
        Kind::Extend => Outcome::Extended { deadline },
        _ => Outcome::Done,
    };
    Some(Effect { idx, lt, outcome })
}

/// Moves answers to where their effects stand.
pub fn apply_moves(history: &mut History, moved: &[(u64, Index, u64)]) {
    let moved: HashMap<u64, (Index, u64)> = moved.iter().map(|&(id, idx, lt)| (id, (idx, lt))).collect();
    for event in &mut history.events {
        if let What::Ok { id, answer } = &mut event.what
            && let Some(&(idx, lt)) = moved.get(id)
        {
            answer.idx = Some(idx);
            answer.lt = lt;
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(places.moved, [(id, idx(5, 2), 50), (settled, idx(11, 3), 110)]);
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
        assert_eq!((places.moved, places.learned), (vec![], vec![nothing]));
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
        assert_eq!(places.moved, []);
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
        assert_eq!(places.moved, [(third, idx(5, 2), 50)]);
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
}
