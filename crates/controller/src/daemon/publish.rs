//! Telling how things are.

use std::time::{Duration, UNIX_EPOCH};

use forge::{Forge, RateLimit, SetKey};
use settings::TargetKind;

use super::{
    Daemon,
    repositories::Repository,
    sets::{HELD, Mode, Set},
    targets::Target,
};
use crate::{
    container::Container,
    edges::World,
    plan::{JobView, ScopeView, Waiting, class_for},
    reason::explain,
    status::{
        ActiveContainer, ClassStatus, CredentialStatus, IntakeStatus, PausedBy, QueuedJob, REPOSITORIES_SHOWN,
        RateLimitStatus, RepositoryStatus, ScopeStatus, SetStatus, Settling, Status, TargetStatus, WaitingFor,
    },
};

/// A clock this many seconds off is told as a problem: at a minute, GitHub refuses what an App signs.
const CLOCK_OFF: f64 = 30.0;
/// How long after its last activity a repository is told about.
const RECENT: Duration = Duration::from_secs(3600);

impl<W: World> Daemon<'_, W> {
    pub(super) fn publish(&mut self) {
        let status = self.current();
        if let Some(observer) = &mut self.observer {
            observer(&self.status.borrow(), &status);
        }
        self.status.send_replace(status);
    }

    pub(super) fn current(&self) -> Status {
        let wall_ms = self.wall_ms();
        let (ended, live): (Vec<_>, Vec<_>) = self.containers.values().partition(|c| c.has_ended());
        let active_containers = live
            .iter()
            .map(|container| {
                let record = &container.record;
                ActiveContainer {
                    name: record.name.to_string(),
                    job_id: record.took.or(record.job_id),
                    job_name: record.job_name.clone(),
                    running_seconds: 0,
                    phase: container.phase,
                    class: record.class.clone(),
                    repo: record.repository().unwrap_or(&record.scope).to_owned(),
                    target: self.target_of(&record.scope).map_or(String::new(), |t| t.settings.name.clone()),
                    scope: record.scope.clone(),
                    set: record.set,
                    subnet: record.subnet.to_string(),
                    runner_name: record.runner_name.clone(),
                    runner_id: record.runner_id,
                    // Filled in by whoever serves the document, as of then.
                    memory: None,
                    cpu_us: None,
                    timeline: record.timeline.clone(),
                }
            })
            .collect();
        let classes = self
            .settings
            .classes
            .values()
            .map(|class| (class, self.runner_of(&class.name)))
            .map(|(class, runner)| ClassStatus {
                name: class.name.clone(),
                labels: class.labels.clone(),
                active: live.iter().filter(|c| c.record.class == class.name).count(),
                max_concurrent: class.max_concurrent,
                privileged: class.privileged,
                held_until_ms: self
                    .classes
                    .iter()
                    .find(|view| view.name == class.name)
                    .and_then(|view| self.wall_of(view.held_until)),
                drained: self.drains.classes.contains(&class.name),
                cpus: class.cpus,
                memory: class.memory,
                timeout_seconds: class.timeout.as_secs(),
                boot_failures: self.class_failures.get(&class.name).map_or(0, |failures| failures.in_a_row),
                runner_version: runner.version,
                runner_deprecated_in_days: runner.days_left,
                outdated: runner.outdated,
            })
            .collect();
        let mut queue: Vec<QueuedJob> = self
            .repositories
            .iter()
            .flat_map(|(repo, repository)| repository.queued.iter().map(move |job| (repo, repository, job)))
            .filter_map(|(repo, repository, job)| {
                let seen = repository.seen.get(&job.id)?;
                let waiting = self.plan.waiting.get(&(repo.clone(), job.id))?;
                Some(QueuedJob {
                    repo: repo.clone(),
                    job_id: job.id,
                    name: seen.name.clone(),
                    labels: job.labels.clone(),
                    class: self.class_of(job),
                    waiting: match waiting {
                        Waiting::Drained if self.stopping_since.is_some() => WaitingFor::Intake,
                        waiting => (*waiting).into(),
                    },
                    reason: String::new(),
                    ahead: 0,
                    refusal: match seen.refusal {
                        Some(refusal) => Some(refusal.to_string()),
                        None => self.excluded(job, self.now()).map(|exclusion| exclusion.told(repo)),
                    },
                    visible_ms: seen.visible_ms,
                    waiting_seconds: 0,
                })
            })
            .collect();
        queue.extend(self.held_back());
        let settling = ended
            .iter()
            .map(|container| Settling {
                name: container.record.name.to_string(),
                runner_name: container.record.runner_name.clone(),
                tries: container.settle_tries,
            })
            .collect();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            updated_ms: wall_ms,
            rounds: self.rounds,
            intake: self.stopping_since.is_none() && !self.drains.host,
            drained: self.drains.host,
            active_containers,
            max_concurrent: self.settings.max_concurrent,
            poll_interval_seconds: self.settings.poll_interval.as_secs(),
            job_timeout_seconds: self.settings.job_timeout.as_secs(),
            targets: self.targets_shown(&live),
            credentials: self.credentials_shown(wall_ms),
            repositories: self.repositories_shown(),
            scopes: self.scopes_shown(&live),
            sets: self.sets_shown(),
            classes,
            queue,
            settling,
            finished: self.finished.iter().cloned().collect(),
            // Filled in by whoever serves the document: deliveries do not pass the loop.
            webhook: None,
            problems: self.problems(),
        };
        explain(&mut status);
        status
    }

    /// Jobs that the forge does not let go yet.
    fn held_back(&self) -> impl Iterator<Item = QueuedJob> {
        let all = self
            .repositories
            .iter()
            .flat_map(|(repo, repository)| repository.held_back.iter().map(move |job| (repo, job)));
        all.map(|(repo, job)| QueuedJob {
            repo: repo.clone(),
            job_id: job.id,
            name: job.name.clone(),
            labels: job.labels.clone(),
            class: None,
            waiting: WaitingFor::Approval,
            reason: String::new(),
            ahead: 0,
            refusal: None,
            visible_ms: job.visible_ms,
            waiting_seconds: 0,
        })
    }

    /// The class that serves a job.
    pub(super) fn class_of(&self, job: &JobView) -> Option<String> {
        let target = self.target_of(&job.scope)?;
        let scope = ScopeView {
            name: job.scope.clone(),
            target: target.settings.name.clone(),
            held_until: None,
            looked_at: None,
            classes: target.settings.classes.iter().cloned().collect(),
        };
        class_for(&self.classes, &scope, &job.labels).map(|class| class.name.clone())
    }

    /// A time to come, by the wall clock.
    fn wall_of(&self, at: Option<Duration>) -> Option<u64> {
        let left = at?.checked_sub(self.now())?;
        Some(self.wall_ms() + u64::try_from(left.as_millis()).ok()?)
    }

    fn targets_shown(&self, live: &[&Container]) -> Vec<TargetStatus> {
        let shown = |target: &Target| {
            let name = &target.settings.name;
            let own = || self.repositories.values().filter(move |repository| repository.target == *name);
            // Of an explicit repository, its looks tell how it goes; of the others, their listing.
            let itself = self.repositories.get(name);
            TargetStatus {
                repo: name.clone(),
                kind: target.settings.kind.into(),
                credential: target.settings.credential.clone(),
                repositories: own().count(),
                quarantined: own().filter(|repository| repository.quarantine.is_some()).count(),
                discovered_ms: target.discovered_ms,
                priority: target.settings.priority,
                weight: target.settings.weight,
                max_concurrent: target.settings.max_concurrent,
                active: live.iter().filter(|container| self.serves(&container.record.scope, name)).count(),
                queued: own().map(|repository| repository.queued.len()).sum(),
                last_poll_ms: own().filter_map(|repository| repository.looked_ms).max(),
                last_poll_age_seconds: None,
                failures: itself.map_or(target.failures, |repository| repository.failures),
                last_error: itself
                    .and_then(|repository| repository.last_error.clone())
                    .or_else(|| self.scopes.get(name)?.last_error.clone())
                    .or_else(|| target.last_error.clone()),
                rate_limit: self.world.forge().rate_limit(name).map(limit_shown),
                intake: self.intakes_of(target),
            }
        };
        self.settings.targets.iter().filter_map(|settings| self.targets.get(&settings.name)).map(shown).collect()
    }

    /// A runner registered with `scope` serves `target`.
    fn serves(&self, scope: &str, target: &str) -> bool {
        self.target_of(scope).is_some_and(|found| found.settings.name == *target)
    }

    fn credentials_shown(&self, wall_ms: u64) -> Vec<CredentialStatus> {
        let now = self.now();
        let shown = |settings: &settings::Credential| {
            let state = self.credentials.get(&settings.name)?;
            let serves = |target: &&Target| target.settings.credential == settings.name;
            let limits = self
                .targets
                .values()
                .filter(serves)
                .filter_map(|target| self.world.forge().rate_limit(&target.settings.name));
            let left = state.paused_until.filter(|until| *until > now).map(|until| until - now);
            let traffic = self.world.forge().traffic(&settings.name);
            Some(CredentialStatus {
                name: settings.name.clone(),
                share: settings.share,
                rate_limit: limits.min_by_key(|limit| limit.remaining).map(limit_shown),
                paused_until_ms: left.map(|left| wall_ms + u64::try_from(left.as_millis()).unwrap_or_default()),
                paused_by: left.map(|_| state.paused_by),
                repositories: self
                    .repositories
                    .values()
                    .filter(|repository| self.credential_of(&repository.target) == Some(&settings.name))
                    .count(),
                calls_per_look: state.cost,
                calls: traffic.calls,
                clock_offset_ms: traffic.clock_offset.map(|seconds| (seconds * 1000.0).round() as i64),
            })
        };
        self.settings.credentials.values().filter_map(shown).collect()
    }

    fn repositories_shown(&self) -> Vec<RepositoryStatus> {
        let now = self.now();
        let goes_on = |repository: &Repository| {
            repository.failures > 0
                || repository.quarantine.is_some()
                || repository.active_at.is_some_and(|at| now.saturating_sub(at) < RECENT)
        };
        self.repositories
            .iter()
            .filter(|(_, repository)| goes_on(repository))
            .take(REPOSITORIES_SHOWN)
            .map(|(name, repository)| RepositoryStatus {
                repo: name.clone(),
                target: repository.target.clone(),
                queued: repository.queued.len(),
                last_poll_ms: repository.looked_ms,
                poll_interval_seconds: repository.interval.as_secs(),
                failures: repository.failures,
                last_error: repository.last_error.clone(),
                quarantine: repository.quarantine.clone(),
            })
            .collect()
    }

    fn scopes_shown(&self, live: &[&Container]) -> Vec<ScopeStatus> {
        let active = |name: &str| live.iter().filter(|container| container.record.scope == name).count();
        self.scopes
            .iter()
            .map(|(name, place)| ScopeStatus {
                name: name.clone(),
                target: place.target.clone(),
                active: active(name),
                failures: place.mint_failures,
                last_error: place.last_error.clone(),
                held_until_ms: self.wall_of(place.held_until),
            })
            .filter(|scope| scope.active > 0 || scope.failures > 0)
            .collect()
    }

    fn sets_shown(&self) -> Vec<SetStatus> {
        let now = self.now();
        let shown = |(key, set): (&SetKey, &Set)| {
            let counts = set.assignments.statistics();
            let (intake, reason) = match &set.mode {
                Mode::Open | Mode::Released => (IntakeStatus::ScaleSet, set.last_error.clone()),
                Mode::Opening | Mode::Refused(_) | Mode::Unavailable(_) if self.needs_set(key) => {
                    (IntakeStatus::None, set.last_error.clone())
                }
                Mode::Opening => (IntakeStatus::Polling, None),
                Mode::Refused(why) | Mode::Unavailable(why) => (IntakeStatus::Polling, Some(why.clone())),
            };
            SetStatus {
                class: key.class.clone(),
                scope: key.scope.clone(),
                intake,
                reason,
                heard_age_seconds: set.as_of.map(|at| now.saturating_sub(at).as_secs()),
                capacity: *set.capacity.borrow(),
                assigned: counts.assigned_jobs,
                running: counts.running_jobs,
                refused: self.refused_of(key, set),
            }
        };
        self.sets.iter().map(shown).collect()
    }

    /// What an operator should know: each with the thing's name and what was last said about it. Times are those of a
    /// clock, since what is told anew each second is no news.
    fn problems(&self) -> Vec<String> {
        let now = self.now();
        let mut problems = Vec::new();
        for (name, credential) in &self.credentials {
            if credential.paused_until.is_some_and(|until| until > now) {
                let until = clock(credential.paused_until_wall);
                problems.push(match credential.paused_by {
                    PausedBy::Forge => {
                        format!("credential {name}: the forge's rate limit is reached; paused until {until}")
                    }
                    PausedBy::Share => format!(
                        "credential {name}: its share of the rate limit is used up, not the limit itself; paused until \
                         {until}. Remedy: a larger credential.{name}.share, or fewer targets with it"
                    ),
                });
            }
        }
        for name in self.settings.credentials.keys() {
            let offset = self.world.forge().traffic(name).clock_offset.filter(|offset| offset.abs() > CLOCK_OFF);
            problems.extend(offset.map(|offset| {
                let way = if offset > 0.0 { "behind" } else { "ahead of" };
                format!(
                    "clock: this host's is more than {CLOCK_OFF} s {way} that of credential {name}'s forge. Remedy: let \
                     it be set by the network: timedatectl set-ntp true"
                )
            }));
        }
        for target in self.targets.values() {
            problems.extend(self.problem_of(target, now));
        }
        for (name, place) in self.scopes.iter().filter(|(_, place)| place.mint_failures > 0) {
            let error = place.last_error.as_deref().unwrap_or("no reason known");
            problems.push(format!("{name}: runners cannot be registered: {error}"));
        }
        problems.extend(self.exclusions(now));
        for (key, set) in &self.sets {
            let failing = set.failing_since.filter(|(since, _)| now.saturating_sub(*since) > HELD);
            let error = set.last_error.as_deref().unwrap_or("no reason known");
            match (&set.mode, failing) {
                (Mode::Refused(why) | Mode::Unavailable(why), _) if self.needs_set(key) => {
                    problems.push(format!("{key}: cannot be had, and nothing else is allowed: {why}"));
                }
                // After a crash the session is our own for some minutes.
                (Mode::Open, Some((_, since))) => {
                    problems.push(format!("{key}: not heard since {}: {error}", clock(since)));
                }
                _ => {}
            }
        }
        for (class, failures) in &self.class_failures {
            problems.push(failures.problem(class));
        }
        if let Some(error) = &self.history_error {
            problems.push(format!("history: ended jobs cannot be written down; jobs go on: {error}"));
        }
        problems.extend(self.outdated());
        if let Some(error) = &self.systemd_error {
            problems.push(format!("systemd: {error}"));
        }
        problems
    }

    /// A named repository must be seen; of an organisation or account, the list, and not all of it must fail.
    fn problem_of(&self, target: &Target, now: Duration) -> Option<String> {
        let name = &target.settings.name;
        if target.settings.kind == TargetKind::Repository {
            let repository = self.repositories.get(name)?;
            let age = now.saturating_sub(repository.looked_at.unwrap_or_default());
            let late = (repository.interval.max(self.settings.poll_interval) * 3).max(Duration::from_secs(60));
            let error = repository.last_error.as_deref().unwrap_or("no answer yet");
            return match repository.looked_at {
                _ if repository.quarantine.is_some() => Some(format!("{name}: cannot be served: {error}")),
                None if repository.failures > 0 => Some(format!("{name}: no successful poll yet: {error}")),
                Some(_) if age > late => {
                    let looked = clock(Duration::from_millis(repository.looked_ms.unwrap_or_default()));
                    Some(format!("{name}: no successful poll since {looked}: {error}"))
                }
                _ => None,
            };
        }
        if let Some(error) = target.last_error.as_ref().filter(|_| target.failures > 1) {
            return Some(format!("{name}: its repositories cannot be listed: {error}"));
        }
        let own = || self.repositories.values().filter(|repository| repository.target == *name);
        let failing = own().filter(|repository| repository.failures > 1 || repository.quarantine.is_some()).count();
        let error = own().find_map(|repository| repository.last_error.as_deref())?;
        (failing > 0 && failing == own().count())
            .then(|| format!("{name}: none of its {failing} repositories can be looked at: {error}"))
    }
}

/// A time since the Unix epoch, as people write it.
fn clock(wall: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + wall).to_string()
}

fn limit_shown(limit: RateLimit) -> RateLimitStatus {
    RateLimitStatus { limit: limit.limit, remaining: limit.remaining, reset: limit.reset }
}
