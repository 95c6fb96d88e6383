//! Wall clocks that lie. Log time must not care, and the agreed wall time follows the median.

use rand::{RngExt, rngs::SmallRng};

use super::{Fired, endure, yes};
use crate::fleet::{Fleet, Trouble};

/// Farthest jump, in ms: an hour, as a wrong time zone gives.
const JUMP_MS_MAX: i64 = 3_600_000;

/// One wall clock jumps, and back when it is healed.
pub(super) async fn jump(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let offset_ms = chance.random_range(1_000..JUMP_MS_MAX) * if chance.random_bool(0.5) { 1 } else { -1 };
    fleet.node(victim).preload.set_wall_offset_ms(offset_ms)?;
    endure(chance, 1_000..3_500).await;
    let seen = fleet.status(victim).await;
    fleet.node(victim).preload.clear()?;
    match seen {
        // It knows of its own clock only what it compares with the others, once a second.
        Some(status) if (status.wall_offset_ms - offset_ms).abs() < offset_ms.abs() / 2 => yes(format!(
            "by {offset_ms} ms, reported as {}",
            status.wall_offset_ms
        )),
        Some(status) => yes(format!(
            "by {offset_ms} ms, not reported yet ({})",
            status.wall_offset_ms
        )),
        None => yes(format!("by {offset_ms} ms")),
    }
}

/// One wall clock runs at twice its rate, or half.
pub(super) async fn drift(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let drift_ppm = if chance.random_bool(0.5) {
        1_000_000
    } else {
        -500_000
    };
    fleet.node(victim).preload.set_wall_drift_ppm(drift_ppm)?;
    endure(chance, 1_500..4_000).await;
    fleet.node(victim).preload.clear()?;
    yes(format!("{} % too fast", drift_ppm / 10_000))
}
