//! The machine against a naive reading of the rules, over random histories.

mod common;

use std::collections::BTreeMap;

use common::{
    apply, bytes_of, events,
    naive::{Model, NO_ID},
    script::{self, Player, Ready, SALES, Step},
};
use inventory_machine::{DocumentQuery, Machine, command::*, reply::*};
use proptest::{collection::vec, prelude::*, test_runner::TestError};

/// Ids by sale number and rank: the model does not know them, but they must never change or meet.
type Ids = BTreeMap<(u32, u32), ClaimId>;

fn nameless_claim(claim: ClaimView, ids: &mut Ids) -> ClaimView {
    let place = (claim.claim_id.sale_number(), claim.rank);
    assert_eq!(
        *ids.entry(place).or_insert(claim.claim_id),
        claim.claim_id,
        "a claim's id never changes"
    );
    ClaimView {
        claim_id: NO_ID,
        ..claim
    }
}

fn nameless_reply(reply: &Reply, ids: &mut Ids) -> Reply {
    match reply {
        Reply::Claim { grant, claim } => Reply::Claim {
            grant: *grant,
            claim: nameless_claim(*claim, ids),
        },
        Reply::Settled(claim) => Reply::Settled(nameless_claim(*claim, ids)),
        Reply::Resolved(Resolution::Claim(claim)) => {
            Reply::Resolved(Resolution::Claim(nameless_claim(*claim, ids)))
        }
        other => other.clone(),
    }
}

fn nameless_event(event: &Event, ids: &mut Ids) -> Event {
    let kind = match event.kind {
        EventKind::ClaimGranted(claim) => EventKind::ClaimGranted(nameless_claim(claim, ids)),
        EventKind::ClaimConfirmed(claim) => EventKind::ClaimConfirmed(nameless_claim(claim, ids)),
        EventKind::ClaimReleased(claim) => EventKind::ClaimReleased(nameless_claim(claim, ids)),
        EventKind::ClaimExpired(claim) => EventKind::ClaimExpired(nameless_claim(claim, ids)),
        EventKind::ClaimExtended(claim) => EventKind::ClaimExtended(nameless_claim(claim, ids)),
        EventKind::ClaimCancelled(claim) => EventKind::ClaimCancelled(nameless_claim(claim, ids)),
        other => other,
    };
    Event {
        kind,
        ..event.clone()
    }
}

/// What a history came by, to know that the generator goes where it should.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn note(&mut self, what: &impl std::fmt::Debug) {
        let text = format!("{what:?}");
        let word = text
            .split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_string();
        *self.0.entry(word).or_default() += 1;
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Rejected(rejection) => self.note(rejection),
            Reply::Claim { grant, .. } => self.note(grant),
            Reply::Resolved(resolution) => self.note(resolution),
            other => self.note(other),
        }
    }
}

fn check_history(steps: Vec<Step>, seen: &mut Seen) {
    let mut machine = Machine::default();
    let mut model = Model::new(&SALES);
    let mut player = Player::default();
    let mut ids = Ids::new();
    let mut happened = Vec::new();
    let mut steps = steps.into_iter();
    while let Some(ready) = player.next(&mut steps, &machine) {
        let Ready {
            commands,
            log_time_ms,
            wall_time_ms,
            term,
        } = &ready;
        let bytes = bytes_of(&SALES, commands, *log_time_ms, *wall_time_ms);
        let applied = apply(&mut machine, *term, &bytes);
        let shown = events(&machine, &applied.events);
        player.learn(&shown);
        let replies: Vec<_> = applied
            .replies
            .iter()
            .map(|reply| nameless_reply(reply, &mut ids))
            .collect();
        let named = shown.iter().map(|event| nameless_event(event, &mut ids));
        let named: Vec<_> = named.collect();
        let index = machine.applied_index();
        let expected = model.apply(index, *term, *log_time_ms, *wall_time_ms, commands);
        model.ids = ids.iter().map(|(&place, &id)| (id, place)).collect();
        assert_eq!(model.ids.len(), ids.len(), "two claims have the same id");
        for ((reply, expected), command) in replies.iter().zip(&expected.0).zip(commands) {
            assert_eq!(reply, expected, "entry {index}: {command:?}");
            seen.reply(reply);
        }
        assert_eq!(named, expected.1, "entry {index}");
        named.iter().for_each(|event| seen.note(&event.kind));
        happened.push((applied.events, shown));
        compare(&machine, &model, &mut ids);
        check_refusals(&machine, &model, &ready, &mut ids, seen);
    }
    for (entry, shown) in happened {
        let later = events(&machine, &entry);
        assert_eq!(
            later, shown,
            "events show claims as they were, whatever became of them"
        );
    }
}

/// Everything that can be read.
fn compare(machine: &Machine, model: &Model, ids: &mut Ids) {
    let sales = model.sale_views();
    assert_eq!(
        (1..)
            .map_while(|number| machine.sale_by_number(number))
            .collect::<Vec<_>>(),
        sales
    );
    for sale in &sales {
        assert_eq!(machine.sale(0, &sale.sale_id).as_ref(), Some(sale));
        assert_eq!(
            sale.units_available + sale.units_held + sale.units_confirmed,
            sale.units_total
        );
        let claims = model.claim_views(sale.sale_number);
        let read = machine.claims(sale.sale_number, 0, usize::MAX);
        let read: Vec<_> = read.into_iter().map(|claim| nameless_claim(claim, ids)).collect();
        assert_eq!(read, claims);
        for number in 0..5 {
            let user = script::user(number);
            let own: Vec<_> = claims
                .iter()
                .filter(|claim| claim.user == user)
                .rev()
                .copied()
                .collect();
            let read = machine.claims_of(sale.sale_number, user, usize::MAX);
            assert_eq!(
                read.into_iter()
                    .map(|claim| nameless_claim(claim, ids))
                    .collect::<Vec<_>>(),
                own
            );
        }
    }
    check_document_lists(machine, model);
    assert_eq!(machine.next_deadline_ms(), model.next_deadline_ms());
    assert_eq!(machine.next_hour_ms(), model.next_hour_ms());
    assert_eq!(
        machine.waits_for_time(),
        model.next_deadline_ms().is_some() || model.has_fences()
    );
    assert!(machine.recount().are_sound());
}

