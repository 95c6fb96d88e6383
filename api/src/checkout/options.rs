//! Every limit of the checkout, with its unit and the reason for its default.

/// Longest lease that the store gives, in ms of log time.
const LEASE_MS_MAX: u64 = 3_600_000;

/// Settings of the checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutOptions {
    /// Longest one call of the payment provider may take, in ms, retries included: some banks think for
    /// several seconds, and nobody waits for longer than this.
    pub payment_call_ms_max: u64,
    /// Longest one call of the store may take, in ms: longer than a failover.
    pub store_call_ms_max: u64,
    /// Longest a shopper waits for his answer, in ms. What is not decided then goes on without him, and
    /// he is given an address to ask at. The time he spends with his bank is not part of it.
    pub budget_ms_max: u64,
    /// How long a journal is owned without being renewed, in ms of log time: longer than any one call,
    /// so that an owner that is alive keeps it; short, because a dead one's shopper waits for it.
    pub lease_ms: u64,
    /// Checkouts under way in this process; more are refused at once. Each has a task of a few KB and
    /// one call open.
    pub in_flight_max: usize,
    /// How often this process looks for checkouts whose owner died, in ms, jittered.
    pub sweep_ms: u64,
    /// Of those, how many it takes over at one time: a fleet that died leaves many, and whoever is left
    /// has shoppers of his own.
    pub resumed_at_once_max: usize,
}

impl Default for CheckoutOptions {
    fn default() -> Self {
        CheckoutOptions {
            payment_call_ms_max: 10_000,
            store_call_ms_max: 5_000,
            budget_ms_max: 25_000,
            lease_ms: 20_000,
            in_flight_max: 4_096,
            sweep_ms: 3_000,
            resumed_at_once_max: 64,
        }
    }
}

impl CheckoutOptions {
    /// What is wrong with them: name, value, rule.
    pub(crate) fn check(&self) -> Result<(), (&'static str, u64, &'static str)> {
        for (name, value) in [
            ("payment_call_ms_max", self.payment_call_ms_max),
            ("store_call_ms_max", self.store_call_ms_max),
            ("budget_ms_max", self.budget_ms_max),
            ("in_flight_max", self.in_flight_max as u64),
            ("sweep_ms", self.sweep_ms),
            ("resumed_at_once_max", self.resumed_at_once_max as u64),
        ] {
            if value == 0 || value > u64::from(u32::MAX) {
                return Err((name, value, "at least 1 and below 2^32"));
            }
        }
        if self.lease_ms <= self.payment_call_ms_max.max(self.store_call_ms_max) {
            let rule = "longer than any one call: above payment_call_ms_max and store_call_ms_max";
            return Err(("lease_ms", self.lease_ms, rule));
        }
        if self.lease_ms > LEASE_MS_MAX {
            return Err((
                "lease_ms",
                self.lease_ms,
                "at most 3600000, which is the store's own limit",
            ));
        }
        Ok(())
    }
}
