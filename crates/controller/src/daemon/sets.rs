//! Scale sets: where the forge itself counts the jobs and tells of each at once. Polling stays where it refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::{ContainerName, fork_gate};
use forge::{
    ErrorKind, ForgeError, SetKey, SetRequest, Sets,
    github::scale_set::{
        JobEvent, JobMessage, Tidings,
        assignments::{Assignment, AssignmentState, Assignments},
    },
};
use futures_util::future::{AbortHandle, abortable};
use settings::{Class, Intake, TargetKind};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Daemon, Outcome, backoff, targets::Target};
use crate::{
    container::Container,
    edges::{Clock, Records, World},
    phase::Phase,
    plan::{SetView, Use, Waiting},
    status::{ClassIntake, IntakeStatus},
};

/// Pauses after a set could not be opened, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// A refusal for good is asked about again after this time: somebody may have given the permission.
const REFUSED: Duration = Duration::from_secs(3600);
/// A container that ended with its job may still be counted for so long.
const STILL_COUNTED: Duration = Duration::from_secs(60);
/// An assignment older than this is looked after by REST, so often; so long also one that the forge dropped.
const OLD: Duration = Duration::from_secs(120);
const DROPPED: Duration = Duration::from_secs(900);
const LOOK_AFTER: Duration = Duration::from_secs(60);
/// Refused jobs that are let in beside the others at most, so that they take nobody's place.
const REFUSED_BESIDE: usize = 50;
/// Somebody else may hold the session for so long before that is a problem: after a crash it is our own.
pub(super) const HELD: Duration = Duration::from_secs(300);
/// Longest wait for the end of the sessions when stopping.
pub(super) const RELEASE: Duration = Duration::from_secs(5);

/// A class with this intake gets a set in a place. `discovered` = the place is one of many that the forge listed.
fn wants_set(intake: Intake, discovered: bool) -> bool {
    match intake {
        Intake::Polling => false,
        Intake::Auto => !discovered,
        Intake::ScaleSet => true,
    }
}

/// What a set is after its `failures`th failure in a row to be opened, and how long until the next try.
fn after_failure(error: &ForgeError, failures: u32) -> (Mode, Duration) {
    match error.kind {
        ErrorKind::Unauthorized | ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Quarantined => {
            (Mode::Refused(error.message.clone()), REFUSED)
        }
        ErrorKind::Unavailable | ErrorKind::RateLimited(_) | ErrorKind::Paced(_) | ErrorKind::Conflict => {
            (Mode::Unavailable(error.message.clone()), backoff(RETRY.0, failures, RETRY.1))
        }
    }
}

/// REST's word for how a job ended, from that of a set's messages; both are not known in full (PROTOCOLS J).
fn conclusion(result: &str) -> Option<&'static str> {
    match result.to_ascii_lowercase().as_str() {
        "succeeded" => Some("success"),
        "failed" => Some("failure"),
        "canceled" | "cancelled" => Some("cancelled"),
        _ => None,
    }
}

/// How the jobs of a class are found in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// The set is being opened; polled meanwhile if its class allows.
    Opening,
    /// By the set.
    Open,
    /// By polling, if its class allows: the forge refuses the set for this reason.
    Refused(String),
    /// By polling meanwhile, if its class allows: the set cannot be had now, for this reason.
    Unavailable(String),
    /// Given up, because the controller stops.
    Released,
}

/// A scale set as the controller knows it.
#[derive(Debug)]
pub(super) struct Set {
    pub request: SetRequest,
    pub mode: Mode,
    pub assignments: Assignments,
    /// When the forge was last heard.
    pub as_of: Option<Duration>,
    /// What it last refused, until it is heard again.
    pub last_error: Option<String>,
    /// Since when it is not heard: monotonic, and by the wall clock since the Unix epoch.
    pub failing_since: Option<(Duration, Duration)>,
    /// The most jobs of it that we take at once, as told.
    pub capacity: watch::Sender<u32>,
    /// When containers of it ended with a job that the counts may still contain.
    pub ended: Vec<Duration>,
    /// Since when the forge has been told of more room than it makes use of.
    pub room_since: Option<Duration>,
    failures: u32,
    next_try: Duration,
    opening: bool,
    listening: Option<AbortHandle>,
}