/// Lists of documents, page by page, from every prefix that there is.
fn check_document_lists(machine: &Machine, model: &Model) {
    let all = model.document_views();
    let mut prefixes: Vec<&[u8]> = vec![b"", b"\xff"];
    for document in &all {
        prefixes.extend((1..=document.document.len()).map(|end| &document.document[..end]));
    }
    for prefix in prefixes {
        let with_prefix = all
            .iter()
            .filter(|document| document.document.starts_with(prefix));
        let expected: Vec<_> = with_prefix.cloned().collect();
        let whole = machine.documents(&DocumentQuery {
            prefix,
            ..DocumentQuery::ALL
        });
        assert_eq!((whole.documents, whole.more), (expected.clone(), false));
        let (mut paged, mut after, mut more) = (Vec::new(), Vec::new(), true);
        while more {
            let page = machine.documents(&DocumentQuery {
                prefix,
                after: &after,
                limit: 2,
                ..DocumentQuery::ALL
            });
            more = page.more;
            paged.extend(page.documents);
            after = paged
                .last()
                .map_or(Vec::new(), |last: &DocumentView| last.document.clone());
        }
        assert_eq!(paged, expected);
    }
}

/// A refusal that needs no log entry is the answer that the log would have given, and a claim that is
/// not refused would have been granted.
fn check_refusals(machine: &Machine, model: &Model, ready: &Ready, ids: &mut Ids, seen: &mut Seen) {
    let now_ms = machine.log_time_ms();
    for (number, place) in [(0u8, 0u16), (1, 1), (2, 2), (3, 3)] {
        let quantity = 1 + u32::from(number % 2);
        let user = script::user(number);
        let key = script::key(Operation::Claim, u32::from(place), ready.commands.len() as u8);
        let refusal = machine.refusal(
            machine.sale_number(0, SALES[usize::from(place)]),
            user,
            key,
            quantity,
            now_ms,
        );
        let take = Take {
            sale: place,
            user,
            quantity,
        };
        let command = Command {
            follows: false,
            principal: user,
            key,
            not_after_ms: now_ms,
            body: Body::Claim(take),
        };
        let mut then = model.clone();
        let index = machine.applied_index() + 1;
        let (replies, _) = then.apply(index, ready.term, now_ms, ready.wall_time_ms, &[command]);
        match refusal {
            Some(reply) => {
                seen.note(&format_args!("Refused"));
                assert_eq!(nameless_reply(&reply, ids), replies[0]);
            }
            None => assert!(
                matches!(
                    replies[0],
                    Reply::Claim {
                        grant: Grant::Granted,
                        ..
                    } | Reply::Rejected(Rejection::KeyFenced)
                ),
                "not refused, but the log says {:?}",
                replies[0]
            ),
        }
        // At the first deadline units come back: nothing may be refused from this state any more.
        if let Some(deadline_ms) = machine
            .sale_by_number(u32::from(number) + 1)
            .and_then(|s| s.first_deadline_ms)
        {
            assert_eq!(
                machine.refusal(
                    machine.sale_number(0, SALES[usize::from(place)]),
                    user,
                    key,
                    quantity,
                    deadline_ms
                ),
                None
            );
        }
    }
}

/// Random histories to play; each is up to 120 choices, some 25 batches.
const HISTORIES: u32 = 10_000;

#[test]
fn machine_and_model_agree() {
    let config = ProptestConfig {
        cases: HISTORIES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let seen = std::cell::RefCell::new(Seen::default());
    let histories = vec(any::<Step>(), 1..120);
    let outcome = runner.run(&histories, |steps| {
        check_history(steps, &mut seen.borrow_mut());
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nreplay with check_history(vec!{steps:?})"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    // A generator that never gets somewhere proves nothing about it.
    let seen = seen.into_inner();
    for needed in [
        "Granted",
        "Repeated",
        "Already",
        "Settled",
        "Done",
        "Document",
        "Claim",
        "Effect",
        "Abandoned",
        "SoldOut",
        "SaleNotOpen",
        "SaleUnknown",
        "SaleExists",
        "SaleTransition",
        "ClaimsExhausted",
        "UserLimit",
        "ClaimUnknown",
        "ClaimGone",
        "StaleToken",
        "KeyReused",
        "KeyFenced",
        "TooLate",
        "OutOfRange",
        "UnitsInUse",
        "VersionMismatch",
        "Leased",
        "Founding",
        "NotReached",
        "Refused",
        "SaleCreated",
        "SaleOpened",
        "SalePaused",
        "SaleClosed",
        "SaleRestocked",
        "SaleWithdrawn",
        "ClaimGranted",
        "ClaimConfirmed",
        "ClaimReleased",
        "ClaimExpired",
        "ClaimExtended",
        "ClaimCancelled",
        "DocumentChanged",
    ] {
        let times = seen.0.get(needed).copied().unwrap_or(0);
        assert!(times > 50, "{needed} came up {times} times only: {seen:?}");
    }
}
