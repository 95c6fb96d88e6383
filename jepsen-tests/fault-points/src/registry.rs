//! Every bug and crash point there is.

/// What CI looks for in the shipped binary, where it must not be.
pub const MARKER: &str = "holdfast fault points are compiled in";

/// A mistake that a real engineer would make.
#[derive(Clone, Copy, Debug)]
pub struct PlantedBug {
    /// How it is switched on.
    pub name: &'static str,
    /// What is wrong then.
    pub what: &'static str,
    /// Why a campaign may end without having noticed it; empty where it must notice.
    pub survives: &'static str,
    /// Only checkouts come by.
    pub checkout: bool,
}

/// A place to crash at.
#[derive(Clone, Copy, Debug)]
pub struct CrashPoint {
    /// How it is named.
    pub name: &'static str,
    /// What has just happened there, or is about to.
    pub what: &'static str,
    /// Who comes by.
    pub passed_by: Passer,
}

/// Who comes by a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passer {
    /// A node, simulated or a process.
    Node,
    /// A node that is a process: the image of the state is not simulated.
    NodeProcess,
    /// A door, in the middle of a checkout.
    Door,
}

/// The index of a bug. Evaluated where it is planted, at compile time.
///
/// # Panics
/// There is no such bug: the build fails.
pub const fn bug(name: &str) -> usize {
    let mut index = 0;
    while index < PLANTED_BUGS.len() {
        if same(PLANTED_BUGS[index].name, name) {
            return index;
        }
        index += 1;
    }
    panic!("this bug is not in the registry of planted bugs")
}

