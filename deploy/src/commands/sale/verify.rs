//! `sale verify`: one sale's books by three accounts that share nothing but the records: the counters, every
//! replica's recount, and all claims read from here.

use std::collections::HashMap;

use client::{Claim, ClaimStatus, Consistency, Sale};
use serde::Serialize;

use crate::{
    commands::verify::{self, VerifyView},
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
};

/// Claims asked for in one call.
const PAGE: u32 = 10_000;

/// How often the claims are read when the sale moves under the reader: a busy sale never holds still, and
/// then the replicas' own recounts, which are of one moment each, must do.
const READS_MAX: usize = 3;

/// What was found.
#[derive(Debug, Serialize)]
pub struct SaleVerifyView {
    pub sale_id: String,
    pub sound: bool,
    /// By every replica.
    pub verify: VerifyView,
    /// From here; null when the sale moved while it was read.
    pub walk: Option<WalkView>,
}

/// All claims of the sale as one index has them, read and counted from outside.
#[derive(Debug, Default, Serialize)]
pub struct WalkView {
    pub log_index: u64,
    pub claims: u64,
    pub units_held: u64,
    pub units_confirmed: u64,
    /// Users with units.
    pub users: u64,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// Runs it.
pub async fn run(context: &Context, connection: &Connection, sale_id: &str) -> Result<(), Failure> {
    let verify = verify::check(connection, Some(sale_id)).await?;
    let mut walk = None;
    for _ in 0..READS_MAX {
        walk = read(connection, sale_id, |_| ()).await?;
        if walk.is_some() {
            break;
        }
    }
    let faults = walk.as_ref().map(|walk| &walk.faults[..]).unwrap_or_default();
    let view = SaleVerifyView {
        sale_id: sale_id.to_owned(),
        sound: verify.sound && faults.is_empty(),
        verify,
        walk,
    };
    output::print(context.format, &view, table)?;
    verify::conclude(&view.verify)?;
    match &view.walk {
        Some(walk) if !walk.faults.is_empty() => Err(Failure::Violated(format!(
            "sale `{sale_id}`: {}",
            walk.faults.join("; ")
        ))),
        Some(_) => Ok(()),
        None => {
            eprintln!("the sale goes on changing, so its claims were counted by the nodes alone");
            Ok(())
        }
    }
}

/// Reads every claim and shows it to `each`; `None` when the sale changed meanwhile.
pub async fn read(
    connection: &Connection,
    sale_id: &str,
    mut each: impl FnMut(&Claim),
) -> Result<Option<WalkView>, Failure> {
    let client = &connection.client;
    let what = || Subject::read(format!("read sale `{sale_id}`"));
    let get = || client.get_sale(sale_id, Consistency::Linearizable);
    let (sale, position) = connection.told(what(), get().await).await?;
    let mut walk = Walk::new(position.log_time_ms);
    loop {
        let answer = client.list_claims(sale_id, walk.rank + 1, PAGE, Consistency::Linearizable);
        let (page, _) = connection.told(what(), answer.await).await?;
        if page.is_empty() {
            break;
        }
        for claim in &page {
            walk.take(claim);
            each(claim);
        }
    }
    let (after, _) = connection.told(what(), get().await).await?;
    Ok((after.changed_index == sale.changed_index).then(|| walk.end(&sale)))
}

/// A walk over the claims of one sale, in rank order.
struct Walk {
    log_time_ms: u64,
    rank: u32,
    last: (u64, u32),
    units: HashMap<Vec<u8>, u64>,
    view: WalkView,
}

/// Faults told of one sale: the first are enough to see what kind they are.
const FAULTS_MAX: usize = 20;

impl Walk {
    fn new(log_time_ms: u64) -> Walk {
        Walk {
            log_time_ms,
            rank: 0,
            last: (0, 0),
            units: HashMap::new(),
            view: WalkView::default(),
        }
    }

    fn fault(&mut self, fault: String) {
        if self.view.faults.len() < FAULTS_MAX {
            self.view.faults.push(fault);
        }
    }

