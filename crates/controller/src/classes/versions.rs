//! Runner versions: which each class has, how long the forge serves it, and classes that it does not serve any more.

use std::{collections::BTreeMap, time::Duration};

use forge::{Forge, ForgeError, RunnerDeprecation};
use tracing::{error, info, warn};

use super::{Classes, Outcome};
use crate::runner_version::{self, RETRY_REFUSED, Standing, days_left, standing};
use crate::{
    ports::World,
    time::{Mono, Now},
};

/// Time between two readings of the templates, which may be replaced while the controller runs.
const READ_EVERY: Duration = Duration::from_secs(600);
/// Time between two questions about a version that was answered.
const ASK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Time until a question is asked again that was not.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// After so many jobs in a row in which the forge refused its runner, a class is closed.
const REFUSED_IN_JOBS: u32 = 2;
/// So much longer than others it is closed until it is tried again, since that may cost another job: a day.
const REFUSED_IN_JOBS_SLOWER: u32 = 24;

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Versions {
    classes: BTreeMap<String, ClassVersion>,
    /// By version and the API root of the forge that was asked.
    answers: BTreeMap<(String, String), Answered>,
    next_read: Mono,
}

impl Versions {
    /// How long a version is served: by all forges, so that a class serves each of its targets. None = nobody said.
    fn told(&self, version: &str) -> Option<RunnerDeprecation> {
        let answers = self.answers.iter().filter(|((of, _), _)| of == version).map(|(_, answer)| answer.known);
        let earlier = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        answers.reduce(|a, b| RunnerDeprecation {
            registration: earlier(a.registration, b.registration),
            runtime: earlier(a.runtime, b.runtime),
        })
    }
}

#[derive(Debug, Default)]
struct ClassVersion {
    /// As the template or the operator says.
    written: Option<String>,
    /// As a container's runner said last.
    reported: Option<String>,
    /// Runners of this class that the forge refused in their jobs, one after the other.
    refused_in_jobs: u32,
    /// When the forge last refused a runner of this class.
    refused_at: Option<Mono>,
    standing: Option<Standing>,
    /// The forge would refuse its runner: nothing is booted.
    closed: bool,
}

impl ClassVersion {
    fn is_refused_in_jobs(&self) -> bool {
        self.refused_in_jobs >= REFUSED_IN_JOBS
    }

    fn forget_refusals(&mut self) {
        (self.refused_at, self.refused_in_jobs) = (None, 0);
    }

    fn known(&self) -> Option<&str> {
        self.written.as_deref().or(self.reported.as_deref())
    }
}

#[derive(Debug, Default)]
struct Answered {
    known: RunnerDeprecation,
    next: Mono,
    asking: bool,
}

/// A class's runner, to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct RunnerView {
    pub version: Option<String>,
    pub days_left: Option<i64>,
    pub outdated: bool,
}

