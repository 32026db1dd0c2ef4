//! Jobs that end at the forge while their container goes on: where the forge does not report that to a runner, its
//! container would run the job to its natural end, whose result nobody takes.

use std::time::Duration;

use contract::ContainerName;
use forge::{Forge, ForgeError};
use tracing::{info, warn};

use super::{Fleet, Outcome, container::Container};
use crate::{
    cause::Cause,
    phase::Phase,
    ports::World,
    record::Stage,
    time::{Mono, Now},
};

/// A job that no look showed for so long is asked about, …
const UNSHOWN: Duration = Duration::from_secs(15);
/// … and again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A runner reports its job's end and ends itself, which takes a moment: so long is waited for that.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of whether a container's job goes on at the forge.
#[derive(Debug, Default)]
pub(super) struct JobWatch {
    /// When a look last showed the job on its runner.
    pub shown_at: Mono,
    /// A look since then did not show it.
    pub is_missing: bool,
    /// When the forge was last asked about the registration.
    asked_at: Mono,
    is_asking: bool,
    /// Since when the registration is known to be gone, which ends with the job.
    gone_since: Option<Mono>,
}

impl<W: World> Fleet<'_, W> {
    /// Asks the forge about running jobs that its listing does not show any more.
    pub fn watch_jobs(&mut self, now: Now) {
        let world = self.world;
        let runs = |container: &&mut Container| {
            container.record.stage == Stage::Started
                && container.phase == Phase::Running
                && !container.record.set
                && !container.job_watch.is_asking
                && !world.forge().traits_of(&container.record.scope).tells_of_cancel
        };
        for container in self.containers.values_mut().filter(runs) {
            let Some(runner) = container.record.runner_id else { continue };
            let shown = container.job_watch.shown_at.max(container.phase_since);
            let is_doubtful = container.job_watch.is_missing || now.mono - shown >= UNSHOWN;
            if !is_doubtful || now.mono - container.job_watch.asked_at < ASK_AGAIN {
                continue;
            }
            container.job_watch.asked_at = now.mono;
            container.job_watch.is_asking = true;
            let (name, scope) = (container.record.name.clone(), container.record.scope.clone());
            self.effects.start(async move {
                Outcome::Watched { name, result: world.forge().is_registered(&scope, runner).await }
            });
        }
    }

    pub(super) fn watched(&mut self, name: &ContainerName, result: Result<bool, ForgeError>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.job_watch.is_asking = false;
        match result {
            Err(error) => warn!(container = %name, %error, "the forge does not say whether its job goes on"),
            Ok(true) => container.job_watch.gone_since = None,
            Ok(false) => {
                let since = *container.job_watch.gone_since.get_or_insert(now.mono);
                let goes_on = container.record.stage == Stage::Started && container.phase == Phase::Running;
                if goes_on && now.mono - since >= PATIENCE {
                    info!(container = %name, "stopped: its job is over at the forge");
                    container.reason = Some("its job was ended at the forge".to_owned());
                    self.stop(name, Cause::JobCancelled, now);
                }
            }
        }
    }
}
