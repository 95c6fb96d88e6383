//! The proof in one command: every way in which this package doubts the store, one stage after the other, and one
//! page that says what each of them found.
//!
//! A [`Stage`] is a command of this package, run as anybody would run it: its exit code is its verdict (0 valid, 1
//! invalid, 2 unknown, anything else broken), and the proof is as bad as its worst stage. Nothing is judged here,
//! but for the histories of the repository, whose names say what the checker must find.
//!
//! Left out: retries. A stage that is red once is red.

mod artifacts;
mod page;
pub mod plan;
mod stage;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use stage::{Judge, Stage};

use crate::report::Overall;

/// The page, in the directory of a proof.
pub const PAGE_FILE: &str = "report.html";

/// What a stage found.
#[derive(Debug)]
pub struct Found {
    /// The stage's name.
    pub name: String,
    /// What it does, in a few words.
    pub what: String,
    /// The command line that does it again.
    pub command: String,
    /// Its verdict.
    pub overall: Overall,
    /// How long it took.
    pub took: Duration,
    /// All it printed.
    pub printed: String,
    /// Pages of runs that it left behind, as seen from the proof's own.
    pub pages: Vec<PathBuf>,
}

/// A proof that has run.
#[derive(Debug)]
pub struct Proof {
    /// `quick proof`, `long proof`.
    pub name: String,
    /// The command that does all of it again.
    pub replay: String,
    /// Its stages in order.
    pub found: Vec<Found>,
    /// Stages that were left out on demand.
    pub without: Vec<String>,
}

impl Proof {
    /// As bad as its worst stage; at best unknown where something was left out.
    pub fn overall(&self) -> Overall {
        let left_out = (!self.without.is_empty()).then_some(Overall::Unknown);
        let stages = self.found.iter().map(|found| found.overall);
        let worst = stages.chain(left_out).max_by_key(|overall| badness(*overall));
        worst.unwrap_or(Overall::Broken)
    }

    /// The table at the end.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for found in &self.found {
            out += &format!(
                "{:<13} {:<8} {:>6.0} s  {}\n",
                found.name,
                found.overall.word(),
                found.took.as_secs_f64(),
                found.what
            );
        }
        for name in &self.without {
            out += &format!("{name:<13} left out\n");
        }
        let took: Duration = self.found.iter().map(|found| found.took).sum();
        let built = self.found.iter().filter(|found| found.name == plan::BUILD);
        let built: Duration = built.map(|found| found.took).sum();
        out += &format!(
            "{}: {} in {:.0} s, {:.0} s of them to build\n",
            self.name,
            self.overall().word(),
            took.as_secs_f64(),
            built.as_secs_f64()
        );
        out
    }
}

/// What is wrong outweighs what is broken, and that what is not known.
fn badness(overall: Overall) -> u8 {
    match overall {
        Overall::Valid => 0,
        Overall::Unknown => 1,
        Overall::Broken => 2,
        Overall::Invalid => 3,
    }
}

/// Runs stages in order, tells of each through `say`, and writes the page after each: what was found is there even
/// if the rest never comes.
///
/// # Errors
/// A file cannot be written; or the proof was interrupted, which is [`io::ErrorKind::Interrupted`].
pub async fn prove(
    name: &str,
    replay: &str,
    stages: Vec<Stage>,
    without: Vec<String>,
    dir: &Path,
    say: impl Fn(&str),
) -> io::Result<Proof> {
    let mut proof = Proof {
        name: name.to_owned(),
        replay: replay.to_owned(),
        found: Vec::new(),
        without,
    };
    let count = stages.len();
    for (number, stage) in stages.into_iter().enumerate() {
        let to_come = count - number - 1;
        say(&format!(
            "[{}/{count}] {}: {}",
            number + 1,
            stage.name,
            stage.what
        ));
        let begun = Instant::now();
        let (overall, printed) = stage.run().await?;
        let file = dir.join(format!("{}.txt", stage.name));
        fs::write(&file, &printed)?;
        let took = begun.elapsed();
        say(&format!(
            "      {} in {:.0} s",
            overall.word(),
            took.as_secs_f64()
        ));
        let is_needed = stage.is_needed;
        let pages = pages(&dir.join(&stage.name), dir)?;
        if overall != Overall::Valid {
            let tail: Vec<&str> = printed.lines().rev().take(TAIL_LINES).collect();
            tail.iter().rev().for_each(|line| say(&format!("      | {line}")));
            for page in pages.iter().take(TAIL_PAGES) {
                say(&format!("      {}", dir.join(page).display()));
            }
            if let Some(more @ 1..) = pages.len().checked_sub(TAIL_PAGES) {
                say(&format!("      and {more} more pages"));
            }
        }
        proof.found.push(Found {
            command: stage.line(),
            name: stage.name,
            what: stage.what,
            overall,
            took,
            printed,
            pages,
        });
        let html = page::page(&proof, dir, to_come).into_string();
        fs::write(dir.join(PAGE_FILE), html)?;
        if is_needed && overall != Overall::Valid {
            break;
        }
    }
    Ok(proof)
}

