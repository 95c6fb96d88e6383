//! `check`: judges histories from files, one line each.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use jepsen_tests::{
    checker::{Options, Resolves, Verdict, budget::Limits},
    judge::{self, Format, Judged, Model, Question},
};
use serde_json::json;

/// Judges histories: is there an order of all operations that explains every answer and respects real time?
///
/// Prints one line for each file: path, verdict, operations, seconds. An invalid history is followed by why,
/// and by the fewest operations found that show it.
#[derive(Parser)]
#[command(after_help = "Exit codes:\n  \
    0  valid: every history has an order that explains it\n  \
    1  invalid: at least one has none\n  \
    2  unknown: none is invalid, but for at least one the limits came before an answer\n  \
    3  at least one file is not a history, or cannot be read; or the checker contradicts itself")]
struct Arguments {
    /// What the histories are histories of; by default what the format is for.
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// How they are written; plain, gzip or zstd is told by itself.
    #[arg(long, value_enum, default_value_t = Format::Inventory)]
    format: Format,
    /// What a register holds before the first operation, as the file writes it [default: nothing].
    #[arg(long, value_name = "VALUE")]
    initial: Option<String>,
    /// Do not use what was learned later of unknown operations: the harder problem.
    #[arg(long)]
    ignore_resolve: bool,
    /// Most states that a search remembers, 16 bytes each and as much again while their table grows.
    #[arg(long, value_name = "STATES", default_value_t = Limits::default().states_max)]
    states_max: usize,
    /// Most operations that all searches of a file try.
    #[arg(long, value_name = "TRIES", default_value_t = Limits::default().tries_max)]
    tries_max: u64,
    /// One JSON object for each file instead of lines.
    #[arg(long)]
    json: bool,
    /// The histories.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

const VALID: u8 = 0;
const INVALID: u8 = 1;
const UNKNOWN: u8 = 2;
const NOT_A_HISTORY: u8 = 3;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { NOT_A_HISTORY } else { VALID };
            // Nobody left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let model = arguments.model.unwrap_or(arguments.format.own_model());
    if !arguments.format.has(model) {
        eprintln!(
            "error: --format {:?} has no histories of --model {model:?}; see --help",
            arguments.format
        );
        return ExitCode::from(NOT_A_HISTORY);
    }
    if arguments.initial.is_some() && model != Model::CasRegister {
        eprintln!("error: --initial is for --model cas-register; see --help");
        return ExitCode::from(NOT_A_HISTORY);
    }
    let question = Question {
        format: arguments.format,
        model,
        initial: arguments.initial,
        options: Options {
            resolves: if arguments.ignore_resolve {
                Resolves::Ignored
            } else {
                Resolves::Used
            },
            limits: Limits {
                states_max: arguments.states_max,
                tries_max: arguments.tries_max,
            },
            ..Options::default()
        },
    };
    let codes = arguments.files.iter().map(|path| {
        let began = Instant::now();
        let judged = judged(path, &question);
        print(path, &judged, began.elapsed(), arguments.json)
    });
    // The worst news wins: no history, then invalid, then unknown.
    let worst = codes.max_by_key(|&code| match code {
        NOT_A_HISTORY => 3,
        INVALID => 2,
        UNKNOWN => 1,
        _ => 0,
    });
    ExitCode::from(worst.unwrap_or(NOT_A_HISTORY))
}

fn judged(path: &Path, question: &Question) -> Judged {
    let progress = Progress::new(path);
    match progress.open(path) {
        Ok(file) => judge::judge(file, question, || progress.checking()),
        Err(error) => Judged::not_a_history(format!("line 1: cannot be read: {error}")),
    }
}

fn print(path: &Path, judged: &Judged, took: Duration, as_json: bool) -> u8 {
    let (code, word) = match &judged.verdict {
        Ok(Verdict::Valid) => (VALID, "valid"),
        Ok(Verdict::Invalid(_)) => (INVALID, "invalid"),
        Ok(Verdict::Unknown(_)) => (UNKNOWN, "unknown"),
        Ok(Verdict::Disagreement(_)) => (NOT_A_HISTORY, "checker-error"),
        Err(_) => (NOT_A_HISTORY, "not-a-history"),
    };
    let (operations, seconds) = (judged.operations, took.as_secs_f64());
    let why = match &judged.verdict {
        Ok(Verdict::Valid) => None,
        Ok(Verdict::Invalid(contradiction)) => Some(&contradiction.why),
        Ok(Verdict::Unknown(why) | Verdict::Disagreement(why)) | Err(why) => Some(why),
    };
    if as_json {
        let mut object = json!({
            "path": path.display().to_string(),
            "verdict": word,
            "operations": operations,
            "seconds": seconds,
        });
        if let Some(why) = why {
            object["why"] = json!(why);
        }
        if let Ok(Verdict::Invalid(contradiction)) = &judged.verdict {
            object["lies"] = json!(contradiction.lies.to_string());
            object["ids"] = json!(contradiction.operations);
            object["shown"] = json!(contradiction.shown);
        }
        println!("{object}");
        return code;
    }
    println!("{} {word} {operations} {seconds:.3}", path.display());
    match &judged.verdict {
        Ok(Verdict::Invalid(contradiction)) => {
            eprintln!("  {}: {}", contradiction.lies, contradiction.why);
            for operation in &contradiction.shown {
                eprintln!("    {operation}");
            }
        }
        _ => {
            if let Some(why) = why {
                eprintln!("  {why}");
            }
        }
    }
    code
}

/// Files below this are done before anybody could look: 32 MiB.
const PROGRESS_BYTES_MIN: u64 = 32 << 20;

/// A bar for big files, on a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new(path: &Path) -> Progress {
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if bytes < PROGRESS_BYTES_MIN || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}");
        let style = style.expect("the template is a constant");
        Progress(ProgressBar::new(bytes).with_style(style).with_message("reading"))
    }

    fn open(&self, path: &Path) -> io::Result<impl Read + use<>> {
        Ok(self.0.wrap_read(File::open(path)?))
    }

    fn checking(&self) {
        self.0.set_message("checking");
        self.0.enable_steady_tick(Duration::from_millis(200));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
