//! What each node says of its disk and its certificate, judged for a sale that is yet to come.

use client::NodeStatus;
use security::tls::EXPIRY_WARNING_S;

use super::row::Row;
use crate::output::grouped;

/// Room that every node must have, in bytes: below it the alert `DiskNearlyFull` fires, and a sale should not begin
/// with one.
const DISK_ROOM_BYTES_MIN: u64 = 5_000_000_000;

/// Room as a multiple of the node's own reserve, below which it refuses claims.
const DISK_ROOM_RESERVES: u64 = 2;

/// Whether every node has room: the one with the least, against its own need, is told of.
pub fn disks(nodes: &[&NodeStatus]) -> Row {
    const CHECK: &str = "disk room";
    const ACTION: &str = "grow the disk; below its reserve a node refuses claims";
    let needed = |node: &NodeStatus| DISK_ROOM_BYTES_MIN.max(node.disk_reserve_bytes * DISK_ROOM_RESERVES);
    let mut told: Vec<(u64, u64, u64)> = nodes
        .iter()
        .filter_map(|node| Some((node.disk_free_bytes?, needed(node), node.node_id)))
        .collect();
    // The least room first, by what it needs.
    told.sort_by_key(|(free, needed, _)| i128::from(*free) - i128::from(*needed));
    let silent: Vec<u64> = nodes
        .iter()
        .filter(|node| node.disk_free_bytes.is_none())
        .map(|node| node.node_id)
        .collect();
    let Some((free, needed, node_id)) = told.first().copied() else {
        let wanted = format!("{} MB free", megabytes(DISK_ROOM_BYTES_MIN));
        return Row::not_checked(CHECK, "no node tells", wanted, "look with df on each node");
    };
    let mut measured = format!("{} MB free on node {node_id}, the least", megabytes(free));
    if !silent.is_empty() {
        measured.push_str(&format!("; nodes {silent:?} do not tell"));
    }
    Row::judged(
        CHECK,
        free >= needed && silent.is_empty(),
        measured,
        format!("{} MB free on every node", megabytes(needed)),
        ACTION,
    )
}

fn megabytes(bytes: u64) -> String {
    grouped(bytes / 1_000_000)
}

/// Whether all certificates outlive the next weeks: ours and its authority's, and every node's own.
pub fn certificates(own_ends_s: Option<(u64, u64)>, nodes: &[&NodeStatus], now_s: u64) -> Row {
    const CHECK: &str = "certificate life";
    const DAY_S: u64 = 86_400;
    let wanted = format!("{} days or more", EXPIRY_WARNING_S / DAY_S);
    let action = "put new ones in their place (`holdfast certs` shows one); no restart is needed";
    let Some((certificate_s, authority_s)) = own_ends_s else {
        return Row::not_checked(
            CHECK,
            "plain text: there are none",
            wanted,
            "--certificate, where the cluster has TLS",
        );
    };
    let mut ends = vec![
        (certificate_s, "this command's own".to_owned()),
        (authority_s, "the authority's".to_owned()),
    ];
    let of_node = |node: &&NodeStatus| Some((node.certificate_until_s?, format!("node {}'s", node.node_id)));
    ends.extend(nodes.iter().filter_map(of_node));
    let silent: Vec<u64> = nodes
        .iter()
        .filter(|node| node.certificate_until_s.is_none())
        .map(|node| node.node_id)
        .collect();
    let (until_s, whose) = ends.iter().min().expect("our own is among them");
    let mut measured = match until_s.checked_sub(now_s) {
        Some(left_s) => format!("{} days of {whose}, the first to end", left_s / DAY_S),
        None => format!("{whose} has ended"),
    };
    if !silent.is_empty() {
        measured.push_str(&format!("; nodes {silent:?} do not tell"));
    }
    let lasts = *until_s >= now_s + EXPIRY_WARNING_S;
    Row::judged(CHECK, lasts && silent.is_empty(), measured, wanted, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::readiness::Verdict;

    fn node(node_id: u64, change: impl FnOnce(&mut NodeStatus)) -> NodeStatus {
        let mut node = NodeStatus {
            node_id,
            disk_free_bytes: Some(9_000_000_000),
            disk_reserve_bytes: 512 << 20,
            certificate_until_s: Some(100 * 86_400),
            ..NodeStatus::default()
        };
        change(&mut node);
        node
    }

    #[test]
    fn the_node_with_the_least_room_counts() {
        let disk =
            |change: fn(&mut NodeStatus)| disks(&[&node(1, |_| ()), &node(2, change), &node(3, |_| ())]);
        assert_eq!(disk(|_| ()).verdict, Verdict::Go);
        assert_eq!(
            disk(|node| node.disk_free_bytes = Some(5_000_000_000)).verdict,
            Verdict::Go
        );
        let full = disk(|node| node.disk_free_bytes = Some(4_999_999_999));
        assert_eq!(full.verdict, Verdict::NoGo);
        assert!(full.measured.contains("4,999 MB free on node 2"), "{full:?}");
        // A large reserve asks for more room.
        let reserved = disk(|node| node.disk_reserve_bytes = 5_000_000_000);
        assert_eq!(reserved.verdict, Verdict::NoGo);
        assert!(reserved.measured.contains("node 2"), "{reserved:?}");
        let silent = disk(|node| node.disk_free_bytes = None);
        assert_eq!(silent.verdict, Verdict::NoGo);
        assert!(silent.measured.contains("nodes [2] do not tell"), "{silent:?}");
        let nobody = disks(&[&node(1, |node| node.disk_free_bytes = None)]);
        assert_eq!(nobody.verdict, Verdict::NotChecked);
    }

    #[test]
    fn the_first_certificate_to_end_counts() {
        const DAY_S: u64 = 86_400;
        let life = |own, change: fn(&mut NodeStatus)| {
            certificates(own, &[&node(1, |_| ()), &node(2, change)], 10 * DAY_S)
        };
        let long = Some((90 * DAY_S, 900 * DAY_S));
        assert_eq!(life(long, |_| ()).verdict, Verdict::Go);
        assert_eq!(life(None, |_| ()).verdict, Verdict::NotChecked);
        assert_eq!(life(Some((24 * DAY_S, 900 * DAY_S)), |_| ()).verdict, Verdict::Go);
        for (row, says) in [
            (
                life(Some((24 * DAY_S - 1, 900 * DAY_S)), |_| ()),
                "13 days of this command's own",
            ),
            (
                life(Some((90 * DAY_S, 20 * DAY_S)), |_| ()),
                "10 days of the authority's",
            ),
            (
                life(long, |node| node.certificate_until_s = Some(23 * DAY_S)),
                "13 days of node 2's",
            ),
            (
                life(long, |node| node.certificate_until_s = Some(9 * DAY_S)),
                "node 2's has ended",
            ),
            (
                life(long, |node| node.certificate_until_s = None),
                "nodes [2] do not tell",
            ),
        ] {
            assert_eq!(row.verdict, Verdict::NoGo, "{row:?}");
            assert!(row.measured.contains(says), "{row:?}");
        }
    }
}
