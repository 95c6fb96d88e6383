//! Batches and rows under fire: see package `fuzz`.

mod common;

use common::{FOUND, apply, bytes_of, rows_of};
use fuzz::Target;
use inventory_machine::{
    Machine,
    codec::{Batch, BatchEncoder},
    command::*,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

fn command(number: u128, body: Body<'static>) -> Command<'static> {
    Command {
        follows: false,
        principal: 1,
        key: number,
        not_after_ms: 60_000,
        body,
    }
}

fn commands() -> Vec<Command<'static>> {
    let sale = CreateSale {
        sale: 0,
        name: "Hot",
        units_total: 3,
        per_user_units_max: 2,
        hold_ms: 180_000,
        checkout_max_ms: 60_000,
        opens_at_ms: OPEN_AT_ONCE,
        closes_at_ms: 0,
        price_minor: 4_900,
        currency: *b"EUR",
        claims_max: 0,
    };
    let take = |user| Take {
        sale: 0,
        user,
        quantity: 1,
    };
    let put = PutDocument {
        document: b"orders/o",
        body: b"{}",
        version_expected: 0,
        fencing_token: 0,
        ttl_ms: 0,
    };
    let bodies = [
        FOUND,
        Body::CreateSale(sale),
        Body::Claim(take(5)),
        Body::Decrement(take(6)),
        Body::Restock { sale: 0, units: 7 },
        Body::PutDocument(put),
    ];
    (1..)
        .zip(bodies)
        .map(|(number, body)| command(number, body))
        .collect()
}

/// A state in which there is one of everything.
fn machine() -> Machine {
    let mut machine = Machine::default();
    apply(&mut machine, 1, &bytes_of(&["hot"], &commands(), 1_000, 1_000));
    machine
}

#[test]
fn fuzz_batches() {
    let known = [
        bytes_of(&["hot"], &commands(), 1_000, 1_000),
        bytes_of(&[], &[], 1_000, 1_000),
        bytes_of(&["a", "b"], &commands()[2..4], 2_000, 3_000),
    ];
    Target::new("batches", PACKAGE).known(known).run(|bytes| {
        let batch = match Batch::parse(bytes) {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        let read: Result<Vec<Command<'_>>, _> = batch.commands().collect();
        let commands = match read {
            Ok(commands) => commands,
            Err(error) => return error.to_string(),
        };
        // What was read says the same when it is written again.
        let mut encoder = BatchEncoder::new();
        let sales: Vec<_> = batch.sales().collect();
        let distinct = sales
            .iter()
            .enumerate()
            .all(|(at, sale)| !sales[..at].contains(sale));
        let short = sales
            .iter()
            .all(|(_, id)| (1..=SALE_ID_BYTES_MAX).contains(&id.len()));
        if distinct && short {
            sales.iter().for_each(|(namespace, id)| {
                encoder.sale(*namespace, id);
            });
            commands.iter().for_each(|command| encoder.push(command));
            let again = encoder.finish(batch.log_time_ms, batch.wall_time_ms);
            let again: Vec<Command<'_>> = Batch::parse(&again)
                .unwrap()
                .commands()
                .map(Result::unwrap)
                .collect();
            assert_eq!(again, commands);
        }
        // Nothing that a command can say stops a machine.
        let mut machine = machine();
        if batch.log_time_ms < 1_000 || batch.wall_time_ms < 1_000 {
            return "of the past".to_owned();
        }
        let index = machine.applied_index() + 1;
        let applied = machine.apply(index, 1, &batch).unwrap();
        let mut kinds: Vec<String> = applied
            .replies
            .iter()
            .map(|reply| format!("{reply:?}").chars().take(40).collect())
            .collect();
        kinds.dedup();
        kinds.join(" / ")
    });
}

/// A row as one input: length of the key, key, value.
fn row(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(key.len()).unwrap()];
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    bytes
}

fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[test]
fn fuzz_rows() {
    let rows = rows_of(&machine().freeze());
    let known: Vec<Vec<u8>> = rows.iter().map(|(key, value)| row(key, value)).collect();
    let mend = |bytes: &mut Vec<u8>| {
        let Some((key, value)) = parts(bytes) else { return };
        let Some(body) = value.len().checked_sub(8) else {
            return;
        };
        let sum = xxh3_64_with_seed(&value[..body], xxh3_64(key));
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&sum.to_le_bytes());
    };
    Target::new("rows", PACKAGE)
        .known(known)
        .run_mended(mend, |bytes| {
            let Some((key, value)) = parts(bytes) else {
                return "no row".to_owned();
            };
            // In place of the row of that key, or beside the others, in the order in which rows come.
            let mut image = rows.clone();
            let Some((name, _)) = image.iter().find(|(name, _)| name.as_slice() == key) else {
                let mut loader = Machine::loader();
                return format!("alone: {:?}", loader.row(key, value).err());
            };
            let name = name.clone();
            image.insert(name, value.to_vec());
            match common::load(&image) {
                Ok(machine) => format!("loads: {:?}", machine.recount()),
                Err(error) => error.to_string(),
            }
        });
}
