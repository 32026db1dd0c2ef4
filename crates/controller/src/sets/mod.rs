//! Scale sets: where the forge itself counts the jobs and reports each at once. Polling stays where it refuses. Owns the
//! sets, what is remembered of their jobs, and their sessions.

mod messages;
mod set;
mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use forge::{
    ForgeError, SetKey, SetRequest, Sets as _,
    github::scale_set::{
        Tidings,
        assignments::{Assignment, Assignments},
    },
};
use futures_util::future::abortable;
use settings::Settings;
use tracing::{info, warn};

use self::set::{Mode, Set, after_failure, wants_set};
use super::{
    effects::Effects,
    intake::Intake,
    plan::SetView,
    ports::{Records, World},
    time::{Mono, Now, Wall},
};

/// A container that ended with its job may still be counted for so long.
const STILL_COUNTED: Duration = Duration::from_secs(60);
/// An assignment older than this is looked after by REST; so long also one that the forge dropped.
const OLD: Duration = Duration::from_secs(120);
const DROPPED: Duration = Duration::from_secs(900);
/// Refused jobs that are let in beside the others at most, so that they take nobody's place.
const REFUSED_BESIDE: usize = 50;
/// Longest wait for the end of the sessions when stopping.
const RELEASE: Duration = Duration::from_secs(5);

/// What an effect came to.
pub enum Outcome {
    /// A set was asked for; labels that it does not have.
    Opened { key: SetKey, result: Result<Vec<String>, ForgeError> },
    /// News of a set.
    Heard { key: SetKey, result: Result<Tidings, ForgeError> },
    /// A session was given back.
    Released,
    /// Nothing follows.
    Nothing,
}

/// What others should know of.
pub enum Event {
    /// The fork gate cannot tell from a message alone: the repository is to be looked at.
    LookAgain { repository: String },
    /// A runner of a set has a job.
    JobStarted { runner: String, repository: String, job: String },
}

/// What the sets know of a runner's job.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Its set is open and has not said how the job ended.
    pub is_awaited: bool,
    /// Repository and run of the job; a backend may leave out either.
    pub run: Option<(String, u64)>,
    /// How it ended, in the forge's REST word.
    pub conclusion: Option<&'static str>,
}

/// The scale sets.
pub struct Sets<'w, W: World> {
    world: &'w W,
    effects: Effects<'w, Outcome>,
    settings: Rc<Settings>,
    /// The host part of the sets' names.
    host: String,
    sets: BTreeMap<SetKey, Set>,
    /// What was remembered of sets that are not there yet.
    kept: BTreeMap<SetKey, Assignments>,
    /// Sessions that are being given back.
    releasing: usize,
    stopping: bool,
}

impl<'w, W: World> Sets<'w, W> {
    /// Those of the places there are, with what was remembered of their jobs.
    pub fn new(
        world: &'w W,
        settings: Rc<Settings>,
        effects: Effects<'w, Outcome>,
        host: String,
        intake: &Intake<'w, W>,
    ) -> Self {
        let kept = world.records().load_sets().unwrap_or_else(|error| {
            warn!(%error, "what is known of scale sets cannot be read; the forge will send it again");
            Vec::new()
        });
        let kept = kept.into_iter().collect();
        let mut sets =
            Self { world, effects, settings, host, sets: BTreeMap::new(), kept, releasing: 0, stopping: false };
        sets.follow(intake);
        sets.forget_kept();
        sets
    }

    /// Takes in what an effect came to.
    pub fn apply(&mut self, outcome: Outcome, intake: &Intake<'w, W>, now: Now) -> Vec<Event> {
        match outcome {
            Outcome::Opened { key, result } => self.opened(key, result, now),
            Outcome::Heard { key, result } => return self.heard(key, result, intake, now),
            Outcome::Released => self.releasing = self.releasing.saturating_sub(1),
            Outcome::Nothing => {}
        }
        Vec::new()
    }

    /// Makes sets for new places, and forgets those of places that are no more. Discovered repositories have none unless
    /// the class asks for them: a listener for each of hundreds is more than polling them costs.
    pub fn follow(&mut self, intake: &Intake<'w, W>) {
        for (scope, discovered) in intake.places() {
            let Some(target) = intake.target_of(scope) else { continue };
            for class in self.settings.classes.values() {
                let key = SetKey { class: class.name.clone(), scope: scope.to_owned() };
                if !wants_set(class.intake, discovered)
                    || !target.has_class(&class.name)
                    || self.sets.contains_key(&key)
                {
                    continue;
                }
                let group = target.runner_group.clone().filter(|_| !target.registers_with_repositories());
                let request = SetRequest {
                    name: format!("{}-{}", self.host, class.name),
                    labels: class.labels.clone(),
                    runner_group: group,
                };
                let kept = self.kept.remove(&key).unwrap_or_default();
                self.sets.insert(key, Set::new(request, kept));
            }
        }
        let gone: Vec<SetKey> = self.sets.keys().filter(|key| !intake.has_place(&key.scope)).cloned().collect();
        for key in gone {
            if let Some(listening) = self.sets.remove(&key).and_then(|set| set.listening) {
                listening.abort();
            }
            self.forget_on_disk(&key);
        }
    }

