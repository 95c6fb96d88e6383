//! The reader of backups under fire: see package `fuzz`.

use std::path::Path;

use fuzz::Target;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    load_from,
    manifest::{Facts, Manifest, hex},
};
use crate::{
    fuzz_tests::{PACKAGE, disk_with, file, machine, said, standing, written},
    storage::{disk::OpenMode, snapshot::format},
};

/// A whole backup of a new machine.
fn backup() -> Vec<u8> {
    let machine = machine();
    let (frozen, standing) = (machine.freeze(), standing(&machine));
    let snapshot = written("s", |disk| {
        let file = file(disk, "s", OpenMode::Create);
        format::write(&*file, &frozen, &standing).unwrap();
    });
    let disk = disk_with("s", &snapshot);
    let contents = format::check(&*file(&disk, "s", OpenMode::Read)).unwrap();
    let facts = Facts::of(&machine);
    let manifest = Manifest::of_parts(2, &standing, contents.bytes, contents.checksum, facts);
    [manifest.head(), snapshot].concat()
}

/// Makes the manifest's checksum right again, so that what follows is looked at.
fn mend(bytes: &mut Vec<u8>) {
    let mut ends = (0..).zip(bytes.iter()).filter(|(_, byte)| **byte == b'\n');
    let mut end = || ends.next().map(|(at, _): (usize, _)| at);
    if let (Some(_), Some(second), Some(third)) = (end(), end(), end()) {
        let sum = hex(xxh3_128(&bytes[..=second]));
        bytes.splice(second + 1..third, sum.into_bytes());
    }
}

#[test]
fn fuzz_backups() {
    let whole = backup();
    let loaded = load_from(&disk_with("b", &whole), &Path::new("d").join("b"));
    assert_eq!(said(loaded.map(drop)), "ok");
    Target::new("backups", PACKAGE)
        .known([whole])
        .run_mended(mend, |bytes| {
            let loaded = load_from(&disk_with("b", bytes), &Path::new("d").join("b"));
            if let Ok(backup) = &loaded {
                let head = backup.manifest.head();
                assert!(bytes.len() >= head.len(), "more was believed than was there");
            }
            said(loaded.map(drop))
        });
}
