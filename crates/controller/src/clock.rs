//! The machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    ports::Clock,
    time::{Mono, Wall},
};

/// Time before the process started that a moment can be in: containers are older than the controller that adopts them.
const BEFORE: Duration = Duration::from_secs(30 * 86_400);

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
        Mono::after_start(BEFORE + self.start.elapsed())
    }

    fn wall(&self) -> Wall {
        Wall::from_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn local(&self) -> Duration {
        let shown = chrono::Local::now().naive_local().and_utc().timestamp();
        Duration::from_secs(u64::try_from(shown).unwrap_or_default())
    }
}
