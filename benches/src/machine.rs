//! What the figures were measured on, and what was measured: numbers without it mean nothing.

use std::{path::Path, process::Command, time::SystemTime};

use serde::Serialize;

use crate::failure::Failure;

/// File systems that live in memory: fsync costs nothing there, and proves nothing.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// The machine; nothing where this system does not tell.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: Option<usize>,
    /// What the processor calls itself.
    pub processor: Option<String>,
    /// Memory, in 2³⁰ bytes.
    pub memory_gib: Option<f64>,
    /// Version of the kernel.
    pub kernel: Option<String>,
    /// What the data lies on.
    pub file_system: Option<String>,
}

impl Machine {
    /// This one, with the data under `place`.
    pub fn new(place: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let value = |path: &str, name: &str| {
            let text = read(path)?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = value("/proc/meminfo", "MemTotal")
            .and_then(|value| value.strip_suffix(" kB")?.parse::<f64>().ok());
        Machine {
            cores: std::thread::available_parallelism().map(usize::from).ok(),
            processor: value("/proc/cpuinfo", "model name"),
            memory_gib: memory_kib.map(|kib| kib / f64::from(1 << 20)),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            file_system: file_system(place),
        }
    }
}

/// What was run, and when.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    /// Commit of the source, with a plus where it had been changed; nothing where git does not tell.
    pub commit: Option<String>,
    /// How to run it again.
    pub command: String,
    /// Whether the build is one whose numbers count.
    pub optimised: bool,
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub ended_at: SystemTime,
}

impl Session {
    /// This one, ended now.
    pub fn new() -> Session {
        let arguments = std::env::args().skip(1);
        let optimised = !cfg!(debug_assertions);
        let cargo = if optimised {
            "cargo run --release"
        } else {
            "cargo run"
        };
        Session {
            commit: commit(),
            command: [format!("{cargo} -p benches --")]
                .into_iter()
                .chain(arguments)
                .collect::<Vec<_>>()
                .join(" "),
            optimised,
            ended_at: SystemTime::now(),
        }
    }

    /// When it ended, in UTC.
    pub fn ended(&self) -> String {
        humantime::format_rfc3339_seconds(self.ended_at).to_string()
    }
}

fn rfc3339<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*at))
}

/// The commit that is checked out where this was built, which `cargo run` has just done.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(format!("{}{}", commit.trim(), if changed { "+" } else { "" }))
}

/// Fails when the data would lie in memory.
///
/// # Errors
/// It would; says what to do.
pub fn check_durable(place: &Path) -> Result<(), Failure> {
    match file_system(place) {
        Some(kind) if IN_MEMORY.contains(&kind.as_str()) => Err(Failure::new(
            format!("looking at {}", place.display()),
            format!("it lies on {kind}, in memory: choose a directory on a disk with --dir"),
        )),
        _ => Ok(()),
    }
}

fn file_system(place: &Path) -> Option<String> {
    let place = place.canonicalize().ok()?;
    file_system_in(&std::fs::read_to_string("/proc/self/mounts").ok()?, &place)
}

/// The kind of the innermost mount that `place` lies in. Later mounts hide earlier ones.
fn file_system_in(mounts: &str, place: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        place.starts_with(point).then_some((point.len(), kind))
    });
    mounts
        .max_by_key(|&(length, _)| length)
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        let kind = |place: &str| file_system_in(mounts, Path::new(place)).unwrap();
        assert_eq!(kind("/home"), "ext4");
        assert_eq!(kind("/tmp/x"), "tmpfs");
        assert_eq!(kind("/tmp/disk/x"), "xfs");
        assert_eq!(kind("/tmpx"), "ext4");
    }
}
