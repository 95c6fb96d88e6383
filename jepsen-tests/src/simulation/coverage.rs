//! What faults came about, and how often they hit whoever led.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Fault;

/// What one kind of fault did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How often it came about.
    pub fired: u64,
    /// How often of these it hit the leader of the time, or a door that was at something.
    pub at_leader: u64,
}

/// Counts of every kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(BTreeMap<Fault, Count>);

impl Coverage {
    /// No kind came about yet.
    pub fn new() -> Coverage {
        Coverage::of(&Fault::ALL)
    }

    /// None of these came about yet.
    pub fn of(faults: &[Fault]) -> Coverage {
        let faults = faults.iter();
        Coverage(faults.map(|fault| (*fault, Count::default())).collect())
    }

    /// A fault came about.
    pub fn note(&mut self, fault: Fault, at_leader: bool) {
        let count = self.0.entry(fault).or_default();
        count.fired += 1;
        count.at_leader += u64::from(at_leader);
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        for (fault, count) in &other.0 {
            let mine = self.0.entry(*fault).or_default();
            mine.fired += count.fired;
            mine.at_leader += count.at_leader;
        }
    }

    /// Every kind's count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        self.0.iter().map(|(fault, count)| (fault.name(), *count))
    }

    /// Kinds that never came about, or never hit the leader.
    pub fn missing(&self) -> Vec<&'static str> {
        self.counts()
            .filter(|(_, count)| count.fired == 0 || count.at_leader == 0)
            .map(|(name, _)| name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_never_hit_the_leader_is_missing() {
        let mut coverage = Coverage::new();
        assert_eq!(coverage.missing().len(), Fault::ALL.len());
        for fault in Fault::ALL {
            coverage.note(fault, fault != Fault::Loss);
        }
        assert_eq!(coverage.missing(), ["loss"]);
        coverage.add(&coverage.clone());
        assert_eq!(coverage.counts().next().unwrap().1.fired, 2);
        let told = serde_json::to_string(&coverage).unwrap();
        let heard: Coverage = serde_json::from_str(&told).unwrap();
        assert!(heard.counts().eq(coverage.counts()), "{told}");
        assert!(
            Fault::ALL
                .iter()
                .all(|fault| told.contains(&format!("\"{}\"", fault.name()))),
            "{told}"
        );
    }
}