/// The index of a crash point. Evaluated where it is, at compile time.
///
/// # Panics
/// There is no such point: the build fails.
pub const fn crash_point(name: &str) -> usize {
    let mut index = 0;
    while index < CRASH_POINTS.len() {
        if same(CRASH_POINTS[index].name, name) {
            return index;
        }
        index += 1;
    }
    panic!("this point is not in the registry of crash points")
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn must_die(name: &'static str, what: &'static str) -> PlantedBug {
    PlantedBug {
        name,
        what,
        survives: "",
        checkout: false,
    }
}

const fn may_survive(name: &'static str, what: &'static str, survives: &'static str) -> PlantedBug {
    PlantedBug {
        name,
        what,
        survives,
        checkout: false,
    }
}

const fn in_checkout(name: &'static str, what: &'static str) -> PlantedBug {
    PlantedBug {
        name,
        what,
        survives: "",
        checkout: true,
    }
}

const fn everywhere(name: &'static str, what: &'static str) -> CrashPoint {
    CrashPoint {
        name,
        what,
        passed_by: Passer::Node,
    }
}

const fn processes_only(name: &'static str, what: &'static str) -> CrashPoint {
    CrashPoint {
        name,
        what,
        passed_by: Passer::NodeProcess,
    }
}

const fn at_doors(name: &'static str, what: &'static str) -> CrashPoint {
    CrashPoint {
        name,
        what,
        passed_by: Passer::Door,
    }
}

/// Every bug there is. Their places say `planted!` with the name.
pub const PLANTED_BUGS: &[PlantedBug] = &[
    // Reads.
    must_die(
        "follower-read",
        "a follower answers linearizable reads from what it has applied",
    ),
    must_die(
        "lease-read",
        "a leader answers reads by a lease that outlives an election timeout",
    ),
    must_die(
        "deposed-leader-reads",
        "whoever believes to lead answers reads without asking a quorum",
    ),
    must_die(
        "read-before-applied",
        "a read does not wait until what was committed before it is applied",
    ),
    must_die(
        "index-before-state",
        "the applied index is published before the state it stands for",
    ),
    // Acknowledgements.
    must_die(
        "ack-before-commit",
        "an append whose answer was lost counts as a follower's acknowledgement",
    ),
    must_die(
        "ack-on-local-append",
        "an append is reported as durable when it is in memory",
    ),
    must_die(
        "unknown-told-as-refused",
        "a proposal that failed is answered as if it had never been proposed",
    ),
    must_die(
        "replies-to-wrong-callers",
        "the replies of an entry are handed out in reverse",
    ),
    must_die(
        "sold-out-from-stale-state",
        "a sold-out answer does not wait for a round of ReadIndex",
    ),
    must_die(
        "refusal-without-key",
        "a claim that needs no log entry is answered without a look at its key: a winner who asks again hears no",
    ),
    // Keys.
    must_die(
        "retry-without-dedup",
        "a claim's key is not looked up: a retry is judged anew",
    ),
    must_die(
        "dedup-missing-from-snapshot",
        "keys that settled a claim are not known after a restore",
    ),
    must_die(
        "dedup-forgotten-early",
        "a claim's key is forgotten with the end of the claim",
    ),
    must_die(
        "unknown-retried-with-new-key",
        "the client repeats a call of unknown outcome under a new key",
    ),
    must_die(
        "refusal-told-too-early",
        "the client tells a refusal while an earlier attempt may still apply",
    ),
    must_die(
        "fence-ignored",
        "a key that was resolved as abandoned may still have an effect",
    ),
    may_survive(
        "not-after-ignored",
        "a command is applied however late it comes",
        "needs a command that arrives a minute late: see refusal-told-too-early",
    ),
    // Time.
    must_die(
        "wall-clock-in-apply",
        "apply takes the time from the clock of its own machine",
    ),
    must_die(
        "log-time-not-monotone",
        "log time is the leader's own monotonic clock, whatever was before it",
    ),
    must_die("expired-early", "a hold ends half a second before its deadline"),
    must_die(
        "confirm-after-deadline",
        "a hold ends two seconds after its deadline, for slow payers",
    ),
    // Units.
    must_die(
        "both-return-the-unit",
        "a confirmed claim stays among the held ones and expires as well",
    ),
    must_die("release-of-confirmed", "a confirmed unit can be released"),
    must_die(
        "limit-checked-outside-log",
        "a user's limit is checked before proposing, and not in apply",
    ),
    must_die(
        "half-applied-batch",
        "a refused command ends its batch: the rest is answered alike, not applied",
    ),
    must_die(
        "hash-order-in-state",
        "a batch's commands are numbered in the order that a hash map gives",
    ),
    // Durability.
    must_die("vote-not-synced", "the vote is written, but not synced"),
    must_die(
        "log-sync-skipped",
        "what is written to the log is reported as durable, and not synced",
    ),
    must_die(
        "snapshot-without-holds",
        "the queue of deadlines is not rebuilt from a snapshot",
    ),
    must_die(
        "purge-before-sync",
        "the log is purged up to a snapshot that was not synced",
    ),
    must_die(
        "unmarked-tail-cut",
        "at opening, the last group of the log is taken for torn unless a mark follows",
    ),
    must_die(
        "truncation-not-logged",
        "truncating the log is done in memory only",
    ),
    // Feed.
    must_die(
        "feed-goes-on-after-install",
        "an installed snapshot does not end the watches that it leaps over",
    ),
    // Checkouts.
    in_checkout(
        "charge-before-journal",
        "a payment is confirmed before its id is in the journal",
    ),
    in_checkout(
        "payment-retried-with-new-key",
        "after a confirmation whose outcome is unknown the payment is made again, under new keys",
    ),
    in_checkout(
        "compensation-skipped",
        "a checkout whose claim is gone is closed without voiding its payment",
    ),
    in_checkout(
        "resumed-without-fencing",
        "a checkout is resumed whoever has its lease, and whoever writes last has the journal",
    ),
    in_checkout(
        "webhook-booked-twice",
        "what a webhook says is booked each time it is said",
    ),
    in_checkout(
        "hold-ends-during-payment",
        "a hold that has ended by the time of the confirmation is charged all the same",
    ),
];

/// Every crash point there is. Their places say `crash_point!` with the name.
pub const CRASH_POINTS: &[CrashPoint] = &[
    everywhere("log-append-begins", "a group of entries is about to be written"),
    everywhere("log-append-written", "a group of entries is written, not synced"),
    everywhere(
        "log-append-synced",
        "a group of entries is synced, nobody was told",
    ),
    everywhere(
        "log-append-reported",
        "raft was told that its entries are durable",
    ),
    everywhere(
        "log-mark-written",
        "the mark that everything before it was synced is written",
    ),
    everywhere("log-truncate-begins", "a truncation is about to be written"),
    everywhere("log-truncate-written", "a truncation is written, not synced"),
    everywhere("log-truncate-synced", "a truncation is synced"),
    everywhere("log-purge-begins", "a purge is about to be written"),
    everywhere("log-purge-written", "a purge is written, not synced"),
    everywhere(
        "log-purge-synced",
        "a purge is synced, its segments are still there",
    ),
    everywhere(
        "spare-filled",
        "the file of the next segment is full of zeros, not synced",
    ),
    everywhere("spare-synced", "the file of the next segment is synced"),
    everywhere(
        "segment-head-written",
        "the head of a new segment is written, not synced",
    ),
    everywhere(
        "segment-head-synced",
        "the head of a new segment is synced, it has no name yet",
    ),
    everywhere("segment-named", "a new segment has its name, not synced"),
    everywhere("segment-begun", "a new segment is durable"),
    everywhere(
        "segment-followed",
        "the segment before says that another follows, not synced",
    ),
    everywhere("segment-unlinked", "a purged segment is unlinked, not synced"),
    everywhere("segment-gone", "a purged segment is gone"),
    everywhere("vote-begins", "a vote is about to be saved"),
    everywhere("vote-slot-written", "a vote is written to a slot, not synced"),
    everywhere("vote-in-one-slot", "a vote is durable in one of its two slots"),
    everywhere("vote-saved", "a vote is durable, nobody was told"),
    everywhere(
        "small-file-written",
        "NODE or VOTE is written beside the old one, not synced",
    ),
    everywhere("small-file-synced", "NODE or VOTE is synced beside the old one"),
    everywhere("small-file-renamed", "NODE or VOTE is in place, not synced"),
    everywhere("small-file-stored", "NODE or VOTE is durable in place"),
    everywhere(
        "snapshot-written",
        "a snapshot of the own state is written, not synced",
    ),
    everywhere(
        "snapshot-synced",
        "a snapshot of the own state is synced, without a name",
    ),
    everywhere("snapshot-named", "a snapshot has its name, not synced"),
    everywhere("snapshot-adopted", "a snapshot is durable under its name"),
    everywhere("snapshot-dropped", "a snapshot that is too old is unlinked"),
    everywhere("snapshot-received", "a peer's snapshot is written, not synced"),
    everywhere(
        "snapshot-received-synced",
        "a peer's snapshot is synced, not verified",
    ),
    everywhere(
        "snapshot-installed-on-disk",
        "a peer's snapshot has its name, the state is the old one",
    ),
    everywhere("snapshot-installed", "the state is that of a peer's snapshot"),
    everywhere("batch-begins", "an entry is packed, about to be proposed"),
    everywhere("batch-proposed", "raft has taken an entry"),
    everywhere("entries-applied", "entries are applied, nobody can see it yet"),
    everywhere(
        "entries-answered",
        "the replies of applied entries are on their way to the batcher",
    ),
    everywhere("frame-answered", "the answers to a frame are about to leave"),
    everywhere(
        "founder-enlisted",
        "the founder has written its cluster's id down, nobody else has",
    ),
    everywhere("cluster-initialized", "the first membership is in the log"),
    everywhere("founding-proposed", "raft has taken the founding entry"),
    everywhere(
        "membership-change-begins",
        "a change of membership was checked, about to be proposed",
    ),
    everywhere(
        "membership-changed",
        "a change of membership is committed, nobody was told",
    ),
    everywhere("learner-added", "a learner is a member"),
    everywhere("member-promoted", "a learner is a voter"),
    everywhere("member-removed", "a member is removed"),
    everywhere("transfer-begins", "the lead is about to be handed over"),
    everywhere("transfer-asked-for", "the successor was told to take over"),
    processes_only(
        "image-opening",
        "the image is about to be opened, its mark is there",
    ),
    processes_only("image-opened", "the image was opened, its mark is still there"),
    processes_only("image-cut-begun", "a cut of the image has begun"),
    processes_only(
        "image-cut-rows-written",
        "all rows of a cut are written, it is not complete",
    ),
    processes_only("image-cut-complete", "a cut is complete, not flushed"),
    processes_only("image-cut-flushed", "a cut is flushed"),
    at_doors(
        "checkout-begins",
        "the journal of a checkout is about to be written",
    ),
    at_doors(
        "checkout-begun",
        "a new checkout is written and leased and its hold extended, or not",
    ),
    at_doors("checkout-taken-over", "a checkout that nobody had is leased"),
    at_doors("checkout-save-begins", "a journal is about to be saved"),
    at_doors("checkout-saved", "a journal is saved"),
    at_doors(
        "checkout-end-begins",
        "a checkout is over, its journal is about to say so",
    ),
    at_doors("checkout-ended", "the journal of a checkout says that it is over"),
    at_doors("checkout-given-back", "a checkout that waits is given back"),
    at_doors("payment-create-begins", "a payment is about to be created"),
    at_doors("payment-created", "a payment was created, or not"),
    at_doors("payment-confirm-begins", "a payment is about to be confirmed"),
    at_doors("payment-confirmed", "a payment was confirmed, or not"),
    at_doors("payment-look-begins", "a payment is about to be looked at"),
    at_doors("payment-looked-at", "a payment was looked at"),
    at_doors("claim-confirm-begins", "a claim is about to be confirmed"),
    at_doors("claim-confirmed", "a claim was confirmed, or not"),
    at_doors("payment-capture-begins", "a payment is about to be captured"),
    at_doors("payment-captured", "a payment was captured, or not"),
    at_doors(
        "claim-return-begins",
        "a confirmed claim is about to be cancelled",
    ),
    at_doors("claim-returned", "a confirmed claim was cancelled, or not"),
    at_doors("payment-void-begins", "a payment is about to be voided"),
    at_doors("payment-voided", "a payment was voided, or not"),
    at_doors("payment-refund-begins", "a payment is about to be refunded"),
    at_doors("payment-refunded", "a payment was refunded, or not"),
    at_doors("order-begins", "an order is about to be written"),
    at_doors("order-written", "an order is written, or a part of its books"),
    at_doors(
        "attempt-close-begins",
        "the end of an attempt is about to be written",
    ),
    at_doors(
        "attempt-closed",
        "the end of an attempt is written, or a part of it",
    ),
    at_doors("order-cancel-begins", "a cancelled order is about to be written"),
    at_doors(
        "order-cancelled",
        "a cancelled order is written, or a part of its books",
    ),
    at_doors("webhook-stored", "an event is stored, nobody has acted on it"),
    at_doors("webhook-acted-on", "an event was acted on, and still waits"),
    at_doors(
        "webhook-noted",
        "an event was acted on and noted, and still waits",
    ),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, string::String, vec::Vec};

    use super::*;

    /// All of the product's sources, as one text.
    fn sources() -> String {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut dirs: Vec<_> = [
            "raft-store/src",
            "raft-store/machine/src",
            "client/src",
            "deploy/src",
            "api/src",
        ]
        .map(|dir| workspace.join(dir))
        .into();
        let mut text = String::new();
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("a directory of the workspace") {
                let path = entry.expect("a readable entry").path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    text += &fs::read_to_string(&path).expect("a source file");
                }
            }
        }
        text
    }

    #[test]
    fn every_name_is_somewhere_in_the_product_and_none_is_there_twice() {
        let sources = sources();
        for (place, bug) in PLANTED_BUGS.iter().enumerate() {
            let planted = std::format!("planted!(\"{}\")", bug.name);
            assert!(sources.contains(&planted), "{planted} is nowhere");
            assert_eq!(super::bug(bug.name), place, "{} is there twice", bug.name);
        }
        for (place, point) in CRASH_POINTS.iter().enumerate() {
            let passed = std::format!("crash_point!(\"{}\")", point.name);
            assert!(sources.contains(&passed), "{passed} is nowhere");
            assert_eq!(
                super::crash_point(point.name),
                place,
                "{} is there twice",
                point.name
            );
        }
        assert!(PLANTED_BUGS.len() >= 26 && CRASH_POINTS.len() >= 25);
    }

    #[test]
    fn unknown_names_are_refused_with_those_there_are() {
        let refused = crate::plant(Some("no-such-bug")).unwrap_err();
        assert!(std::string::ToString::to_string(&refused).contains(PLANTED_BUGS[0].name));
        let refused = crate::arm("no-such-point", 1).unwrap_err();
        assert!(std::string::ToString::to_string(&refused).contains(CRASH_POINTS[0].name));
    }
}
