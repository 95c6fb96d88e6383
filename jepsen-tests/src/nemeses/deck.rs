//! Which fault comes next, and to whom; and what came about.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::{Fired, Kind};

/// Deals the kinds that were asked for, in rounds: each once a round, in another order. Kinds that have not hit
/// the leader yet aim at it; later ones at anybody, the leader as often as not.
#[derive(Debug)]
pub struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

/// What one kind did over a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Which kind.
    pub name: String,
    /// How often it came about.
    pub count: u64,
    /// How often of these it hit the leader of the time; none: it hits no single node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_hits: Option<u64>,
    /// Why it did not, the last time it did not.
    pub missed: Option<String>,
}

/// What all kinds did over a campaign.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<Kind, Count>,
}

impl Count {
    fn of(kind: Kind) -> Count {
        Count {
            name: kind.name(),
            leader_hits: (!kind.hits_all()).then_some(0),
            ..Count::default()
        }
    }
}

impl Deck {
    /// Of these kinds.
    ///
    /// # Panics
    /// There are none.
    pub fn new(kinds: &[Kind]) -> Deck {
        assert!(!kinds.is_empty(), "a deck without cards deals nothing");
        Deck {
            kinds: kinds.to_vec(),
            left: Vec::new(),
        }
    }

    /// The next kind.
    pub fn deal(&mut self, chance: &mut SmallRng) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(chance);
        }
        self.left.pop().expect("just filled")
    }
}

impl Coverage {
    /// Nothing yet of these kinds.
    pub fn new(kinds: &[Kind]) -> Coverage {
        Coverage {
            counts: kinds.iter().map(|&kind| (kind, Count::of(kind))).collect(),
        }
    }

    /// Whom a kind should hit: `leader`, or any of `ids`.
    ///
    /// # Panics
    /// There are no ids.
    pub fn victim(&self, kind: Kind, leader: u64, ids: &[u64], chance: &mut SmallRng) -> u64 {
        let leader_hits = self.counts.get(&kind).and_then(|count| count.leader_hits);
        let hit_before = leader_hits.is_some_and(|hits| hits > 0);
        if !hit_before || chance.random_bool(0.5) {
            leader
        } else {
            ids[chance.random_range(0..ids.len())]
        }
    }

    /// A fault was tried.
    pub fn note(&mut self, kind: Kind, hit_leader: bool, fired: &Fired) {
        let count = self.counts.entry(kind).or_insert_with(|| Count::of(kind));
        match fired {
            Fired::Yes(_) => {
                count.count += 1;
                if let Some(leader_hits) = &mut count.leader_hits {
                    *leader_hits += u64::from(hit_leader);
                }
            }
            Fired::No(why) => count.missed = Some(why.clone()),
        }
    }

    /// What each kind did.
    pub fn counts(&self) -> Vec<Count> {
        self.counts.values().cloned().collect()
    }

    /// What is missing, a sentence each.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.counts.values().filter_map(|count| {
            let name = &count.name;
            match count {
                Count {
                    count: 0,
                    missed: Some(why),
                    ..
                } => Some(format!("{name} never came about: {why}")),
                Count { count: 0, .. } => Some(format!("{name} was never tried: run longer")),
                Count {
                    leader_hits: Some(0), ..
                } => Some(format!("{name} never hit the leader: run longer")),
                _ => None,
            }
        });
        missing.collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_round_deals_every_kind_once() {
        let mut chance = SmallRng::seed_from_u64(1);
        let mut deck = Deck::new(Kind::all());
        for _ in 0..3 {
            let mut round: Vec<Kind> = Kind::all().iter().map(|_| deck.deal(&mut chance)).collect();
            round.sort();
            assert_eq!(round, Kind::all());
        }
    }

    #[test]
    fn the_leader_is_aimed_at_until_it_was_hit() {
        let mut chance = SmallRng::seed_from_u64(1);
        let mut coverage = Coverage::new(&[Kind::Kill]);
        for _ in 0..20 {
            assert_eq!(coverage.victim(Kind::Kill, 2, &[1, 2, 3], &mut chance), 2);
        }
        coverage.note(Kind::Kill, true, &Fired::Yes(String::new()));
        let later: Vec<u64> = (0..50)
            .map(|_| coverage.victim(Kind::Kill, 2, &[1, 2, 3], &mut chance))
            .collect();
        assert!(later.contains(&1) && later.contains(&2) && later.contains(&3));
    }

    #[test]
    fn what_never_fired_or_never_hit_the_leader_is_missing() {
        let mut coverage = Coverage::new(&[Kind::Kill, Kind::Pause, Kind::FullDisk]);
        assert_eq!(coverage.missing().len(), 3);
        coverage.note(Kind::Kill, true, &Fired::Yes(String::new()));
        coverage.note(Kind::Pause, false, &Fired::Yes(String::new()));
        coverage.note(Kind::FullDisk, true, &Fired::No("no file grew".to_owned()));
        let missing = coverage.missing().join("\n");
        assert!(
            missing.contains("pause never hit the leader") && missing.contains("no file grew"),
            "{missing}"
        );
        assert!(!missing.contains("kill"), "{missing}");
    }

    #[test]
    fn what_hits_no_single_node_is_not_asked_for_the_leader() {
        let mut coverage = Coverage::new(&[Kind::Loss, Kind::KillAll]);
        for kind in [Kind::Loss, Kind::KillAll] {
            coverage.note(kind, false, &Fired::Yes(String::new()));
        }
        assert!(coverage.missing().is_empty(), "{:?}", coverage.missing());
        assert!(coverage.counts().iter().all(|count| count.leader_hits.is_none()));
    }
}
