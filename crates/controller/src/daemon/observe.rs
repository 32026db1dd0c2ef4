//! Hearing from systemd and from guests.

use std::{collections::BTreeMap, time::Duration};

use contract::{
    ContainerName,
    event::{Event, What},
    runner_version::is_version,
};
use forge::SetKey;
use futures_util::future::abortable;
use tracing::{info, warn};

use super::{Daemon, Outcome, RELIST};
use crate::{
    cause::{Cause, Evidence, cause},
    edges::{EdgeError, Feed, Guests, Records, Systemd, Unit, UnitState, World},
    phase::Phase,
    plan::Pickup,
    record::Stage,
};

/// A container that ends by itself so soon, and without a job, speaks against the next one.
const FRUITLESS: Duration = Duration::from_secs(60);

impl<'w, W: World> Daemon<'w, W> {
    pub(super) fn list_units(&mut self) {
        self.listing = true;
        self.next_list = self.now() + RELIST;
        let (world, began) = (self.world, self.rounds);
        self.start(async move { Outcome::Listed { began, result: world.systemd().list().await } });
    }

    /// A full listing: what is not in it is gone.
    pub(super) fn listed(&mut self, began: u64, result: Result<Vec<Unit>, EdgeError>) {
        self.listing = false;
        let units = match result {
            Ok(units) => units,
            Err(error) => {
                warn!(%error, "units cannot be listed");
                self.systemd_error = Some(error.0);
                return;
            }
        };
        self.systemd_error = None;
        let units: BTreeMap<ContainerName, Unit> = units.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
        self.orphans.retain(|name| units.get(name).is_some_and(|unit| is_there(unit.state)));
        // Only units whose start was answered before the listing began are expected in it.
        let expected: Vec<ContainerName> = self
            .containers
            .values()
            .filter(|c| c.requested_in < began)
            .filter(|c| match c.record.stage {
                Stage::Started => !c.in_flight,
                Stage::Stopping { .. } => true,
                Stage::Minting | Stage::Settling { .. } => false,
            })
            .map(|c| c.record.name.clone())
            .collect();
        for name in expected {
            let state = units.get(&name).map_or(UnitState::Inactive, |unit| unit.state);
            self.unit_is(&name, state);
        }
        for unit in units.into_values().filter(|unit| is_there(unit.state)) {
            let explained = self.containers.get(&unit.name).is_some_and(|container| !container.has_ended());
            if !explained && self.orphans.insert(unit.name.clone()) {
                self.stop_orphan(unit);
            }
        }
    }

    /// Changes heard by signal; an empty list = list them all.
    pub(super) fn heard(&mut self, units: Vec<Unit>) {
        if units.is_empty() {
            self.next_list = self.now();
        }
        for unit in units {
            // A start whose answer is still under way is judged by the listing after it.
            let starting = self
                .containers
                .get(&unit.name)
                .is_some_and(|c| c.in_flight && c.record.stage == Stage::Started && !is_there(unit.state));
            if starting {
                self.next_list = self.now();
            } else {
                self.unit_is(&unit.name, unit.state);
            }
        }
    }

    fn unit_is(&mut self, name: &ContainerName, state: UnitState) {
        let (now, wall_ms) = (self.now(), self.wall_ms());
        let Some(container) = self.containers.get_mut(name) else { return };
        match container.record.stage {
            Stage::Started | Stage::Stopping { .. } if !is_there(state) => self.unit_ended(name),
            Stage::Started => {
                container.unit_is(state, wall_ms, now);
            }
            Stage::Minting | Stage::Stopping { .. } | Stage::Settling { .. } => {}
        }
    }

    /// Nothing explains this unit: neither a record nor a hand-over.
    pub(super) fn stop_orphan(&mut self, unit: Unit) {
        warn!(unit = %unit.name, class = unit.class, "a container unit that no record explains is stopped");
        let world = self.world;
        self.start(async move {
            let result = world.systemd().stop(&unit.class, &unit.name).await;
            Outcome::Stopped { name: unit.name, result }
        });
    }

