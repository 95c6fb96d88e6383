//! What a runner writes beside a history, for people and for this report: `verdicts.json`.

use std::{fs::File, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::properties::{Finding, Verdict};

/// Its name in a run's directory.
pub const VERDICTS_FILE: &str = "verdicts.json";

/// One run and what was decided of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    /// What ran, in a few words: `flash, 3 processes, all faults`.
    pub run: String,
    /// What drew every choice.
    pub seed: u64,
    /// The command that runs it again.
    pub replay: String,
    /// Why the run itself is worth nothing, if it is: a node that did not start, too few operations, a harness
    /// that crashed. Whatever was found then proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The checker's finding and every property's.
    pub findings: Vec<Finding>,
    /// What the nemesis did.
    #[serde(default)]
    pub coverage: Vec<Coverage>,
}

/// How often one kind of fault happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Which kind.
    pub name: String,
    /// How often it began.
    pub count: u64,
    /// How often it hit the node that led; none: it hits no single node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_hits: Option<u64>,
}

/// A run in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overall {
    /// Everything that was checked holds.
    Valid,
    /// Something does not hold.
    Invalid,
    /// Nothing is wrong, but something could not be decided.
    Unknown,
    /// The run itself is worth nothing.
    Broken,
}

impl Overall {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Overall::Valid => "valid",
            Overall::Invalid => "invalid",
            Overall::Unknown => "unknown",
            Overall::Broken => "broken",
        }
    }
}

impl From<Verdict> for Overall {
    fn from(verdict: Verdict) -> Overall {
        match verdict {
            Verdict::Valid => Overall::Valid,
            Verdict::Unknown => Overall::Unknown,
            Verdict::Invalid => Overall::Invalid,
        }
    }
}

impl Verdicts {
    /// The run in one word: what is wrong outweighs what is not known. A run in which nothing was checked is
    /// broken, never valid; so is one that broke, unless it shows a violation all the same.
    pub fn overall(&self) -> Overall {
        match self.findings.iter().map(|finding| finding.verdict).max() {
            Some(Verdict::Invalid) => Overall::Invalid,
            _ if self.broken.is_some() => Overall::Broken,
            Some(verdict) => verdict.into(),
            None => Overall::Broken,
        }
    }

    /// Reads it from a run's directory.
    ///
    /// # Errors
    /// The file is not there, or no such JSON.
    pub fn read(dir: &Path) -> io::Result<Verdicts> {
        let file = File::open(dir.join(VERDICTS_FILE))?;
        Ok(serde_json::from_reader(io::BufReader::new(file))?)
    }

    /// Writes it to a run's directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(dir.join(VERDICTS_FILE), text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(found: &[Verdict], broken: Option<&str>) -> Verdicts {
        let finding = |&verdict| Finding {
            property: "conservation".into(),
            verdict,
            summary: "3 looked at".into(),
            operations: vec![1, 2],
        };
        Verdicts {
            run: "flash".into(),
            seed: u64::MAX,
            replay: "simulate".into(),
            broken: broken.map(Into::into),
            findings: found.iter().map(finding).collect(),
            coverage: vec![Coverage {
                name: "kill".into(),
                count: 3,
                leader_hits: Some(1),
            }],
        }
    }

    #[test]
    fn what_is_wrong_outweighs_what_is_not_known() {
        use Verdict::{Invalid, Unknown, Valid};
        for (found, broken, overall) in [
            (&[Valid, Valid][..], None, Overall::Valid),
            (&[Valid, Unknown], None, Overall::Unknown),
            (&[Unknown, Invalid, Valid], None, Overall::Invalid),
            (&[Valid], Some("too few operations"), Overall::Broken),
            (&[Invalid], Some("too few operations"), Overall::Invalid),
            (&[], None, Overall::Broken),
        ] {
            assert_eq!(verdicts(found, broken).overall(), overall, "{found:?} {broken:?}");
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let written = verdicts(&[Verdict::Unknown], Some("a node did not start"));
        written.write(dir.path()).unwrap();
        assert_eq!(Verdicts::read(dir.path()).unwrap(), written);
    }

    #[test]
    fn a_mistyped_field_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"run":"x","seed":1,"replay":"y","findings":[],"brokn":"z"}"#;
        std::fs::write(dir.path().join(VERDICTS_FILE), text).unwrap();
        let error = Verdicts::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("brokn"), "{error}");
    }
}
