//! Links that are cut, slow, lossy or broken.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};
use tokio::time::sleep;

use super::{
    Fired, endure,
    links::{CLIENTS, Weather},
    yes,
};
use crate::fleet::{Fleet, Trouble};

const CUT: Weather = Weather {
    cut: true,
    loss_percent: 0,
    delay_ms_max: 0,
};

/// How often a reset comes, in ms: connections live long enough to carry something.
const RESET_MS: std::ops::Range<u64> = 100..400;

/// One node apart from all others.
pub(super) async fn partition(
    fleet: &mut Fleet,
    victim: u64,
    chance: &mut SmallRng,
) -> Result<Fired, Trouble> {
    for other in fleet.others(victim) {
        fleet.links.set(victim, other, CUT);
        fleet.links.set(other, victim, CUT);
    }
    endure(chance, 800..3_500).await;
    fleet.links.heal();
    yes("cut off")
}

/// One direction between a node and all others, or between it and one of them.
pub(super) async fn one_way(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let deaf = chance.random_bool(0.5);
    let others = if chance.random_bool(0.5) {
        fleet.others(victim)
    } else {
        vec![fleet.another(victim, chance)]
    };
    for &other in &others {
        let (from, to) = if deaf { (other, victim) } else { (victim, other) };
        fleet.links.set(from, to, CUT);
    }
    endure(chance, 800..3_500).await;
    fleet.links.heal();
    let what = if deaf { "deaf to" } else { "mute to" };
    yes(format!("{what} {others:?}"))
}

/// All links lose packets, those of clients too.
pub(super) async fn loss(fleet: &mut Fleet, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let loss_percent = chance.random_range(1..20);
    everywhere(
        fleet,
        Weather {
            loss_percent,
            ..Weather::default()
        },
    );
    endure(chance, 1_000..3_500).await;
    fleet.links.heal();
    yes(format!("{loss_percent} % lost once"))
}

/// All links are slow, each packet by another amount.
pub(super) async fn delay(fleet: &mut Fleet, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let delay_ms_max = chance.random_range(20..250);
    everywhere(
        fleet,
        Weather {
            delay_ms_max,
            ..Weather::default()
        },
    );
    endure(chance, 1_000..3_500).await;
    fleet.links.heal();
    yes(format!("up to {delay_ms_max} ms late"))
}

fn everywhere(fleet: &Fleet, weather: Weather) {
    let mut ends = fleet.ids();
    ends.push(CLIENTS);
    for &from in &ends {
        for &to in ends.iter().filter(|&&to| to != from) {
            fleet.links.set(from, to, weather);
        }
    }
}

/// All connections of a node break, again and again.
pub(super) async fn reset(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let mut ends = fleet.others(victim);
    ends.push(CLIENTS);
    let times = chance.random_range(3..8);
    for _ in 0..times {
        for &end in &ends {
            fleet.links.reset(victim, end);
        }
        sleep(Duration::from_millis(chance.random_range(RESET_MS))).await;
    }
    yes(format!("broken {times} times"))
}

/// Clients' requests arrive and the answers do not; then the connections break, so that most never will.
pub(super) async fn lost_replies(
    fleet: &mut Fleet,
    victim: u64,
    chance: &mut SmallRng,
) -> Result<Fired, Trouble> {
    let times = chance.random_range(2..5);
    for _ in 0..times {
        fleet.links.set(victim, CLIENTS, CUT);
        endure(chance, 50..800).await;
        fleet.links.reset(victim, CLIENTS);
        fleet.links.heal();
        endure(chance, 50..300).await;
    }
    yes(format!("answers lost {times} times"))
}
