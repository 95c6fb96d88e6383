//! The demo's processes: nodes, HTTP doors and payment provider, each this same binary in a process of its own.
//!
//! - Addresses are taken, not guessed: a process binds port 0 and reports what it got in a ready file. Only
//!   a restarted node asks for a port by number, because that is where the others look for it.
//! - Children live in their own process group, so Ctrl-C reaches only us; and they stop when their stdin
//!   ends, so they go even if we are killed ourselves.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{commands::ready::Ready, exit::Failure};

/// Longest a process may take to become ready: it only opens files and a port.
const READY_MAX: Duration = Duration::from_secs(30);
/// How often its ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(10);
/// Longest a process may take to stop by itself before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often a restart is tried while its old port is still taken.
const RESTARTS_MAX: u32 = 20;
const RESTART_PAUSE: Duration = Duration::from_millis(250);

/// Log lines of a failed process shown in the error.
const LOG_LINES_SHOWN: usize = 5;

/// One process, running or killed.
pub struct Process {
    name: String,
    args: Vec<String>,
    dir: PathBuf,
    address: String,
    child: Option<Child>,
}

impl Process {
    /// Starts `holdfast` with these arguments, on a free port of this host, and waits until it is ready.
    pub async fn start(dir: &Path, name: &str, host: &str, args: Vec<String>) -> Result<Process, Failure> {
        let mut process = Process {
            name: name.into(),
            args,
            dir: dir.into(),
            address: format!("{host}:0"),
            child: None,
        };
        process.launch().await?;
        Ok(process)
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// SIGKILL: no warning, no last words.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            child
                .kill()
                .await
                .map_err(|error| Failure::Failed(format!("{} cannot be killed: {error}", self.name)))?;
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?))
            .ok_or_else(|| Failure::Failed(format!("{} does not run", self.name)))?;
        kill_process(pid, signal)
            .map_err(|error| Failure::Failed(format!("{} cannot be signalled: {error}", self.name)))
    }

    /// Starts it again, where it was.
    pub async fn restart(&mut self) -> Result<(), Failure> {
        let mut tries = 1;
        loop {
            match self.launch().await {
                Err(_) if tries < RESTARTS_MAX => tries += 1,
                other => return other,
            }
            sleep(RESTART_PAUSE).await;
        }
    }

    /// Starts it again, where it was, with other arguments.
    pub async fn restart_with(&mut self, args: Vec<String>) -> Result<(), Failure> {
        self.args = args;
        self.restart().await
    }

    /// Asks it to stop, and kills it if it does not.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        drop(child.stdin.take());
        // One that is stopped would never see it.
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            let _ = kill_process(pid, Signal::CONT);
        }
        if timeout(STOP_MAX, child.wait()).await.is_err() {
            tracing::warn!(name = self.name, "did not stop when asked; killing it");
            // Dropping the child kills it as well.
            let _ = child.kill().await;
        }
    }

    async fn launch(&mut self) -> Result<(), Failure> {
        let broken = |what: &str, error: std::io::Error| Failure::Failed(format!("{what}: {error}"));
        let ready = self.dir.join(format!("{}.ready", self.name));
        match std::fs::remove_file(&ready) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(broken(&ready.display().to_string(), error));
            }
            _ => {}
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(|error| broken(&self.log_path().display().to_string(), error))?;
        let program = std::env::current_exe().map_err(|error| broken("the path of this program", error))?;
        let mut command = Command::new(&program);
        // The demo's processes are set by their flags alone.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_"))
        {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .args(["--listen", &self.address, "--stop-with-stdin", "--ready-file"])
            .arg(&ready);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| broken(&program.display().to_string(), error))?;
        let deadline = Instant::now() + READY_MAX;
        let found = loop {
            if let Some(found) = Ready::read(&ready)? {
                break found;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure::Failed(format!(
                    "{} ended at once ({status}): {}",
                    self.name,
                    self.last_words()
                )));
            }
            if Instant::now() > deadline {
                let seconds = READY_MAX.as_secs();
                return Err(Failure::Failed(format!(
                    "{} was not ready within {seconds} s: {}",
                    self.name,
                    self.last_words()
                )));
            }
            sleep(READY_POLL).await;
        };
        self.address = found.listen;
        self.child = Some(child);
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        if end.is_empty() {
            "it logged nothing".into()
        } else {
            end
        }
    }
}
