//! The image in sled, on real files: a quick start when it is whole, made anew when it is not, and
//! proof of a damaged log when it is ahead of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use raft_store::storage::{
    error::StorageError,
    open::{Base, StoreOptions},
    rows::{KEY_WRITING, decode_writing, encode_writing},
};
use tempfile::TempDir;

use crate::{
    node::{Node, options, real_seams, run},
    workload::Workload,
};

/// A data directory with its image beside it.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            root: tempfile::tempdir().expect("temporary directory"),
        }
    }
    fn dir(&self) -> PathBuf {
        self.root.path().join("node")
    }
    fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }
    async fn open(&self, options: &StoreOptions) -> Result<Node, StorageError> {
        Node::start(&self.dir(), &real_seams(&self.image()), options).await
    }
    async fn must_open(&self) -> Node {
        self.open(&options())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }
    /// The files as they are at this moment, as a kill would leave them. The log last: whatever the
    /// others hold is in it.
    fn copy(&self) -> Place {
        let copy = Place::new();
        copy_dir(&self.image(), &copy.image());
        copy_dir(&self.dir(), &copy.dir());
        copy
    }
    fn damaged_images(&self) -> Vec<String> {
        let names = fs::read_dir(self.root.path()).expect("listing");
        let names = names.map(|entry| entry.expect("listing").file_name().into_string().expect("a name"));
        names.filter(|name| name.starts_with("image.damaged-")).collect()
    }
}

/// Copies a directory whose files may be renamed or removed meanwhile.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("making a directory");
    for entry in fs::read_dir(from).expect("listing") {
        let entry = entry.expect("listing");
        let to = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_dir(&entry.path(), &to),
            _ => match fs::copy(entry.path(), to) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("copying {}: {error}", entry.path().display()),
            },
        }
    }
}

/// Opens, and demands the workload's state; tells where it began.
async fn recovered(place: &Place, workload: &Workload, last: u64, what: &str) -> Base {
    let mut node = place
        .open(&options())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    node.catch_up()
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(node.applied(), Some(last), "{what}");
    node.check(workload).await;
    let base = node.opened.base;
    node.stop().await;
    base
}

#[test]
fn a_stopped_node_starts_from_its_image() {
    run(async {
        let workload = Workload::new(11, 300);
        let place = Place::new();
        let mut last = 0;
        for upto in [100, 101, 260, 299] {
            let mut node = place.must_open().await;
            if last > 0 {
                assert_eq!(node.opened.base, Base::Image(last));
                node.check(&workload).await;
            }
            node.advance(&workload, upto).await.expect("advancing");
            node.stop().await;
            last = upto;
        }
        assert_eq!(
            recovered(&place, &workload, 299, "last start").await,
            Base::Image(299)
        );
        assert_eq!(place.damaged_images(), [""; 0]);
    });
}

#[test]
fn an_image_behind_the_log_is_caught_up() {
    run(async {
        let workload = Workload::new(12, 200);
        let place = Place::new();
        let mut node = place.must_open().await;
        node.advance(&workload, 80).await.expect("advancing");
        node.stop().await;
        let mut node = place
            .open(&StoreOptions {
                cut_every: Duration::MAX,
                ..options()
            })
            .await
            .expect("open");
        node.advance(&workload, 199).await.expect("advancing");
        node.kill().await;
        assert_eq!(recovered(&place, &workload, 199, "behind").await, Base::Image(80));
    });
}

#[test]
fn kills_in_the_middle_of_cuts_lose_nothing() {
    run(async {
        let workload = Workload::new(13, 400);
        let place = Place::new();
        let quick = StoreOptions {
            cut_every: Duration::from_millis(1),
            ..options()
        };
        let mut node = place.open(&quick).await.expect("open");
        let mut copies = Vec::new();
        for upto in (20..400).step_by(20) {
            node.advance(&workload, upto).await.expect("advancing");
            if upto % 60 == 0 {
                node.snapshot().await.expect("snapshot");
                node.purge().await.expect("purge");
            }
            copies.push((upto, place.copy()));
        }
        node.stop().await;
        for (upto, copy) in &copies {
            recovered(copy, &workload, *upto, &format!("killed at {upto}")).await;
        }
    });
}

/// A stopped node with two snapshots, a purged log and a whole image.
async fn stopped(workload: &Workload) -> Place {
    let place = Place::new();
    let mut node = place.must_open().await;
    for upto in [60, 120, workload.last()] {
        node.advance(workload, upto).await.expect("advancing");
        if upto < workload.last() {
            node.snapshot().await.expect("snapshot");
            node.purge().await.expect("purge");
        }
    }
    assert!(node.opened.log.state().last_purged_log_id.is_some());
    node.stop().await;
    place
}

