//! The mechanisms behind the nemeses, each on a small program that does what a node does: this very test, started
//! again with the fault library in it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use jepsen_tests::{
    nemeses::{
        links::{CLIENTS, Links, Weather},
        power,
        preload::{self, Preload},
    },
    processes::loopback,
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Says to the test started again what it is to do.
const PART: &str = "NEMESES_TEST_PART";

/// Where that test works.
const DIR: &str = "NEMESES_TEST_DIR";

fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = preload::compile(dir.path()).unwrap();
        (dir, library)
    });
    library
}

/// A place for a node, with its faults.
fn node() -> (tempfile::TempDir, Preload) {
    let dir = tempfile::tempdir().unwrap();
    let preload = Preload::new(library(), dir.path()).unwrap();
    fs::create_dir_all(preload.data_dir()).unwrap();
    (dir, preload)
}

/// Plays a part in a process of its own, with the faults of `preload`.
fn play(part: &str, preload: &Preload) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture"])
        .envs(preload.environment())
        .env(PART, part)
        .env(DIR, preload.data_dir())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text
        .lines()
        .find_map(|line| Some(line.split_once("SAYS ")?.1.to_owned()));
    said.unwrap_or_else(|| panic!("the part said nothing: {output:?}"))
}

/// Not a test of its own: the parts that others start.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    match part.as_str() {
        "clock" => {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            println!("\nSAYS {}", since.as_millis());
        }
        "sync" => {
            let file = File::create(dir.join("file")).unwrap();
            file.write_all_at(b"bytes", 0).unwrap();
            println!(
                "\nSAYS {:?}",
                file.sync_data().map_err(|error| error.raw_os_error())
            );
        }
        "grow" => {
            let file = File::options().write(true).open(dir.join("file")).unwrap();
            let over = file.write_all_at(b"B", 1).map_err(|error| error.raw_os_error());
            let grow = file
                .write_all_at(b"more", 4)
                .map_err(|error| error.raw_os_error());
            println!("\nSAYS {over:?} {grow:?}");
        }
        "connect" => {
            let port: u16 = fs::read_to_string(dir.join("port")).unwrap().parse().unwrap();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            println!("\nSAYS {heard}");
        }
        "power" => {
            let sync_dir = || File::open(&dir).unwrap().sync_all().unwrap();
            let file = File::create(dir.join("file")).unwrap();
            file.write_all_at(&[b'a'; 8_192], 0).unwrap();
            file.sync_data().unwrap();
            fs::write(dir.join("old"), "old").unwrap();
            File::open(dir.join("old")).unwrap().sync_all().unwrap();
            sync_dir();
            // From here on nothing is synced.
            file.write_all_at(&[b'b'; 4_096], 0).unwrap();
            file.write_all_at(&[b'c'; 8_192], 4_096).unwrap();
            fs::write(dir.join("new"), "new").unwrap();
            fs::rename(dir.join("new"), dir.join("old")).unwrap();
            fs::remove_file(dir.join("old")).unwrap();
            std::process::abort();
        }
        other => panic!("no part `{other}`"),
    }
}

#[test]
fn a_wall_clock_jumps_and_drifts() {
    let (_dir, preload) = node();
    let real_ms = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since.as_millis() as i64
    };
    for offset_ms in [3_600_000, -3_600_000] {
        preload.set_wall_offset_ms(offset_ms).unwrap();
        let before = real_ms();
        let seen: i64 = said(&play("clock", &preload)).parse().unwrap();
        assert!(
            (before + offset_ms..=real_ms() + offset_ms).contains(&seen),
            "{seen}"
        );
    }
    preload.clear().unwrap();
    let before = real_ms();
    let seen: i64 = said(&play("clock", &preload)).parse().unwrap();
    assert!((before..=real_ms()).contains(&seen), "{seen}");

    // A thousand times too fast: starting the process takes at least a millisecond.
    preload.set_wall_drift_ppm(1_000_000_000).unwrap();
    let before = real_ms();
    let seen: i64 = said(&play("clock", &preload)).parse().unwrap();
    assert!(seen > before + 500, "{seen} after {before}");
}

#[test]
fn syncs_fail_when_told_to() {
    let (_dir, preload) = node();
    assert_eq!(said(&play("sync", &preload)), "Ok(())");
    assert_eq!(preload.hits().unwrap(), 0);
    preload.set_sync_fails(true).unwrap();
    assert_eq!(said(&play("sync", &preload)), "Err(Some(5))");
    assert_eq!(preload.hits().unwrap(), 1);
}

