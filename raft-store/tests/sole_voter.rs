//! A cluster of one node: it is its own quorum, and its time goes on.

use std::time::Duration;

use client::{ClaimStatus, Client, Consistency, NewSale};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

#[test]
fn holds_end_where_nobody_else_confirms_the_leader() {
    let mut sim = simulation(1, Duration::from_secs(60));
    let machine = Machine::new(1, 0);
    let host = machine.clone();
    sim.host(machine.name(), move || host.clone().run(Trace::default(), 10_000));
    sim.client("test", async move {
        let client = Client::builder()
            .endpoints([machine.endpoint()])
            .connector(connector())
            .build()?;
        client.cluster().init(vec![(1, machine.endpoint())]).await?;
        let sale = NewSale {
            sale_id: "hot".into(),
            units_total: 1,
            hold_ms: 2_000,
            open: true,
            ..NewSale::default()
        };
        client.create_sale(sale).key("create").send().await?;
        let claimed = client.claim("hot", "first").key("k").send().await?;
        // Longer than the grace a leader has without its quorum, and than the hold.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (claim, ..) = client
            .get_claim(&claimed.claim.claim_id, None, Consistency::Linearizable)
            .await?;
        assert_eq!(claim.status, ClaimStatus::Expired);
        client.claim("hot", "second").key("k").send().await?;
        Ok(())
    });
    sim.run().unwrap();
}
