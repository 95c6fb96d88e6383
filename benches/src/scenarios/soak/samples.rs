//! What the nodes take and how calls go, a stage of a load at a time.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

use super::{DOING, shoppers::Shoppers, watcher::Watcher};
use crate::{
    cluster::{Cluster, DiskBytes},
    failure::Failure,
    report::{Course, Figure},
};

/// How often the nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// One look. What is of nodes is in their order.
pub(super) struct Sample {
    /// Claims that callers have made so far.
    pub granted: u64,
    /// What a node's watch feed keeps.
    pub feed_bytes: u64,
    pub resident_bytes: Vec<u64>,
    pub descriptors: Vec<u64>,
    pub disk_bytes: Vec<u64>,
}

/// A stage of a load.
pub(super) struct Stage {
    /// At least one.
    pub samples: Vec<Sample>,
    /// Of its calls, each since it was due.
    pub latency_us: Histogram<u64>,
}

impl Stage {
    /// Looks on for so long.
    ///
    /// # Errors
    /// A node has ended, or somebody has who should go on.
    pub async fn measure(
        cluster: &Cluster,
        watcher: &Watcher,
        shoppers: &Shoppers,
        length: Duration,
    ) -> Result<Stage, Failure> {
        let end = Instant::now() + length;
        let mut samples = Vec::new();
        while samples.is_empty() || Instant::now() < end {
            let disk_bytes = cluster.disk_bytes()?;
            samples.push(Sample {
                granted: watcher.granted(),
                feed_bytes: watcher.feed_bytes(),
                resident_bytes: cluster.resident_bytes()?,
                descriptors: cluster.descriptors()?,
                disk_bytes: disk_bytes.iter().map(DiskBytes::sum).collect(),
            });
            watcher.still_watching()?;
            shoppers.still_calling()?;
            sleep_until(end.min(Instant::now() + LOOK_EVERY)).await;
        }
        let latency_us = shoppers.take_latency();
        if latency_us.is_empty() {
            return Err(Failure::new(DOING, "no call was answered for a whole stage"));
        }
        Ok(Stage { samples, latency_us })
    }

    /// The 99th percentile, and what its plots show.
    pub fn figure(&self) -> Figure {
        let p99_ms = p99_ms(&self.latency_us);
        Figure {
            p50_ms: Some(self.latency_us.value_at_quantile(0.50) as f64 / 1_000.0),
            p99_ms: Some(p99_ms),
            course: Some(Course::new(&self.latency_us, &[])),
            ..Figure::new(p99_ms)
        }
    }
}

/// The 99th percentile, in ms.
pub(super) fn p99_ms(latency_us: &Histogram<u64>) -> f64 {
    latency_us.value_at_quantile(0.99) as f64 / 1_000.0
}

/// The median of something over a stage.
pub(super) fn median(stage: &Stage, of: impl Fn(&Sample) -> u64) -> f64 {
    let mut values: Vec<u64> = stage.samples.iter().map(of).collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle] as f64
    } else {
        (values[middle - 1] + values[middle]) as f64 / 2.0
    }
}
