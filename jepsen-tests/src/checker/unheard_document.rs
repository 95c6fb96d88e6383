//! What a search needs to know of a document's operations: as [`super::unheard`] does for a sale's.
//!
//! An unheard put may have given any version that somebody spoke of and nobody was told to have written, or one
//! that nobody ever saw; so may an unheard lease with its token. Log times matter where something ends: now, just
//! after an end, and each that puts the new end at, or just after, a log time of which the history speaks.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::{Operation, Partition};
use crate::{
    history::{Call, Outcome},
    models::{Model, Way, document::Document, inventory::Id},
};

/// Unheard operations that set an end need an order among their own ends; with more than this, a search that
/// finds nothing proves nothing.
pub const OPEN_ENDS_MAX: usize = 1;

/// A document's operations as a model.
pub struct UnheardDocument<'a> {
    partition: &'a Partition,
    /// What was answered to each key, where it was an effect.
    by_key: BTreeMap<Id, Outcome<Id>>,
    /// Versions, and tokens, that somebody spoke of and nobody was told to have made.
    versions: Vec<u64>,
    tokens: Vec<u64>,
    /// Up to which log time a key was told to be given up.
    given_up: BTreeMap<Id, u64>,
    /// All log times and ends of which the history speaks.
    times: BTreeSet<u64>,
    open_ends: usize,
}

impl<'a> UnheardDocument<'a> {
    /// A model of a document.
    pub fn new(partition: &'a Partition) -> UnheardDocument<'a> {
        let mut by_key = BTreeMap::new();
        let (mut versions, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        let (mut written, mut leased) = (BTreeSet::new(), BTreeSet::new());
        let mut given_up: BTreeMap<Id, u64> = BTreeMap::new();
        let mut times = BTreeSet::new();
        let mut open_ends = 0;
        for Operation { call, answer, .. } in &partition.operations {
            match *call {
                Call::Put { version, token, .. } => {
                    versions.insert(version);
                    tokens.insert(token);
                }
                Call::Delete { version, .. } => {
                    versions.insert(version);
                }
                Call::Lease { token, .. } => {
                    tokens.insert(token);
                }
                _ => {}
            }
            let Some(answer) = answer else {
                let ends =
                    matches!(call, Call::Lease { .. }) || matches!(call, Call::Put { ttl_ms: 1.., .. });
                open_ends += usize::from(ends);
                continue;
            };
            times.insert(answer.lt);
            if let (true, Some(&key)) = (answer.outcome.is_effect(), call.key()) {
                by_key.insert(key, answer.outcome);
            }
            match answer.outcome {
                Outcome::Written { version } => {
                    written.insert(version);
                }
                Outcome::Leased { token, until } => {
                    leased.insert(token);
                    times.insert(until);
                }
                Outcome::Document {
                    version,
                    token,
                    until,
                    ..
                } => {
                    versions.insert(version);
                    tokens.insert(token);
                    times.insert(until);
                }
                Outcome::WrongVersion { version } => {
                    versions.insert(version);
                }
                Outcome::Busy { until } => {
                    times.insert(until);
                }
                Outcome::StaleToken { token } => {
                    tokens.insert(token);
                }
                Outcome::Fenced => {
                    if let Some(&key) = call.key() {
                        let until = given_up.entry(key).or_default();
                        *until = answer.lt.max(*until);
                    }
                }
                _ => {}
            }
        }
        let orphans = |spoken: BTreeSet<u64>, made: &BTreeSet<u64>| {
            let orphan = |number: &u64| *number != 0 && !made.contains(number);
            spoken.into_iter().filter(orphan).collect()
        };
        UnheardDocument {
            partition,
            by_key,
            versions: orphans(versions, &written),
            tokens: orphans(tokens, &leased),
            given_up,
            times,
            open_ends,
        }
    }

    /// Whether a search that finds nothing has tried everything.
    pub fn is_complete(&self) -> bool {
        self.open_ends <= OPEN_ENDS_MAX
    }

    /// Log times up to `until` at which something that lasts so long can be told from the same at another time.
    fn times(&self, document: &Document, lasts_ms: u64, until: u64) -> BTreeSet<u64> {
        let now = document.lt();
        let mut times = BTreeSet::from([now]);
        times.extend(document.ends());
        if lasts_ms != 0 {
            let told = self.times.iter().filter_map(|time| time.checked_sub(lasts_ms));
            times.extend(told.flat_map(|time| [time, time + 1]));
        }
        times.retain(|time| (now..=until).contains(time));
        times
    }
}

impl Model for UnheardDocument<'_> {
    type State = Document;

    fn start(&self) -> Document {
        Document::new(self.partition.ids())
    }

    fn known(&self, document: &mut Document, operation: usize) -> bool {
        let Operation { call, answer, .. } = &self.partition.operations[operation];
        let answer = answer.expect("a search takes as known what has an answer");
        document.step(call, answer.lt, &answer.outcome).is_ok()
    }

    fn ways(&self, document: &Document, operation: usize, next: usize, _refused: bool, ways: &mut Vec<Way>) {
        let call = &self.partition.operations[operation].call;
        let until = self.partition.operations[next]
            .answer
            .map_or(u64::MAX, |answer| answer.lt);
        if document.lt() > until {
            return;
        }
        let told = call.key().and_then(|key| self.by_key.get(key));
        let (new_version, new_token) = document.next();
        let (lasts_ms, mut made) = match *call {
            Call::Put { ttl_ms, .. } => (ttl_ms, self.versions.clone()),
            Call::Lease {
                lease_ms, token: 0, ..
            } => (lease_ms, self.tokens.clone()),
            Call::Lease { lease_ms, token, .. } => (lease_ms, vec![token]),
            Call::Resolve { about, .. } if !self.given_up.contains_key(&about) => return,
            _ => (0, vec![0]),
        };
        match (*call, told) {
            (_, Some(Outcome::Written { version })) => made = vec![*version],
            (_, Some(Outcome::Leased { token, .. })) => made = vec![*token],
            (Call::Put { .. }, _) => made.push(new_version),
            (Call::Lease { token: 0, .. }, _) => made.push(new_token),
            _ => {}
        }
        for lt in self.times(document, lasts_ms, until) {
            ways.extend(made.iter().map(|&made| Way {
                lt,
                made,
                ..Way::default()
            }));
        }
    }

    fn unknown(&self, document: &mut Document, operation: usize, way: Way) -> bool {
        let call = &self.partition.operations[operation].call;
        if let Call::Resolve { about, .. } = call {
            document.give_up(*about, self.given_up[about]);
            return true;
        }
        let (version_max, token_max) = {
            let (version, token) = document.next();
            (version - 1, token - 1)
        };
        match (call, document.step_unheard(call, way.lt, way.made)) {
            (_, Some(Outcome::Written { version })) => version > version_max,
            (Call::Lease { token: 0, .. }, Some(Outcome::Leased { token, .. })) => token > token_max,
            (_, outcome) => outcome.is_some(),
        }
    }

    fn mark(&self, document: &Document) -> usize {
        document.mark()
    }

    fn undo(&self, document: &mut Document, mark: usize) {
        document.undo(mark);
    }

    fn fingerprint(&self, document: &Document) -> u128 {
        document.fingerprint()
    }
}