    fn take(&mut self, claim: &Claim) {
        self.view.claims += 1;
        if claim.rank != self.rank + 1 {
            self.fault(format!("rank {} comes after rank {}", claim.rank, self.rank));
        }
        let place = (claim.receipt.log_index, claim.receipt.position);
        if place <= self.last {
            self.fault(format!(
                "rank {} was granted before the one before it",
                claim.rank
            ));
        }
        (self.rank, self.last) = (claim.rank, place);
        let units = u64::from(claim.quantity);
        match claim.status {
            ClaimStatus::Held => {
                self.view.units_held += units;
                if claim.deadline_ms <= self.log_time_ms {
                    self.fault(format!("rank {} is held past its end", claim.rank));
                }
            }
            ClaimStatus::Confirmed => self.view.units_confirmed += units,
            _ => return,
        }
        *self.units.entry(claim.user_hash.clone()).or_default() += units;
    }

    fn end(mut self, sale: &Sale) -> WalkView {
        self.view.log_index = sale.changed_index;
        self.view.users = self.units.len() as u64;
        let limit = u64::from(sale.per_user_units_max);
        let above = self.units.values().filter(|&&units| units > limit).count();
        if above > 0 {
            self.fault(format!("{above} users have more than {limit} units"));
        }
        for (what, counted, counter) in [
            ("claims", self.view.claims, sale.claims_made),
            ("units held", self.view.units_held, sale.units_held),
            ("units sold", self.view.units_confirmed, sale.units_confirmed),
        ] {
            if counted != u64::from(counter) {
                self.fault(format!("{counted} {what} are there, the counter says {counter}"));
            }
        }
        let taken = self.view.units_held + self.view.units_confirmed;
        if taken + u64::from(sale.units_available) != u64::from(sale.units_total) {
            self.fault(format!(
                "{taken} units taken and {} available are not the {} there are",
                sale.units_available, sale.units_total
            ));
        }
        self.view
    }
}

fn table(view: &SaleVerifyView) -> comfy_table::Table {
    let mut table = verify::table(&view.verify);
    let cell = comfy_table::Cell::new::<String>;
    match &view.walk {
        None => table.add_row(vec![cell("read from here".into()), cell("it moves".into())]),
        Some(walk) => table.add_row(vec![
            cell("read from here".into()),
            cell(format!(
                "{} claims of {} users with units",
                output::grouped(walk.claims),
                output::grouped(walk.users)
            )),
            cell(format!(
                "{} held, {} sold",
                output::grouped(walk.units_held),
                output::grouped(walk.units_confirmed)
            )),
            cell(walk.log_index.to_string()),
            cell(if walk.faults.is_empty() {
                "conserved".into()
            } else {
                format!("WRONG: {}", walk.faults.join("; "))
            }),
        ]),
    };
    table
}

#[cfg(test)]
mod tests {
    use client::Receipt;

    use super::*;
    use crate::testing;

    fn claims() -> Vec<Claim> {
        let claim = |rank: u32, status, user: u8| Claim {
            claim_id: String::new(),
            status,
            quantity: 1,
            rank,
            deadline_ms: 5_000,
            fencing_token: 1,
            receipt: Receipt {
                log_index: rank.into(),
                ..Receipt::default()
            },
            user_hash: vec![user],
        };
        vec![
            claim(1, ClaimStatus::Confirmed, 1),
            claim(2, ClaimStatus::Expired, 2),
            claim(3, ClaimStatus::Held, 3),
        ]
    }

    fn walked(claims: &[Claim]) -> Vec<String> {
        let mut sale = testing::sale("hot", 3);
        (sale.units_available, sale.units_held, sale.units_confirmed) = (1, 1, 1);
        sale.claims_made = 3;
        let mut walk = Walk::new(1_000);
        claims.iter().for_each(|claim| walk.take(claim));
        walk.end(&sale).faults
    }

    #[test]
    fn sound_books_have_no_faults() {
        assert_eq!(walked(&claims()), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_seen() {
        type Spoil = fn(&mut Vec<Claim>);
        let spoils: [(Spoil, &str); 6] = [
            (|claims| claims[1].rank = 5, "rank 5 comes after"),
            (|claims| claims[2].receipt.log_index = 1, "granted before"),
            (|claims| claims[2].deadline_ms = 1_000, "held past its end"),
            (|claims| claims[2].user_hash = vec![1], "1 users have more than 1"),
            (
                |claims| claims[1].status = ClaimStatus::Confirmed,
                "2 units sold are there",
            ),
            (
                |claims| claims[1].status = ClaimStatus::Held,
                "3 units taken and 1 available",
            ),
        ];
        for (spoil, fault) in spoils {
            let mut claims = claims();
            spoil(&mut claims);
            let found = walked(&claims);
            assert!(
                found.iter().any(|said| said.contains(fault)),
                "{fault}: {found:?}"
            );
        }
    }
}
