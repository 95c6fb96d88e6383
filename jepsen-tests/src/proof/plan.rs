//! What the quick and the long proof are made of.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Judge, Stage, artifacts};
use crate::{simulation::scenario::CHECKOUT_SEEDS_FROM, workloads::Workload};

/// The stage that builds what the others run.
pub const BUILD: &str = "build";

/// Stages that may be left out where a machine cannot run them. Without planted bugs there is no build for crash
/// points either.
pub const OPTIONAL: [&str; 2] = ["processes", PLANTED];

/// Profile of all that is built for a proof, and its directory.
const PROFILE: &str = "proof";

const PLANTED: &str = "planted";
const CRASHES: &str = "crashes";

/// Seeds of the quick proof: of the store, and of checkouts, which have doors and a provider besides.
const QUICK_SEEDS: u64 = 300;
const QUICK_CHECKOUT_SEEDS: u64 = 100;

/// Workloads run on processes by the quick proof, a minute each, and bugs planted by it: in a rotation, so that in a
/// few days all have had their turn.
const QUICK_WORKLOADS: u64 = 3;
const QUICK_BUGS: u64 = 6;

/// Seeds that a planted bug may take to be noticed: several times what the slowest needs.
const BUG_SEEDS_MAX: u64 = 300;

/// How long the long proof simulates each of store and checkouts, and how long each of its ten runs on processes has
/// load, in minutes: with all else somewhat over an hour on two cores.
const LONG_SIMULATE_MINUTES: u64 = 4;
const LONG_RUN_MINUTES: u64 = 5;

/// Fresh seeds of the long proof begin here, so many for each day: beyond those that everybody runs, and below those
/// that mean a checkout. After so many days the first ones come again.
const LONG_SEEDS_FIRST: u64 = 100_000;
const LONG_SEEDS_PER_DAY: u64 = 100_000;
const LONG_SEEDS_DAYS: u64 = (CHECKOUT_SEEDS_FROM - LONG_SEEDS_FIRST) / LONG_SEEDS_PER_DAY;

/// A seed in which much happens, run twice and compared to the byte.
const META_SEED: u64 = 7;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Cargo's target directory, where this program was built.
    pub target: PathBuf,
    /// Where the proof leaves what it found.
    pub dir: PathBuf,
}

impl Places {
    /// Those of this program.
    ///
    /// # Errors
    /// The system does not say where this program is.
    pub fn of(name: &str, dir: Option<PathBuf>) -> io::Result<Places> {
        let program = std::env::current_exe()?;
        // <target>/<profile>/proof
        let target = program.ancestors().nth(2).unwrap_or(Path::new("target"));
        Ok(Places {
            dir: dir.unwrap_or_else(|| target.join("proofs").join(name)),
            target: target.to_path_buf(),
        })
    }

    fn ours(&self, name: &str) -> PathBuf {
        self.target.join(PROFILE).join(name)
    }

    /// The build with bugs never shares a directory with what is shipped.
    fn planted_target(&self) -> PathBuf {
        self.target.join("planted")
    }

    /// Lets the build with bugs begin with what others wrote, as it was built for this program.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn warm_planted(&self) -> io::Result<()> {
        artifacts::copy(&self.target.join(PROFILE), &self.planted_target().join(PROFILE))
    }

    fn shipped(&self) -> PathBuf {
        self.target.join("release").join("holdfast")
    }
}

/// Whose turn it is: the day's number, unless told otherwise.
pub fn rotation_of_today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / 86_400
}

