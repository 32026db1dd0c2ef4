//! From the decision to boot to a started unit: record, registration, hand-over, StartUnit, each recorded before it
//! is done.

use std::{collections::BTreeSet, time::Duration};

use contract::{ContainerName, ContainerRecord};
use forge::{ErrorKind, Forge, ForgeError, Minted, SetKey, Sets};
use tracing::{error, info, warn};

use super::{Daemon, Outcome, backoff};
use crate::{
    cause::Cause,
    container::Container,
    edges::{Clock, EdgeError, Records, Systemd, World},
    phase::Phase,
    record::{Record, Stage, Timeline},
    runner_name::runner_name,
};

/// Pauses after failed registrations, first and longest.
const MINT_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Pauses after failed boots, first and longest.
const BOOT_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A runner says that it listens before it asks for a job, and the forge's first answer may be that it will have none.
const SERVED_AFTER: Duration = Duration::from_secs(10);

/// Containers of one class that ended, one after the other, before they took a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    /// How many.
    pub in_a_row: u32,
    /// How the last one ended.
    last: String,
}

impl Failures {
    /// As the status says it.
    pub fn problem(&self, class: &str) -> String {
        let Self { in_a_row, last } = self;
        format!("class {class}: {in_a_row} containers in a row ended before they took a job; the last, {last}")
    }
}

impl<'w, W: World> Daemon<'w, W> {
    /// Makes and writes the record; everything after follows from it. `None` if that failed, and the journal says why.
    pub(super) fn boot(
        &mut self,
        class: &str,
        scope: &str,
        set: bool,
        job: Option<(String, u64)>,
    ) -> Option<ContainerName> {
        let now = self.now();
        let wall_ms = self.wall_ms();
        let taken = |name: &ContainerName| self.containers.contains_key(name) || self.orphans.contains(name);
        let random = self.world.random();
        let name = match &job {
            Some((_, job)) => ContainerName::for_job(*job, taken),
            None => ContainerName::for_idle(random, taken),
        };
        let used = |subnet| self.containers.values().any(|c| !c.has_ended() && c.record.subnet == subnet);
        let pool = &self.settings.network.pool;
        let (Some(name), Some(subnet)) = (name, pool.free(self.next_subnet, used)) else {
            // The plan counts subnets, so this is a name: 703 containers for jobs with equal last digits.
            error!(class, scope, ?job, "no free name or subnet");
            return None;
        };
        let seen = job.as_ref().and_then(|(repository, job)| self.repositories.get(repository)?.seen.get(job));
        let assigned = if set { self.next_of_set(class, scope) } else { None };
        let record = Record {
            // Unique to the attempt: a leftover of an earlier one can never answer 409 to this (PROTOCOLS B.6).
            runner_name: runner_name(&self.host, class, &name, random),
            name: name.clone(),
            class: class.to_owned(),
            scope: scope.to_owned(),
            set,
            subnet,
            job_id: job.as_ref().map(|(_, id)| *id),
            job_name: seen.map(|seen| seen.name.clone()).unwrap_or_default(),
            repository: job.as_ref().map(|(repository, _)| repository.clone()),
            took: None,
            runner_id: None,
            stage: Stage::Minting,
            boot_id: self.boot_id.clone(),
            timeline: Timeline {
                queued_ms: match assigned {
                    Some(job) => job.queued_at.map(millis),
                    None => seen.and_then(|seen| seen.queued_ms),
                },
                visible_ms: assigned.map(|job| millis(job.heard_at)).or(seen.map(|seen| seen.visible_ms)),
                recorded_ms: Some(wall_ms),
                ..Timeline::default()
            },
        };
        if let Err(error) = self.world.records().put(&record) {
            // Nothing happened yet; without a record nothing may.
            error!(container = %name, %error, "record not written, so nothing is started");
            self.hold(class, format!("record not written: {error}"));
            return None;
        }
        info!(
            container = %name, class, scope, set, job = record.job_id, %subnet, runner = record.runner_name,
            "{name}: requested for {scope}, class {class}"
        );
        self.next_subnet = pool.index_of(subnet).unwrap_or_default() + 1;
        self.containers.insert(name.clone(), Container::new(record, now));
        Some(name)
    }

