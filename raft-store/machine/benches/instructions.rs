//! What the machine takes in instructions, counted by valgrind: unlike time, the same on a busy machine and on the
//! next one, so that a change of one percent is a change.
//!
//! The bench starts itself under `valgrind --tool=callgrind`, once for each kind of work, and counts only inside of
//! [`instructions_counted_here`]. gungraun (iai-callgrind) would do the same, and more, with a runner of exactly its
//! own version to be installed beside it; one number for each kind of work is not worth that. Without valgrind there
//! is a line that says so, and no number.
//!
//! Left out: caches and branches. callgrind models both, and no processor that we run on is like its model.

#[allow(dead_code, reason = "the other bench uses the rest")]
mod common;

use std::{
    hint::black_box,
    io::ErrorKind,
    path::Path,
    process::{Command, Stdio},
};

use common::{BATCH, Work, World, apply, batch, claims, decode, encode, rows};
use inventory_machine::codec::BatchEncoder;

/// Live claims, and operations that are counted: enough that tables grow as often as they do in the long run, and
/// few enough for a program that runs fifty times slower.
const LIVE: usize = 1 << 15;

/// Says to the program under valgrind what to do.
const COUNTED: &str = "--counted";

/// What is counted beside what is applied.
const ENCODE: &str = "batch encode";
const DECODE: &str = "batch decode";
const ROWS: &str = "row encode";

fn main() {
    let mut arguments = std::env::args();
    if arguments.any(|argument| argument == COUNTED) {
        let work = arguments.next().expect("what to count");
        return count(&work);
    }
    let works = Work::ALL
        .map(Work::name)
        .into_iter()
        .chain([ENCODE, DECODE, ROWS]);
    println!("{:<14} {:>12}   with {LIVE} live claims", "", "instructions");
    for work in works {
        match counted(work) {
            Ok(Some(instructions)) => {
                let each = instructions as f64 / LIVE as f64;
                println!("{work:<14} {each:>12.1}   an operation");
            }
            Ok(None) => {
                println!("valgrind is not installed: no instructions were counted");
                return;
            }
            Err(why) => {
                eprintln!("{work}: {why}");
                std::process::exit(1);
            }
        }
    }
}

/// Instructions of [`LIVE`] operations; `None` without valgrind.
fn counted(work: &str) -> Result<Option<u64>, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let ran = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*instructions_counted_here*",
        ])
        .arg(format!("--callgrind-out-file={}", file.path().display()))
        .arg(own)
        .args([COUNTED, work])
        .stdin(Stdio::null())
        .output();
    let output = match ran {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    match total(file.path())? {
        0 => Err("valgrind counted nothing: the function was not found".to_owned()),
        instructions => Ok(Some(instructions)),
    }
}

/// The sum in a file of callgrind's.
fn total(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
        .ok_or_else(|| "callgrind's file has no totals".to_owned())
}

/// Where instructions are counted. Found by its name: the only one that has this in it.
#[inline(never)]
fn instructions_counted_here(work: &mut dyn FnMut()) {
    work();
}

/// Does [`LIVE`] operations; what they need is made outside of what is counted.
fn count(name: &str) {
    match name {
        ENCODE => {
            let commands = claims(0..LIVE);
            let mut encoder = BatchEncoder::new();
            for commands in commands.chunks(BATCH) {
                instructions_counted_here(&mut || drop(black_box(encode(&mut encoder, commands, 1))));
            }
        }
        DECODE => {
            let commands = claims(0..LIVE);
            for commands in commands.chunks(BATCH) {
                let bytes = batch(commands, 1);
                instructions_counted_here(&mut || assert_eq!(decode(black_box(&bytes)), BATCH));
            }
        }
        ROWS => {
            let world = World::new(Work::Grant, LIVE);
            instructions_counted_here(&mut || assert!(rows(black_box(&world.machine)) > 0));
        }
        name => {
            let work = Work::ALL.into_iter().find(|work| work.name() == name);
            let mut world = World::new(work.expect("a kind of work"), LIVE);
            while let Some((bytes, _)) = world.next() {
                let mut applied = None;
                instructions_counted_here(&mut || applied = Some(apply(&mut world.machine, &bytes)));
                world.check(&applied.expect("it was called"));
            }
        }
    }
}
