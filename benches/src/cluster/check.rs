//! What must be true of a cluster after a load: the replicas have what the callers were told, and the same as one
//! another.

use client::Sale;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Cluster, LOOK_EVERY};
use crate::{
    failure::{Doing, Failure},
    load::Tally,
};

/// Sales of a node that are looked at at one time.
const LOOKS_AT_ONCE: usize = 32;

impl Cluster {
    /// Checks what callers were told of one sale.
    ///
    /// # Errors
    /// As [`Cluster::check_all`].
    pub async fn check(&self, sale_id: &str, told: &Tally) -> Result<(), Failure> {
        self.check_all(&[(sale_id.to_owned(), told.clone())]).await
    }

    /// Checks on every replica: counters of these sales that add up, as many claims made and confirmed as were
    /// acknowledged, and held, where callers were told of what was released; and equal state hashes at one log index,
    /// from which every sale was recounted.
    ///
    /// # Errors
    /// Something does not hold; says what.
    pub async fn check_all(&self, told: &[(String, Tally)]) -> Result<(), Failure> {
        const DOING: &str = "comparing the replicas";
        let index = self.applied_index().await?;
        self.wait_for("waiting for the replicas", LOOK_EVERY, |status| {
            status.applied_index >= index
        })
        .await?;
        let operators = self.client.cluster();
        let mut digests = Vec::new();
        for endpoint in self.endpoints() {
            let looks = stream::iter(told).map(|(sale_id, told)| self.check_at(endpoint, sale_id, told));
            looks.buffer_unordered(LOOKS_AT_ONCE).try_collect::<()>().await?;
            let hash = operators.state_hash(endpoint, index).await.doing(DOING)?;
            if !hash.sales_wrong.is_empty() {
                let why = format!("{endpoint}: recount differs: {:?}", hash.sales_wrong);
                return Err(Failure::new(DOING, why));
            }
            digests.push(hash.digest);
        }
        if digests.iter().any(|digest| *digest != digests[0]) {
            let why = format!("state hashes differ at log index {index}: {digests:?}");
            return Err(Failure::new(DOING, why));
        }
        Ok(())
    }

    async fn check_at(&self, endpoint: &str, sale_id: &str, told: &Tally) -> Result<(), Failure> {
        let doing = format!("checking sale {sale_id}");
        let found = self.client.cluster().sale_at(endpoint, sale_id).await;
        match wrong(&found.doing(&doing)?.0, told) {
            Some(wrong) => Err(Failure::new(doing, format!("{endpoint} has {wrong}"))),
            None => Ok(()),
        }
    }
}

/// What is wrong with a sale about which callers were told this.
fn wrong(sale: &Sale, told: &Tally) -> Option<String> {
    let made = told.granted + told.decremented;
    let confirmed = told.confirmed + told.decremented;
    let parts =
        u64::from(sale.units_available) + u64::from(sale.units_held) + u64::from(sale.units_confirmed);
    // Compensation releases what no caller here hears of: only who hears of all of it can say what is held.
    let held = (told.released > 0).then(|| made.checked_sub(confirmed + told.released));
    if parts != u64::from(sale.units_total) {
        Some(format!("{parts} units of {}", sale.units_total))
    } else if u64::from(sale.claims_made) != made {
        Some(format!("{} claims, but {made} were granted", sale.claims_made))
    } else if u64::from(sale.units_confirmed) != confirmed {
        Some(format!(
            "{} units confirmed, but {confirmed} were told so",
            sale.units_confirmed
        ))
    } else if held.is_some_and(|held| held != Some(u64::from(sale.units_held))) {
        Some(format!(
            "{} units held of {made} claimed, {confirmed} confirmed and {} released",
            sale.units_held, told.released
        ))
    } else {
        None
    }
}
