//! Throws bytes at whatever reads bytes of others: from the network or from a disk.
//!
//! A *target* is a test that hands [`Target::run`] a decoder. Inputs are mutations of known ones: what the
//! encoders write, and a corpus kept beside the tests (`fuzz/NAME.hex` in the package, one input a line). A
//! checksum would stop nearly all of them at the first check, so a target may *mend* an input before it is
//! decoded; every other input is mended. The decoder says in a few words what it made of an input; an
//! input that gets an answer never seen before joins those that are mutated further. So the search goes where
//! the decoder's own distinctions lead it, without an instrumented build.
//!
//! A target fails when the decoder panics, also by an assertion of the target's own (that what was decoded is
//! encoded back to the same bytes, say). It prints the input as a line for the corpus.
//!
//! Without `HOLDFAST_FUZZ_SECONDS` a target makes [`INPUTS`] inputs from a fixed seed, the same in every run;
//! with it, it runs for so long from a fresh seed, which it prints. `HOLDFAST_FUZZ_SEED` sets the seed,
//! `HOLDFAST_FUZZ_KEEP=1` adds what was new to the corpus.
//!
//! Left out: coverage by instrumentation, and decoders of others (their own projects fuzz those).

use std::{
    collections::HashSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Inputs of a run that has no time to spend: a fraction of a second.
pub const INPUTS: u64 = 3_000;

/// Most inputs that are mutated further, so that the first ones are not forgotten among thousands.
const POOL_MAX: usize = 512;

/// Longest input, in bytes: lengths and counts matter, not bulk.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Most mutations of one input.
const MUTATIONS_MAX: u32 = 8;

/// Most inputs that one run adds to the corpus, and the longest of them in bytes: a corpus is read by people, too.
const KEPT_MAX: usize = 32;
const KEPT_BYTES_MAX: usize = 512;

/// Numbers at which decoders go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// One decoder under fire.
pub struct Target {
    name: &'static str,
    corpus: PathBuf,
    known: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Target {
    /// A target of a package: `Target::new("vote", env!("CARGO_MANIFEST_DIR"))`.
    ///
    /// # Panics
    /// When the corpus cannot be read.
    pub fn new(name: &'static str, package_dir: &str) -> Target {
        let corpus = PathBuf::from(package_dir)
            .join("fuzz")
            .join(format!("{name}.hex"));
        let mut known = Vec::new();
        if corpus.exists() {
            let text = fs::read_to_string(&corpus).expect("the corpus can be read");
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let input =
                    unhex(line).unwrap_or_else(|| panic!("{}: `{line}` is not hex", corpus.display()));
                known.push(input);
            }
        }
        Target {
            name,
            corpus,
            known,
            words: Vec::new(),
        }
    }

    /// Adds inputs to begin with: what the encoder writes.
    pub fn known(mut self, inputs: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Target {
        self.known
            .extend(inputs.into_iter().map(|input| input.as_ref().to_vec()));
        self
    }

    /// Adds words that mean something to the decoder, to be put in anywhere.
    pub fn words(mut self, words: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Target {
        self.words
            .extend(words.into_iter().map(|word| word.as_ref().to_vec()));
        self
    }

    /// Runs the decoder on mutations. It answers in a few words what became of the input.
    ///
    /// # Panics
    /// When the decoder does.
    pub fn run(self, decode: impl Fn(&[u8]) -> String) {
        self.run_mended(|_| {}, decode);
    }

    /// As [`Target::run`]; `mend` puts checksums right.
    ///
    /// # Panics
    /// When the decoder does.
    pub fn run_mended(mut self, mend: impl Fn(&mut Vec<u8>), decode: impl Fn(&[u8]) -> String) {
        assert!(!self.known.is_empty(), "{}: nothing to begin with", self.name);
        let budget = Budget::from_environment();
        let seed = budget.seed;
        println!("{}: HOLDFAST_FUZZ_SEED={seed}", self.name);
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut answers: HashSet<String> = HashSet::new();
        let mut fresh: Vec<Vec<u8>> = Vec::new();
        let began = Instant::now();
        let mut tried: u64 = 0;
        // What is known first, as it is: what was once found must not come back.
        for input in self.known.clone() {
            answers.insert(self.answer(&input, &decode));
        }
        while budget.lasts(tried, began) {
            tried += 1;
            let mut input = self.known[chance.random_range(0..self.known.len())].clone();
            for _ in 0..chance.random_range(1..=MUTATIONS_MAX) {
                self.mutate(&mut input, &mut chance);
            }
            if chance.random() {
                mend(&mut input);
            }
            let answer = self.answer(&input, &decode);
            if answers.insert(answer) {
                fresh.push(input.clone());
                if self.known.len() < POOL_MAX {
                    self.known.push(input);
                }
            }
        }
        let took = began.elapsed();
        println!(
            "{}: {tried} inputs, {} answers, in {took:.1?}",
            self.name,
            answers.len()
        );
        if std::env::var_os("HOLDFAST_FUZZ_KEEP").is_some() {
            self.keep(&fresh);
        }
    }

    /// What the decoder makes of an input, in words without numbers.
    fn answer(&self, input: &[u8], decode: &impl Fn(&[u8]) -> String) -> String {
        match catch_unwind(AssertUnwindSafe(|| decode(input))) {
            Ok(answer) => answer
                .chars()
                .filter(|letter| !letter.is_ascii_digit())
                .take(160)
                .collect(),
            Err(_) => panic!(
                "{}: the decoder panicked; mend it, and keep this line in {}:\n{}",
                self.name,
                self.corpus.display(),
                hex(input)
            ),
        }
    }

    fn keep(&self, fresh: &[Vec<u8>]) {
        let mut text = fs::read_to_string(&self.corpus).unwrap_or_default();
        // Short ones say the same with fewer bytes.
        let mut short: Vec<&Vec<u8>> = fresh
            .iter()
            .filter(|input| input.len() <= KEPT_BYTES_MAX)
            .collect();
        short.sort_by_key(|input| input.len());
        for input in short.into_iter().take(KEPT_MAX) {
            text.push_str(&hex(input));
            text.push('\n');
        }
        if let Some(dir) = self.corpus.parent() {
            fs::create_dir_all(dir).expect("the corpus can be written");
        }
        fs::write(&self.corpus, text).expect("the corpus can be written");
    }

    fn mutate(&self, input: &mut Vec<u8>, chance: &mut SmallRng) {
        let at = |chance: &mut SmallRng, length: usize| chance.random_range(0..=length);
        let length = input.len();
        match chance.random_range(0..10) {
            // One bit.
            0 if length > 0 => input[chance.random_range(0..length)] ^= 1 << chance.random_range(0..8),
            // One byte.
            1 if length > 0 => input[chance.random_range(0..length)] = chance.random(),
            // A number where a number may be.
            2 | 3 if length > 0 => {
                let edge = EDGES[chance.random_range(0..EDGES.len())];
                let bytes = if chance.random() {
                    edge.to_le_bytes()
                } else {
                    edge.to_be_bytes()
                };
                let width = [1, 2, 4, 8][chance.random_range(0..4)];
                let bytes = if chance.random() {
                    &bytes[..width]
                } else {
                    &bytes[8 - width..]
                };
                let start = chance.random_range(0..length);
                for (place, byte) in input[start..].iter_mut().zip(bytes) {
                    *place = *byte;
                }
            }
            // A piece less.
            4 if length > 0 => {
                let (from, to) = (at(chance, length), at(chance, length));
                input.drain(from.min(to)..from.max(to));
            }
            // The end less.
            5 => input.truncate(at(chance, length)),
            // A piece twice.
            6 if length > 0 => {
                let (from, to) = (at(chance, length), at(chance, length));
                let piece = input[from.min(to)..from.max(to)].to_vec();
                insert(input, at(chance, length), &piece);
            }
            // A piece of another.
            7 => {
                let other = &self.known[chance.random_range(0..self.known.len())];
                let (from, to) = (at(chance, other.len()), at(chance, other.len()));
                insert(input, at(chance, length), &other[from.min(to)..from.max(to)]);
            }
            // A word.
            8 if !self.words.is_empty() => {
                let word = &self.words[chance.random_range(0..self.words.len())];
                insert(input, at(chance, length), word);
            }
            // Any bytes.
            _ => {
                let count = chance.random_range(1..16);
                let bytes: Vec<u8> = (0..count).map(|_| chance.random()).collect();
                insert(input, at(chance, length), &bytes);
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// How long to go on.
struct Budget {
    time: Option<Duration>,
    seed: u64,
}

impl Budget {
    fn from_environment() -> Budget {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
            )
        };
        let time = number("HOLDFAST_FUZZ_SECONDS").map(Duration::from_secs);
        let fixed = if time.is_some() { rand::random() } else { 1 };
        Budget {
            time,
            seed: number("HOLDFAST_FUZZ_SEED").unwrap_or(fixed),
        }
    }

    fn lasts(&self, tried: u64, began: Instant) -> bool {
        match self.time {
            Some(time) => began.elapsed() < time,
            None => tried < INPUTS,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn target() -> Target {
        Target::new("itself", env!("CARGO_MANIFEST_DIR")).known([b"length 5 and more".as_slice()])
    }

    #[test]
    fn a_decoder_that_panics_is_found_behind_its_checksum() {
        // Refuses nearly everything, and then believes a length.
        let careless = |input: &[u8]| {
            let Some((sum, body)) = input.split_first() else {
                return "empty".to_owned();
            };
            if body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != *sum {
                return "sum".to_owned();
            }
            match body.first() {
                Some(length) => format!("{:?}", &body[1..=usize::from(*length)]),
                None => "short".to_owned(),
            }
        };
        let mend = |input: &mut Vec<u8>| {
            if let Some((sum, body)) = input.split_first_mut() {
                *sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            }
        };
        let found = catch_unwind(AssertUnwindSafe(|| target().run_mended(mend, careless)));
        let said = *found.expect_err("it was not found").downcast::<String>().unwrap();
        assert!(said.contains("itself.hex"), "{said}");
    }

    #[test]
    fn a_run_without_time_is_the_same_every_time() {
        let inputs = || {
            let seen = RefCell::new(Vec::new());
            target().run(|input| {
                seen.borrow_mut().push(input.to_vec());
                input.len().to_string()
            });
            seen.into_inner()
        };
        // With time to spend, seeds differ by design.
        if std::env::var_os("HOLDFAST_FUZZ_SECONDS").is_none() {
            assert_eq!(inputs(), inputs());
        }
    }

    #[test]
    fn hex_comes_back() {
        assert_eq!(unhex(&hex(&[0, 1, 255])), Some(vec![0, 1, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
