//! `readiness`: whether the cluster is fit for a sale, by looking alone. Nothing is changed, nothing is loaded.
//!
//! What nodes say of themselves is judged by `cluster health`, whether replicas are equal by `verify`; here their
//! findings become rows of one table, beside what only matters before a sale: disks, certificates, who watches.
//! A row that could not be looked at says so, and is no reason against the sale: the operator decides.

mod nodes;
mod prometheus;
mod row;

use std::time::SystemTime;

use clap::Args;
use client::NodeStatus;
use serde::Serialize;
use tokio::time::{Instant, sleep};

pub use self::row::{Row, Verdict, go};
use super::{
    cluster::leading,
    health,
    member::{LEADERLESS_MAX, POLL},
    verify,
};
use crate::{
    context::{Connection, Context},
    exit::Failure,
    output,
};

/// What to look at beside the nodes.
#[derive(Args, Clone, Debug)]
pub struct ReadinessArgs {
    /// Prometheus that watches this cluster: every target of its jobs holdfast… must be up
    #[arg(long, value_name = "URL", value_parser = prometheus::url)]
    pub prometheus: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct ReadinessView<'a> {
    /// No row says no.
    pub go: bool,
    pub rows: &'a [Row],
}

/// Looks, prints, and says no where a row does.
pub async fn run(args: ReadinessArgs, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let rows = look(&connection, &args).await?;
    let view = ReadinessView {
        go: go(&rows),
        rows: &rows,
    };
    output::print(context.format, &view, |view| table(view.rows))?;
    conclude(&rows)
}

/// Every row.
///
/// # Errors
/// Nobody answers, or nobody leads: there is nothing to look at.
pub async fn look(connection: &Connection, args: &ReadinessArgs) -> Result<Vec<Row>, Failure> {
    let views = views(connection).await;
    let leader = leading(&views, connection)?;
    let nodes: Vec<&NodeStatus> = views
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .filter(|node| node.cluster_id == leader.cluster_id)
        .collect();
    let mut rows: Vec<Row> = health::look(&views).into_iter().map(Row::from).collect();
    rows.push(nodes::disks(&nodes));
    let now_s = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let own_ends_s = connection.tls.as_ref().map(|tls| tls.ends_s());
    rows.push(nodes::certificates(own_ends_s, &nodes, now_s));
    rows.push(replicas(&verify::check(connection, None).await?));
    rows.push(match &args.prometheus {
        None => prometheus::not_asked(),
        Some(url) => prometheus::judge(&prometheus::targets(url).await, leader.members.len()),
    });
    Ok(rows)
}

/// Everybody's view. In a failover it is asked again for a while: until somebody leads.
async fn views(connection: &Connection) -> Vec<(String, Result<NodeStatus, client::Error>)> {
    let deadline = Instant::now() + LEADERLESS_MAX;
    loop {
        let views = connection.client.cluster().status_all().await;
        let followed = |leader: &NodeStatus| {
            let mut nodes = views.iter().filter_map(|(_, answer)| answer.as_ref().ok());
            nodes.all(|node| node.leader_id == leader.node_id && node.term == leader.term)
        };
        let settled = leading(&views, connection).is_ok_and(followed);
        if settled || Instant::now() >= deadline {
            return views;
        }
        sleep(POLL).await;
    }
}

/// Whether replicas are equal, as `verify` concludes.
fn replicas(view: &verify::VerifyView) -> Row {
    let row = |verdict, measured| Row {
        check: "replicas equal",
        verdict,
        measured,
        wanted: "one state hash, books that balance, on every replica".into(),
        action: "`holdfast verify` shows which differ; pause sales and keep every node's directory",
        violation: false,
    };
    match verify::conclude(view) {
        Ok(()) => row(
            Verdict::Go,
            format!("{} equal at index {}", view.replicas.len(), view.log_index),
        ),
        Err(failure) => Row {
            violation: matches!(failure, Failure::Violated(_)),
            ..row(Verdict::NoGo, failure.to_string())
        },
    }
}

/// The rows, for people.
pub fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = output::table(&["CHECK", "VERDICT", "MEASURED", "WANTED", "TO DO"]);
    for row in rows {
        let action = match row.verdict {
            Verdict::Go => "",
            Verdict::NoGo | Verdict::NotChecked => row.action,
        };
        table.add_row([row.check, row.verdict.word(), &row.measured, &row.wanted, action]);
    }
    table
}

/// How the command ends: 6 where a promise is broken, 5 where something else speaks against the sale.
pub fn conclude(rows: &[Row]) -> Result<(), Failure> {
    let named = |rows: Vec<&Row>| {
        let named: Vec<String> = rows
            .iter()
            .map(|row| format!("{} ({})", row.check, row.measured))
            .collect();
        named.join("; ")
    };
    let violated: Vec<&Row> = rows.iter().filter(|row| row.violation).collect();
    if !violated.is_empty() {
        return Err(Failure::Violated(format!("no-go: {}", named(violated))));
    }
    let against: Vec<&Row> = rows.iter().filter(|row| row.verdict == Verdict::NoGo).collect();
    if !against.is_empty() {
        return Err(Failure::Refused(format!("no-go: {}", named(against))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use client::{Error, SaleBooks, StateHash};

    use super::*;

    fn row(verdict: Verdict, violation: bool) -> Row {
        Row {
            check: "a check",
            verdict,
            measured: "measured".into(),
            wanted: "wanted".into(),
            action: "act",
            violation,
        }
    }

    #[test]
    fn one_no_is_a_no_and_a_broken_promise_is_worse() {
        let code = |rows: &[Row]| conclude(rows).map_or_else(|failure| failure.code(), |()| 0);
        let (go, no, unknown) = (
            row(Verdict::Go, false),
            row(Verdict::NoGo, false),
            row(Verdict::NotChecked, false),
        );
        assert_eq!(code(&[go.clone(), unknown.clone()]), 0);
        assert_eq!(code(&[go.clone(), no.clone()]), 5);
        assert_eq!(code(&[no.clone(), row(Verdict::NoGo, true)]), 6);
        assert!(super::go(&[go.clone(), unknown]) && !super::go(&[go, no]));
    }

    #[test]
    fn the_table_says_what_to_do_where_something_is_to_be_done() {
        let text = output::text(&table(&[row(Verdict::Go, false)]));
        assert!(text.contains("go") && !text.contains("act"), "{text}");
        let text = output::text(&table(&[row(Verdict::NotChecked, false)]));
        assert!(text.contains("not checked") && text.contains("act"), "{text}");
    }

    #[test]
    fn replicas_are_equal_or_it_is_a_no() {
        let hash = |digest: u8| StateHash {
            digest: vec![digest; 16].into(),
            intact: true,
            sales: vec![SaleBooks {
                sale_id: "hot".into(),
                ..SaleBooks::default()
            }],
            ..StateHash::default()
        };
        let judged = |second: Result<StateHash, Error>| {
            let answers = [
                (1, "a:1".to_owned(), Ok(hash(1))),
                (2, "b:1".to_owned(), second),
                (3, "c:1".to_owned(), Ok(hash(1))),
            ];
            let row = replicas(&verify::VerifyView::new(9, &answers, None));
            (row.verdict, row.violation)
        };
        assert_eq!(judged(Ok(hash(1))), (Verdict::Go, false));
        assert_eq!(judged(Ok(hash(2))), (Verdict::NoGo, true));
        let down = Error::Unavailable {
            message: "refused".into(),
            retry_after_ms: 0,
        };
        assert_eq!(judged(Err(down)), (Verdict::NoGo, false));
    }
}