#[test]
fn on_a_full_disk_files_do_not_grow() {
    let (_dir, preload) = node();
    fs::write(preload.data_dir().join("file"), "aaaa").unwrap();
    preload.set_disk_full(true).unwrap();
    assert_eq!(said(&play("grow", &preload)), "Ok(()) Err(Some(28))");
    assert_eq!(fs::read(preload.data_dir().join("file")).unwrap(), b"aBaa");
    preload.clear().unwrap();
    assert_eq!(said(&play("grow", &preload)), "Ok(()) Ok(())");
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    let (mut kept_bytes, mut lost_bytes) = (0, 0);
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (_dir, preload) = node();
        preload.begin_journal().unwrap();
        let output = play("power", &preload);
        assert!(!output.status.success(), "it aborts: {output:?}");
        let mut chance = SmallRng::seed_from_u64(seed);
        let lost = power::cut(preload.data_dir(), preload.journal_dir(), &mut chance).unwrap();
        // Two writes to one file, one to another; a name made, renamed and removed.
        assert_eq!(lost.unsynced, 6, "{lost:?}");

        let file = fs::read(preload.data_dir().join("file")).unwrap();
        assert!([8_192, 12_288].contains(&file.len()), "{}", file.len());
        for (page, bytes) in file.chunks(4_096).enumerate() {
            let versions: &[u8] = [b"ab", b"ac", b"\0c"][page];
            assert!(versions.contains(&bytes[0]), "page {page}: {}", bytes[0]);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "page {page} is torn");
            if bytes[0] == versions[0] {
                lost_bytes += 1;
            } else {
                kept_bytes += 1;
            }
        }
        let read = |name: &str| fs::read_to_string(preload.data_dir().join(name)).ok();
        // The contents of a file that was never synced may be anything it ever was.
        let old = read("old").map(|text| if text == "old" { "old" } else { "new" });
        names.insert((old, read("new").is_some()));
    }
    assert!(
        kept_bytes > 0 && lost_bytes > 0,
        "{kept_bytes} kept, {lost_bytes} lost"
    );
    let every_prefix = [
        (None, false),
        (Some("new"), false),
        (Some("old"), false),
        (Some("old"), true),
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), every_prefix);
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let (_dir, preload) = node();
    preload.begin_journal().unwrap();
    assert_eq!(said(&play("sync", &preload)), "Ok(())");
    let mut chance = SmallRng::seed_from_u64(1);
    let lost = power::cut(preload.data_dir(), preload.journal_dir(), &mut chance).unwrap();
    // Its name was not: the directory was never synced.
    assert_eq!((lost.pages, lost.unsynced), (0, 1), "{lost:?}");
}

#[test]
fn a_torn_journal_ends_before_the_tear_and_a_strange_one_is_refused() {
    let (_dir, preload) = node();
    preload.begin_journal().unwrap();
    play("power", &preload);
    let path = preload.journal_dir().join("journal");
    let len = fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len - 3)
        .unwrap();
    let mut chance = SmallRng::seed_from_u64(1);
    let lost = power::cut(preload.data_dir(), preload.journal_dir(), &mut chance).unwrap();
    assert_eq!(lost.unsynced, 5, "the last change never happened: {lost:?}");
    fs::write(&path, [7; 100]).unwrap();
    assert!(power::cut(preload.data_dir(), preload.journal_dir(), &mut chance).is_err());
}

/// A server that says who it is to everybody.
async fn server(name: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(name.as_bytes()).await.unwrap();
        }
    });
    port
}

/// A server that says everything again.
async fn echo() -> u16 {
    let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // The other end decides when it is over.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_where_they_are_routed() {
    let (_dir, preload) = node();
    let (asked, other) = (server("asked").await, server("other").await);
    let mut port = File::create(preload.data_dir().join("port")).unwrap();
    write!(port, "{asked}").unwrap();
    let part = |preload: &Preload| tokio::task::block_in_place(|| said(&play("connect", preload)));
    assert_eq!(part(&preload), "asked");
    preload.route(&[(1, 2), (asked, other)]).unwrap();
    assert_eq!(part(&preload), "other");
}

async fn exchange(stream: &mut tokio::net::TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).await?;
    Ok(heard)
}

const CUT: Weather = Weather {
    cut: true,
    loss_percent: 0,
    delay_ms_max: 0,
};

#[tokio::test]
async fn a_cut_direction_holds_bytes_back_until_it_is_healed() {
    let links = Links::default();
    let proxy = links.port(1, 2, echo().await).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect((loopback(), proxy)).await.unwrap();
    assert_eq!(exchange(&mut stream, b"fair").await.unwrap(), b"fair");
    for (from, to) in [(1, 2), (2, 1)] {
        links.set(from, to, CUT);
        let waits = tokio::time::timeout(Duration::from_millis(100), exchange(&mut stream, b"late"));
        assert!(
            waits.await.is_err(),
            "nothing comes through while {from} to {to} is cut"
        );
        links.heal();
        let mut late = [0; 4];
        stream.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
    }
    // What does not concern this pair does not touch it.
    links.set(1, 3, CUT);
    links.set(CLIENTS, 2, CUT);
    assert_eq!(exchange(&mut stream, b"free").await.unwrap(), b"free");
}

#[tokio::test]
async fn a_reset_breaks_connections_whoever_opened_them_and_new_ones_work() {
    let links = Links::default();
    let proxy = links.port(1, 2, echo().await).await.unwrap();
    for (one, other) in [(1, 2), (2, 1)] {
        let mut stream = tokio::net::TcpStream::connect((loopback(), proxy)).await.unwrap();
        assert_eq!(exchange(&mut stream, b"fair").await.unwrap(), b"fair");
        links.reset(one, other);
        let mut rest = Vec::new();
        // With an error or as an end: it is over.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn delayed_bytes_arrive_whole_and_in_order() {
    let links = Links::default();
    let proxy = links.port(1, 2, echo().await).await.unwrap();
    let bad = Weather {
        cut: false,
        loss_percent: 20,
        delay_ms_max: 5,
    };
    links.set(1, 2, bad);
    links.set(2, 1, bad);
    let stream = tokio::net::TcpStream::connect((loopback(), proxy)).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let text = sent.clone();
    tokio::spawn(async move { write.write_all(&text).await });
    let mut heard = vec![0; sent.len()];
    read.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, sent);
}

#[tokio::test]
async fn clients_dial_through_their_own_links() {
    let links = Links::default();
    let port = echo().await;
    links.join(2, port);
    let mut stream = links.dial(format!("{}:{port}", loopback())).await.unwrap();
    stream.write_all(b"fair").await.unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.unwrap();
    links.set(2, CLIENTS, CUT);
    stream.write_all(b"late").await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut heard));
    assert!(waits.await.is_err());
    links.heal();
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"late");
    // A port where nobody listens is refused at once, as without links.
    let nobody = TcpListener::bind((loopback(), 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(links.dial(nobody.to_string()).await.is_err());
}