    pub(super) fn mint(&mut self, name: &ContainerName) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let Some(class) = self.settings.classes.get(&container.record.class) else {
            // Adopted, and its class was since removed from the settings.
            self.end(&name.clone(), Cause::RegistrationRefused);
            return;
        };
        container.in_flight = true;
        let (world, name) = (self.world, name.clone());
        let (scope, runner, labels) =
            (container.record.scope.clone(), container.record.runner_name.clone(), class.labels.clone());
        let set = container.record.set.then(|| SetKey { class: container.record.class.clone(), scope: scope.clone() });
        self.start(async move {
            let result = match set {
                Some(key) => world.sets().mint(&key, &runner).await,
                None => world.forge().mint(&scope, &runner, &labels).await,
            };
            Outcome::Minted { name, result }
        });
    }

    pub(super) fn minted(&mut self, name: &ContainerName, result: Result<Minted, ForgeError>) {
        let now = self.now();
        let (wall_ms, wall) = (self.wall_ms(), self.world.clock().wall());
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let scope = container.record.scope.clone();
        let minted = match result {
            Ok(minted) => minted,
            Err(error) => {
                warn!(container = %name, scope, %error, "registration failed");
                // Only without an answer may the registration exist; otherwise there is nothing to remove.
                container.deregistered = !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Conflict);
                if let Some(place) = self.scopes.get_mut(&scope) {
                    place.mint_failures += 1;
                    let pause = backoff(MINT_PAUSE.0, place.mint_failures, MINT_PAUSE.1);
                    place.held_until = match error.kind {
                        ErrorKind::RateLimited(until) | ErrorKind::Paced(until) => {
                            Some(now + until.saturating_sub(wall))
                        }
                        ErrorKind::Conflict => None,
                        _ => Some(now + pause),
                    };
                    place.last_error = Some(error.message.clone());
                }
                container.reason = Some(error.message);
                self.end(name, Cause::RegistrationRefused);
                return;
            }
        };
        if let Some(place) = self.scopes.get_mut(&scope) {
            place.mint_failures = 0;
            place.held_until = None;
            place.last_error = None;
            place.minted_at = Some(now);
        }
        let target = self.target_of(&scope);
        let allow_forks = target.is_some_and(|target| target.settings.allow_forks);
        let Some(container) = self.containers.get_mut(name) else { return };
        container.record.runner_id = Some(minted.runner_id);
        container.record.stage = Stage::Started;
        container.record.timeline.minted_ms = Some(wall_ms);
        container.asked_at = now;
        let to_boot = ContainerRecord {
            version: contract::VERSION,
            name: name.clone(),
            class: container.record.class.clone(),
            subnet: container.record.subnet,
            target: scope,
            job_id: container.record.job_id,
            runner_name: container.record.runner_name.clone(),
            allow_forks,
            set: container.record.set,
        };
        let records = self.world.records();
        let written = records.put(&container.record).and_then(|()| records.hand_over(&to_boot, &minted.grant));
        if let Err(error) = written {
            error!(container = %name, %error, "not handed over, so not started");
            container.reason = Some(error.0);
            self.end(name, Cause::BootFailed);
            return;
        }
        container.in_flight = true;
        let (world, name) = (self.world, name.clone());
        self.start(async move {
            let result = world.systemd().start(&to_boot.class, &name).await;
            Outcome::Started { name, result }
        });
    }

    pub(super) fn started(&mut self, name: &ContainerName, result: Result<(), EdgeError>) {
        let wall_ms = self.wall_ms();
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        match result {
            Ok(()) => {
                self.systemd_error = None;
                container.requested_in = self.rounds;
                container.record.timeline.unit_started_ms.get_or_insert(wall_ms);
                if !container.has_ended() {
                    self.follow(name);
                }
            }
            Err(error) => {
                error!(container = %name, %error, "unit not started");
                container.reason = Some(error.0.clone());
                self.systemd_error = Some(error.0);
                // Its end counts as a failed boot; until then it is counted as coming, so that no other is tried.
                // systemd may have taken the request though its answer was lost: stopping is safe either way.
                self.stop(name, Cause::BootFailed);
            }
        }
    }

    /// Boots no more of a container's class for a while, because of how it ended.
    pub(super) fn hold_class(&mut self, name: &ContainerName) {
        let Some(container) = self.containers.get(name) else { return };
        let cause = container.cause().unwrap_or(Cause::Unknown);
        let last = match &container.reason {
            Some(reason) => format!("{cause}: {reason}"),
            None => format!("{cause}; see the journal of its unit"),
        };
        let class = container.record.class.clone();
        self.hold(&class, format!("{name}: {last}"));
    }

    /// The pause is longer with each failure in a row.
    fn hold(&mut self, class: &str, last: String) {
        let now = self.now();
        let known = self.class_failures.entry(class.to_owned()).or_default();
        *known = Failures { in_a_row: known.in_a_row + 1, last };
        let failures = known.in_a_row;
        let pause = backoff(BOOT_PAUSE.0, failures, BOOT_PAUSE.1);
        if let Some(view) = self.classes.iter_mut().find(|view| view.name == class) {
            view.held_until = Some(now + pause);
        }
        warn!(class, failures, pause_s = pause.as_secs(), "boots of this class pause");
    }

    /// Runners that have listened for a while are served: only then has their container come up.
    pub(super) fn note_served(&mut self, now: Duration) {
        let served = |container: &&mut Container| {
            !container.came_up
                && container.phase == Phase::Idle
                && now.saturating_sub(container.phase_since) >= SERVED_AFTER
        };
        let mut classes = BTreeSet::new();
        for container in self.containers.values_mut().filter(served) {
            container.came_up = true;
            classes.insert(container.record.class.clone());
        }
        for class in classes {
            self.came_up(&class);
        }
    }

    /// A container of the class came up, and the forge serves its runner.
    pub(super) fn came_up(&mut self, class: &str) {
        self.release_class(class);
        self.runner_served(class);
    }

    /// Boots of the class pause no more.
    pub(super) fn release_class(&mut self, class: &str) {
        self.class_failures.remove(class);
        if let Some(view) = self.classes.iter_mut().find(|view| view.name == class) {
            view.held_until = None;
        }
    }

    /// Stops the unit for a reason that is recorded first. Repeats are harmless.
    pub(super) fn stop(&mut self, name: &ContainerName, cause: Cause) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.has_ended() {
            return;
        }
        container.advance(Phase::Finishing, now);
        container.record.stage = Stage::Stopping { cause };
        container.stopped |= cause == Cause::StoppedByOperator;
        container.requested_in = self.rounds;
        container.in_flight = true;
        self.remember(name);
        let Some(container) = self.containers.get(name) else { return };
        let (world, name, class) = (self.world, name.clone(), container.record.class.clone());
        self.start(async move {
            let result = world.systemd().stop(&class, &name).await;
            Outcome::Stopped { name, result }
        });
    }

    pub(super) fn stopped(&mut self, name: &ContainerName, result: Result<(), EdgeError>) {
        let now = self.now();
        self.next_list = now;
        let Some(container) = self.containers.get_mut(name) else {
            // An orphan: the next listing shows whether it is gone.
            return;
        };
        container.in_flight = false;
        // Asked again if the unit is still there by then.
        container.not_before = now + Duration::from_secs(10);
        if let Err(error) = result {
            warn!(container = %name, %error, "unit not stopped; will try again");
            self.systemd_error = Some(error.0);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
