//! Looking at repositories for queued jobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::fork_gate;
use forge::{ErrorKind, Forge, ForgeError, Job, JobStatus};
use tracing::{debug, info, warn};

use super::{
    Event, Intake, Outcome,
    repositories::{HeldBack, RunFacts, SeenJob},
};
use crate::{
    pace::spread,
    plan::{Blocked, JobView},
    ports::World,
    time::{Backoff, Mono, Now},
};

/// Longest pause after failed looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Time until a repository that cannot be served is tried again.
const QUARANTINE: Duration = Duration::from_secs(900);
/// Refusals in a row that mean a repository cannot be served: one may be a slip of the forge.
const REFUSALS: u32 = 2;
/// Time between looks where scale sets tell of every job: only to find what they lost.
const UNPOLLED: Duration = Duration::from_secs(3600);
/// Time after a look at which REST is asked again what messages of scale sets may have lost.
const LOOK_AFTER: Duration = Duration::from_secs(60);
/// Least time between looks that hints ask for: a burst of them is one look, and another for what came meanwhile.
const HINT_PAUSE: Duration = Duration::from_secs(1);

impl<W: World> Intake<'_, W> {
    /// Looks at repositories where that is due.
    pub fn look_if_due(&mut self, now: Now) {
        let due: Vec<String> = self
            .repositories
            .iter()
            .filter(|(_, repository)| !repository.looking && repository.next_look <= now.mono)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let target = self.repositories.get(&name).map(|repository| repository.target.clone());
            let rests_until = target.and_then(|target| self.rests_until(&target, now.mono));
            let Some(repository) = self.repositories.get_mut(&name) else { continue };
            if let Some(until) = rests_until {
                // Not all at once when the rest is over.
                repository.next_look = until + Duration::from_secs(10).mul_f64(spread(&name));
                continue;
            }
            repository.looking = true;
            let world = self.world;
            self.effects.start(async move {
                let result = world.forge().look(&name).await;
                Outcome::Looked { repository: name, began: now.mono, result }
            });
        }
    }

    /// Hastens the next look at a repository, at most once in [`HINT_PAUSE`]. A pause after failures stays as it is.
    pub fn look_again(&mut self, repository: &str, now: Now) {
        let found = self.repositories.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(repository));
        let Some((_, repository)) = found.filter(|(_, repository)| repository.failures == 0) else { return };
        let at = match repository.hinted_at {
            // One is on its way, and sees whatever this hint is about.
            Some(pending) if pending > now.mono => pending,
            Some(last) => now.mono.max(last + HINT_PAUSE),
            None => now.mono,
        };
        repository.hinted_at = Some(at);
        repository.next_look = repository.next_look.min(at);
    }

    /// A runner of a place took a job. Where it does not name its job, a look has to show which while it is there.
    pub fn look_who_took(&mut self, scope: &str, now: Now) {
        if self.world.forge().traits_of(scope).tells_of_cancel {
            return;
        }
        let own = self.repositories.values_mut().filter(|repository| repository.scope == scope);
        for repository in own.filter(|repository| repository.failures == 0) {
            repository.hinted_at = Some(now.mono);
            repository.next_look = repository.next_look.min(now.mono);
        }
    }

    /// Hastens the next look at repositories that REST has to show something of.
    pub fn look_after(&mut self, names: &BTreeSet<String>) {
        for name in names {
            let Some(repository) = self.repositories.get_mut(name) else { continue };
            if repository.failures == 0 {
                let due = repository.looked_at.unwrap_or_default() + LOOK_AFTER;
                repository.next_look = repository.next_look.min(due);
            }
        }
    }

    pub(super) fn looked(
        &mut self,
        name: String,
        began: Mono,
        result: Result<Vec<Job>, ForgeError>,
        now: Now,
    ) -> Option<Event> {
        let repository = self.repositories.get_mut(&name)?;
        repository.looking = false;
        let (target, scope) = (repository.target.clone(), repository.scope.clone());
        self.observe_cost(&target, &name);
        match result {
            Ok(jobs) => {
                self.saw(&name, &target, began, &jobs, now);
                Some(Event::Saw { repository: name, scope, began, jobs })
            }
            Err(error) => {
                self.saw_nothing(&name, &target, error, now);
                None
            }
        }
    }

    fn saw_nothing(&mut self, name: &str, target: &str, error: ForgeError, now: Now) {
        let rests = self.rests(target, &error, now);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        // What came while the look was under way asks for another, but not before the pause.
        repository.last_error = Some(error.message.clone());
        if rests {
            repository.next_look = now.mono;
            warn!(repository = name, %error, "{name}: look put off: {error}");
            return;
        }
        repository.failures += 1;
        let failures = repository.failures;
        let lasting = matches!(error.kind, ErrorKind::Quarantined | ErrorKind::NotFound);
        let quarantined = lasting && (failures >= REFUSALS || repository.quarantine.is_some());
        let pause = match quarantined {
            true => QUARANTINE.mul_f64(1.0 + spread(name) / 4.0),
            false => Backoff { first: self.settings.poll_interval, most: LONGEST_PAUSE }.after(failures),
        };
        repository.next_look = now.mono + pause;
        warn!(repository = name, failures, pause_s = pause.as_secs(), %error, "{name}: look failed: {error}");
        if quarantined {
            self.quarantine(name, error.message);
        }
    }

    fn saw(&mut self, name: &str, target: &str, began: Mono, jobs: &[Job], now: Now) {
        self.works(target);
        let wall_ms = now.wall.as_millis();
        // What a runner took since the listing was begun it may still show as queued.
        let listed = began - self.world.forge().traits_of(name).look_age;
        let allow_forks = self.targets.get(target).is_some_and(|target| target.settings.allow_forks);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        if repository.failures > 0 {
            info!(repository = name, "{name}: look succeeded again");
        }
        repository.failures = 0;
        repository.last_error = None;
        repository.quarantine = None;
        repository.looked_at = Some(began);
        repository.looked_ms = Some(wall_ms);
        // An approval may take weeks.
        if jobs.iter().any(|job| job.status != JobStatus::NotReady) {
            repository.active_at = Some(now.mono);
        }
        let facts = |job: &Job| RunFacts { event: job.event.clone(), from_fork: job.from_fork, public: job.public };
        repository.run_facts = jobs.iter().map(|job| (job.run_id, facts(job))).collect();

        let since = |id| repository.held_back.iter().find(|held: &&HeldBack| held.id == id).map(|held| held.visible_ms);
        repository.held_back = jobs
            .iter()
            .filter(|job| job.status == JobStatus::NotReady)
            .map(|job| HeldBack {
                id: job.id,
                name: job.name.clone(),
                labels: job.labels.clone(),
                visible_ms: since(job.id).unwrap_or(wall_ms),
            })
            .collect();
        let mut seen = BTreeMap::new();
        repository.queued.clear();
        for job in jobs.iter().filter(|job| job.status == JobStatus::Queued) {
            let known = repository.seen.remove(&job.id).filter(|known| known.attempt == job.attempt);
            let mut known = known.unwrap_or_else(|| {
                info!(repository = name, job = job.id, name = job.name, labels = ?job.labels, "{name}: job {} is queued", job.id);
                SeenJob {
                    name: job.name.clone(),
                    attempt: job.attempt,
                    handle: job.handle.clone(),
                    queued_ms: job.created_at.and_then(|at| u64::try_from(at.as_millis()).ok()),
                    visible_ms: wall_ms,
                    first_seen: now.mono,
                    refusal: None,
                    public: None,
                    passed_over: 0,
                    passed_first: Mono::START,
                    given_up: 0,
                    given_up_until: Mono::START,
                }
            });
            let public = job.public.or(repository.public);
            known.public = public;
            let refusal = fork_gate::admit(job.event.as_deref(), job.from_fork, public, allow_forks).err();
            if let Some(refusal) = refusal.filter(|refusal| known.refusal != Some(*refusal)) {
                warn!(repository = name, job = job.id, "{name}: job {} is refused: {refusal}", job.id);
            }
            known.refusal = refusal;
            repository.queued.push(JobView {
                id: job.id,
                run_id: job.run_id,
                repository: name.to_owned(),
                scope: repository.scope.clone(),
                labels: job.labels.clone(),
                first_seen: known.first_seen,
                looked_at: listed,
                blocked: known.refusal.map(|_| Blocked::Refused),
            });
            seen.insert(job.id, known);
        }
        debug!(repository = name, queued = repository.queued.len(), took_ms = (now.mono - began).as_millis(), "looked");
        repository.seen = seen;
    }

    /// When a repository that was looked at since `began` is looked at next. `polled` = for its jobs; else scale sets
    /// report all of them.
    pub fn schedule_look(&mut self, name: &str, began: Mono, polled: bool, now: Now) {
        if self.world.forge().traits_of(name).lists_together {
            return self.look_together(name, began);
        }
        let interval = if polled { self.pace_of(name, now.mono) } else { UNPOLLED };
        if let Some(repository) = self.repositories.get_mut(name) {
            // Slow looks drift apart, so that those that began together do not stay together.
            let slow = interval > self.settings.poll_interval * 2;
            let drift = if slow {
                interval.mul_f64(spread(&format!("{name} {}", now.wall.as_millis())) / 8.0)
            } else {
                Duration::ZERO
            };
            repository.interval = interval;
            // A hint that came during the look asks for another at once.
            let hinted = repository.hinted_at.filter(|at| *at > began);
            repository.next_look = hinted.unwrap_or(began + interval + drift);
        }
    }

    /// One listing answers the looks at all repositories of a target: all are looked at in the same moment, and often.
    fn look_together(&mut self, name: &str, began: Mono) {
        let interval = self.settings.poll_interval;
        let Some(repository) = self.repositories.get_mut(name) else { return };
        let rest = (began - Mono::START).as_nanos() % interval.as_nanos().max(1);
        let next = began + interval - Duration::from_nanos(u64::try_from(rest).unwrap_or_default());
        repository.interval = interval;
        repository.next_look = repository.hinted_at.filter(|at| *at > began).unwrap_or(next);
    }
}
