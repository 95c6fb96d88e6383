//! Seeds that once found something.

use serde::Deserialize;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// Version of the plans that it was found with.
    pub plan: u32,
    /// What was wrong.
    pub found: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    seed: Vec<Found>,
}

/// All of them.
///
/// # Panics
/// When the file is not well formed, which the tests rule out.
pub fn corpus() -> Vec<Found> {
    let text = include_str!("../../seeds/corpus.toml");
    let corpus: Corpus = toml::from_str(text).expect("our own corpus is well formed");
    corpus.seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_there_once_and_says_what_it_found() {
        let mut seeds: Vec<u64> = corpus().iter().map(|found| found.seed).collect();
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), count);
        assert!(corpus().iter().all(|found| !found.found.is_empty()));
    }
}
