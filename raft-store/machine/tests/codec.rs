//! Batches survive their bytes, and bytes that are not a batch are refused without a panic.

use inventory_machine::{
    Machine,
    codec::{
        BATCH_COMMANDS_MAX, Batch, BatchEncoder, DecodeError, MACHINE_VERSION, MACHINE_VERSION_CHAINS,
        MACHINE_VERSION_FIRST, TIME_MS_MAX,
    },
    command::*,
};
use proptest::{collection::vec, prelude::*};

/// A command with its texts owned, so that proptest can make it.
#[derive(Clone, Debug)]
struct Made {
    follows: bool,
    principal: u128,
    key: u128,
    not_after_ms: u64,
    kind: u8,
    sale: String,
    hash: u128,
    claim: [u8; 24],
    numbers: [u64; 8],
    small: [u32; 3],
    text: String,
    document: Vec<u8>,
    body: Vec<u8>,
}

impl Made {
    fn body(&self, sale: u16) -> Body<'_> {
        let take = || {
            // Every other take is by its principal, which has a shorter form.
            let user = if self.small[1].is_multiple_of(2) {
                self.principal.max(1)
            } else {
                self.hash
            };
            Take {
                sale,
                user,
                quantity: self.small[0],
            }
        };
        let settle = || Settle {
            claim: ClaimId(self.claim),
            fencing_token: self.numbers[0],
        };
        let operations = [
            Operation::Claim,
            Operation::Decrement,
            Operation::Confirm,
            Operation::Release,
            Operation::Extend,
            Operation::Cancel,
            Operation::Sale,
            Operation::Document,
        ];
        match self.kind % 18 {
            0 => Body::Found(Found {
                cluster_id: self.hash,
                secret: self.principal,
                incarnation: self.small[0],
            }),
            1 => Body::CreateSale(CreateSale {
                sale,
                name: &self.text,
                units_total: self.small[0],
                per_user_units_max: self.small[1],
                hold_ms: self.numbers[0],
                checkout_max_ms: self.numbers[1],
                opens_at_ms: self.numbers[2],
                closes_at_ms: self.numbers[3],
                price_minor: self.numbers[4],
                currency: [self.claim[0], self.claim[1], self.claim[2]],
                claims_max: self.small[2],
            }),
            2 => Body::OpenSale { sale },
            3 => Body::PauseSale { sale },
            4 => Body::CloseSale { sale },
            5 => Body::Restock {
                sale,
                units: self.small[0],
            },
            6 => Body::Withdraw {
                sale,
                units: self.small[0],
            },
            7 => Body::Claim(take()),
            8 => Body::Decrement(take()),
            9 => Body::Confirm(settle()),
            10 => Body::Release(settle()),
            11 => Body::Extend(settle()),
            12 => Body::Cancel(settle()),
            13 => Body::Resolve(Resolve {
                sale,
                operation: operations[self.small[0] as usize % 8],
                key: self.hash,
                fence_until_ms: self.numbers[0],
            }),
            14 => Body::PutDocument(PutDocument {
                document: &self.document,
                body: &self.body,
                version_expected: self.numbers[0],
                fencing_token: self.numbers[1],
                ttl_ms: self.numbers[2],
            }),
            15 => Body::DeleteDocument {
                document: &self.document,
                version_expected: self.numbers[0],
            },
            16 => Body::LeaseDocument {
                document: &self.document,
                fencing_token: self.numbers[0],
                lease_ms: self.numbers[1],
            },
            _ => Body::CheckDocument {
                document: &self.document,
                version_expected: self.numbers[0],
            },
        }
    }
}

prop_compose! {
    fn made()(
        follows: bool, principal: u128, key in 1u128.., not_after_ms: u64, kind: u8,
        sale in prop_oneof!["[a-c]", ".{0,16}"],
        hash in 1u128.., claim: [u8; 24], numbers: [u64; 8], small: [u32; 3],
        text in ".{0,20}", document in vec(any::<u8>(), 0..200), body in vec(any::<u8>(), 0..200),
    ) -> Made {
        Made { follows, principal, key, not_after_ms, kind, sale, hash, claim, numbers, small, text, document, body }
    }
}

fn encode(encoder: &mut BatchEncoder, made: &[Made]) -> Vec<u8> {
    for made in made {
        let sale = encoder.sale(NAMESPACE_DEFAULT, &made.sale);
        encoder.push(&command(made, sale));
    }
    assert_eq!(encoder.count(), made.len());
    let announced = encoder.bytes();
    let bytes = encoder.finish(7, 9);
    assert_eq!((bytes.len(), encoder.count()), (announced, 0));
    bytes
}

fn command(made: &Made, sale: u16) -> Command<'_> {
    Command {
        follows: made.follows,
        principal: made.principal,
        key: made.key,
        not_after_ms: made.not_after_ms,
        body: made.body(sale),
    }
}

