//! What documents show of jobs and of where they come from, and what is wrong there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forge::{Forge, RateLimit};
use settings::{TargetKind, token_file::SecretFile};

use super::{
    Intake, credentials::CredentialState, groups::Exclusion, repositories::WatchedRepository, targets::TargetState,
};
use crate::{
    incident::Incident,
    plan::{ClassView, JobView, Waiting},
    ports::World,
    status::{
        ClassIntake, CredentialStatus, PausedBy, QueuedJob, REPOSITORIES_SHOWN, RateLimitStatus, RepositoryStatus,
        ScopeStatus, TargetStatus, WaitingFor,
    },
    time::{Mono, Now, Wall},
};

/// A clock this many seconds off is told as a problem: at a minute, GitHub refuses what an App signs.
const CLOCK_OFF: f64 = 30.0;
/// A credential that ends in less than so many days is told as a problem.
const ENDS_SOON: i64 = 14;
/// How long after its last activity a repository is told about.
const RECENT: Duration = Duration::from_secs(3600);

impl<W: World> Intake<'_, W> {
    /// The targets. `scopes` = the place of each container there is; `intakes` = how the jobs of a target are found.
    pub fn targets_shown(
        &self,
        scopes: &[&str],
        intakes: impl Fn(&settings::Target) -> Vec<ClassIntake>,
        now: Now,
    ) -> Vec<TargetStatus> {
        let shown = |target: &TargetState| {
            let name = &target.settings.name;
            let own = || self.repositories.values().filter(move |repository| repository.target == *name);
            let serves = |scope: &&&str| self.target_of(scope).is_some_and(|found| found.name == *name);
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
                active: scopes.iter().filter(serves).count(),
                queued: own().map(|repository| repository.queued.len()).sum(),
                last_poll_ms: own().filter_map(|repository| repository.looked_ms).max(),
                last_poll_age_seconds: None,
                failures: itself.map_or(target.failures, |repository| repository.failures),
                last_error: itself
                    .and_then(|repository| repository.last_error.clone())
                    .or_else(|| self.places.get(name)?.last_error(now.mono).map(str::to_owned))
                    .or_else(|| target.last_error.clone()),
                rate_limit: self.world.forge().rate_limit(name).map(limit_shown),
                intake: intakes(&target.settings),
            }
        };
        self.settings.targets.iter().filter_map(|settings| self.targets.get(&settings.name)).map(shown).collect()
    }

    /// The credentials.
    pub fn credentials_shown(&self, now: Now) -> Vec<CredentialStatus> {
        let shown = |settings: &settings::Credential| {
            let state = self.credentials.get(&settings.name)?;
            let serves = |target: &&TargetState| target.settings.credential == settings.name;
            let limits = self
                .targets
                .values()
                .filter(serves)
                .filter_map(|target| self.world.forge().rate_limit(&target.settings.name));
            let paused = state.paused_until.filter(|until| *until > now.mono).map(|until| (until, state.paused_by));
            let refused = state.breaker.held_until().filter(|until| *until > now.mono);
            let paused = paused.or(refused.map(|until| (until, PausedBy::Breaker)));
            let traffic = self.world.forge().traffic(&settings.name);
            let standing = self.world.forge().standing(&settings.name);
            Some(CredentialStatus {
                name: settings.name.clone(),
                share: settings.share,
                rate_limit: limits.min_by_key(|limit| limit.remaining).map(limit_shown),
                paused_until_ms: now.wall_ms_of(paused.map(|(until, _)| until)),
                paused_by: paused.map(|(_, by)| by),
                repositories: self
                    .repositories
                    .values()
                    .filter(|repository| self.credential_of(&repository.target) == Some(&settings.name))
                    .count(),
                calls_per_look: state.cost,
                calls: traffic.calls,
                clock_offset_ms: traffic.clock_offset.map(|seconds| (seconds * 1000.0).round() as i64),
                ends_ms: standing.ends_at.map(|at| Wall::from_epoch(at).as_millis()),
                ends_in_days: standing.ends_at.map(|at| days_until(at, now)),
                refused: standing.refused,
                lacks: standing.lacks,
            })
        };
        self.settings.credentials.values().filter_map(shown).collect()
    }

    /// Repositories where something goes on.
    pub fn repositories_shown(&self, now: Now) -> Vec<RepositoryStatus> {
        let goes_on = |repository: &WatchedRepository| {
            repository.failures > 0
                || repository.quarantine.is_some()
                || repository.active_at.is_some_and(|at| now.mono - at < RECENT)
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

    /// Places with containers, or where registrations fail. `scopes` = the place of each container there is.
    pub fn scopes_shown(&self, scopes: &[&str], now: Now) -> Vec<ScopeStatus> {
        self.places
            .iter()
            .map(|(name, place)| ScopeStatus {
                name: name.clone(),
                target: place.target.clone(),
                active: scopes.iter().filter(|scope| *scope == name).count(),
                failures: if place.is_failing(now.mono) { place.breaker.failures(now.mono) } else { 0 },
                last_error: place.last_error(now.mono).map(str::to_owned),
                held_until_ms: now.wall_ms_of(place.breaker.held_until()),
            })
            .filter(|scope| scope.active > 0 || scope.failures > 0)
            .collect()
    }

    /// The queued jobs, and what each waits for by the last plan; last those that the forge does not let go yet.
    pub fn queue_shown(
        &self,
        plan: &BTreeMap<(String, u64), Waiting>,
        classes: &[ClassView],
        stopping: bool,
        now: Now,
    ) -> Vec<QueuedJob> {
        let jobs =
            self.repositories.iter().flat_map(|(repo, known)| known.queued.iter().map(move |job| (repo, known, job)));
        let queued = jobs.filter_map(|(repo, repository, job)| {
            let seen = repository.seen.get(&job.id)?;
            let waiting = plan.get(&(repo.clone(), job.id))?;
            Some(QueuedJob {
                repo: repo.clone(),
                job_id: job.id,
                name: seen.name.clone(),
                labels: job.labels.clone(),
                class: self.class_of(classes, job),
                waiting: match waiting {
                    Waiting::Drained if stopping => WaitingFor::Intake,
                    waiting => (*waiting).into(),
                },
                reason: String::new(),
                ahead: 0,
                refusal: match seen.refusal {
                    Some(refusal) => Some(refusal.to_string()),
                    None => self.excluded(job, now.mono).map(|exclusion| exclusion.told(repo)),
                },
                visible_ms: seen.visible_ms,
                waiting_seconds: 0,
            })
        });
        let held =
            self.repositories.iter().flat_map(|(repo, known)| known.held_back.iter().map(move |job| (repo, job)));
        let held = held.map(|(repo, job)| QueuedJob {
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
        });
        queued.chain(held).collect()
    }

    /// What an operator should know of it: each with the thing's name and what was last said about it. Times are those
    /// of a clock, since what is told anew each second is no news.
    pub fn problems(&self, now: Now) -> Vec<(Incident, String)> {
        let mut problems = Vec::new();
        let mut add = |incident, problem| problems.push((incident, problem));
        for (name, CredentialState { paused_until, paused_until_wall: until, paused_by, .. }) in &self.credentials {
            if paused_until.is_some_and(|until| until > now.mono) {
                let limited = match paused_by {
                    PausedBy::Forge | PausedBy::Breaker => {
                        format!("credential {name}: the forge's rate limit is reached; paused until {until}")
                    }
                    PausedBy::Share => format!(
                        "credential {name}: its share of the rate limit is used up, not the limit itself; paused until \
                         {until}. Remedy: a larger credential.{name}.share, or fewer targets with it"
                    ),
                };
                add(Incident::RateLimit, limited);
            }
        }
        for name in self.settings.credentials.keys() {
            let offset = self.world.forge().traffic(name).clock_offset.filter(|offset| offset.abs() > CLOCK_OFF);
            if let Some(offset) = offset {
                let way = if offset > 0.0 { "behind" } else { "ahead of" };
                let off = format!(
                    "clock: this host's is more than {CLOCK_OFF} s {way} that of credential {name}'s forge. Remedy: let \
                     it be set by the network: timedatectl set-ntp true"
                );
                add(Incident::Clock, off);
            }
            let standing = self.world.forge().standing(name);
            let renewed =
                format!("write a new one into {}, then: systemctl reload gha-runner-controller", self.secret(name));
            if let Some(said) = standing.refused {
                let next =
                    self.credentials.get(name).map(|state| state.breaker.wait_told(now.mono)).unwrap_or_default();
                add(
                    Incident::Credential,
                    format!("credential {name}: the forge refuses it: {said}{next}. Remedy: {renewed}"),
                );
            } else if let Some(at) = standing.ends_at.filter(|at| days_until(*at, now) < ENDS_SOON) {
                let at = Wall::from_epoch(at);
                add(
                    Incident::Credential,
                    format!("credential {name}: the forge takes it until {at}. Remedy: {renewed}"),
                );
            }
        }
        for target in self.targets.values() {
            if let Some(unseen) = self.problem_of(target, now.mono) {
                add(Incident::TargetUnseen, unseen);
            }
        }
        for (name, place) in self.places.iter().filter(|(_, place)| place.is_failing(now.mono)) {
            let (cause, next) = (place.breaker.cause(), place.breaker.told(now.mono));
            add(Incident::Registration, format!("{name}: runners cannot be registered: {cause}{next}"));
        }
        problems.extend(self.exclusions(now.mono).into_iter().map(|kept| (Incident::JobsKept, kept)));
        problems
    }

    /// The file with the secret of this credential.
    fn secret(&self, credential: &str) -> String {
        let known = self.settings.credentials.get(credential);
        known.map(|known| SecretFile::of_credential(known).path.display().to_string()).unwrap_or_default()
    }

    /// A named repository must be seen; of an organisation or account, the list, and not all of it must fail.
    fn problem_of(&self, target: &TargetState, now: Mono) -> Option<String> {
        let name = &target.settings.name;
        if target.settings.kind == TargetKind::Repository {
            let repository = self.repositories.get(name)?;
            let age = now - repository.looked_at.unwrap_or_default();
            let late = (repository.interval.max(self.settings.poll_interval) * 3).max(Duration::from_secs(60));
            let error = repository.last_error.as_deref().unwrap_or("no answer yet");
            return match repository.looked_at {
                _ if repository.quarantine.is_some() => Some(format!("{name}: cannot be served: {error}")),
                None if repository.failures > 0 => Some(format!("{name}: no successful poll yet: {error}")),
                Some(_) if age > late => {
                    let looked = Wall::from_epoch(Duration::from_millis(repository.looked_ms.unwrap_or_default()));
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

    /// Repositories whose jobs no runner of ours is given, and why.
    fn exclusions(&self, now: Mono) -> BTreeSet<String> {
        let told = |(name, job): (&String, &JobView)| {
            // While one is tried again, it is as it was.
            let passed_over =
                || self.seen(&job.repository, job.id).filter(|seen| seen.given_up > 0).map(|_| Exclusion::PassedOver);
            let found = self.excluded(job, now).or_else(passed_over).filter(|found| *found != Exclusion::Asking)?;
            Some(format!("{name}: its jobs get no runner: {}", found.told(name)))
        };
        let jobs = self.repositories.iter().flat_map(|(name, known)| known.queued.iter().map(move |job| (name, job)));
        jobs.filter(|(_, job)| job.blocked.is_none()).filter_map(told).collect()
    }
}

/// Whole days, negative when it is past.
fn days_until(at: Duration, now: Now) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    (seconds(at) - seconds(now.wall.since_epoch())).div_euclid(86_400)
}

fn limit_shown(limit: RateLimit) -> RateLimitStatus {
    RateLimitStatus { limit: limit.limit, remaining: limit.remaining, reset: limit.reset }
}
