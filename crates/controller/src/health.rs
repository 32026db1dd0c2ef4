//! Health: how things are, put together from what each part says of itself, and told to whoever listens.

use tokio::sync::watch;

use super::{
    incident::{Incident, Incidents},
    parts::Parts,
    plan::Plan,
    ports::World,
    reason::explain,
    status::{Pruned, Status},
    time::Now,
};

/// Told what the status was, and what it is.
type Observer<'w> = Box<dyn FnMut(&Status, &Status) + 'w>;

/// The status, and who is told of it.
pub struct Health<'w> {
    host: String,
    observer: Option<Observer<'w>>,
    status: watch::Sender<Status>,
    incidents: Incidents,
}

impl<'w> Health<'w> {
    /// `host` = the host part of runner names.
    pub fn new(host: String, status: watch::Sender<Status>) -> Self {
        Self { host, observer: None, status, incidents: Incidents::default() }
    }

    /// Tells `observer` of every change of the status: what it was before, and what it is.
    pub fn observed_by(&mut self, observer: impl FnMut(&Status, &Status) + 'w) {
        self.observer = Some(Box::new(observer));
    }

    /// Tells how things are now.
    pub fn publish<W: World>(&mut self, parts: &Parts<'w, W>, plan: &Plan, stopping: bool, now: Now) {
        let wrong = wrong(parts, now);
        self.incidents.follow(&wrong, now);
        let status = self.with_problems(parts, plan, wrong, stopping, now);
        if let Some(observer) = &mut self.observer {
            observer(&self.status.borrow(), &status);
        }
        self.status.send_replace(status);
    }

    /// How things are now.
    pub fn status<W: World>(&self, parts: &Parts<'w, W>, plan: &Plan, stopping: bool, now: Now) -> Status {
        self.with_problems(parts, plan, wrong(parts, now), stopping, now)
    }

    fn with_problems<W: World>(
        &self,
        parts: &Parts<'w, W>,
        plan: &Plan,
        wrong: Vec<(Incident, String)>,
        stopping: bool,
        now: Now,
    ) -> Status {
        let Parts { settings, intake, sets, classes, fleet, strain } = parts;
        let scopes: Vec<&str> = fleet.scopes().collect();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            updated_ms: now.wall.as_millis(),
            rounds: now.round,
            intake: !stopping && !classes.host_is_drained(),
            drained: classes.host_is_drained(),
            active_containers: fleet.active_shown(intake),
            max_concurrent: settings.max_concurrent,
            poll_interval_seconds: settings.poll_interval.as_secs(),
            job_timeout_seconds: settings.job_timeout.as_secs(),
            targets: intake.targets_shown(&scopes, |target| sets.intakes_of(target, intake), now),
            credentials: intake.credentials_shown(now),
            repositories: intake.repositories_shown(now),
            scopes: intake.scopes_shown(&scopes, now),
            sets: sets.shown(intake, now),
            classes: classes.shown(&fleet.count_by_class(), now),
            breakers: classes.breakers(now).chain(intake.breakers(now)).collect(),
            queue: intake.queue_shown(&plan.waiting, &classes.views(now), stopping, now),
            settling: fleet.settling_shown(),
            finished: fleet.finished(),
            // Filled in by whoever serves the document: deliveries do not pass the loop.
            webhook: None,
            strains: strain.strains().to_vec(),
            pruned_bytes: strain.prunings().freed_bytes,
            prunings: strain.prunings().last.iter().map(Pruned::from).collect(),
            problems: wrong.into_iter().map(|(_, problem)| problem).collect(),
            incidents: self.incidents.shown(),
        };
        explain(&mut status);
        status
    }
}

/// All that is wrong, and what kind of incident it is. Each begins with what it is about.
fn wrong<W: World>(parts: &Parts<'_, W>, now: Now) -> Vec<(Incident, String)> {
    let Parts { intake, sets, classes, fleet, strain, .. } = parts;
    let mut wrong = intake.problems(now);
    let mut add = |incident, problems: Vec<String>| wrong.extend(problems.into_iter().map(|text| (incident, text)));
    add(Incident::TargetUnseen, sets.problems(intake, now));
    add(Incident::BootFails, classes.problems(now));
    add(Incident::RunnerVersion, classes.outdated(now).collect());
    add(Incident::HostServices, fleet.problems());
    wrong.extend(strain.strains().iter().map(|strain| (strain.of.incident(), strain.to_string())));
    wrong
}
