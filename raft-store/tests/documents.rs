//! Documents through the Rust client, on real nodes in simulation.

use std::time::Duration;

use client::{Client, Consistency, Done, Error, Reason, Rejected, Resolution};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};

fn rejected<T: std::fmt::Debug>(answer: Result<T, Error>, reason: Reason) -> Rejected {
    match answer {
        Err(Error::Rejected(rejected)) if rejected.reason == reason => *rejected,
        other => panic!("wanted {reason:?}, got {other:?}"),
    }
}

#[test]
fn documents_are_compared_leased_and_forgotten_in_log_time() {
    let mut sim = simulation(3, Duration::from_secs(120));
    let machines: Vec<Machine> = (1..=3).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            machine.clone().run(Trace::default(), 10_000)
        });
    }
    sim.client("test", async move {
        story(&machines).await;
        Ok(())
    });
    sim.run().unwrap();
}

async fn story(machines: &[Machine]) {
    let client = Client::builder()
        .endpoints(machines.iter().map(Machine::endpoint))
        .connector(connector())
        .build()
        .unwrap();
    let members = machines.iter().map(|machine| (machine.id, machine.endpoint()));
    client.cluster().init(members.collect()).await.unwrap();
    let get = async |document: &'static str| {
        client
            .get_document(document, Consistency::Linearizable)
            .await
            .unwrap()
    };

    // Made once, by whoever comes first.
    assert_eq!(get("order").await, None);
    let made = client
        .put_document("order", "one", 0)
        .key("make")
        .send()
        .await
        .unwrap();
    assert_ne!(made.version, 0);
    let again = client
        .put_document("order", "one", 0)
        .key("make")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (again.version, again.fencing_token, again.leased_until_ms),
        (made.version, 0, 0),
        "the same key, the same answer"
    );
    assert!(again.position.applied_index > made.position.applied_index);
    let late = client.put_document("order", "other", 0).send().await;
    assert_eq!(rejected(late, Reason::VersionMismatch).value, made.version);
    let reused = client.put_document("order", "other", 0).key("make").send().await;
    rejected(reused, Reason::KeyReused);
    let found = get("order").await.unwrap();
    assert_eq!(
        (&found.body[..], found.version, found.fencing_token),
        (&b"one"[..], made.version, 0)
    );

    // Leased: only its owner writes, and nobody deletes.
    let lease = client.lease_document("order", 0, 10_000).send().await.unwrap();
    assert!(lease.fencing_token > 0 && lease.leased_until_ms > found.position.log_time_ms);
    let stranger = client.lease_document("order", 0, 10_000).send().await;
    assert_eq!(rejected(stranger, Reason::Leased).until_ms, lease.leased_until_ms);
    let stranger = client.put_document("order", "stolen", made.version).send().await;
    assert!(matches!(stranger, Err(Error::Rejected(_))), "{stranger:?}");
    let deleted = client.delete_document("order", made.version).send().await;
    rejected(deleted, Reason::Leased);
    let written = client
        .put_document("order", "two", made.version)
        .fencing_token(lease.fencing_token)
        .send()
        .await
        .unwrap();
    assert!(written.version > made.version);
    // Away for too long: another one has it, and the old token is dead.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let other = client.lease_document("order", 0, 10_000).send().await.unwrap();
    assert!(other.fencing_token > lease.fencing_token);
    let away = client
        .put_document("order", "three", written.version)
        .fencing_token(lease.fencing_token)
        .send()
        .await;
    assert_eq!(rejected(away, Reason::StaleToken).value, other.fencing_token);
    let back = client
        .lease_document("order", other.fencing_token, 0)
        .send()
        .await
        .unwrap();
    assert_eq!(back.fencing_token, 0);
    let gone = client
        .delete_document("order", written.version)
        .send()
        .await
        .unwrap();
    assert_eq!((gone.version, get("order").await), (0, None));

    // With a time to live it goes by itself.
    client
        .put_document("session", "x", 0)
        .ttl_ms(5_000)
        .send()
        .await
        .unwrap();
    assert!(get("session").await.is_some());
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(get("session").await, None);

    // Listed in order of keys, page by page, by size too.
    for n in [3, 1, 2] {
        let body = vec![b'x'; 16 * 1024];
        let put = client.put_document(format!("list/{n}"), body, 0);
        put.ttl_ms(3_600_000).send().await.unwrap();
    }
    client.put_document("lisu", "", 0).send().await.unwrap();
    let keys = |list: &client::DocumentList| -> Vec<String> {
        let keys = list.documents.iter();
        keys.map(|document| String::from_utf8_lossy(&document.key).into_owned())
            .collect()
    };
    for consistency in [Consistency::Linearizable, Consistency::Bounded(60_000)] {
        let page = client.list_documents("list/", "", 2, consistency).await.unwrap();
        assert_eq!(
            (keys(&page), page.more),
            (vec!["list/1".into(), "list/2".into()], true)
        );
        let found = get("list/1").await.unwrap();
        let listed = &page.documents[0];
        assert_eq!((&listed.body, listed.version), (&found.body, found.version));
        assert!(listed.expires_at_ms > page.position.log_time_ms);
        assert_eq!(listed.expires_at_ms, found.expires_at_ms);
        let rest = client
            .list_documents("list/", "list/2", 2, consistency)
            .await
            .unwrap();
        assert_eq!((keys(&rest), rest.more), (vec!["list/3".into()], false));
    }
    let only_keys = client
        .list_document_keys("list", "", 0, Consistency::Linearizable)
        .await
        .unwrap();
    assert_eq!(keys(&only_keys), ["list/1", "list/2", "list/3"]);
    assert!(
        only_keys
            .documents
            .iter()
            .all(|document| document.body.is_empty())
    );
    let too_many = client.list_documents("", "", 10_001, Consistency::Local).await;
    rejected(too_many, Reason::Invalid);

    // Together: all in one entry, as far as nothing is refused.
    let chained = client
        .chain()
        .then(client.check_document("chain/closed", 0))
        .then(client.put_document("chain/open", "begun", 0).key("begin"))
        .then(client.lease_document("chain/open", 0, 10_000))
        .send()
        .await;
    chained.end.unwrap();
    let [Done::Document(_), Done::Document(begun), Done::Document(lease)] = &chained.done[..] else {
        panic!("{:?}", chained.done);
    };
    let found = get("chain/open").await.unwrap();
    assert_eq!(
        (found.version, found.fencing_token, found.version >> 16),
        (begun.version, lease.fencing_token, lease.fencing_token),
        "a token is its entry's index"
    );
    let chained = client
        .chain()
        .then(client.put_document("chain/order", "paid", 0))
        .then(client.put_document("chain/open", "stolen", begun.version))
        .then(client.put_document("chain/answer", "lost", 0))
        .send()
        .await;
    assert_eq!(chained.done.len(), 1);
    rejected(chained.end, Reason::Leased);
    assert!(get("chain/order").await.is_some() && get("chain/answer").await.is_none());

    // What became of a key: that it made something, or that it never will.
    let (known, _) = client.resolve_document("order", "make", "client").await.unwrap();
    assert!(matches!(known, Resolution::Effect(_)), "{known:?}");
    let (unknown, _) = client.resolve_document("order", "never", "client").await.unwrap();
    assert!(matches!(unknown, Resolution::Abandoned { .. }), "{unknown:?}");
    let fenced = client.put_document("order", "x", 0).key("never").send().await;
    rejected(fenced, Reason::KeyFenced);
}
