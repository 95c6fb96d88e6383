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

use std::collections::HashMap;

use client::EventKind;

use super::shop::{BEYOND, Effect};
use crate::{
    history::{Answer, Call, History, Index, Kind, Name, Outcome, What},
    properties::SeenFeed,
};

/// Settled holds by id and kind, as the feed tells.
pub type Settled = HashMap<(String, Kind), (Index, u64)>;

/// Where holds were confirmed and released.
pub fn settled(feeds: &[SeenFeed]) -> Settled {
    let mut settled = Settled::new();
    for event in feeds.iter().flat_map(|feed| &feed.events) {
        let kind = match event.kind {
            EventKind::ClaimConfirmed => Kind::Confirm,
            EventKind::ClaimReleased => Kind::Release,
            _ => continue,
        };
        if let (Some(claim), Some(command)) = (&event.claim, event.command) {
            let idx = Index {
                log_index: event.log_index,
                position: command.into(),
            };
            settled.insert((claim.claim_id.clone(), kind), (idx, event.lt));
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
            Kind::Confirm | Kind::Release => effect_of_settling(history, &uses[0], kind, settled),
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
        for used in uses.iter().filter(unknown) {
            let owns = owner.is_some_and(|owner| owner.id == used.id);
            match (had_effect, resolved.get(&used.id)) {
                // Answered by another operation of the same key: whatever this one did was a repetition.
                _ if owns => places.learned.push(Learned {
                    id: used.id,
                    effect: effect.clone(),
                }),
                (true, _) if owner.is_some() || answered => places.learned.push(Learned {
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
    let &(idx, lt) = settled.get(&(hold, kind))?;
    let outcome = match kind {
        Kind::Confirm => Outcome::Confirmed,
        _ => Outcome::Released,
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
