//! What the build with bugs need not build again.
//!
//! It has a target directory of its own, so that no bug comes near what is shipped; but the crates of others are the
//! same in both, and take most of a build's time. A copy of the proof's own artifacts is what it begins with. A copy
//! and no links: cargo writes fingerprints in place, and one build's would then stand for the other's artifacts.

use std::{
    fs::{self, File, FileTimes},
    io,
    path::Path,
};

/// Copied in this order: without its fingerprint an artifact is nothing to cargo, so half a copy does no harm.
const PARTS: [&str; 3] = ["deps", "build", ".fingerprint"];

/// Gives the directory `to` of a profile what was built in `from`, if anything was, and nothing in `to` yet.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let was_built = |dir: &Path| dir.join(PARTS[2]).exists();
    if was_built(to) || !was_built(from) {
        return Ok(());
    }
    for part in PARTS {
        copy_dir(&from.join(part), &to.join(part))?;
    }
    Ok(())
}

/// With the times of every file, by which cargo tells what is older than what.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            copy_dir(&entry, &to)?;
        } else {
            fs::copy(&entry, &to)?;
            let modified = entry.metadata()?.modified()?;
            let copy = File::options().append(true).open(&to)?;
            copy.set_times(FileTimes::new().set_modified(modified))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_copy_has_the_times_and_is_made_once() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("proof"), home.path().join("planted"));
        for part in PARTS {
            fs::create_dir_all(from.join(part).join("a-crate")).unwrap();
        }
        let old = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let built = File::create(from.join("deps/a-crate/lib")).unwrap();
        built.set_times(FileTimes::new().set_modified(old)).unwrap();

        copy(&from, &to).unwrap();
        let copied = to.join("deps/a-crate/lib");
        assert_eq!(copied.metadata().unwrap().modified().unwrap(), old);

        // What was built there since is left alone.
        fs::write(&copied, "with bugs").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(copied).unwrap(), b"with bugs");
    }

    #[test]
    fn half_a_copy_is_made_again() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("proof"), home.path().join("planted"));
        for part in PARTS {
            fs::create_dir_all(from.join(part)).unwrap();
        }
        // In the way of the second part.
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("build"), "").unwrap();
        copy(&from, &to).unwrap_err();
        fs::remove_file(to.join("build")).unwrap();
        copy(&from, &to).unwrap();
        assert!(to.join(".fingerprint").exists());
        // Nothing was built there.
        copy(&home.path().join("debug"), &home.path().join("nothing")).unwrap();
    }
}