impl Set {
    /// One to be opened, of whose jobs so much is remembered.
    fn new(request: SetRequest, assignments: Assignments) -> Self {
        Self {
            request,
            mode: Mode::Opening,
            assignments,
            as_of: None,
            last_error: None,
            failing_since: None,
            capacity: watch::channel(0).0,
            ended: Vec::new(),
            room_since: None,
            failures: 0,
            next_try: Duration::ZERO,
            opening: false,
            listening: None,
        }
    }

    /// When something is due for it.
    pub fn due(&self) -> Option<Duration> {
        let waits = matches!(self.mode, Mode::Opening | Mode::Refused(_) | Mode::Unavailable(_)) && !self.opening;
        waits.then_some(self.next_try)
    }

    /// Jobs that are its, as the forge counts them.
    pub fn assigned(&self) -> usize {
        self.assignments.statistics().assigned_jobs as usize
    }

    /// Jobs that are its and that no runner has.
    fn waiting(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.open().map(|(_, job)| job).filter(|job| job.state == AssignmentState::Waiting)
    }

    /// The forge was heard and told that so many jobs may be the set's at once.
    fn told(&mut self, capacity: u32, now: Duration) {
        let heard = self.mode == Mode::Open && self.as_of.is_some() && self.failing_since.is_none();
        let room = heard && capacity > self.assignments.statistics().assigned_jobs;
        self.room_since = room.then(|| self.room_since.unwrap_or(now));
        self.capacity.send_if_modified(|told| std::mem::replace(told, capacity) != capacity);
    }
}

impl<'w, W: World> Daemon<'w, W> {
    /// Scale sets of a new place. Discovered repositories have none unless the class asks for them: a listener for
    /// each of hundreds is more than polling them costs.
    pub(super) fn add_sets(&mut self, scope: &str) {
        let Some(place) = self.scopes.get(scope) else { return };
        let Some(target) = self.targets.get(&place.target).map(|target| &target.settings) else { return };
        for class in self.settings.classes.values() {
            if !wants_set(class.intake, place.discovered) || !target.has_class(&class.name) {
                continue;
            }
            let group = target.runner_group.clone().filter(|_| !target.registers_with_repositories());
            let request = SetRequest {
                name: format!("{}-{}", self.host, class.name),
                labels: class.labels.clone(),
                runner_group: group,
            };
            let key = SetKey { class: class.name.clone(), scope: scope.to_owned() };
            let kept = self.kept_assignments.remove(&key).unwrap_or_default();
            self.sets.entry(key).or_insert(Set::new(request, kept));
        }
    }

    /// Forgets what was remembered of sets that nothing configured can have any more. One of a repository that is
    /// still to be discovered waits for it.
    pub(super) fn forget_kept_sets(&mut self) {
        let targets = &self.settings.targets;
        let may_come = |scope: &str| {
            let owner = scope.split_once('/').map(|(owner, _)| owner);
            targets.iter().any(|target| target.registers_with_repositories() && Some(target.name.as_str()) == owner)
        };
        let wanted = |key: &SetKey| {
            let class = self.settings.classes.get(&key.class);
            class.is_some_and(|class| class.intake != Intake::Polling) && may_come(&key.scope)
        };
        let gone: Vec<SetKey> = self.kept_assignments.keys().filter(|key| !wanted(key)).cloned().collect();
        for key in gone {
            info!(class = key.class, scope = key.scope, "{key}: not configured any more, forgotten");
            self.kept_assignments.remove(&key);
            self.forget_on_disk(&key);
        }
    }

    fn forget_on_disk(&self, key: &SetKey) {
        if let Err(error) = self.world.records().remove_set(key) {
            warn!(%error, "{key}: what was remembered of it is not removed");
        }
    }

