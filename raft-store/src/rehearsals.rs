//! Rehearsed sales: to the machine they are sales like any other. Here they are kept out of what people are shown.

use inventory_machine::{Machine, command::NAMESPACE_DEFAULT, reply::SaleView};
use proto::{REHEARSAL_PREFIX, is_rehearsal};

/// Sales after `after` in id order, without rehearsals, at most `limit`.
pub(crate) fn sales_without(machine: &Machine, after: Option<&str>, limit: usize) -> Vec<SaleView> {
    let mut sales = Vec::new();
    let mut after = after.map(str::to_owned);
    while sales.len() < limit {
        let page = machine.sales(NAMESPACE_DEFAULT, after.as_deref(), limit - sales.len());
        let Some(last) = page.last() else { break };
        // Ids are in the order of their bytes, so rehearsals stand together: the first was seen, all are passed.
        after = Some(match is_rehearsal(&last.sale_id) {
            true => behind_rehearsals(),
            false => last.sale_id.clone(),
        });
        sales.extend(page.into_iter().filter(|sale| !is_rehearsal(&sale.sale_id)));
    }
    sales
}

/// Stands after every rehearsal and before every other id that follows them. No id itself: `/` is in none.
fn behind_rehearsals() -> String {
    let stem = REHEARSAL_PREFIX
        .strip_suffix('.')
        .expect("the prefix ends with a dot");
    // The byte after the dot's.
    format!("{stem}/")
}

#[cfg(test)]
mod tests {
    use inventory_machine::{
        codec::{Batch, BatchEncoder},
        command::{Body, Command, CreateSale, Found},
    };

    use super::*;

    fn machine_with(sale_ids: &[&str]) -> Machine {
        let mut machine = Machine::default();
        let mut encoder = BatchEncoder::new();
        let tell = |encoder: &mut BatchEncoder, key: u128, body: Body<'_>| {
            encoder.push(&Command {
                follows: false,
                principal: 1,
                key,
                not_after_ms: 2_000,
                body,
            });
        };
        let found = Found {
            cluster_id: 1,
            secret: 7,
            incarnation: 1,
        };
        tell(&mut encoder, 1, Body::Found(found));
        for (key, sale_id) in (2..).zip(sale_ids) {
            let sale = encoder.sale(NAMESPACE_DEFAULT, sale_id);
            let create = CreateSale {
                sale,
                name: "",
                units_total: 1,
                per_user_units_max: 1,
                hold_ms: 1_000,
                checkout_max_ms: 0,
                opens_at_ms: 0,
                closes_at_ms: 0,
                price_minor: 0,
                currency: *b"EUR",
                claims_max: 0,
            };
            tell(&mut encoder, key, Body::CreateSale(create));
        }
        let bytes = encoder.finish(1_000, 1);
        machine
            .apply(1, 1, &Batch::parse(&bytes).expect("well formed"))
            .expect("it applies");
        machine
    }

    fn listed(machine: &Machine, after: Option<&str>, limit: usize) -> Vec<String> {
        let sales = sales_without(machine, after, limit);
        sales.into_iter().map(|sale| sale.sale_id).collect()
    }

    #[test]
    fn rehearsals_are_left_out_and_take_no_place() {
        let machine = machine_with(&[
            "Z",
            "_rehearsal",
            "_rehearsal-x",
            "_rehearsal.1",
            "_rehearsal.2",
            "_rehearsal.3",
            "_rehearsal0",
            "a",
            "b",
        ]);
        let shown = ["Z", "_rehearsal", "_rehearsal-x", "_rehearsal0", "a", "b"];
        assert_eq!(
            machine.sales(NAMESPACE_DEFAULT, None, 100).len(),
            9,
            "all are there"
        );
        for limit in 1..=9 {
            let expected = &shown[..limit.min(shown.len())];
            assert_eq!(listed(&machine, None, limit), expected, "{limit}");
        }
        // Page by page: every sale once.
        let mut pages = Vec::new();
        while let [sale_id] = &listed(&machine, pages.last().map(String::as_str), 1)[..] {
            pages.push(sale_id.clone());
        }
        assert_eq!(pages, shown);
        assert_eq!(listed(&machine, Some("_rehearsal.2"), 1), ["_rehearsal0"]);
        assert_eq!(listed(&machine, Some("b"), 1), Vec::<String>::new());
    }

    #[test]
    fn where_all_are_rehearsals_there_is_nothing_to_show() {
        let machine = machine_with(&["_rehearsal.1", "_rehearsal.2"]);
        assert_eq!(listed(&machine, None, 1), Vec::<String>::new());
    }
}