impl<W: World> Classes<'_, W> {
    /// Reads and asks what is due, and closes the classes that the forge would refuse.
    pub fn watch_versions(&mut self, now: Now) {
        if now.mono >= self.versions.next_read {
            self.versions.next_read = now.mono + READ_EVERY;
            self.read_versions();
        }
        self.ask_about_versions(now.mono);
        let wall = now.wall.since_epoch();
        let told = |version: &ClassVersion| version.known().and_then(|known| self.versions.told(known));
        let told: Vec<_> = self.versions.classes.values().map(|version| told(version).unwrap_or_default()).collect();
        for ((class, version), known) in self.versions.classes.iter_mut().zip(told) {
            let slower = if version.is_refused_in_jobs() { REFUSED_IN_JOBS_SLOWER } else { 1 };
            let refused_for = version.refused_at.map(|at| (now.mono - at) / slower);
            let stands = standing(known, refused_for, wall);
            if version.standing.replace(stands) != Some(stands) {
                tell(class, version.known(), stands, days_left(known, wall));
            }
            version.closed = match (stands, refused_for) {
                // One more try shows whether it still is so.
                (Standing::Outdated, Some(time)) if known.runtime.is_none_or(|end| end > wall) => time < RETRY_REFUSED,
                (stands, _) => stands == Standing::Outdated,
            };
        }
    }

    /// The forge would refuse the class's runner.
    pub(super) fn is_closed(&self, class: &str) -> bool {
        self.versions.classes.get(class).is_some_and(|version| version.closed)
    }

    fn read_versions(&mut self) {
        for class in self.settings.classes.values() {
            let Some(template) = self.settings.templates.get(&class.template) else { continue };
            let tree = self.world.runner_version(template);
            let version = self.versions.classes.entry(class.name.clone()).or_default();
            let written = runner_version::known(tree.as_deref(), template.runner_version.as_deref(), None);
            if written.is_some() && written != version.written.as_deref() {
                info!(class = class.name, version = written, "runner version");
                // Another program: what was said of the last one counts no more.
                version.forget_refusals();
            }
            version.written = written.map(str::to_owned);
        }
    }

    fn ask_about_versions(&mut self, now: Mono) {
        let known = self.versions.classes.values().filter_map(|version| version.known().map(str::to_owned));
        let forges = self.settings.one_target_of_each_forge();
        let wanted: BTreeMap<(String, String), String> = known
            .flat_map(|version| {
                forges.iter().map(move |(api, target)| ((version.clone(), (*api).to_owned()), target.name.clone()))
            })
            .collect();
        self.versions.answers.retain(|asked, answer| answer.asking || wanted.contains_key(asked));
        for (asked, target) in wanted {
            let answer = self.versions.answers.entry(asked.clone()).or_default();
            if answer.asking || now < answer.next {
                continue;
            }
            answer.asking = true;
            let world = self.world;
            self.effects.start(async move {
                let result = world.forge().runner_deprecation(&target, &asked.0).await;
                Outcome::Deprecation { asked, result }
            });
        }
    }

    /// `asked` = version and forge.
    pub(super) fn deprecation_said(
        &mut self,
        asked: &(String, String),
        result: Result<Option<RunnerDeprecation>, ForgeError>,
        now: Now,
    ) {
        let version = &asked.0;
        let Some(answer) = self.versions.answers.get_mut(asked) else { return };
        answer.asking = false;
        match result {
            Ok(known) => {
                answer.next = now.mono + ASK_EVERY;
                answer.known = known.unwrap_or_default();
                if let Some(days) =
                    days_left(answer.known, now.wall.since_epoch()).filter(|days| *days < runner_version::WARN_DAYS)
                {
                    warn!(version, days, "runner {version}: {days} days until the forge refuses it");
                }
            }
            Err(error) => {
                answer.next = now.mono + ASK_AGAIN;
                warn!(version, %error, "the forge did not say how long it serves this runner version");
            }
        }
    }

    /// A runner said its version, before it listened.
    pub fn runner_said(&mut self, class: &str, version: &str) {
        let known = self.versions.classes.entry(class.to_owned()).or_default();
        known.reported = Some(version.to_owned());
    }

    /// The forge refused a runner of this class for its version.
    pub fn runner_refused(&mut self, class: &str, now: Now) {
        self.versions.classes.entry(class.to_owned()).or_default().refused_at = Some(now.mono);
    }

    /// The forge took a runner of this class.
    pub(super) fn runner_served(&mut self, class: &str) {
        if let Some(version) = self.versions.classes.get_mut(class).filter(|version| !version.is_refused_in_jobs()) {
            version.refused_at = None;
        }
    }

    /// The forge refused a runner of this class in its job, so the runner says, and the job was cancelled. A job can make
    /// it say so; two in a row close the class.
    pub fn runner_refused_in_job(&mut self, class: &str, now: Now) {
        let version = self.versions.classes.entry(class.to_owned()).or_default();
        version.refused_in_jobs += 1;
        if version.is_refused_in_jobs() {
            version.refused_at = Some(now.mono);
        }
    }

    /// A job of this class ran to its end.
    pub fn job_served(&mut self, class: &str) {
        if let Some(version) = self.versions.classes.get_mut(class) {
            version.forget_refusals();
        }
    }

    /// Of a class, or of each if none is named.
    pub(super) fn forget_refusals(&mut self, class: Option<&str>) {
        let of = |name: &str| class.is_none_or(|class| class == name);
        for (_, version) in self.versions.classes.iter_mut().filter(|(name, _)| of(name)) {
            version.forget_refusals();
        }
    }

    pub(super) fn runner_of(&self, class: &str, now: Now) -> RunnerView {
        let Some(version) = self.versions.classes.get(class) else { return RunnerView::default() };
        let told = version.known().and_then(|known| self.versions.told(known));
        RunnerView {
            version: version.known().map(str::to_owned),
            days_left: told.and_then(|told| days_left(told, now.wall.since_epoch())),
            outdated: version.standing == Some(Standing::Outdated),
        }
    }

    /// One line for each class that is not served.
    pub fn outdated(&self, now: Now) -> impl Iterator<Item = String> {
        self.settings.classes.values().filter_map(move |class| {
            let runner = self.runner_of(&class.name, now);
            let shown = runner.version.as_deref().unwrap_or("of unknown version");
            runner.outdated.then(|| {
                format!(
                    "class {}: the forge refuses its runner {shown}, so nothing is started. Remedy: update the runner in \
                     template {}",
                    class.name, class.template
                )
            })
        })
    }
}

fn tell(class: &str, version: Option<&str>, stands: Standing, days: Option<i64>) {
    let version = version.unwrap_or("of unknown version");
    match stands {
        Standing::Serves => info!(class, version, "class {class}: nothing speaks against runner {version}"),
        Standing::Ageing => {
            warn!(class, version, days, "class {class}: runner {version} will be refused soon; update its template");
        }
        Standing::Outdated => {
            error!(class, version, days, "class {class}: the forge refuses runner {version}; nothing is started");
        }
    }
}