    /// Forgets the sets of places that are no more.
    pub(super) fn forget_sets(&mut self) {
        let gone: Vec<SetKey> = self.sets.keys().filter(|key| !self.scopes.contains_key(&key.scope)).cloned().collect();
        for key in gone {
            if let Some(listening) = self.sets.remove(&key).and_then(|set| set.listening) {
                listening.abort();
            }
            self.forget_on_disk(&key);
        }
    }

    /// Repositories of this place are polled for queued jobs: not all its classes are served by sets.
    pub(super) fn is_polled(&self, scope: &str) -> bool {
        let Some(target) = self.target_of(scope) else { return true };
        let mut classes = self.settings.classes.keys().filter(|class| target.settings.has_class(class));
        classes.any(|class| {
            let key = SetKey { class: class.clone(), scope: scope.to_owned() };
            self.sets.get(&key).is_none_or(|set| set.mode != Mode::Open)
        })
    }

    pub(super) fn open_sets_where_due(&mut self, now: Duration) {
        for (key, set) in &mut self.sets {
            if set.due().is_none_or(|due| due > now) {
                continue;
            }
            set.opening = true;
            let (world, key, request) = (self.world, key.clone(), set.request.clone());
            self.effects.push(Box::pin(async move {
                let result = world.sets().open(&key, &request).await;
                Outcome::SetOpened { key, result }
            }));
        }
    }

    pub(super) fn set_opened(&mut self, key: SetKey, result: Result<Vec<String>, ForgeError>) {
        let now = self.now();
        let Some(set) = self.sets.get_mut(&key) else { return };
        set.opening = false;
        match result {
            Ok(missing) => {
                info!(class = key.class, scope = key.scope, "{key}: chosen, open");
                set.mode = Mode::Open;
                set.failures = 0;
                set.last_error = (!missing.is_empty()).then(|| {
                    format!("the forge left out labels {}: jobs that ask for them never come", missing.join(", "))
                });
                self.listen_to(key);
            }
            Err(error) => self.set_failed(&key, &error, now),
        }
    }

    fn set_failed(&mut self, key: &SetKey, error: &ForgeError, now: Duration) {
        let Some(set) = self.sets.get_mut(key) else { return };
        set.failures += 1;
        let (mode, pause) = after_failure(error, set.failures);
        if set.mode != mode {
            warn!(class = key.class, scope = key.scope, %error, "{key}: polling instead, where allowed: {error}");
        }
        set.mode = mode;
        set.next_try = now + pause;
        set.last_error = Some(error.message.clone());
    }

    fn listen_to(&mut self, key: SetKey) {
        if self.stopping_since.is_some() {
            return;
        }
        let Some(set) = self.sets.get_mut(&key) else { return };
        let (world, mut capacity) = (self.world, set.capacity.subscribe());
        let asked = key.clone();
        let (next, handle) = abortable(async move { world.sets().listen(&asked, &mut capacity).await });
        set.listening = Some(handle);
        self.start(async move {
            match next.await {
                Ok(result) => Outcome::SetHeard { key, result },
                Err(_) => Outcome::FeedClosed,
            }
        });
    }