/// Lines of a stage's output that are shown at once when it is not valid; the rest is in its file.
const TAIL_LINES: usize = 20;

/// Pages of runs that are named at once; the proof's own page has a way to each.
const TAIL_PAGES: usize = 3;

/// Pages of runs below a directory, in their order, as seen from `home`.
fn pages(below: &Path, home: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![below.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name == PAGE_FILE) {
                found.push(path.strip_prefix(home).unwrap_or(&path).to_path_buf());
            }
        }
    }
    // Run 2 before run 10.
    found.sort_by_key(|page| (page.as_os_str().len(), page.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(name: &str, script: &str) -> Stage {
        Stage::new(name, "a script", "sh", ["-c", script], Judge::ExitCode)
    }

    async fn proved(dir: &Path, stages: Vec<Stage>, without: Vec<String>) -> Proof {
        prove("a proof", "again", stages, without, dir, |_| {})
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_proof_is_as_bad_as_its_worst_stage_and_every_stage_is_run() {
        let dir = tempfile::tempdir().unwrap();
        for (codes, overall) in [
            (&[0, 0][..], Overall::Valid),
            (&[0, 2, 0], Overall::Unknown),
            (&[2, 3, 0], Overall::Broken),
            (&[1, 3, 0], Overall::Invalid),
            (&[77], Overall::Broken),
            (&[], Overall::Broken),
        ] {
            let stages = codes.iter().enumerate().map(|(number, code)| {
                shell(&format!("s{number}"), &format!("echo said-{number}; exit {code}"))
            });
            let proof = proved(dir.path(), stages.collect(), Vec::new()).await;
            assert_eq!(proof.overall(), overall, "{codes:?}");
            assert_eq!(proof.found.len(), codes.len());
        }
        assert_eq!(fs::read_to_string(dir.path().join("s1.txt")).unwrap(), "said-1\n");
    }

    #[tokio::test]
    async fn a_test_that_did_not_run_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (said, code, overall) in [
            ("test result: ok. 2 passed; 0 failed", 0, Overall::Valid),
            ("test result: ok. 0 passed; 0 failed", 0, Overall::Broken),
            ("test result: FAILED. 1 passed; 1 failed", 101, Overall::Invalid),
            ("error: could not compile", 101, Overall::Broken),
        ] {
            let script = format!("echo '{said}'; exit {code}");
            let stage = Stage::new("crashes", "tests", "sh", ["-c", &script], Judge::Tests);
            let proof = proved(dir.path(), vec![stage], Vec::new()).await;
            assert_eq!(proof.overall(), overall, "{said}");
        }
    }

    #[tokio::test]
    async fn a_build_does_not_hear_of_the_package_that_runs_it() {
        let ours = "CARGO_MANIFEST_DIR";
        assert!(std::env::var_os(ours).is_some(), "cargo tells its tests as well");
        let dir = tempfile::tempdir().unwrap();
        let proof = proved(dir.path(), vec![shell("env", "env")], Vec::new()).await;
        let printed = &proof.found[0].printed;
        assert!(printed.contains("PATH="), "{printed}");
        assert!(
            !printed.contains(ours) && !printed.contains("CARGO_PKG_"),
            "{printed}"
        );
    }

    #[tokio::test]
    async fn what_was_left_out_is_not_proved() {
        let dir = tempfile::tempdir().unwrap();
        let proof = proved(dir.path(), vec![shell("one", "true")], vec!["processes".into()]).await;
        assert_eq!(proof.overall(), Overall::Unknown);
        assert!(
            proof.table().contains("processes     left out"),
            "{}",
            proof.table()
        );
    }

    #[tokio::test]
    async fn nothing_goes_on_without_what_it_needs_and_a_missing_program_breaks() {
        let dir = tempfile::tempdir().unwrap();
        let stages = vec![shell("build", "exit 101").needed(), shell("more", "true")];
        let proof = proved(dir.path(), stages, Vec::new()).await;
        assert_eq!((proof.found.len(), proof.overall()), (1, Overall::Broken));
        let none: [&str; 0] = [];
        let missing = Stage::new("gone", "nothing", "no-such-program", none, Judge::ExitCode);
        let proof = proved(dir.path(), vec![missing], Vec::new()).await;
        assert_eq!(proof.overall(), Overall::Broken);
        assert!(proof.found[0].printed.contains("no-such-program"), "{proof:?}");
    }

    #[tokio::test]
    async fn the_page_shows_what_a_red_stage_printed_and_links_its_runs() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("seeds/seed-7");
        let script = format!(
            "mkdir -p {0}; echo '<html>' > {0}/report.html; echo 'seed 7 <failed>'; exit 1",
            run.display()
        );
        let proof = proved(dir.path(), vec![shell("seeds", &script)], Vec::new()).await;
        assert_eq!(proof.found[0].pages, [PathBuf::from("seeds/seed-7/report.html")]);
        let page = fs::read_to_string(dir.path().join(PAGE_FILE)).unwrap();
        assert!(page.contains("seed 7 &lt;failed&gt;"), "{page}");
        assert!(page.contains("href=\"seeds/seed-7/report.html\""), "{page}");
        assert!(page.contains("invalid"));
    }

    #[tokio::test]
    async fn where_everything_is_red_the_first_runs_are_told_and_the_page_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("seeds");
        let script = format!(
            "for n in $(seq 100); do mkdir -p {0}/seed-$n; echo > {0}/seed-$n/report.html; done; exit 1",
            runs.display()
        );
        let told = std::cell::RefCell::new(String::new());
        let say = |line: &str| *told.borrow_mut() += &format!("{line}\n");
        let stages = vec![shell("seeds", &script)];
        let proof = prove("a proof", "again", stages, Vec::new(), dir.path(), say);
        assert_eq!(proof.await.unwrap().found[0].pages.len(), 100);
        let told = told.into_inner();
        assert!(
            told.contains("seed-3/report.html\n      and 97 more pages\n"),
            "{told}"
        );
        assert!(!told.contains("seed-10/"), "{told}");
        let page = fs::read_to_string(dir.path().join(PAGE_FILE)).unwrap();
        assert!(page.contains("seed-100/report.html"), "every run can be reached");
        assert!(page.contains("<summary>90 more"), "{page}");
    }

    #[tokio::test]
    async fn the_checker_must_find_what_the_names_of_the_histories_say() {
        let dir = tempfile::tempdir().unwrap();
        let line = |name: &str, verdict: &str| format!(r#"{{"path":"x/{name}","verdict":"{verdict}"}}"#);
        let right = [
            line("a.valid.ndjson", "valid"),
            line("b.values-lie.ndjson", "invalid"),
        ];
        let judged = |lines: String| {
            let script = format!("printf '%s\\n' '{}'; exit 1", lines.replace('\n', "' '"));
            let judge = Judge::Histories { files: 2 };
            Stage::new("checker", "histories", "sh", ["-c", &script], judge)
        };
        for (lines, overall) in [
            (right.join("\n"), Overall::Valid),
            (right[0].clone(), Overall::Broken),
            (
                [line("a.valid.ndjson", "invalid"), right[1].clone()].join("\n"),
                Overall::Invalid,
            ),
            (
                [right[0].clone(), line("b.order-lies.ndjson", "valid")].join("\n"),
                Overall::Invalid,
            ),
            (
                [right[0].clone(), line("b.order-lies.ndjson", "unknown")].join("\n"),
                Overall::Invalid,
            ),
            (
                [right[0].clone(), "no JSON".to_owned()].join("\n"),
                Overall::Broken,
            ),
        ] {
            let proof = proved(dir.path(), vec![judged(lines.clone())], Vec::new()).await;
            assert_eq!(proof.overall(), overall, "{lines}");
        }
    }
}
