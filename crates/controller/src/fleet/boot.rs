//! From the decision to boot to a started unit: record, registration, hand-over, StartUnit, each recorded before it
//! is done.

use contract::{ContainerName, ContainerRecord, event::Trouble};
use forge::{ErrorKind, Forge, ForgeError, Minted, Sets as _};
use tracing::{error, info, warn};

use super::{Event, Fleet, Outcome, container::Container};
use crate::{
    cause::Cause,
    intake::Intake,
    phase::Phase,
    plan::SERVED_AFTER,
    ports::{PortError, Records, Systemd, World},
    record::{Record, Stage, Timeline},
    runner_name::runner_name,
    time::Now,
};

/// A container to be booted.
#[derive(Debug)]
pub struct Wanted {
    /// Of this class.
    pub class: String,
    /// With a runner for this place.
    pub scope: String,
    /// Its runner is the scale set's.
    pub set: bool,
    /// The job it is booted for, by repository and id.
    pub job: Option<(String, u64)>,
    /// What its runner is bound to that job by, where the forge binds runners to jobs.
    pub handle: Option<String>,
    /// That job's display name.
    pub job_name: String,
    /// When that job was queued, in milliseconds since the Unix epoch.
    pub queued_ms: Option<u64>,
    /// When it was first seen, likewise.
    pub visible_ms: Option<u64>,
}

impl<'w, W: World> Fleet<'w, W> {
    /// Makes and writes the record; everything after follows from it. None if that failed, and the journal says why.
    pub fn boot(&mut self, wanted: Wanted, now: Now) -> Option<ContainerName> {
        let Wanted { class, scope, set, job, .. } = &wanted;
        let taken = |name: &ContainerName| self.containers.contains_key(name) || self.orphans.contains(name);
        let random = self.world.random();
        let name = match job {
            Some((_, job)) => ContainerName::for_job(*job, taken),
            None => ContainerName::for_idle(random, taken),
        };
        let used = |subnet| self.live().any(|container| container.record.subnet == subnet);
        let pool = &self.settings.network.pool;
        let (Some(name), Some(subnet)) = (name, pool.free(self.next_subnet, used)) else {
            // The plan counts subnets, so this is a name: 703 containers for jobs with equal last digits.
            error!(class, scope, ?job, "no free name or subnet");
            return None;
        };
        let (job_id, repository) = (job.as_ref().map(|(_, id)| *id), job.as_ref().map(|(repository, _)| repository));
        let record = Record {
            // Unique to the attempt: a leftover of an earlier one can never answer 409 to this
            // (docs/github.md#jit-configuration).
            runner_name: runner_name(&self.host, class, &name, random),
            name: name.clone(),
            class: class.clone(),
            scope: scope.clone(),
            set: *set,
            subnet,
            job_id,
            job_name: wanted.job_name.clone(),
            repository: repository.cloned(),
            took: None,
            handle: wanted.handle.clone(),
            task: None,
            rerun: false,
            runner_id: None,
            stage: Stage::Minting,
            boot_id: self.boot_id.clone(),
            timeline: Timeline {
                queued_ms: wanted.queued_ms,
                visible_ms: wanted.visible_ms,
                recorded_ms: Some(now.wall.as_millis()),
                ..Timeline::default()
            },
        };
        if let Err(error) = self.world.records().put(&record) {
            // Nothing happened yet; without a record nothing may.
            error!(container = %name, %error, "record not written, so nothing is started");
            let last = format!("record not written: {error}");
            self.events.push(Event::Failed { class: wanted.class, last, at_forge: false });
            return None;
        }
        info!(
            container = %name, class, scope, set, job = record.job_id, %subnet, runner = record.runner_name,
            "{name}: requested for {scope}, class {class}"
        );
        self.next_subnet = pool.index_of(subnet).unwrap_or_default() + 1;
        self.containers.insert(name.clone(), Container::new(record, now.mono));
        Some(name)
    }

