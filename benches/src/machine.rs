//! What the figures were measured on: numbers without it mean nothing.

use std::path::Path;

use serde_json::{Value, json};

use crate::failure::Failure;

/// File systems that live in memory: fsync costs nothing there, and proves nothing.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Cores, processor, kernel, and the file system under `place`; null what this system does not tell.
pub fn facts(place: &Path) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let processor = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    json!({
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "processor": processor,
        "kernel": read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        "file_system": file_system(place),
    })
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