    /// What a set told: on disk before it is acknowledged, so that a crash loses nothing.
    pub(super) fn set_heard(&mut self, key: SetKey, result: Result<Tidings, ForgeError>) {
        let (now, wall) = (self.now(), self.world.clock().wall());
        let Some(set) = self.sets.get_mut(&key) else { return };
        set.listening = None;
        let tidings = match result {
            Ok(tidings) => tidings,
            Err(error) => {
                set.failing_since.get_or_insert((now, wall));
                set.last_error = Some(error.message.clone());
                debug!(class = key.class, scope = key.scope, %error, "{key}: not heard");
                if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Refused) {
                    self.set_failed(&key, &error, now);
                } else {
                    self.listen_to(key);
                }
                return;
            }
        };
        if set.failing_since.take().is_some() {
            set.last_error = None;
        }
        set.as_of = Some(now);
        // Counts alone are heard each minute while jobs are about, and mostly the same: nothing to write then.
        let known = tidings.message_id.is_none().then(|| set.assignments.clone());
        set.assignments.belong_to(tidings.set_id);
        if let Some(message) = tidings.message_id {
            set.assignments.apply(message, &tidings.messages, wall);
        }
        if tidings.fresh {
            set.assignments.reconcile(tidings.statistics, wall);
            set.ended.clear();
        }
        if known.is_none_or(|known| known != set.assignments) {
            match (self.world.records().put_set(&key, &set.assignments), tidings.message_id) {
                (Ok(()), Some(message)) => {
                    let (world, key) = (self.world, key.clone());
                    self.start(async move {
                        world.sets().acknowledge(&key, message).await;
                        Outcome::FeedClosed
                    });
                }
                (Ok(()), None) => {}
                (Err(error), _) => warn!(%error, "{key}: not written, so not acknowledged; it will be told again"),
            }
        }
        for message in &tidings.messages {
            self.set_message(&key, message, now);
        }
        self.listen_to(key);
    }

    /// What a message says of a container of ours, and of a repository.
    fn set_message(&mut self, key: &SetKey, message: &JobMessage, now: Duration) {
        if let JobEvent::Assigned = message.event {
            info!(
                scope = key.scope,
                class = key.class,
                repository = message.repository,
                "{}: a job is assigned",
                message.repository
            );
            let public = self.repositories.get(&message.repository).and_then(|repository| repository.public);
            let allowed = self.target_of(&key.scope).is_some_and(|target| target.settings.allow_forks);
            if fork_gate::admit_assignment(Some(&message.event_name), public, allowed).is_err() {
                // The run says what the message does not.
                self.look_again(&message.repository);
            }
        }
        let JobEvent::Started { runner_name } = &message.event else { return };
        let found = self.containers.values_mut().find(|container| container.record.runner_name == *runner_name);
        let Some(container) = found.filter(|container| !container.has_ended()) else { return };
        container.believed_busy = true;
        container.record.repository = Some(message.repository.clone());
        container.record.job_name.clone_from(&message.job_name);
        container.advance(Phase::Running, now);
        let name = container.record.name.clone();
        self.remember(&name);
    }

    /// Whether the fork gate refuses an assignment, by what the message said and what a look since showed of its run.
    fn is_refused(&self, key: &SetKey, job: &Assignment) -> bool {
        let allowed = self.target_of(&key.scope).is_some_and(|target| target.settings.allow_forks);
        let repository = self.repositories.get(&job.repository);
        let public = repository.and_then(|repository| repository.public);
        let run = repository.and_then(|repository| repository.run_facts.get(&job.run_id));
        match run {
            Some(run) => fork_gate::admit(run.event.as_deref(), run.from_fork, run.public.or(public), allowed).is_err(),
            None => fork_gate::admit_assignment(Some(&job.event_name), public, allowed).is_err(),
        }
    }

    /// The job that a container of this set about to be booted is for: the one that has waited longest and has none on
    /// its way. GitHub may give the container another; this one is why it is booted.
    pub(super) fn next_of_set(&self, class: &str, scope: &str) -> Option<&Assignment> {
        let key = SetKey { class: class.to_owned(), scope: scope.to_owned() };
        let spare = |container: &&Container| {
            let record = &container.record;
            (record.class.as_str(), record.scope.as_str(), record.set) == (class, scope, true)
                && matches!(container.use_(), Use::Coming | Use::Idle(_))
        };
        let spare = self.containers.values().filter(spare).count();
        let waiting = self.sets.get(&key)?.assignments.waiting();
        waiting.into_iter().filter(|job| !self.is_refused(&key, job)).nth(spare)
    }

    /// Waiting assignments that are not to be run.
    pub(super) fn refused_of(&self, key: &SetKey, set: &Set) -> usize {
        set.waiting().filter(|job| self.is_refused(key, job)).count()
    }

    /// The sets as planning sees them.
    pub(super) fn set_views(&self, now: Duration) -> Vec<SetView> {
        let wall = self.world.clock().wall();
        let view = |(key, set): (&SetKey, &Set)| {
            let counted = set.assignments.wanted(0, u32::MAX, wall).launch_up_to as usize;
            let heard = set.as_of.is_some();
            let oldest = set.assignments.open().map(|(_, job)| job.assigned_at).min();
            let mut waiting = BTreeMap::<u64, usize>::new();
            for job in set.waiting() {
                *waiting.entry(job.run_id).or_default() += 1;
            }
            SetView {
                class: key.class.clone(),
                scope: key.scope.clone(),
                // Nothing is launched on the word of an earlier life.
                assigned: if heard { counted.saturating_sub(self.refused_of(key, set)) } else { 0 },
                oldest: oldest.map(|at| now.saturating_sub(wall.saturating_sub(at))),
                as_of: set.as_of,
                ended: set.ended.iter().filter(|at| now.saturating_sub(**at) < STILL_COUNTED).count(),
                waiting,
                room_since: set.room_since,
            }
        };
        self.sets.iter().filter(|(_, set)| set.mode == Mode::Open).map(view).collect()
    }

    /// Tells the forge how many jobs of each set we can take, as soon as that changes.
    pub(super) fn promise(&mut self) {
        let now = self.now();
        let mut told = Vec::new();
        for (key, set) in &self.sets {
            let room = self.plan.capacity.get(&(key.class.clone(), key.scope.clone())).copied().unwrap_or_default();
            // A refused job takes nobody's place.
            let beside = if room > 0 { self.refused_of(key, set).min(REFUSED_BESIDE) } else { 0 };
            told.push(u32::try_from(room + beside).unwrap_or(u32::MAX));
        }
        for (set, capacity) in self.sets.values_mut().zip(told) {
            set.told(capacity, now);
        }
    }

    /// REST behind the sets: what messages lost shows where jobs are assigned for long or run, and what was dropped
    /// where one was, or where a job waits to be assigned.
    pub(super) fn look_after_sets(&mut self) {
        let wall = self.world.clock().wall();
        let old = |job: &&Assignment| wall.saturating_sub(job.assigned_at) > OLD;
        let assigned = self.sets.values().flat_map(|set| set.assignments.open().map(|(_, job)| job).filter(old));
        let busy = self.containers.values().filter(|c| c.record.set && !c.has_ended() && c.use_() == Use::Busy);
        let dropped = self.sets.values().flat_map(|set| {
            let recent = |job: &&Assignment| job.void_since().is_some_and(|at| wall.saturating_sub(at) < DROPPED);
            set.assignments.jobs().values().filter(recent)
        });
        let left_out = self.plan.waiting.iter().filter(|(_, why)| **why == Waiting::NotAdmitted);
        let names: BTreeSet<String> = assigned
            .chain(dropped)
            .map(|job| job.repository.clone())
            .chain(left_out.map(|((repository, _), _)| repository.clone()))
            .chain(busy.filter_map(|container| container.record.repository().map(str::to_owned)))
            .collect();
        for name in names {
            let Some(repository) = self.repositories.get_mut(&name) else { continue };
            if repository.failures == 0 {
                let due = repository.looked_at.unwrap_or_default() + LOOK_AFTER;
                repository.next_look = repository.next_look.min(due);
            }
        }
    }

    /// How the set's messages say that the job of this runner ended, in the forge's REST word.
    pub(super) fn set_conclusion(&self, key: &SetKey, runner: &str) -> Option<&'static str> {
        let jobs = self.sets.get(key)?.assignments.jobs();
        let job = jobs.values().find(|job| job.runner_name() == Some(runner))?;
        match &job.state {
            AssignmentState::Finished(result) => conclusion(result),
            _ => None,
        }
    }

    /// Repository and run of the job that a runner of a set had, and that no look has shown: so much the messages say.
    pub(super) fn told_run(&self, name: &ContainerName) -> Option<(String, u64)> {
        let record = &self.containers.get(name)?.record;
        if !record.set || record.took.is_some() {
            return None;
        }
        let key = SetKey { class: record.class.clone(), scope: record.scope.clone() };
        let jobs = self.sets.get(&key)?.assignments.jobs();
        let job = jobs.values().find(|job| job.runner_name() == Some(&record.runner_name))?;
        // A backend may leave out either.
        (job.run_id != 0 && job.repository.len() > 1).then(|| (job.repository.clone(), job.run_id))
    }

    /// How the job of this container ended is still to be told by its scale set, and by nobody else.
    pub(super) fn is_untold(&self, name: &ContainerName) -> bool {
        let Some(container) = self.containers.get(name) else { return false };
        let record = &container.record;
        let key = SetKey { class: record.class.clone(), scope: record.scope.clone() };
        let is_open = self.sets.get(&key).is_some_and(|set| set.mode == Mode::Open);
        let unknown = record.set && record.took.is_none() && container.had_job() && !container.concluded;
        unknown && is_open && self.set_conclusion(&key, &record.runner_name).is_none()
    }

    /// The controller stops: no more news is waited for, and the sessions are given back.
    pub(super) fn release_sets(&mut self) {
        let open: Vec<SetKey> =
            self.sets.iter().filter(|(_, set)| set.mode == Mode::Open).map(|(key, _)| key.clone()).collect();
        for key in open {
            let Some(set) = self.sets.get_mut(&key) else { continue };
            set.mode = Mode::Released;
            if let Some(listening) = set.listening.take() {
                listening.abort();
            }
            self.releasing += 1;
            let world = self.world;
            self.start(async move {
                let result = tokio::time::timeout(RELEASE, world.sets().release(&key)).await;
                if let Ok(Err(error)) = &result {
                    warn!(%error, "{key}: its session could not be ended");
                }
                Outcome::SetReleased
            });
        }
    }

    /// How the jobs of each class that serves a target are found, and why so.
    pub(super) fn intakes_of(&self, target: &Target) -> Vec<ClassIntake> {
        let classes = self.settings.classes.values().filter(|class| target.settings.has_class(&class.name));
        let told = |class: &Class| {
            let own = |(key, _): &(&SetKey, &Set)| {
                key.class == class.name
                    && self.target_of(&key.scope).is_some_and(|found| found.settings.name == target.settings.name)
            };
            let sets: Vec<(&SetKey, &Set)> = self.sets.iter().filter(own).collect();
            let open = sets.iter().filter(|(_, set)| matches!(set.mode, Mode::Open | Mode::Released)).count();
            let otherwise =
                if self.is_set_alone(class.intake, target) { IntakeStatus::None } else { IntakeStatus::Polling };
            let (intake, reason) = match (sets.as_slice(), &class.intake) {
                ([], Intake::Polling) => (IntakeStatus::Polling, ClassIntake::AS_CONFIGURED.to_owned()),
                ([], Intake::Auto) if otherwise == IntakeStatus::Polling => (
                    IntakeStatus::Polling,
                    "intake = \"auto\" polls where runners are registered with repositories that the forge lists: a \
                     listener for each costs more than that; intake = \"scale-set\" asks for them all the same"
                        .to_owned(),
                ),
                ([], _) => (IntakeStatus::None, "no repository was found yet".to_owned()),
                ([(_, set)], _) => match &set.mode {
                    Mode::Open | Mode::Released => (IntakeStatus::ScaleSet, "the forge gave it a scale set".to_owned()),
                    Mode::Opening => (otherwise, "its scale set is being opened".to_owned()),
                    Mode::Refused(why) => (otherwise, format!("the forge refuses a scale set: {why}")),
                    Mode::Unavailable(why) => (otherwise, format!("a scale set cannot be had now: {why}")),
                },
                (several, _) => (
                    if open > 0 { IntakeStatus::ScaleSet } else { otherwise },
                    format!("{open} of its {} repositories have a scale set", several.len()),
                ),
            };
            ClassIntake { class: class.name.clone(), intake, reason }
        };
        classes.map(told).collect()
    }

    fn is_set_alone(&self, intake: Intake, target: &Target) -> bool {
        intake == Intake::ScaleSet || target.settings.kind == TargetKind::Enterprise
    }

    /// Its class asks for a set and nothing else.
    pub(super) fn needs_set(&self, key: &SetKey) -> bool {
        let class = self.settings.classes.get(&key.class);
        let target = self.target_of(&key.scope);
        class.zip(target).is_some_and(|(class, target)| self.is_set_alone(class.intake, target))
    }
}

#[cfg(test)]
mod tests;