    /// The unit is gone: finds out why, and goes on to settle the registration.
    pub(super) fn unit_ended(&mut self, name: &ContainerName) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let decided = match container.record.stage {
            Stage::Stopping { cause } => Some(cause),
            _ => None,
        };
        let made = container.record.timeline.recorded_ms.unwrap_or_default();
        // One from an earlier container of the same name is not ours.
        let ending = self.world.records().ending(name).filter(|ending| ending.ended_at_ms >= made);
        if let Some(ending) = &ending {
            container.ended_with(ending);
            for left in &ending.left_behind {
                warn!(container = %name, left, "teardown left something behind");
            }
        }
        let found = cause(&Evidence {
            decided,
            ending: ending.as_ref(),
            had_job: container.had_job(),
            conclusion: None,
            stopped: container.stopped,
            unheard: container.is_unheard(),
            result: container.result,
            trouble: container.trouble,
        });
        if let Some(ending) = ending {
            // What was said before a job explains no end after one.
            let said = container.trouble_message.take().filter(|_| !container.had_job());
            let words = said.or(ending.last_words).filter(|_| found.is_boot_failure());
            container.reason = container.reason.take().or(ending.error).or(words);
        }
        // Ended by itself as soon as it was there: the next one would as well.
        let asked_at = container.asked_at;
        let is_fruitless = decided.is_none()
            && !found.is_boot_failure()
            && !container.had_job()
            && !container.stopped
            && self.now().saturating_sub(asked_at) < FRUITLESS;
        self.end(name, found);
        if is_fruitless {
            self.hold_class(name);
        }
    }

    /// Nothing of the container is left on the host, or ever was; the registration remains to be settled.
    pub(super) fn end(&mut self, name: &ContainerName, cause: Cause) {
        let (now, wall_ms) = (self.now(), self.wall_ms());
        let Some(container) = self.containers.get_mut(name) else { return };
        if let Some(feed) = container.feed.take() {
            feed.abort();
        }
        container.record.stage = Stage::Settling { cause };
        container.record.timeline.ended_ms.get_or_insert(wall_ms);
        container.in_flight = false;
        container.advance(if cause.is_good_order() { Phase::Gone } else { Phase::Failed }, now);
        // The registration of a runner that had its job goes by itself, but not at once (PROTOCOLS B.3).
        container.not_before = now;
        let class = container.record.class.clone();
        // After a job was taken, what speaks of a refusal is the job.
        let refused = cause == Cause::RunnerRefused && !container.had_job();
        let (counted, container_scope) = (container.record.set && container.had_job(), container.record.scope.clone());
        let reason = container.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        info!(
            container = %name, class, scope = container.record.scope, cause = %cause, "{name}: ended: {cause}{reason}"
        );
        self.remember(name);
        if let Err(error) = self.world.records().take_back(name) {
            warn!(container = %name, %error, "hand-over not taken back");
        }
        let key = SetKey { class: class.clone(), scope: container_scope };
        if counted && let Some(set) = self.sets.get_mut(&key) {
            set.ended.push(now);
        }
        if cause.is_boot_failure() {
            self.hold_class(name);
        }
        if refused {
            self.runner_refused(&class, now);
        }
    }

    pub(super) fn follow(&mut self, name: &ContainerName) {
        let feed = self.world.guests().follow(name);
        self.listen(name.clone(), feed);
    }

    fn listen(&mut self, name: ContainerName, mut feed: <W::Guests as Guests>::Feed) {
        let Some(container) = self.containers.get_mut(&name) else { return };
        let (next, handle) = abortable(async move {
            let event = feed.next().await;
            (feed, event)
        });
        container.feed = Some(handle);
        self.start(async move {
            match next.await {
                Ok((feed, event)) => Outcome::Guest { name, feed, event },
                Err(_) => Outcome::FeedClosed,
            }
        });
    }

    pub(super) fn guest_said(&mut self, name: ContainerName, feed: <W::Guests as Guests>::Feed, event: Option<Event>) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(&name) else { return };
        if container.has_ended() {
            return;
        }
        let Some(event) = event else {
            warn!(container = %name, "the guest broke the protocol; it is not listened to any more");
            return;
        };
        let fresh = container.record.timeline.listening_ms.is_none();
        let took = container.guest_said(&event.what, event.at_ms, now);
        let (class, scope) = (container.record.class.clone(), container.record.scope.clone());
        if took {
            container.came_up = true;
            self.pickups.push_back(Pickup { container: name.clone(), class: class.clone(), scope, at: now });
            self.came_up(&class);
        }
        // Only before a job could have said it.
        if let What::RunnerVersion { version } = &event.what
            && fresh
            && is_version(version)
        {
            self.runner_said(&class, version);
        }
        self.remember(&name);
        self.listen(name, feed);
    }
}

fn is_there(state: UnitState) -> bool {
    !matches!(state, UnitState::Inactive | UnitState::Failed)
}