/// What is missing on this machine for these stages, and what to do about it.
pub fn missing(without: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    let runs = |program: &Path| Command::new(program).arg("--version").output().is_ok();
    if !runs(&cargo()) {
        missing.push("cargo is not found: install a Rust toolchain, or put it on the path".to_owned());
    }
    if !without.iter().any(|name| name == "processes") && !runs(Path::new("cc")) {
        missing.push(
            "no C compiler (cc), which builds the library that makes disks fail: install gcc or clang, or prove the \
             rest with --without processes"
                .to_owned(),
        );
    }
    missing
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// The quick proof: under ten minutes on two cores, once built.
///
/// # Errors
/// The histories of the repository cannot be listed.
pub fn quick(places: &Places, rotation: u64, without: &[String]) -> io::Result<Vec<Stage>> {
    let mut stages = build(places, without);
    stages.extend(meta(places));
    let what = format!("{QUICK_SEEDS} simulated clusters under faults");
    stages.push(seeds(places, "seeds", &what, &format!("--seeds {QUICK_SEEDS}")));
    let what = format!("{QUICK_CHECKOUT_SEEDS} simulated streets of doors, at which shoppers pay");
    let line = format!("--checkout --seeds {QUICK_CHECKOUT_SEEDS}");
    stages.push(seeds(places, "checkouts", &what, &line));
    stages.push(corpus(places));
    stages.push(checker(places)?);
    let turn = rotated(Workload::all(), rotation, QUICK_WORKLOADS);
    let workloads: Vec<String> = turn.iter().map(|workload| workload.name()).collect();
    let line = format!(
        "--nodes 3 --quick --seed {rotation} --workload {}",
        workloads.join(",")
    );
    let what = format!(
        "the shipped binary under faults, 3 nodes, a minute each: {}",
        workloads.join(", ")
    );
    stages.push(processes(places, "processes", &what, &line));
    stages.push(crashes(places));
    let line = format!("--rotate {QUICK_BUGS} --rotation {rotation} --seeds {BUG_SEEDS_MAX}");
    let what = format!("{QUICK_BUGS} bugs planted on purpose must be noticed");
    stages.push(planted(places, &what, &line));
    Ok(keep_wanted(stages, without))
}

/// The long proof: everything, with as much time as makes every fault come about everywhere.
///
/// # Errors
/// As [`quick`].
pub fn long(places: &Places, rotation: u64, without: &[String]) -> io::Result<Vec<Stage>> {
    let mut stages = build(places, without);
    stages.extend(meta(places));
    stages.push(corpus(places));
    stages.push(checker(places)?);
    let first = fresh_seed(rotation);
    let line = format!("--first {first} --seeds {LONG_SEEDS_PER_DAY} --minutes {LONG_SIMULATE_MINUTES}");
    let what = format!("simulated clusters under faults for {LONG_SIMULATE_MINUTES} minutes");
    stages.push(seeds(places, "seeds", &what, &line));
    let what = format!("shoppers who pay at simulated doors for {LONG_SIMULATE_MINUTES} minutes");
    stages.push(seeds(places, "checkouts", &what, &format!("--checkout {line}")));
    for nodes in [3, 5] {
        let line = format!("--nodes {nodes} --minutes {LONG_RUN_MINUTES} --workload all --seed {rotation}");
        let what = format!("the shipped binary under faults, {nodes} nodes, {LONG_RUN_MINUTES} minutes each");
        stages.push(processes(places, &format!("processes-{nodes}"), &what, &line));
    }
    stages.push(crashes(places));
    let line = format!("--seeds {BUG_SEEDS_MAX}");
    stages.push(planted(
        places,
        "every bug planted on purpose must be noticed",
        &line,
    ));
    Ok(keep_wanted(stages, without))
}

fn keep_wanted(stages: Vec<Stage>, without: &[String]) -> Vec<Stage> {
    let needs = |stage: &Stage| match stage.name.as_str() {
        CRASHES => PLANTED.to_owned(),
        name => name.to_owned(),
    };
    let wanted = |stage: &Stage| !without.iter().any(|name| needs(stage).starts_with(name.as_str()));
    stages.into_iter().filter(wanted).collect()
}

/// The first of a day's seeds.
fn fresh_seed(rotation: u64) -> u64 {
    LONG_SEEDS_FIRST + rotation % LONG_SEEDS_DAYS * LONG_SEEDS_PER_DAY
}

/// So many of all, beginning where the rotation before this one ended.
fn rotated<T: Copy>(all: &[T], rotation: u64, count: u64) -> Vec<T> {
    let place = |number| ((rotation * count + number) % all.len() as u64) as usize;
    (0..count.min(all.len() as u64))
        .map(|number| all[place(number)])
        .collect()
}

fn build(places: &Places, without: &[String]) -> Vec<Stage> {
    let stage = |what: &str, line: &str| {
        let mut arguments = words(line);
        arguments.push("--target-dir".into());
        let has_bugs = line.contains(WITH_BUGS);
        arguments.push(match has_bugs {
            true => places.planted_target().into(),
            false => places.target.clone().into(),
        });
        Stage::new(BUILD, what, cargo(), arguments, Judge::Build).needed()
    };
    let left_out = |name: &str| without.iter().any(|without| without == name);
    let mut stages = vec![stage(
        "the commands of the proof",
        "build --profile proof --locked -p jepsen-tests --bin simulate --bin check --bin campaign",
    )];
    if !left_out("processes") {
        stages.push(stage("the binary that is shipped", "build --release --locked"));
    }
    if !left_out(PLANTED) {
        stages.push(stage(
            "the commands with bugs in them, which share nothing with what is shipped",
            &format!("build {WITH_BUGS} --bin planted {CRASH_TESTS}"),
        ));
    }
    stages
}

fn simulate(places: &Places, name: &str, what: &str, arguments: Vec<OsString>) -> Stage {
    Stage::new(name, what, places.ours("simulate"), arguments, Judge::ExitCode)
}

fn meta(places: &Places) -> [Stage; 2] {
    let twice = |name, what, line: String| simulate(places, name, what, words(&line));
    [
        twice(
            "meta",
            "one seed twice: traces and histories are equal to the byte",
            format!("--twice --seeds 1 --first {META_SEED}"),
        ),
        twice(
            "meta-checkout",
            "the same of shoppers who pay",
            format!("--twice --checkout --seeds 1 --first {META_SEED}"),
        ),
    ]
}

fn seeds(places: &Places, name: &str, what: &str, line: &str) -> Stage {
    let mut arguments = words(line);
    arguments.extend(["--keep".into(), places.dir.join(name).into()]);
    simulate(places, name, what, arguments)
}

fn corpus(places: &Places) -> Stage {
    let mut arguments = words("--corpus --keep");
    arguments.push(places.dir.join("corpus").into());
    simulate(places, "corpus", "seeds that once found something", arguments)
}

fn checker(places: &Places) -> io::Result<Stage> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut files = Vec::new();
    for entry in fs::read_dir(&home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(path);
        }
    }
    files.sort();
    let judge = Judge::Histories { files: files.len() };
    let mut arguments = words("--model inventory --format inventory --json");
    arguments.extend(files.into_iter().map(OsString::from));
    let what = "histories, right and wrong, that the checker must judge so";
    Ok(Stage::new(
        "checker",
        what,
        places.ours("check"),
        arguments,
        judge,
    ))
}

