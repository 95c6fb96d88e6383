//! `report RUN_DIR [-o FILE]`: one self-contained HTML page about one run.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use jepsen_tests::report;

/// Makes one HTML page of a run: verdicts, plots, the first violation, the command that runs it again
#[derive(Parser)]
#[command(
    after_help = "Exit codes: 0 written, 2 usage, 3 this is not a run. The verdict is in the page, not here."
)]
struct Args {
    /// Directory of the run: its history and verdicts.json
    run: PathBuf,
    /// Where to write the page [default: report.html in the run's directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Args { run: dir, output } = Args::parse();
    let output = output.unwrap_or_else(|| dir.join(report::REPORT_FILE));
    let written = report::read(&dir).and_then(|(run, verdicts)| {
        std::fs::write(&output, report::html(&run, &verdicts))
            .map_err(|error| report::Error::Write(output.clone(), error))?;
        Ok(verdicts.overall())
    });
    match written {
        Ok(overall) => {
            println!("{}: {}", output.display(), overall.word());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}
