//! Other stores' processes: found, started on free ports of loopback, and gone when they are dropped, however the run
//! ends. What they write goes to a file, whose end is shown when one fails.
//!
//! They run under `setpriv --pdeathsig` where that is installed, so that the kernel stops them even when this process
//! is killed and nothing is dropped any more.

use std::{
    fs::{self, OpenOptions, Permissions},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::{
    failure::{Doing, Failure},
    process::end_of_log,
    procfs,
};

/// Longest a store may take to be ready: what it makes at its first start included.
pub const READY_MAX: Duration = Duration::from_secs(30);

/// Longest a store may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks at one that starts or stops.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Users that a store which refuses root may run as: its package's own, or the one who owns nothing.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A program that is installed.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Looks along `PATH`, then in these directories.
    pub fn find(name: &str, elsewhere: &[PathBuf]) -> Option<Program> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(elsewhere.iter().cloned())
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
            .map(|path| Program { path })
    }

    /// What it says of its version, in one line.
    ///
    /// # Errors
    /// It does not run.
    pub fn version(&self) -> Result<String, Failure> {
        let doing = format!("asking {} for its version", self.path.display());
        let output = Command::new(&self.path).arg("--version").output().doing(&doing)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.lines().next() {
            Some(line) if output.status.success() => Ok(line.to_owned()),
            _ => Err(Failure::new(doing, format!("it ended with {}", output.status))),
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It fails; says what it wrote.
    pub fn run(&self, user: Option<User>, arguments: &[&str]) -> Result<(), Failure> {
        let doing = format!("running {}", self.path.display());
        let mut command = Command::new(&self.path);
        as_user(&mut command, user);
        let output = command.args(arguments).output().doing(&doing)?;
        if output.status.success() {
            return Ok(());
        }
        let wrote = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(doing, format!("{}: {wrote}", output.status)))
    }
}

/// A user of this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    id: u32,
    group: u32,
}

impl User {
    /// Whom to run a program as that refuses root: nobody else, unless we are root.
    ///
    /// # Errors
    /// We are, and there is none of the users that would do.
    pub fn other_than_root() -> Result<Option<User>, Failure> {
        const DOING: &str = "looking for a user other than root";
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").doing(DOING)?;
        USERS
            .iter()
            .find_map(|name| User::of(&users, name))
            .map(Some)
            .ok_or_else(|| Failure::new(DOING, format!("there is none of {}", USERS.join(", "))))
    }

    fn of(users: &str, name: &str) -> Option<User> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let mut numbers = fields.skip(1).map(|field| field.parse().ok());
            Some(User {
                id: numbers.next()??,
                group: numbers.next()??,
            })
        })
    }
}

fn as_user(command: &mut Command, user: Option<User>) {
    if let Some(User { id, group }) = user {
        command.uid(id).gid(group);
    }
}

/// A temporary directory that others may pass through, with a directory in it of that user's own.
///
/// # Errors
/// The disk's.
pub fn directory(place: &Path, user: Option<User>) -> Result<(TempDir, PathBuf), Failure> {
    const DOING: &str = "making a directory";
    const PASSABLE: u32 = 0o711;
    let dir = tempfile::Builder::new()
        .prefix("bench-peer-")
        .permissions(Permissions::from_mode(PASSABLE))
        .tempdir_in(place)
        .doing(DOING)?;
    let own = dir.path().join("data");
    fs::create_dir(&own).doing(DOING)?;
    if let Some(User { id, group }) = user {
        chown(&own, Some(id), Some(group)).doing(DOING)?;
    }
    Ok((dir, own))
}

/// Ports of loopback that were free a moment ago, all different: these stores cannot say which one they took.
///
/// # Errors
/// There are none.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT], Failure> {
    const DOING: &str = "looking for free ports";
    let mut ports = [0; COUNT];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").doing(DOING)?;
        *port = listener.local_addr().doing(DOING)?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// How a store is told to stop at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Most stop when they are asked to.
    Term,
    /// PostgreSQL without its last checkpoint.
    Quit,
}

impl Stop {
    fn signal(self) -> Signal {
        match self {
            Stop::Term => Signal::TERM,
            Stop::Quit => Signal::QUIT,
        }
    }

