//! Room that root is asked for while a disk is short, and what came of it.

use std::time::Duration;

use contract::Prunings;
use tracing::info;

use crate::{
    incident::{self, Incident},
    time::Mono,
};

/// Between two requests: one takes root some seconds at most, and what is free is measured every five.
const PAUSE: Duration = Duration::from_secs(60);

/// What was asked for, and what root removed.
#[derive(Debug, Default)]
pub struct Room {
    asked: Option<Mono>,
    /// None = not looked at yet.
    prunings: Option<Prunings>,
}

impl Room {
    /// Looks at what root removed if something may have changed, and asks for more while the disk is short.
    pub fn watch(&mut self, is_short: bool, read: impl FnOnce() -> Prunings, ask: impl FnOnce(), now: Mono) {
        let since = self.asked.map(|asked| now - asked);
        // Root may need a while longer than the shortage lasts.
        if self.prunings.is_none() || since.is_some_and(|since| since < 2 * PAUSE) {
            let found = read();
            let known = self.prunings.replace(found.clone());
            // What was there at the start was reported before.
            let before = known.as_ref().map_or(found.freed_bytes, |known| known.freed_bytes);
            if found.freed_bytes > before {
                let mebibytes = (found.freed_bytes - before) >> 20;
                let removed = found.last.last().map(|last| last.removed.join(", ")).unwrap_or_default();
                let message_id = Incident::HostFull.message_id();
                info!(target: incident::TARGET, message_id, "made room: {mebibytes} MiB of what no container uses: {removed}");
            }
        }
        if is_short && since.is_none_or(|since| since >= PAUSE) {
            self.asked = Some(now);
            ask();
        }
    }

    /// What root has removed.
    pub fn prunings(&self) -> &Prunings {
        const NOTHING: &Prunings = &Prunings { freed_bytes: 0, last: Vec::new() };
        self.prunings.as_ref().unwrap_or(NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn room_is_asked_for_once_a_minute_while_the_disk_is_short_and_never_else() {
        let asked = Cell::new(0);
        let mut room = Room::default();
        let mut ask = |is_short, seconds| {
            let now = Mono::after_start(Duration::from_secs(seconds));
            room.watch(is_short, Prunings::default, || asked.set(asked.get() + 1), now);
            asked.get()
        };
        assert_eq!(ask(false, 0), 0);
        assert_eq!((ask(true, 5), ask(true, 10), ask(true, 64), ask(true, 65)), (1, 1, 1, 2));
        assert_eq!(ask(false, 200), 2);
    }
}
