//! The sale that is expected, as a small TOML file says it.

use std::{fs::File, io::Read, path::Path};

use serde::Deserialize;

use crate::exit::Failure;

/// A file to begin with.
pub const EXAMPLE: &str = r#"# The sale that is expected, for `holdfast rehearse --sale-like FILE`.

units_total = 10000           # units for sale, 1 to 1,000,000
hold_ms = 180000              # how long a claim is held, 1,000 to 86,400,000 ms; a short one also rehearses expiry
per_user_units_max = 1        # most units of one person, 1 to 65,535 [1]

people = 100000               # different persons who come, 1 to 10,000,000
claims_per_s_expected = 5000  # the peak, 1 to 200,000 claims a second
seconds = 30                  # how long it lasts, 1 to 600 s
paying_percent = 70           # of those who get a unit, 0 to 100; of the others half give it back, half let it expire

claim_p99_ms_max = 500        # slowest claim of a hundred that is still good, 1 to 60,000 ms [500]
failover_ms_max = 3000        # longest silence when the leader changes, 1 to 60,000 ms [3000]
"#;

/// Most units of a rehearsal. Every grant leaves a record of 96 bytes on every node for good, and a unit may be granted
/// more than once.
const UNITS_MAX: u64 = 1_000_000;

/// Most persons: each is a name in a claim, kept nowhere.
const PEOPLE_MAX: u64 = 10_000_000;

/// Most claims a second: beyond what one process can offer on two cores.
const CLAIMS_PER_S_MAX: u64 = 200_000;

/// Longest rehearsal, in seconds: real sales share the cluster meanwhile.
const SECONDS_MAX: u64 = 600;

/// Longest time that can be good, in ms: a call gives up by then.
const GOOD_MS_MAX: u64 = 60_000;

/// Largest file, in bytes: the example has one KB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The sale that is expected.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleLike {
    pub units_total: u32,
    pub hold_ms: u64,
    #[serde(default = "per_user_units_max_default")]
    pub per_user_units_max: u32,
    pub people: u64,
    pub claims_per_s_expected: u64,
    pub seconds: u64,
    pub paying_percent: u64,
    #[serde(default = "claim_p99_ms_max_default")]
    pub claim_p99_ms_max: u64,
    #[serde(default = "failover_ms_max_default")]
    pub failover_ms_max: u64,
}

fn per_user_units_max_default() -> u32 {
    1
}

/// The objective that the alert `ClaimsSlow` watches.
fn claim_p99_ms_max_default() -> u64 {
    500
}

/// An election and a half on a slow network.
fn failover_ms_max_default() -> u64 {
    3_000
}

impl SaleLike {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, has a key that is none, or a value out of its range.
    pub fn read(path: &Path) -> Result<SaleLike, Failure> {
        let failed = |why: String| {
            Failure::Usage(format!(
                "--sale-like {}: {why}; `holdfast rehearse --example` prints a file to begin with",
                path.display()
            ))
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        SaleLike::parse(&text).map_err(failed)
    }

    fn parse(text: &str) -> Result<SaleLike, String> {
        let like: SaleLike = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        for (name, value, range, unit) in [
            ("units_total", u64::from(like.units_total), 1..=UNITS_MAX, "units"),
            ("hold_ms", like.hold_ms, 1_000..=86_400_000, "ms"),
            (
                "per_user_units_max",
                like.per_user_units_max.into(),
                1..=65_535,
                "units",
            ),
            ("people", like.people, 1..=PEOPLE_MAX, "persons"),
            (
                "claims_per_s_expected",
                like.claims_per_s_expected,
                1..=CLAIMS_PER_S_MAX,
                "claims a second",
            ),
            ("seconds", like.seconds, 1..=SECONDS_MAX, "s"),
            ("paying_percent", like.paying_percent, 0..=100, "%"),
            ("claim_p99_ms_max", like.claim_p99_ms_max, 1..=GOOD_MS_MAX, "ms"),
            ("failover_ms_max", like.failover_ms_max, 1..=GOOD_MS_MAX, "ms"),
        ] {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err(format!("{name} = {value}: give {least} to {most} {unit}"));
            }
        }
        Ok(like)
    }

    /// The sale of the example.
    #[cfg(test)]
    pub fn example() -> SaleLike {
        SaleLike::parse(EXAMPLE).expect("the example is good")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_good_and_says_the_defaults() {
        let example = SaleLike::example();
        let short: String = EXAMPLE
            .lines()
            .filter(|line| !line.contains("] ") && !line.ends_with(']'))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(!short.contains("per_user_units_max") && !short.contains("failover_ms_max"));
        assert_eq!(SaleLike::parse(&short), Ok(example));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |name: &str, value: &str| {
            let lines = EXAMPLE.lines().map(|line| match line.split(' ').next() {
                Some(first) if first == name => format!("{name} = {value}"),
                _ => line.to_owned(),
            });
            SaleLike::parse(&lines.collect::<Vec<_>>().join("\n"))
        };
        for (name, value, says) in [
            ("units_total", "0", "units_total = 0: give 1 to 1000000 units"),
            ("units_total", "1000001", "units_total = 1000001"),
            ("units_total", "-1", "units_total"),
            ("hold_ms", "999", "hold_ms = 999: give 1000 to 86400000 ms"),
            ("hold_ms", "\"3m\"", "hold_ms"),
            ("per_user_units_max", "65536", "per_user_units_max"),
            ("people", "0", "people = 0"),
            ("claims_per_s_expected", "200001", "claims a second"),
            ("seconds", "601", "seconds = 601: give 1 to 600 s"),
            ("paying_percent", "101", "paying_percent = 101: give 0 to 100 %"),
            ("claim_p99_ms_max", "0", "claim_p99_ms_max"),
            ("failover_ms_max", "60001", "failover_ms_max"),
        ] {
            let refused = with(name, value).expect_err(name);
            assert!(refused.contains(says), "{name} = {value}: {refused}");
        }
        assert!(with("paying_percent", "0").is_ok() && with("people", "1").is_ok());
        let unknown = SaleLike::parse(&format!("{EXAMPLE}unit_total = 3\n")).unwrap_err();
        assert!(unknown.contains("unit_total"), "{unknown}");
        let missing = SaleLike::parse("units_total = 1").unwrap_err();
        assert!(missing.contains("hold_ms"), "{missing}");
    }

    #[test]
    fn a_file_that_is_not_there_or_huge_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sale.toml");
        let failure = SaleLike::read(&path).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("sale.toml"), "{failure}");
        std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(
            SaleLike::read(&path)
                .unwrap_err()
                .to_string()
                .contains("more than")
        );
        std::fs::write(&path, EXAMPLE).unwrap();
        assert_eq!(SaleLike::read(&path).unwrap(), SaleLike::example());
    }
}