    /// Forgets what was remembered of sets that nothing configured can have any more. One of a repository that is
    /// still to be discovered waits for it.
    fn forget_kept(&mut self) {
        let targets = &self.settings.targets;
        let may_come = |scope: &str| {
            let owner = scope.split_once('/').map(|(owner, _)| owner);
            targets.iter().any(|target| target.registers_with_repositories() && Some(target.name.as_str()) == owner)
        };
        let wanted = |key: &SetKey| {
            let class = self.settings.classes.get(&key.class);
            class.is_some_and(|class| class.intake != settings::Intake::Polling) && may_come(&key.scope)
        };
        let gone: Vec<SetKey> = self.kept.keys().filter(|key| !wanted(key)).cloned().collect();
        for key in gone {
            info!(class = key.class, scope = key.scope, "{key}: not configured any more, forgotten");
            self.kept.remove(&key);
            self.forget_on_disk(&key);
        }
    }

    fn forget_on_disk(&self, key: &SetKey) {
        if let Err(error) = self.world.records().remove_set(key) {
            warn!(%error, "{key}: what was remembered of it is not removed");
        }
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.sets.values().filter_map(Set::due).min()
    }

    /// Opens sets where that is due.
    pub fn open_if_due(&mut self, now: Now) {
        for (key, set) in &mut self.sets {
            if set.due().is_none_or(|due| due > now.mono) {
                continue;
            }
            set.opening = true;
            let (world, key, request) = (self.world, key.clone(), set.request.clone());
            self.effects.start(async move {
                let result = world.sets().open(&key, &request).await;
                Outcome::Opened { key, result }
            });
        }
    }

