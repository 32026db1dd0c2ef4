//! The machine's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{
    ports::Clock,
    time::{Mono, Wall},
};

/// The machine's clocks, the monotonic one since this was made.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// Begins to count.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn monotonic(&self) -> Mono {
        Mono::after_start(self.start.elapsed())
    }

    fn wall(&self) -> Wall {
        Wall::from_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}