fn processes(places: &Places, name: &str, what: &str, line: &str) -> Stage {
    let mut arguments = words(line);
    arguments.extend(["--binary".into(), places.shipped().into()]);
    arguments.extend(["--dir".into(), places.dir.join(name).into()]);
    Stage::new(name, what, places.ours("campaign"), arguments, Judge::ExitCode)
}

/// What has bugs in it, and points to crash at.
const WITH_BUGS: &str = "--profile proof --locked -p jepsen-tests --features fault-points";

/// Each point of a node, and each of a checkout.
const CRASH_TESTS: &str = "--test crash_points --test checkout_crash_points";

fn crashes(places: &Places) -> Stage {
    let mut arguments = words(&format!("test {WITH_BUGS} {CRASH_TESTS} --target-dir"));
    arguments.push(places.planted_target().into());
    let what = "power lost at every named point: each is come to, and survived";
    Stage::new(CRASHES, what, cargo(), arguments, Judge::Tests)
}

fn planted(places: &Places, what: &str, line: &str) -> Stage {
    let mut arguments = words(line);
    // What is found goes to the proof, and leaves the repository's matrix alone.
    arguments.extend(["--matrix".into(), places.dir.join("planted").into()]);
    let program = places.planted_target().join(PROFILE).join("planted");
    Stage::new(PLANTED, what, program, arguments, Judge::ExitCode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn_everything_is_tried() {
        let all = [1, 2, 3, 4, 5];
        assert_eq!(rotated(&all, 0, 3), [1, 2, 3]);
        assert_eq!(rotated(&all, 1, 3), [4, 5, 1]);
        assert_eq!(rotated(&all, 7, 9), [4, 5, 1, 2, 3]);
        let mut tried: Vec<i32> = (0..5)
            .flat_map(|rotation| rotated(&all, 100 + rotation, 1))
            .collect();
        tried.sort_unstable();
        assert_eq!(tried, all);
    }

    #[test]
    fn fresh_seeds_are_of_the_store_whatever_the_day() {
        for rotation in [0, 1, LONG_SEEDS_DAYS - 1, LONG_SEEDS_DAYS, 20_780, 1 << 40] {
            let first = fresh_seed(rotation);
            assert!(first >= LONG_SEEDS_FIRST, "{rotation}: {first}");
            assert!(
                first + LONG_SEEDS_PER_DAY <= CHECKOUT_SEEDS_FROM,
                "{rotation}: {first}"
            );
        }
        assert_ne!(fresh_seed(20_780), fresh_seed(20_781));
    }

    #[test]
    fn bugs_are_never_built_into_what_is_shipped_and_what_is_left_out_is_not_built() {
        let places = Places {
            target: "t".into(),
            dir: "d".into(),
        };
        let lines = |without: &[&str]| -> Vec<String> {
            let without: Vec<String> = without.iter().map(|&name| name.to_owned()).collect();
            let stages = quick(&places, 1, &without).unwrap();
            stages.iter().map(Stage::line).collect()
        };
        let all = lines(&[]);
        for line in &all {
            let bugs = line.contains("fault-points");
            assert!(!bugs || line.contains("--target-dir t/planted"), "{line}");
        }
        assert!(
            all.iter()
                .any(|line| line.contains("--binary t/release/holdfast --dir d/processes")),
            "{all:?}"
        );
        let few = lines(&["processes", "planted"]);
        assert!(
            few.iter().all(|line| !line.contains("t/release")
                && !line.contains("t/planted")
                && !line.contains("--test")),
            "{few:?}"
        );
    }
}
