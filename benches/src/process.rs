//! Child processes: this same executable with a hidden command, spoken to in lines.
//!
//! A child writes `ready <address>` when it listens, then answers each line on its standard input with
//! one line on its standard output, and ends when its input ends: so no child outlives the harness,
//! however the harness ends. What it logs goes to a file, whose end is shown when the child fails; one that
//! is started again goes on in the same file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::failure::{Doing, Failure};

/// Longest a child may take to come up or to answer: far beyond any measurement it makes.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Lines of a failed child's log that are shown.
const LOG_LINES_SHOWN: usize = 12;

/// A running child.
pub struct Process {
    name: String,
    address: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts this executable with these arguments; waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or ends before it is ready.
    pub async fn start(dir: &Path, name: &str, arguments: &[&str]) -> Result<Process, Failure> {
        let log = dir.join(format!("{name}.log"));
        let starting = format!("starting {name}");
        let executable = std::env::current_exe().doing(&starting)?;
        let lines = OpenOptions::new().create(true).append(true).open(&log);
        let mut child = Command::new(executable)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(lines.doing(&starting)?)
            .kill_on_drop(true)
            .spawn()
            .doing(&starting)?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("asked for");
        let mut process = Process {
            name: name.to_owned(),
            address: String::new(),
            child,
            input,
            output: BufReader::new(output).lines(),
            log,
        };
        let ready = process.line(&starting).await?;
        match ready.strip_prefix("ready ") {
            Some(address) => process.address = address.to_owned(),
            None => {
                return Err(Failure::new(
                    starting,
                    format!("it said {ready:?} instead of ready"),
                ));
            }
        }
        Ok(process)
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub fn id(&self) -> Result<u32, Failure> {
        self.child
            .id()
            .ok_or_else(|| Failure::new(format!("looking at {}", self.name), "it has ended"))
    }

    /// Says a line and hears the answer.
    ///
    /// # Errors
    /// The child ended, or did not answer in time.
    pub async fn ask(&mut self, line: &str) -> Result<String, Failure> {
        let doing = format!("asking {} to {line}", self.name);
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| Failure::new(&doing, "it is stopping"))?;
        if let Err(error) = input.write_all(format!("{line}\n").as_bytes()).await {
            return Err(Failure::new(&doing, format!("{error}{}", end_of_log(&self.log))));
        }
        let answer = self.line(&doing).await?;
        match answer.strip_prefix("error ") {
            Some(error) => Err(Failure::new(doing, error)),
            None => Ok(answer),
        }
    }

    async fn line(&mut self, doing: &str) -> Result<String, Failure> {
        match timeout(ANSWER_MAX, self.output.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(Failure::new(
                doing,
                format!("the process ended{}", end_of_log(&self.log)),
            )),
            Ok(Err(error)) => Err(Failure::new(doing, error.to_string())),
            Err(_) => Err(Failure::new(
                doing,
                format!("no answer in {ANSWER_MAX:?}{}", end_of_log(&self.log)),
            )),
        }
    }

    /// Kills it, as a crash would: it hears nothing of it. Its address stays known.
    ///
    /// # Errors
    /// It had ended by itself before.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let doing = format!("killing {}", self.name);
        self.still_running(&doing)?;
        self.child.kill().await.doing(&doing)
    }

    fn still_running(&mut self, doing: &str) -> Result<(), Failure> {
        match self.child.try_wait().doing(doing)? {
            None => Ok(()),
            Some(status) => Err(Failure::new(
                doing,
                format!("it had ended with {status}{}", end_of_log(&self.log)),
            )),
        }
    }

    /// Ends it. What it has on disk is thrown away by whoever asked for it.
    ///
    /// # Errors
    /// It ended by itself before, which no child should.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let doing = format!("stopping {}", self.name);
        self.still_running(&doing)?;
        drop(self.input.take());
        self.child.wait().await.doing(&doing)?;
        Ok(())
    }
}

/// The last lines of a log, as the end of a sentence that says what failed.
pub fn end_of_log(log: &Path) -> String {
    let Ok(log) = std::fs::read_to_string(log) else {
        return String::new();
    };
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if shown.is_empty() {
        String::new()
    } else {
        format!("; it logged last:\n{}", shown.join("\n"))
    }
}
