//! One stage: a command, and what its end means.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::report::Overall;

/// How long an interrupted command has to clean up before it is killed.
const LAST_WORDS_MAX: Duration = Duration::from_secs(20);

/// How a stage is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// 0 valid, 1 invalid, 2 unknown, anything else broken.
    ExitCode,
    /// It builds, or nothing can be said.
    Build,
    /// `cargo test`: what fails a test is wrong, what keeps it from running is broken.
    Tests,
    /// `check --json` over histories whose names say what is to be found.
    Histories {
        /// How many there are.
        files: usize,
    },
}

/// One command of a proof.
#[derive(Clone, Debug)]
pub struct Stage {
    /// A word: its row in the table, its file, its directory.
    pub name: String,
    /// What it does, in a few words.
    pub what: String,
    /// Whether nothing after it makes sense unless it is valid.
    pub is_needed: bool,
    program: PathBuf,
    arguments: Vec<OsString>,
    judge: Judge,
}

/// Whether this is a variable by which `cargo run` tells a program of its package. A cargo that inherits it takes it
/// for changed, as far as a build script looks at it (ring's does): half of everything would be built again, and once
/// more by whoever builds next without it.
fn speaks_of_a_package(variable: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
    ]
    .iter()
    .any(|prefix| variable.starts_with(prefix))
}

impl Stage {
    /// A stage that runs a command.
    pub fn new<A: Into<OsString>>(
        name: &str,
        what: impl Into<String>,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
        judge: Judge,
    ) -> Stage {
        Stage {
            name: name.to_owned(),
            what: what.into(),
            is_needed: false,
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            judge,
        }
    }

    /// The same, without which nothing after it makes sense.
    pub fn needed(self) -> Stage {
        Stage {
            is_needed: true,
            ..self
        }
    }

    /// The command as a line for a shell; nothing of ours needs more than quotes around what is not plain. Many
    /// files are named by their directory.
    pub fn line(&self) -> String {
        let shown = |word: &Path| {
            let word = word.to_string_lossy();
            let plain = |byte: char| byte.is_ascii_alphanumeric() || "-_./=,:".contains(byte);
            match word.chars().all(plain) {
                true => word.into_owned(),
                false => format!("'{}'", word.replace('\'', r"'\''")),
            }
        };
        let mut words = vec![shown(&self.program)];
        let files = matches!(self.judge, Judge::Histories { .. });
        for argument in &self.arguments {
            let path = Path::new(argument);
            match path.parent() {
                Some(dir) if files && path.extension().is_some() => {
                    words.push(format!("{}/*", shown(dir)));
                }
                _ => words.push(shown(path)),
            }
        }
        words.dedup();
        words.join(" ")
    }

    /// Runs it to its end: its verdict, and all it printed. Its progress goes to our own stderr.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`]: we were told to stop, and it has stopped.
    pub(super) async fn run(&self) -> io::Result<(Overall, String)> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if speaks_of_a_package(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let why = format!("{}: {error}\n", self.program.display());
                return Ok((Overall::Broken, why));
            }
        };
        let mut out = child.stdout.take().expect("it is piped");
        let mut printed = Vec::new();
        let stop = tokio::select! {
            read = out.read_to_end(&mut printed) => { read?; None }
            _ = interrupt.recv() => Some(Signal::INT),
            _ = terminate.recv() => Some(Signal::TERM),
        };
        if let Some(signal) = stop {
            end(&mut child, signal).await?;
            return Err(io::ErrorKind::Interrupted.into());
        }
        let code = child.wait().await?.code();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        Ok(match self.judge {
            Judge::ExitCode => (by_code(code), printed),
            Judge::Build if code == Some(0) => (Overall::Valid, printed),
            Judge::Build => (
                Overall::Broken,
                printed + "the build failed; its messages are above\n",
            ),
            Judge::Tests => (by_tests(code, &printed), printed),
            Judge::Histories { files } => histories(&printed, files),
        })
    }
}

/// Tells a command to stop, and sees to it that it has.
async fn end(child: &mut Child, signal: Signal) -> io::Result<()> {
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    if let Some(pid) = pid {
        // From a terminal it has heard already, and may be gone.
        let _ = kill_process(pid, signal);
    }
    if timeout(LAST_WORDS_MAX, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

fn by_code(code: Option<i32>) -> Overall {
    match code {
        Some(0) => Overall::Valid,
        Some(1) => Overall::Invalid,
        Some(2) => Overall::Unknown,
        _ => Overall::Broken,
    }
}

/// Cargo gives the same code for a test that failed as for one that was not built.
fn by_tests(code: Option<i32>, printed: &str) -> Overall {
    let ran = |end: &str| printed.lines().any(|line| line.starts_with(end));
    match code {
        Some(0) if ran("test result: ok. ") && !ran("test result: ok. 0 passed") => Overall::Valid,
        _ if ran("test result: FAILED") => Overall::Invalid,
        _ => Overall::Broken,
    }
}

/// What the checker says of a history, a line each.
#[derive(Deserialize)]
struct Judged {
    path: PathBuf,
    verdict: String,
}

/// Whether the checker found what the names say: `….valid.ndjson` is valid, every other lies.
fn histories(printed: &str, files: usize) -> (Overall, String) {
    let judged: Vec<Judged> = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if judged.len() != files || files == 0 {
        let count = judged.len();
        return (
            Overall::Broken,
            format!("{printed}{count} of {files} histories were judged\n"),
        );
    }
    let mut wrong = Vec::new();
    for Judged { path, verdict } in &judged {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        let expected = match name.split('.').nth(1) {
            Some("valid") => "valid",
            _ => "invalid",
        };
        if verdict != expected {
            wrong.push(format!("{name} was judged {verdict}\n"));
        }
    }
    match wrong.is_empty() {
        true => (
            Overall::Valid,
            format!("{files} histories, each judged as its name says\n"),
        ),
        false => (Overall::Invalid, wrong.concat()),
    }
}
