//! Stopping containers that run: for a reason of ours, for the operator, or because nobody needs them.

use std::time::Duration;

use contract::{ContainerName, InvalidName};
use forge::{Deletion, ErrorKind, ForgeError};
use tracing::{info, warn};

use super::{Fleet, Outcome, settle::RETRY};
use crate::{
    cause::Cause,
    operation::{Denied, Done},
    phase::Phase,
    plan::Use,
    ports::{PortError, Systemd, World},
    record::Stage,
    time::Now,
};

/// An idle container whose registration cannot be removed is stopped all the same after so long.
const GIVEN_UP: Duration = Duration::from_secs(1800);
/// A unit that was asked to stop and is still there after this time is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl<'w, W: World> Fleet<'w, W> {
    /// Stops the unit for a reason that is recorded first. Repeats are harmless.
    pub(super) fn stop(&mut self, name: &ContainerName, cause: Cause, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.has_ended() {
            return;
        }
        container.advance(Phase::Finishing, now.mono);
        container.record.stage = Stage::Stopping { cause };
        container.stopped |= cause == Cause::StoppedByOperator;
        container.requested_in = now.round;
        container.in_flight = true;
        let (world, name, class) = (self.world, name.clone(), container.record.class.clone());
        self.remember(&name);
        self.effects.start(async move {
            let result = world.systemd().stop(&class, &name).await;
            Outcome::Stopped { name, result }
        });
    }

    pub(super) fn stopped(&mut self, name: &ContainerName, result: Result<(), PortError>, now: Now) {
        self.next_list = now.mono;
        let Some(container) = self.containers.get_mut(name) else {
            // An orphan: the next listing shows whether it is gone.
            return;
        };
        container.in_flight = false;
        container.not_before = now.mono + ASK_AGAIN;
        if let Err(error) = result {
            warn!(container = %name, %error, "unit not stopped; will try again");
            self.systemd_error = Some(error.0);
        }
    }

    /// Stops a container, whatever it does.
    pub fn stop_by_operator(&mut self, container: &str, now: Now) -> Result<Done, Denied> {
        let name: ContainerName =
            container.parse().map_err(|error: InvalidName| Denied::NotFound(error.to_string()))?;
        let found = self.containers.get(&name).filter(|found| !found.has_ended());
        let Some(found) = found else {
            return Err(Denied::NotFound(format!("there is no container {name}")));
        };
        match found.record.stage {
            Stage::Minting => {
                return Err(Denied::Conflict(format!("{name} is being registered. Remedy: try again in a moment")));
            }
            Stage::Started if found.in_flight => {
                return Err(Denied::Conflict(format!("{name} is being started. Remedy: try again in a moment")));
            }
            Stage::Started | Stage::Stopping { .. } | Stage::Settling { .. } => {}
        }
        self.stop(&name, Cause::StoppedByOperator, now);
        Ok(Done { message: format!("{name} is stopping"), container: Some(name.to_string()) })
    }

    /// Ends an idle container in the safe order: delete the registration; only if the forge agrees, stop the container
    /// (docs/github.md#deleting-a-registration).
    pub fn retire(&mut self, name: &ContainerName, now: Now) {
        self.end_idle(name, Cause::IdleTooLong, None, now);
    }

    /// The same for this cause and reason; false if it cannot be now.
    pub(super) fn end_idle(&mut self, name: &ContainerName, cause: Cause, reason: Option<String>, now: Now) -> bool {
        let Some(container) = self.containers.get_mut(name) else { return false };
        let is_idle = matches!(container.use_(), Use::Idle(_));
        if !is_idle || container.in_flight || now.mono < container.not_before {
            return false;
        }
        container.in_flight = true;
        container.reason = reason;
        let effect = container.deregister(self.world);
        let name = name.clone();
        self.effects.start(async move { Outcome::Retired { name, cause, result: effect.await } });
        true
    }

    pub(super) fn retired(
        &mut self,
        name: &ContainerName,
        cause: Cause,
        result: Result<Deletion, ForgeError>,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        if container.has_ended() {
            return;
        }
        match result {
            Ok(Deletion::Deleted | Deletion::AlreadyGone) if container.had_job() => container.reason = None,
            Ok(Deletion::Deleted | Deletion::AlreadyGone) => {
                container.settling.deregistered();
                self.stop(name, cause, now);
            }
            Ok(Deletion::Busy) => {
                container.reason = None;
                info!(container = %name, "not retired: the forge says it has a job");
                container.believed_busy = true;
                container.advance(Phase::Running, now.mono);
            }
            // Its place has another name now, or is closed: under this one nothing can be removed.
            Err(ForgeError { kind: ErrorKind::Quarantined, .. }) if container.idle_for(now.mono) >= GIVEN_UP => {
                container.reason.get_or_insert_with(|| "its registration cannot be removed".to_owned());
                self.stop(name, cause, now);
            }
            Err(error) => {
                container.reason = None;
                warn!(container = %name, %error, "registration not deleted");
                container.not_before = now.mono + RETRY.first;
            }
        }
    }
}
