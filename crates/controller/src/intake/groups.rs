//! Jobs that the forge gives to no runner of ours, whatever is started for them: those of repositories that the runner
//! group keeps out. It says so nowhere but in the group's settings; where those cannot be read, a runner that stays idle
//! beside such a job shows it.

use std::{collections::BTreeSet, time::Duration};

use forge::{Forge, ForgeError, RunnerGroup, Scope};
use tracing::{debug, info};

use super::{Intake, Outcome};
use crate::{
    plan::{ClassView, JobView, ScopeView, class_for},
    ports::World,
    time::{Backoff, Mono, Now},
};

/// How old what is known of a group may be while a job of a public repository waits.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// So many runners that were idle beside a job and were not given it are no accident while others are given theirs.
const PASSED_OVER: u32 = 3;
/// Nor is it an outage of the forge after so long.
const OUTAGE: Duration = Duration::from_secs(3600);
/// Pauses until such a job is tried again, first and longest: somebody may have changed the group.
const TRY_AGAIN: Backoff = Backoff::seconds(900, 6 * 3600);

/// What is known of the group that runners of a place join.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// As the forge last said; None if it did not, or has no groups there.
    pub group: Option<RunnerGroup>,
    /// The forge was asked, and answered or failed to.
    pub known: bool,
    /// When it is asked next.
    next_ask: Mono,
}

/// Why a job gets no runner of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exclusion {
    /// Not known yet; it is being asked.
    Asking,
    /// By this group, of this organisation or enterprise, since its repository is public.
    Group(String, String),
    /// Idle runners were not given it.
    PassedOver,
}

impl Exclusion {
    /// In words, with the remedy.
    pub fn told(&self, repository: &str) -> String {
        match self {
            Self::Asking => "the forge is being asked which repositories its runner group serves".to_owned(),
            Self::Group(group, scope) => format!(
                "runner group {group:?} of {scope} does not serve public repositories, and {repository} is one. Remedy: \
                 allow public repositories in the group, name another as the target's runner_group, or exclude the \
                 repository"
            ),
            Self::PassedOver => format!(
                "runners with its labels were idle beside it and were not given it; another is tried now and then. \
                 Remedy: see at the forge whether the runner group serves {repository} and its workflow, and whether \
                 the job's runs-on names another group"
            ),
        }
    }
}

impl<W: World> Intake<'_, W> {
    /// Asks about the groups of places where a job of a public repository waits.
    pub fn ask_groups_if_due(&mut self, now: Now) {
        for name in self.public_places() {
            let Some(place) = self.places.get(&name) else { continue };
            if place.membership.next_ask > now.mono || self.rests_until(&place.target, now.mono).is_some() {
                continue;
            }
            if let Some(place) = self.places.get_mut(&name) {
                place.membership.next_ask = now.mono + ASK_AGAIN;
            }
            let world = self.world;
            self.effects.start(async move {
                let result = world.forge().runner_group(&name).await;
                Outcome::Group { scope: name, result }
            });
        }
    }

    /// Places with groups where a job of a public repository waits.
    fn public_places(&self) -> BTreeSet<String> {
        let waits = |job: &&JobView| self.seen(&job.repository, job.id).is_some_and(|seen| seen.public == Some(true));
        let jobs = self.repositories.values().flat_map(|repository| repository.queued.iter()).filter(waits);
        jobs.map(|job| job.scope.clone()).filter(|scope| has_groups(scope)).collect()
    }

    /// Something is still to be told before it is clear which jobs can be run.
    pub(super) fn awaits_groups(&self) -> bool {
        let known = |scope: &String| self.places.get(scope).is_none_or(|place| place.membership.known);
        !self.public_places().iter().all(known)
    }

    pub(super) fn group_told(&mut self, scope: &str, result: Result<Option<RunnerGroup>, ForgeError>, now: Now) {
        let Some(place) = self.places.get_mut(scope) else { return };
        place.membership.known = true;
        match result {
            Ok(group) => place.membership.group = group,
            Err(error) => {
                // Whoever may register runners may not be allowed to see their groups.
                if !error.kind.is_passing() {
                    place.membership.group = None;
                }
                let target = place.target.clone();
                debug!(scope, %error, "{scope}: its runner group is not known");
                self.rests(&target, &error, now);
            }
        }
    }

    /// A runner that fits this job was idle beside it and was not given it. A lost assignment or an outage is over with
    /// another runner; a group is not. It is taken for the group's doing once several runners were passed over and the
    /// forge gave others of the place their jobs meanwhile, or after longer than any outage lasts.
    pub fn passed_over(&mut self, repository: &str, job: u64, now: Now) {
        let Some(found) = self.repositories.get_mut(repository) else { return };
        let place = self.places.get(&found.scope);
        let Some(seen) = found.seen.get_mut(&job) else { return };
        if seen.passed_over == 0 {
            seen.passed_first = now.mono;
        }
        seen.passed_over += 1;
        let others_served = place.and_then(|place| place.gave_job).is_some_and(|at| at > seen.passed_first);
        let is_known = seen.passed_over >= PASSED_OVER && others_served;
        if is_known || now.mono - seen.passed_first >= OUTAGE {
            seen.given_up += 1;
            seen.given_up_until = now.mono + TRY_AGAIN.after(seen.given_up);
            info!(repository, job, times = seen.passed_over, "{repository}: idle runners are not given job {job}");
        }
    }

    /// The class that serves a job.
    pub(super) fn class_of(&self, classes: &[ClassView], job: &JobView) -> Option<String> {
        let target = self.target_of(&job.scope)?;
        let scope = ScopeView {
            name: job.scope.clone(),
            target: target.name.clone(),
            held_until: None,
            probed: false,
            looked_at: None,
            classes: target.classes.iter().cloned().collect(),
        };
        class_for(classes, &scope, &job.labels).map(|class| class.name.clone())
    }

    /// Why no runner of ours would be given this job, if so.
    pub(super) fn excluded(&self, job: &JobView, now: Mono) -> Option<Exclusion> {
        let seen = self.seen(&job.repository, job.id)?;
        if seen.public == Some(true) && has_groups(&job.scope) {
            let membership = &self.places.get(&job.scope)?.membership;
            if !membership.known {
                return Some(Exclusion::Asking);
            }
            if let Some(group) = membership.group.as_ref().filter(|group| group.admits_public == Some(false)) {
                return Some(Exclusion::Group(group.name.clone(), job.scope.clone()));
            }
        }
        (seen.given_up_until > now).then_some(Exclusion::PassedOver)
    }
}

/// Runners registered with a repository join no group that could keep anything out.
fn has_groups(scope: &str) -> bool {
    !matches!(Scope::parse(scope), Scope::Repository(_))
}
