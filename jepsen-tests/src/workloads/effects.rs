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

use super::shop::Effect;
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
    /// Answers that tell of an effect that stands elsewhere: operation, and its effect.
    pub moved: Vec<(u64, Effect)>,
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
            places.moved.push((owner.id, effect.clone()));
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

/// Moves answers to where their effects stand, and as they were told there: a claim with its first deadline.
pub fn apply_moves(history: &mut History, moved: &[(u64, Effect)]) {
    let moved: HashMap<u64, &Effect> = moved.iter().map(|(id, effect)| (*id, effect)).collect();
    for event in &mut history.events {
        if let What::Ok { id, answer } = &mut event.what
            && let Some(effect) = moved.get(id)
        {
            answer.idx = Some(effect.idx);
            answer.lt = effect.lt;
            if let (Outcome::Granted { deadline, .. }, Outcome::Granted { deadline: first, .. }) =
                (&mut answer.outcome, &effect.outcome)
            {
                *deadline = *first;
            }
        }
    }
}

#[cfg(test)]
mod tests;