    fn opened(&mut self, key: SetKey, result: Result<Vec<String>, ForgeError>, now: Now) {
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
            Err(error) => self.failed(&key, &error, now),
        }
    }

    fn failed(&mut self, key: &SetKey, error: &ForgeError, now: Now) {
        let Some(set) = self.sets.get_mut(key) else { return };
        set.failures += 1;
        let (mode, pause) = after_failure(error, set.failures);
        if set.mode != mode {
            warn!(class = key.class, scope = key.scope, %error, "{key}: polling instead, where allowed: {error}");
        }
        set.mode = mode;
        set.next_try = now.mono + pause;
        set.last_error = Some(error.message.clone());
    }

    fn listen_to(&mut self, key: SetKey) {
        if self.stopping {
            return;
        }
        let Some(set) = self.sets.get_mut(&key) else { return };
        let (world, mut capacity) = (self.world, set.capacity.subscribe());
        let asked = key.clone();
        let (next, handle) = abortable(async move { world.sets().listen(&asked, &mut capacity).await });
        set.listening = Some(handle);
        self.effects.start(async move {
            match next.await {
                Ok(result) => Outcome::Heard { key, result },
                Err(_) => Outcome::Nothing,
            }
        });
    }

    /// The controller stops: no more news is waited for, and the sessions are given back.
    pub fn release(&mut self) {
        self.stopping = true;
        for (key, set) in self.sets.iter_mut().filter(|(_, set)| set.mode == Mode::Open) {
            set.mode = Mode::Released;
            if let Some(listening) = set.listening.take() {
                listening.abort();
            }
            self.releasing += 1;
            let (world, key) = (self.world, key.clone());
            self.effects.start(async move {
                let result = tokio::time::timeout(RELEASE, world.sets().release(&key)).await;
                if let Ok(Err(error)) = &result {
                    warn!(%error, "{key}: its session could not be ended");
                }
                Outcome::Released
            });
        }
    }

    /// Sessions are being given back.
    pub fn is_releasing(&self) -> bool {
        self.releasing > 0
    }

    /// Repositories of this place are polled for queued jobs: not all its classes are served by sets.
    pub fn is_polled(&self, scope: &str, intake: &Intake<'w, W>) -> bool {
        let Some(target) = intake.target_of(scope) else { return true };
        let mut classes = self.settings.classes.keys().filter(|class| target.has_class(class));
        classes.any(|class| {
            let key = SetKey { class: class.clone(), scope: scope.to_owned() };
            self.sets.get(&key).is_none_or(|set| set.mode != Mode::Open)
        })
    }

    /// The job that a container of this set about to be booted is for: the one that has waited longest and for which
    /// none of `spare` containers is there or on its way. GitHub may give the container another; this one is why it is
    /// booted.
    pub fn next_job(&self, key: &SetKey, spare: usize, intake: &Intake<'w, W>) -> Option<&Assignment> {
        let waiting = self.sets.get(key)?.assignments.waiting();
        waiting.into_iter().filter(|job| !intake.refuses(&key.scope, job)).nth(spare)
    }

    /// Waiting assignments that are not to be run.
    fn refused_of(&self, key: &SetKey, set: &Set, intake: &Intake<'w, W>) -> usize {
        set.waiting().filter(|job| intake.refuses(&key.scope, job)).count()
    }

    /// No set has a job that is to be run.
    pub fn is_idle(&self, intake: &Intake<'w, W>) -> bool {
        self.sets.iter().all(|(key, set)| set.assigned() <= self.refused_of(key, set, intake))
    }

    /// Places of the sets.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(|key| key.scope.as_str())
    }

    /// Places of sets that have jobs.
    pub fn busy_scopes(&self) -> impl Iterator<Item = &str> {
        let busy = self.sets.iter().filter(|(_, set)| set.assignments.open().next().is_some());
        busy.map(|(key, _)| key.scope.as_str())
    }

    /// The sets as planning sees them.
    pub fn views(&self, intake: &Intake<'w, W>, now: Now) -> Vec<SetView> {
        let since = |at| now.mono - (now.wall - Wall::from_epoch(at));
        let view = |(key, set): (&SetKey, &Set)| {
            let counted = set.assignments.wanted(0, u32::MAX, now.wall.since_epoch()).launch_up_to as usize;
            let heard = set.as_of.is_some();
            let oldest = set.assignments.open().map(|(_, job)| job.assigned_at).min();
            let (mut waiting, mut first) = (BTreeMap::<u64, usize>::new(), None);
            for job in set.waiting() {
                first = first.into_iter().chain([job.assigned_at]).min();
                *waiting.entry(job.run_id).or_default() += 1;
            }
            SetView {
                class: key.class.clone(),
                scope: key.scope.clone(),
                // Nothing is launched on the word of an earlier life.
                assigned: if heard { counted.saturating_sub(self.refused_of(key, set, intake)) } else { 0 },
                oldest: oldest.map(since),
                waiting_since: first.map(since),
                as_of: set.as_of,
                ended: set.ended.iter().filter(|at| now.mono - **at < STILL_COUNTED).count(),
                waiting,
                room_since: set.room_since,
            }
        };
        self.sets.iter().filter(|(_, set)| set.mode == Mode::Open).map(view).collect()
    }

    /// Tells the forge how many jobs of each set we can take, as soon as that changes. `room` = those that could be run at
    /// once, by class and scope.
    pub fn promise(&mut self, room: &BTreeMap<(String, String), usize>, intake: &Intake<'w, W>, now: Now) {
        let mut told = Vec::new();
        for (key, set) in &self.sets {
            let room = room.get(&(key.class.clone(), key.scope.clone())).copied().unwrap_or_default();
            // A refused job takes nobody's place.
            let beside = if room > 0 { self.refused_of(key, set, intake).min(REFUSED_BESIDE) } else { 0 };
            told.push(u32::try_from(room + beside).unwrap_or(u32::MAX));
        }
        for (set, capacity) in self.sets.values_mut().zip(told) {
            set.told(capacity, now.mono);
        }
    }

    /// Repositories that REST is to be asked about: what messages lost shows where jobs are assigned for long, and what
    /// was dropped where one was.
    pub fn doubtful(&self, now: Now) -> BTreeSet<String> {
        let since = |at| now.wall - Wall::from_epoch(at);
        let old = |job: &&Assignment| since(job.assigned_at) > OLD;
        let recent = |job: &&Assignment| job.void_since().is_some_and(|at| since(at) < DROPPED);
        let assigned = self.sets.values().flat_map(|set| set.assignments.open().map(|(_, job)| job).filter(old));
        let dropped = self.sets.values().flat_map(|set| set.assignments.jobs().values().filter(recent));
        assigned.chain(dropped).map(|job| job.repository.clone()).collect()
    }

    /// A container of a set ended with its job.
    pub fn ended_with_job(&mut self, key: &SetKey, now: Now) {
        if let Some(set) = self.sets.get_mut(key) {
            set.ended.push(now.mono);
        }
    }
}