    pub(super) fn mint(&mut self, name: &ContainerName, intake: &Intake<'w, W>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let Some(class) = self.settings.classes.get(&container.record.class) else {
            // Adopted, and its class was since removed from the settings.
            self.end(name, Cause::RegistrationRefused, now);
            return;
        };
        container.in_flight = true;
        let (world, name) = (self.world, name.clone());
        let (scope, runner, labels) =
            (container.record.scope.clone(), container.record.runner_name.clone(), class.registered_labels().to_vec());
        let handle = container.record.handle.clone();
        let set = container.record.set.then(|| container.set_key());
        let allow_forks = intake.allows_forks(&scope);
        self.effects.start(async move {
            let result = match set {
                Some(key) => world.sets().mint(&key, &runner).await,
                None => world.forge().mint(&scope, &runner, &labels, handle.as_deref()).await,
            };
            Outcome::Minted { name, allow_forks, result }
        });
    }

    pub(super) fn minted(
        &mut self,
        name: &ContainerName,
        allow_forks: bool,
        result: Result<Minted, ForgeError>,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let scope = container.record.scope.clone();
        let minted = match result {
            Ok(minted) => minted,
            Err(error) => {
                warn!(container = %name, scope, %error, "registration failed");
                // Only without an answer may the registration exist; otherwise there is nothing to remove.
                if !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Conflict) {
                    container.settling.deregistered();
                }
                container.reason = Some(error.message.clone());
                if !error.kind.is_passing() && error.kind != ErrorKind::Conflict {
                    let before = self.refusals.insert(scope.clone(), error.message.clone());
                    container.repeats = before.as_ref() == Some(&error.message);
                }
                self.events.push(Event::Registered { scope, result: Err(error) });
                self.end(name, Cause::RegistrationRefused, now);
                return;
            }
        };
        self.refusals.remove(&scope);
        container.record.runner_id = Some(minted.runner_id);
        container.record.stage = Stage::Started;
        container.record.timeline.minted_ms = Some(now.wall.as_millis());
        container.asked_at = now.mono;
        if let Some(sweep) = self.sweeps.get_mut(&scope) {
            sweep.minted_at = Some(now.mono);
        }
        self.events.push(Event::Registered { scope: scope.clone(), result: Ok(()) });
        let to_boot = ContainerRecord {
            version: contract::VERSION,
            name: name.clone(),
            class: container.record.class.clone(),
            subnet: container.record.subnet,
            scope,
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
            self.end(name, Cause::BootFailed, now);
            return;
        }
        container.in_flight = true;
        let (world, name) = (self.world, name.clone());
        self.effects.start(async move {
            let result = world.systemd().start(&to_boot.class, &name).await;
            Outcome::Started { name, result }
        });
    }

    pub(super) fn started(&mut self, name: &ContainerName, result: Result<(), PortError>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        match result {
            Ok(()) => {
                self.systemd_error = None;
                container.requested_in = now.round;
                container.record.timeline.unit_started_ms.get_or_insert(now.wall.as_millis());
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
                self.stop(name, Cause::BootFailed, now);
            }
        }
    }

    /// A container failed to boot: says how.
    pub(super) fn report_failure(&mut self, name: &ContainerName) {
        let Some(container) = self.containers.get(name) else { return };
        let cause = container.cause().unwrap_or(Cause::Unknown);
        let last = match &container.reason {
            Some(reason) => format!("{name}: {cause}: {reason}"),
            None => format!("{name}: {cause}; see the journal of its unit"),
        };
        let at_forge = failed_at_forge(cause, container.trouble);
        self.events.push(Event::Failed { class: container.record.class.clone(), last, at_forge });
    }

    /// Runners that have listened for a while are served: only then has their container come up.
    pub fn note_served(&mut self, now: Now) {
        let served = |container: &&mut Container| {
            !container.came_up && container.phase == Phase::Idle && now.mono - container.phase_since >= SERVED_AFTER
        };
        for container in self.containers.values_mut().filter(served) {
            container.came_up = true;
            self.events.push(Event::CameUp { class: container.record.class.clone() });
        }
    }
}

/// What kept the runner from its job is between its container and the forge, and may pass by itself: an outage of the
/// forge is over for a class as soon as it is over.
fn failed_at_forge(cause: Cause, trouble: Option<Trouble>) -> bool {
    cause == Cause::NoNetwork || trouble == Some(Trouble::ConnectError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_cannot_reach_the_forge_is_no_failure_of_its_class() {
        assert!(failed_at_forge(Cause::NoNetwork, Some(Trouble::NoNetwork)));
        assert!(failed_at_forge(Cause::NoNetwork, None), "its guest's exit status says it as well");
        assert!(failed_at_forge(Cause::RunnerFailed, Some(Trouble::ConnectError)));
        assert!(!failed_at_forge(Cause::BootFailed, None));
    }
}