#[test]
fn damaged_images_are_moved_aside_and_made_anew() {
    run(async {
        let workload = Workload::new(14, 160);
        let whole = stopped(&workload).await;
        let db = whole.image().join("db");
        let length = fs::metadata(&db).expect("sled's file").len() as usize;
        let used = fs::read(&db)
            .expect("sled's file")
            .iter()
            .rposition(|byte| *byte != 0)
            .unwrap_or(length - 1);
        let mut noticed = 0;
        for number in 0..24 {
            let copy = whole.copy();
            let db = copy.image().join("db");
            let mut bytes = fs::read(&db).expect("sled's file");
            let at = used * (2 * number + 1) / 48;
            bytes[at] ^= 1 << (number % 8);
            fs::write(&db, bytes).expect("damaging");
            let what = format!("flipped a bit of byte {at}");
            if recovered(&copy, &workload, 159, &what).await != Base::Image(159) {
                noticed += 1;
            }
            // Whatever it was, the image is whole again now.
            assert_eq!(
                recovered(&copy, &workload, 159, &what).await,
                Base::Image(159),
                "{what}"
            );
        }
        assert!(noticed > 0, "no flip hit anything, so nothing was tested");
        for number in 0..6 {
            let copy = whole.copy();
            let db = copy.image().join("db");
            let at = used * number / 6;
            fs::OpenOptions::new()
                .write(true)
                .open(&db)
                .expect("db")
                .set_len(at as u64)
                .expect("cutting");
            let what = format!("cut to {at} bytes");
            recovered(&copy, &workload, 159, &what).await;
            assert_eq!(
                recovered(&copy, &workload, 159, &what).await,
                Base::Image(159),
                "{what}"
            );
        }
    });
}

