//! How busy the channel is, as far as this node can tell.

/// Share of time in which the channel was occupied, forgetting what is older than about two minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    share: f64,
    at_us: u64,
}

const MEMORY_US: f64 = 120e6;

impl Load {
    /// Somebody, or we, sent for so long.
    pub fn note(&mut self, airtime_us: u64, now_us: u64) {
        self.share = self.share(now_us) + airtime_us as f64 / MEMORY_US;
        self.at_us = now_us;
    }

    /// From 0, idle, to 1.
    pub fn share(&self, now_us: u64) -> f64 {
        let passed = now_us.saturating_sub(self.at_us) as f64;
        (self.share * (-passed / MEMORY_US).exp()).min(1.0)
    }
}
