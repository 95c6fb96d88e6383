//! The JSON that commands print, as types. `OUTPUT.md` lists every field; a test holds the two together.
//!
//! Names follow the HTTP door, so one program can read both. Fields are only ever added.

use client::{Claim, ClaimStatus, EventKind, Grant, Member, NodeStatus, Position, Receipt, Sale, SaleStatus};
use serde::Serialize;

/// When something happened, in the log.
#[derive(Debug, Serialize)]
pub struct ReceiptView {
    /// Log index of the entry.
    pub log_index: u64,
    /// Position within the batch.
    pub position: u32,
    /// Term.
    pub term: u64,
    /// Log time, ms.
    pub log_time_ms: u64,
}

impl From<&Receipt> for ReceiptView {
    fn from(receipt: &Receipt) -> Self {
        ReceiptView {
            log_index: receipt.log_index,
            position: receipt.position,
            term: receipt.term,
            log_time_ms: receipt.log_time_ms,
        }
    }
}

/// A sale.
#[derive(Debug, Serialize)]
pub struct SaleView {
    pub sale_id: String,
    pub name: String,
    pub status: &'static str,
    pub units_total: u32,
    pub units_available: u32,
    pub units_held: u32,
    pub units_confirmed: u32,
    pub per_user_units_max: u32,
    pub hold_ms: u64,
    pub checkout_max_ms: u64,
    pub opens_at: Option<String>,
    pub closes_at: Option<String>,
    pub price_minor: u64,
    pub currency: String,
    pub claims_made: u32,
    pub claims_max: u32,
    pub changed_index: u64,
}

impl From<&Sale> for SaleView {
    fn from(sale: &Sale) -> Self {
        SaleView {
            sale_id: sale.sale_id.clone(),
            name: sale.name.clone(),
            status: sale_status(sale.status),
            units_total: sale.units_total,
            units_available: sale.units_available,
            units_held: sale.units_held,
            units_confirmed: sale.units_confirmed,
            per_user_units_max: sale.per_user_units_max,
            hold_ms: sale.hold_ms,
            checkout_max_ms: sale.checkout_max_ms,
            opens_at: (sale.opens_at_ms > 0).then(|| wall_time(sale.opens_at_ms)),
            closes_at: (sale.closes_at_ms > 0).then(|| wall_time(sale.closes_at_ms)),
            price_minor: sale.price_minor,
            currency: sale.currency.clone(),
            claims_made: sale.claims_made,
            claims_max: sale.claims_max,
            changed_index: sale.changed_index,
        }
    }
}

