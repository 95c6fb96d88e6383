//! The proof in one command.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser};
use jepsen_tests::{
    campaign::exit_code,
    proof::{
        PAGE_FILE,
        plan::{self, OPTIONAL, Places},
        prove,
    },
};

/// Lies in every directory that a proof has made, so that none is removed that somebody else made.
const MARK_FILE: &str = "a-proof-made-this";

/// Everything that this package doubts, in one command, with one table and one page at the end.
#[derive(Debug, Parser)]
#[command(
    name = "proof",
    after_help = "Exit codes: 0 valid, 1 invalid (a promise is broken, or a planted bug was not noticed), 2 unknown, \
                  3 broken (something could not be run)"
)]
enum Arguments {
    /// Under ten minutes on two cores once built: one seed twice, 300 seeds and 100 of checkouts, the corpora of seeds
    /// and histories, three runs of the shipped binary, a power cut at every crash point, six planted bugs in rotation
    Quick(Common),
    /// Somewhat over an hour on two cores: fresh seeds, every workload on three and on five processes, every crash point
    /// and every planted bug
    Long(Common),
}

#[derive(Debug, Args)]
struct Common {
    /// Where everything found is left; one that a proof has made before is replaced [default: proofs/NAME in the
    /// target directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Whose turn it is among workloads and planted bugs [default: the day]
    #[arg(long)]
    rotation: Option<u64>,
    /// Leave a stage out, on a machine that cannot run it: the proof is then unknown at best
    #[arg(long, value_name = "STAGE", value_parser = OPTIONAL)]
    without: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("proof: {error}");
            ExitCode::from(3)
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<ExitCode> {
    let (name, common) = match arguments {
        Arguments::Quick(common) => ("quick", common),
        Arguments::Long(common) => ("long", common),
    };
    let missing = plan::missing(&common.without);
    if !missing.is_empty() {
        return Err(io::Error::other(missing.join("; ")));
    }
    let rotation = common.rotation.unwrap_or_else(plan::rotation_of_today);
    let places = Places::of(name, common.dir)?;
    let stages = match name {
        "quick" => plan::quick(&places, rotation, &common.without)?,
        _ => plan::long(&places, rotation, &common.without)?,
    };
    make_room(&places.dir)?;
    places.warm_planted()?;
    let mut replay =
        format!("cargo run --profile proof -p jepsen-tests --bin proof -- {name} --rotation {rotation}");
    for without in &common.without {
        replay += &format!(" --without {without}");
    }
    println!("{name} proof; again: {replay}");
    let title = format!("{name} proof");
    let proof = prove(&title, &replay, stages, common.without, &places.dir, |line| {
        println!("{line}")
    });
    let proof = match proof.await {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            eprintln!("interrupted: removing {}", places.dir.display());
            fs::remove_dir_all(&places.dir)?;
            return Ok(ExitCode::from(3));
        }
        proof => proof?,
    };
    print!("\n{}", proof.table());
    println!("report: {}", places.dir.join(PAGE_FILE).display());
    Ok(ExitCode::from(exit_code(proof.overall())))
}

/// An empty directory: a proof's before is removed, anything else is not.
fn make_room(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        if !dir.join(MARK_FILE).exists() {
            let dir = dir.display();
            return Err(io::Error::other(format!(
                "{dir} exists, and no proof has made it: name another (--dir)"
            )));
        }
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    fs::write(dir.join(MARK_FILE), "removed and made again by the next proof\n")
}