    /// As setpriv has it.
    fn name(self) -> &'static str {
        match self {
            Stop::Term => "TERM",
            Stop::Quit => "QUIT",
        }
    }
}

/// A running store, or one process of it.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    stop: Stop,
    log: PathBuf,
}

impl Server {
    /// Starts it; its log goes to `dir`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        name: &str,
        dir: &Path,
        program: &Program,
        user: Option<User>,
        stop: Stop,
        arguments: &[&str],
    ) -> Result<Server, Failure> {
        let starting = format!("starting {name}");
        let log = dir.join(format!("{name}.log"));
        let lines = OpenOptions::new().create(true).append(true).open(&log);
        let lines = lines.doing(&starting)?;
        let mut command = match Program::find("setpriv", &[]) {
            Some(setpriv) => {
                let mut command = Command::new(setpriv.path);
                command.arg("--pdeathsig").arg(stop.name());
                command.arg("--").arg(&program.path);
                command
            }
            None => Command::new(&program.path),
        };
        as_user(&mut command, user);
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(lines.try_clone().doing(&starting)?)
            .stderr(lines)
            .spawn()
            .doing(&starting)?;
        Ok(Server {
            name: name.to_owned(),
            child,
            stop,
            log,
        })
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// It has; says what it wrote last.
    pub fn still_running(&mut self) -> Result<(), Failure> {
        let doing = format!("looking at {}", self.name);
        match self.child.try_wait().doing(&doing)? {
            None => Ok(()),
            Some(status) => Err(Failure::new(
                doing,
                format!("it ended with {status}{}", end_of_log(&self.log)),
            )),
        }
    }

    /// Tries this until it works.
    ///
    /// # Errors
    /// The store ended meanwhile, or it works only after [`READY_MAX`], if ever; says why it did not the last time.
    pub async fn ready<T, F>(&mut self, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let why = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            self.still_running()?;
            if Instant::now() > deadline {
                return Err(Failure::new(
                    format!("waiting for {}", self.name),
                    format!("{why}{}", end_of_log(&self.log)),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Processor time of it and of what it started, so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn processor_time(&self) -> Result<Duration, Failure> {
        procfs::family_processor_time(self.child.id())
    }

    #[cfg(test)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)) | Err(_));
        if !stopped(&mut self.child)
            && let Some(process) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && kill_process(process, self.stop.signal()).is_ok()
        {
            let deadline = Instant::now() + STOP_MAX;
            while Instant::now() < deadline && !stopped(&mut self.child) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        // Either it is gone, and both say so, or it would not listen.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for a test's data that a user other than ours may pass through.
#[cfg(test)]
pub fn passable_tempdir() -> TempDir {
    directory(&std::env::temp_dir(), None).unwrap().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        let user = User { id: 101, group: 104 };
        assert_eq!(User::of(users, "postgres"), Some(user));
        assert_eq!(User::of(users, "nobody"), None);
    }

    #[test]
    fn what_is_not_installed_is_not_found() {
        assert!(Program::find("sh", &[]).is_some());
        assert!(Program::find("no-such-store", &[]).is_none());
        assert!(Program::find("passwd", &[PathBuf::from("/etc")]).is_some());
    }

    #[test]
    fn a_server_is_gone_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let sleep = Program::find("sleep", &[]).unwrap();
        let mut server = Server::start("sleep", dir.path(), &sleep, None, Stop::Term, &["600"]).unwrap();
        server.still_running().unwrap();
        let process = Path::new("/proc").join(server.id().to_string());
        assert!(process.exists());
        drop(server);
        assert!(!process.exists());
    }

    #[tokio::test]
    async fn a_server_that_ends_instead_of_getting_ready_says_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Program::find("sh", &[]).unwrap();
        let arguments = ["-c", "echo no such flag >&2; exit 3"];
        let mut server = Server::start("shell", dir.path(), &shell, None, Stop::Term, &arguments).unwrap();
        let failure = server
            .ready(|| async { Err::<(), _>(Failure::new("connecting", "refused")) })
            .await
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("status: 3") && failure.contains("no such flag"),
            "{failure}"
        );
    }
}