/// A document of the store.
#[derive(Debug, Serialize)]
pub struct DocumentView {
    pub document: String,
    pub version: u64,
    pub fencing_token: u64,
    pub leased_until_ms: u64,
    pub expires_at_ms: u64,
    /// Only where one document is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

/// A claim.
#[derive(Debug, Serialize)]
pub struct ClaimView {
    pub claim_id: String,
    /// Absent where the answer does not carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale_id: Option<String>,
    pub status: &'static str,
    pub quantity: u32,
    pub rank: u32,
    /// Only while held.
    pub held_until: Option<String>,
    /// Only while held.
    pub seconds_remaining: Option<u64>,
    pub fencing_token: u64,
    pub receipt: ReceiptView,
    /// How a claim was answered: granted, repeated or already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// The idempotency key that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl ClaimView {
    /// A claim as of `position`, which turns log time into the time of day.
    pub fn new(claim: &Claim, position: &Position) -> Self {
        let remaining_ms = (claim.status == ClaimStatus::Held)
            .then(|| claim.deadline_ms.saturating_sub(position.log_time_ms));
        ClaimView {
            claim_id: claim.claim_id.clone(),
            sale_id: None,
            status: claim_status(claim.status),
            quantity: claim.quantity,
            rank: claim.rank,
            held_until: remaining_ms.map(|ms| wall_time(position.wall_time_ms.saturating_add(ms))),
            seconds_remaining: remaining_ms.map(|ms| ms / 1_000),
            fencing_token: claim.fencing_token,
            receipt: ReceiptView::from(&claim.receipt),
            outcome: None,
            key: None,
        }
    }
}

/// A change of a sale that took effect.
#[derive(Debug, Serialize)]
pub struct ChangeView {
    pub sale_id: String,
    pub change: &'static str,
    pub key: String,
    pub receipt: ReceiptView,
}

/// What became of a key.
#[derive(Debug, Serialize)]
#[serde(tag = "resolution", rename_all = "lowercase")]
pub enum ResolutionView {
    /// It made or settled this claim.
    Claim { claim: ClaimView },
    /// It had this effect.
    Effect { receipt: ReceiptView },
    /// Nothing, and it never will.
    Abandoned { fenced_until_ms: u64 },
}

/// A member of the cluster.
#[derive(Debug, Serialize)]
pub struct MemberView {
    pub node_id: u64,
    pub endpoint: String,
    pub voter: bool,
    pub leader: bool,
    /// Known to the leader only.
    pub matched_index: Option<u64>,
    /// Log entries the member still lacks, as the leader sees it.
    pub behind_entries: Option<u64>,
    pub heard_ms_ago: Option<u64>,
    /// As the member itself last told whoever gave this.
    pub machine_version: Option<u32>,
}

impl MemberView {
    /// A member in the eyes of the node that gave `status`.
    pub fn new(member: &Member, status: &NodeStatus) -> Self {
        MemberView {
            node_id: member.node_id,
            endpoint: member.endpoint.clone(),
            voter: member.voter,
            leader: member.node_id == status.leader_id,
            matched_index: member.matched_index,
            behind_entries: member
                .matched_index
                .map(|matched| status.last_log_index.saturating_sub(matched)),
            heard_ms_ago: member.heard_ms_ago,
            machine_version: member.machine_version,
        }
    }
}

/// A version of the machine as people know it: nodes that tell none have the first.
pub fn machine_version(told: u32) -> u32 {
    told.max(1)
}

/// One node's own view, or why it gave none.
#[derive(Debug, Serialize)]
pub struct NodeView {
    pub endpoint: String,
    pub error: Option<String>,
    pub node_id: u64,
    pub cluster_id: String,
    pub role: String,
    pub term: u64,
    pub leader_id: u64,
    pub last_log_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub snapshot_index: u64,
    pub purged_index: u64,
    pub image_index: u64,
    pub claims_total: u64,
    pub commands_per_entry: f64,
    pub wall_offset_ms: i64,
    pub version: String,
    /// Null where it gave no answer.
    pub machine_version: Option<u32>,
    /// Null where it gave no answer.
    pub machine_version_needed: Option<u32>,
    /// Null: not known.
    pub disk_free_bytes: Option<u64>,
    pub disk_reserve_bytes: u64,
    /// Null: it has no certificate.
    pub certificate_until: Option<String>,
}

impl NodeView {
    /// From an endpoint's answer.
    pub fn new(endpoint: &str, answer: &Result<NodeStatus, client::Error>) -> Self {
        let (status, error) = match answer {
            Ok(status) => (status.clone(), None),
            Err(error) => (NodeStatus::default(), Some(error.to_string())),
        };
        let told = |version| error.is_none().then(|| machine_version(version));
        NodeView {
            machine_version: told(status.machine_version),
            machine_version_needed: told(status.machine_version_needed),
            endpoint: endpoint.to_owned(),
            error,
            node_id: status.node_id,
            cluster_id: status.cluster_id,
            role: status.role,
            term: status.term,
            leader_id: status.leader_id,
            last_log_index: status.last_log_index,
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            snapshot_index: status.snapshot_index,
            purged_index: status.purged_index,
            image_index: status.image_index,
            claims_total: status.claims_total,
            commands_per_entry: status.commands_per_entry,
            wall_offset_ms: status.wall_offset_ms,
            version: status.version,
            disk_free_bytes: status.disk_free_bytes,
            disk_reserve_bytes: status.disk_reserve_bytes,
            certificate_until: status
                .certificate_until_s
                .map(|until_s| wall_time(until_s.saturating_mul(1_000))),
        }
    }
}

/// One committed change, as `watch` prints it.
#[derive(Debug, Serialize)]
pub struct EventView {
    pub log_index: u64,
    pub ordinal: u32,
    pub log_time_ms: u64,
    pub kind: &'static str,
    pub sale_id: String,
    pub claim_id: Option<String>,
    pub claim_rank: Option<u32>,
    pub value: u64,
}

impl From<&client::Event> for EventView {
    fn from(event: &client::Event) -> Self {
        EventView {
            log_index: event.log_index,
            ordinal: event.ordinal,
            log_time_ms: event.log_time_ms,
            kind: event_kind(event.kind),
            sale_id: event.sale_id.clone(),
            claim_id: event.claim.as_ref().map(|claim| claim.claim_id.clone()),
            claim_rank: event.claim.as_ref().map(|claim| claim.rank),
            value: event.value,
        }
    }
}

/// A sale's status as the outside spells it.
pub fn sale_status(status: SaleStatus) -> &'static str {
    match status {
        SaleStatus::Unspecified => "unknown",
        SaleStatus::Scheduled => "scheduled",
        SaleStatus::Open => "open",
        SaleStatus::Paused => "paused",
        SaleStatus::Closed => "closed",
    }
}

/// A claim's status as the outside spells it.
pub fn claim_status(status: ClaimStatus) -> &'static str {
    match status {
        ClaimStatus::Unspecified => "unknown",
        ClaimStatus::Held => "held",
        ClaimStatus::Confirmed => "confirmed",
        ClaimStatus::Released => "released",
        ClaimStatus::Expired => "expired",
        ClaimStatus::Cancelled => "cancelled",
    }
}