/// Reads bytes as far as they go; what matters is that nothing panics.
fn read(bytes: &[u8]) -> Result<usize, DecodeError> {
    let batch = Batch::parse(bytes)?;
    assert!(batch.sales().count() <= bytes.len());
    batch
        .commands()
        .try_fold(0, |count, command| command.map(|_| count + 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_survive_their_bytes(batches in vec(vec(made(), 0..20), 1..3)) {
        // One encoder for all: what one batch leaves behind must not show in the next.
        let mut encoder = BatchEncoder::new();
        for made in batches {
            let bytes = encode(&mut encoder, &made);
            let batch = Batch::parse(&bytes).unwrap();
            prop_assert_eq!((batch.log_time_ms, batch.wall_time_ms), (7, 9));
            prop_assert_eq!(batch.count as usize, made.len());
            let sales: Vec<_> = batch.sales().collect();
            for (decoded, made) in batch.commands().zip(&made) {
                let place = sales.iter().position(|(_, sale)| *sale == made.sale).unwrap();
                prop_assert_eq!(decoded.unwrap(), command(made, place as u16));
            }
            prop_assert_eq!(batch.commands().count(), made.len());
        }
    }

    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        // The same behind a header that is in order, so that the commands are reached.
        let mut headed = BatchEncoder::new().finish(1, 1);
        headed[..2].copy_from_slice(&MACHINE_VERSION.to_le_bytes());
        headed[28] = 200;
        headed.extend_from_slice(&bytes);
        let _ = read(&headed);
    }

    #[test]
    fn changed_and_cut_batches_do_not_panic(
        made in vec(made(), 1..10), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(&mut BatchEncoder::new(), &made);
        prop_assert_eq!(read(&bytes), Ok(made.len()));
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err(), "a cut batch is never a batch");
        let mut changed = bytes.clone();
        for (at, byte) in &changes {
            changed[at.index(bytes.len())] = *byte;
        }
        if let Ok(batch) = Batch::parse(&changed) {
            // Whatever still reads as commands, the machine answers; what does not changes nothing.
            let mut machine = Machine::default();
            let before = machine.digest();
            match machine.apply(1, 1, &batch) {
                Ok(applied) => prop_assert_eq!(applied.replies.len(), batch.count as usize),
                Err(_) => prop_assert_eq!(machine.digest(), before),
            }
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(read(&longer).is_err(), "bytes beyond the last command are no batch");
    }
}

#[test]
fn a_shoppers_claim_is_about_40_bytes() {
    let mut encoder = BatchEncoder::new();
    let sale = encoder.sale(NAMESPACE_DEFAULT, "launch");
    let empty = encoder.bytes();
    for claim in 1..=100u128 {
        let take = Take {
            sale,
            user: claim << 64,
            quantity: 1,
        };
        let not_after_ms = 1_000_000 + claim as u64 * 13;
        encoder.push(&Command {
            follows: false,
            principal: take.user,
            key: claim << 100,
            not_after_ms,
            body: Body::Claim(take),
        });
    }
    let each = (encoder.bytes() - empty) as f64 / 100.0;
    assert!(each <= 40.0, "{each} bytes a claim");
}

#[test]
fn what_an_older_machine_does_not_know_is_in_no_batch_for_it() {
    let delete = Body::DeleteDocument {
        document: b"d",
        version_expected: 1,
    };
    let check = Body::CheckDocument {
        document: b"d",
        version_expected: 1,
    };
    for (follows, body, needed) in [
        (false, delete, MACHINE_VERSION_FIRST),
        (true, delete, MACHINE_VERSION_CHAINS),
        (false, check, MACHINE_VERSION_CHAINS),
    ] {
        let mut encoder = BatchEncoder::new();
        encoder.push(&Command {
            follows,
            principal: 1,
            key: 2,
            not_after_ms: 3,
            body,
        });
        let mut bytes = encoder.finish(0, 0);
        assert_eq!(Batch::parse(&bytes).unwrap().version, needed);
        assert_eq!(read(&bytes), Ok(1));
        bytes[..2].copy_from_slice(&MACHINE_VERSION_FIRST.to_le_bytes());
        assert_eq!(read(&bytes).is_ok(), needed == MACHINE_VERSION_FIRST, "{body:?}");
    }
}

#[test]
fn an_over_long_sale_id_stays_over_long() {
    for id in [
        "x".repeat(400),
        "ä".repeat(200),
        "€".repeat(50),
        "a".repeat(67) + "€€",
    ] {
        let mut encoder = BatchEncoder::new();
        encoder.sale(NAMESPACE_DEFAULT, &id);
        let bytes = encoder.finish(0, 0);
        let batch = Batch::parse(&bytes).unwrap();
        let (_, kept) = batch.sales().next().unwrap();
        assert!(kept.len() > SALE_ID_BYTES_MAX && id.starts_with(kept), "{kept}");
    }
}

#[test]
fn a_sale_has_one_place() {
    let mut encoder = BatchEncoder::new();
    let names: Vec<String> = (0..300).map(|n| format!("sale-{n}")).collect();
    let places: Vec<u16> = names.iter().map(|name| encoder.sale(0, name)).collect();
    assert_eq!(places, (0..300).collect::<Vec<u16>>());
    assert_eq!(
        names.iter().map(|name| encoder.sale(0, name)).collect::<Vec<_>>(),
        places
    );
    assert_eq!(
        encoder.sale(1, "sale-0"),
        300,
        "another namespace is another sale"
    );
}

#[test]
fn headers_out_of_bounds_are_refused() {
    let good = BatchEncoder::new().finish(1, 1);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Batch::parse(&changed).map(|batch| batch.count)
    };
    assert_eq!(
        with(0, &(MACHINE_VERSION + 1).to_le_bytes()),
        Err(DecodeError::Newer {
            version: MACHINE_VERSION + 1
        })
    );
    assert_eq!(with(0, &[0, 0]), Err(DecodeError::Invalid { offset: 0 }));
    assert_eq!(with(2, &[1, 0]), Err(DecodeError::Invalid { offset: 2 }));
    assert_eq!(
        with(4, &(TIME_MS_MAX + 1).to_le_bytes()),
        Err(DecodeError::Invalid { offset: 4 })
    );
    assert_eq!(
        with(28, &(BATCH_COMMANDS_MAX + 1).to_le_bytes()),
        Err(DecodeError::Invalid { offset: 28 })
    );
    assert_eq!(with(32, &[1, 0]), Err(DecodeError::Short));
    for length in 0..good.len() {
        assert_eq!(Batch::parse(&good[..length]).map(|_| ()), Err(DecodeError::Short));
    }
}
