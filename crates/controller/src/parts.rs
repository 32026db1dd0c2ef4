//! The parts of the controller side by side, and what takes several of them.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use contract::ContainerName;
use forge::SetKey;
use settings::Settings;

use super::{
    classes::Classes,
    fleet::{Fleet, Wanted},
    intake::Intake,
    plan::{Plan, Snapshot},
    ports::World,
    sets::Sets,
    strain::Watch,
    time::Now,
};

/// All of them.
pub struct Parts<'w, W: World> {
    pub settings: Rc<Settings>,
    pub intake: Intake<'w, W>,
    pub sets: Sets<'w, W>,
    pub classes: Classes<'w, W>,
    pub fleet: Fleet<'w, W>,
    pub strain: Watch,
}

impl<W: World> Parts<'_, W> {
    /// What planning sees now.
    pub fn snapshot(&self, stopping: bool, now: Now) -> Snapshot {
        let Self { settings, intake, sets, classes, fleet, strain } = self;
        let jobs = intake.job_views(now);
        // Places with a job, a container, or containers to keep ready: a thousand quiet repositories decide nothing.
        let ready = intake.places().filter(|_| classes.keep_ready()).map(|(scope, _)| scope);
        let scopes: BTreeSet<&str> =
            jobs.iter().map(|job| job.scope.as_str()).chain(fleet.scopes()).chain(sets.scopes()).chain(ready).collect();
        Snapshot {
            now: now.mono,
            intake: !stopping,
            capacity: fleet.capacity(),
            strained: strain.most(),
            free_subnets: fleet.free_subnets(),
            idle_grace: settings.idle_grace,
            classes: classes.views(now),
            targets: intake.target_views(),
            scopes: scopes.into_iter().filter_map(|scope| intake.scope_view(scope, now)).collect(),
            jobs,
            sets: sets.views(intake, now),
            containers: fleet.views(),
            pickups: fleet.pickups(),
        }
    }

    /// No container is there, and by the last plan none is wanted.
    pub fn are_quiet(&self, plan: &Plan) -> bool {
        self.fleet.is_empty()
            && !self.classes.keep_ready()
            && plan.waiting.values().all(|why| why.is_no_demand())
            && self.sets.is_idle(&self.intake)
    }

    /// Boots a container, for this job if one is the reason.
    pub fn boot(
        &mut self,
        class: String,
        scope: String,
        set: bool,
        job: Option<(String, u64)>,
        now: Now,
    ) -> Option<ContainerName> {
        let key = SetKey { class, scope };
        let seen = job.as_ref().and_then(|(repository, id)| self.intake.seen(repository, *id));
        let assigned = set.then(|| self.sets.next_job(&key, self.fleet.spare(&key), &self.intake)).flatten();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (queued_ms, visible_ms) = match assigned {
            Some(job) => (job.queued_at.map(millis), Some(millis(job.heard_at))),
            None => (seen.and_then(|seen| seen.queued_ms), seen.map(|seen| seen.visible_ms)),
        };
        let job_name = seen.map(|seen| seen.name.clone()).unwrap_or_default();
        let handle = seen.and_then(|seen| seen.handle.clone());
        let SetKey { class, scope } = key;
        self.fleet.boot(Wanted { class, scope, set, job, handle, job_name, queued_ms, visible_ms }, now)
    }
}