/// How a claim was answered.
pub fn grant(grant: Grant) -> &'static str {
    match grant {
        Grant::Unspecified => "unknown",
        Grant::Granted => "granted",
        Grant::Repeated => "repeated",
        Grant::Already => "already",
    }
}

/// An event's kind.
pub fn event_kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Unspecified => "unknown",
        EventKind::SaleCreated => "sale-created",
        EventKind::SaleOpened => "sale-opened",
        EventKind::SalePaused => "sale-paused",
        EventKind::SaleClosed => "sale-closed",
        EventKind::SaleRestocked => "sale-restocked",
        EventKind::SaleWithdrawn => "sale-withdrawn",
        EventKind::ClaimGranted => "claim-granted",
        EventKind::ClaimConfirmed => "claim-confirmed",
        EventKind::ClaimReleased => "claim-released",
        EventKind::ClaimExpired => "claim-expired",
        EventKind::ClaimExtended => "claim-extended",
        EventKind::ClaimCancelled => "claim-cancelled",
        EventKind::DocumentChanged => "document-changed",
    }
}

/// Unix ms as RFC 3339 in UTC. Years beyond 9999 are shown as their end: the format has no more.
pub fn wall_time(unix_ms: u64) -> String {
    const YEAR_9999_END_MS: u64 = 253_402_300_799_000;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms.min(YEAR_9999_END_MS));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    into.push(name.clone());
                    leaves(value, into);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
            _ => {}
        }
    }

    fn claim() -> Claim {
        Claim {
            claim_id: "c".into(),
            status: ClaimStatus::Held,
            quantity: 1,
            rank: 1,
            deadline_ms: 5_000,
            fencing_token: 1,
            receipt: Receipt::default(),
            user_hash: Vec::new(),
        }
    }

    #[test]
    fn every_json_field_is_documented() {
        let mut claim_view = ClaimView::new(&claim(), &Position::default());
        claim_view.sale_id = Some(String::new());
        claim_view.outcome = Some("granted");
        claim_view.key = Some(String::new());
        let node = NodeStatus::default();
        let down = Err(client::Error::Unavailable {
            message: String::new(),
            retry_after_ms: 0,
        });
        let receipt = ReceiptView::from(&Receipt::default());
        let values = [
            serde_json::to_value(&claim_view).unwrap(),
            serde_json::to_value(MemberView::new(&Member::default(), &node)).unwrap(),
            serde_json::to_value(NodeView::new("n", &down)).unwrap(),
            serde_json::to_value(ChangeView {
                sale_id: String::new(),
                change: "open",
                key: String::new(),
                receipt,
            })
            .unwrap(),
            serde_json::to_value(DocumentView {
                document: String::new(),
                version: 1,
                fencing_token: 0,
                leased_until_ms: 0,
                expires_at_ms: 0,
                body: Some("".into()),
            })
            .unwrap(),
            serde_json::to_value(crate::commands::reconcile::ReconcileView::example()).unwrap(),
            crate::commands::rehearse::example(),
            serde_json::to_value(crate::commands::sale::verify_example()).unwrap(),
            serde_json::to_value(crate::commands::sale::report_example()).unwrap(),
            serde_json::to_value(crate::commands::checkout::tests::example()).unwrap(),
            serde_json::to_value(ResolutionView::Abandoned { fenced_until_ms: 1 }).unwrap(),
            serde_json::to_value(SaleView::from(&crate::testing::sale("hot", 3))).unwrap(),
            serde_json::to_value(EventView::from(&client::Event {
                log_index: 1,
                ordinal: 0,
                log_time_ms: 0,
                kind: EventKind::ClaimGranted,
                sale_id: String::new(),
                claim: Some(claim()),
                value: 0,
                command: None,
            }))
            .unwrap(),
        ];
        let documented = include_str!("../OUTPUT.md");
        let mut names = Vec::new();
        values.iter().for_each(|value| leaves(value, &mut names));
        assert!(names.len() > 60, "{}", names.len());
        for name in names {
            assert!(
                documented.contains(&format!("`{name}`")),
                "OUTPUT.md does not mention `{name}`"
            );
        }
    }

    #[test]
    fn a_hold_is_shown_in_time_of_day() {
        let position = Position {
            log_time_ms: 2_000,
            wall_time_ms: 1_000_000_000_000,
            ..Position::default()
        };
        let view = ClaimView::new(&claim(), &position);
        assert_eq!(view.held_until.as_deref(), Some("2001-09-09T01:46:43Z"));
        assert_eq!(view.seconds_remaining, Some(3));
        let mut gone = claim();
        gone.status = ClaimStatus::Expired;
        assert_eq!(ClaimView::new(&gone, &position).held_until, None);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        assert_eq!(wall_time(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