#[test]
fn an_image_that_is_still_locked_is_waited_for() {
    run(async {
        let workload = Workload::new(17, 160);
        let place = stopped(&workload).await;
        // As a store does that was dropped and whose threads have not ended.
        let held = fs::File::open(place.image().join("db")).expect("sled's file");
        held.lock().expect("nobody else has it");
        let mark = place.root.path().join("image.opening");
        let release = std::thread::spawn(move || {
            while !mark.exists() {
                std::thread::yield_now();
            }
            // It is being opened, and now and then that was tried already: whether or not, this is the end of it.
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        assert_eq!(
            recovered(&place, &workload, 159, "locked").await,
            Base::Image(159)
        );
        release.join().expect("it saw the mark");
        assert_eq!(place.damaged_images(), [""; 0]);
    });
}

#[test]
fn a_lost_image_is_made_anew() {
    run(async {
        let workload = Workload::new(15, 160);
        let place = stopped(&workload).await;
        fs::remove_dir_all(place.image()).expect("removing");
        assert_eq!(
            recovered(&place, &workload, 159, "no image").await,
            Base::Snapshot(120)
        );
        assert_eq!(
            recovered(&place, &workload, 159, "made anew").await,
            Base::Image(159)
        );
    });
}

#[test]
fn what_a_crash_of_sled_leaves_does_not_stop_the_next_start() {
    run(async {
        let workload = Workload::new(16, 160);
        let place = stopped(&workload).await;
        fs::write(place.image().join("snap.0000000000001234.generating"), b"half").expect("writing");
        assert_eq!(
            recovered(&place, &workload, 159, "generating").await,
            Base::Image(159)
        );
        // An opening that never ended: it may have hung or aborted, so it is not tried again.
        fs::write(place.root.path().join("image.opening"), b"").expect("writing");
        assert_eq!(
            recovered(&place, &workload, 159, "opening").await,
            Base::Snapshot(120)
        );
        assert_eq!(place.damaged_images(), ["image.damaged-1"]);
        fs::write(place.root.path().join("image.opening"), b"").expect("writing");
        recovered(&place, &workload, 159, "opening again").await;
        assert_eq!(place.damaged_images(), ["image.damaged-2"], "one is kept");
    });
}

#[test]
fn an_unfinished_cut_is_written_anew() {
    run(async {
        let workload = Workload::new(21, 160);
        let place = stopped(&workload).await;
        let db = sled::open(place.image()).expect("sled");
        let begun = decode_writing(&db.get(KEY_WRITING).expect("sled").expect("a mark")).expect("a mark");
        db.insert(KEY_WRITING, encode_writing(begun + 1)).expect("sled");
        db.flush().expect("sled");
        drop(db);
        assert_eq!(
            recovered(&place, &workload, 159, "unfinished").await,
            Base::Snapshot(120)
        );
        assert!(place.damaged_images().is_empty(), "it is not damaged");
        assert_eq!(
            recovered(&place, &workload, 159, "made anew").await,
            Base::Image(159)
        );
    });
}

#[test]
fn rows_that_sled_gives_back_wrongly_are_noticed() {
    run(async {
        let workload = Workload::new(22, 160);
        let whole = stopped(&workload).await;
        let keys: Vec<_> = {
            let copy = whole.copy();
            let db = sled::open(copy.image()).expect("sled");
            db.iter().keys().collect::<Result<_, _>>().expect("sled")
        };
        // Enough of them to meet every kind of row.
        for (number, key) in keys
            .iter()
            .enumerate()
            .filter(|(number, key)| number % 7 == 0 || key[0] == b'm')
        {
            let copy = whole.copy();
            let db = sled::open(copy.image()).expect("sled");
            if number % 2 == 0 {
                db.remove(key).expect("sled");
            } else {
                let mut row = db.get(key).expect("sled").expect("a row").to_vec();
                let at = row.len() / 2;
                row[at] ^= 1;
                db.insert(key, row).expect("sled");
            }
            db.flush().expect("sled");
            drop(db);
            let what = format!("row {key:?}");
            assert_eq!(
                recovered(&copy, &workload, 159, &what).await,
                Base::Snapshot(120),
                "{what}"
            );
        }
    });
}

#[test]
fn without_image_and_snapshots_a_purged_log_is_refused() {
    run(async {
        let workload = Workload::new(17, 160);
        let place = stopped(&workload).await;
        fs::remove_dir_all(place.image()).expect("removing");
        fs::remove_dir_all(place.dir().join("snapshots")).expect("removing");
        let refusal = place
            .open(&options())
            .await
            .err()
            .expect("must be refused")
            .to_string();
        assert!(refusal.contains("the log begins behind entry 60"), "{refusal}");
        assert!(
            refusal.contains("holdfast member"),
            "it says what to do: {refusal}"
        );
    });
}

#[test]
fn lost_snapshots_are_written_again_from_a_whole_image() {
    run(async {
        let workload = Workload::new(18, 160);
        let place = stopped(&workload).await;
        fs::remove_dir_all(place.dir().join("snapshots")).expect("removing");
        let node = place.must_open().await;
        assert_eq!(node.opened.base, Base::Image(159));
        let (meta, _) = node
            .opened
            .snapshots
            .current()
            .expect("a snapshot that covers what was purged");
        assert_eq!(meta.last_log_id.map(|last| last.index()), Some(159));
        node.stop().await;
    });
}

#[test]
fn a_log_that_lost_what_the_image_has_applied_is_refused() {
    run(async {
        let workload = Workload::new(19, 160);
        let place = Place::new();
        let mut node = place.must_open().await;
        node.advance(&workload, 100).await.expect("advancing");
        node.stop().await;
        let before = place.copy();
        let mut node = place.must_open().await;
        node.advance(&workload, 130).await.expect("advancing");
        node.stop().await;
        fs::remove_dir_all(place.dir()).expect("removing");
        copy_dir(&before.dir(), &place.dir());
        let refusal = place
            .open(&options())
            .await
            .err()
            .expect("must be refused")
            .to_string();
        assert!(refusal.contains("the log ends at entry 100"), "{refusal}");
        assert!(refusal.contains("applied entry 130"), "{refusal}");
    });
}

#[test]
fn a_foreign_image_is_refused() {
    run(async {
        let (ours, theirs) = (Workload::new(20, 60), Workload::of_cluster(0xc2, 20, 50));
        let (place, other) = (Place::new(), Place::new());
        for (place, workload) in [(&place, &ours), (&other, &theirs)] {
            let mut node = place.must_open().await;
            node.advance(workload, workload.last()).await.expect("advancing");
            node.stop().await;
        }
        fs::remove_dir_all(place.image()).expect("removing");
        copy_dir(&other.image(), &place.image());
        let refusal = place.open(&options()).await.err().expect("must be refused");
        assert!(
            matches!(
                refusal,
                StorageError::Foreign {
                    what: "cluster id",
                    ..
                }
            ),
            "{refusal}"
        );
        // Nor does a new node begin with somebody's image.
        let place = Place::new();
        copy_dir(&other.image(), &place.image());
        let refusal = place.open(&options()).await.err().expect("must be refused");
        assert!(matches!(refusal, StorageError::NotNew { .. }), "{refusal}");
    });
}

#[test]
fn a_data_directory_opens_once() {
    run(async {
        let place = Place::new();
        let node = place.must_open().await;
        let refusal = place.open(&options()).await.err().expect("must be refused");
        assert!(matches!(refusal, StorageError::Locked { .. }), "{refusal}");
        node.stop().await;
        place.must_open().await.stop().await;
    });
}
