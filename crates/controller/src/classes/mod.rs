//! Classes: which of them boot now. Owns why one pauses, what the operator drained, and which runner version each has.

mod drains;
mod versions;

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use forge::{ForgeError, RunnerDeprecation};
use settings::{Class, Settings};
use tracing::warn;

use self::versions::Versions;
use super::{
    drains::Drains,
    effects::Effects,
    plan::ClassView,
    ports::World,
    status::ClassStatus,
    time::{Backoff, Mono, Now},
};

/// Pauses after failed boots.
const BOOT_PAUSE: Backoff = Backoff::seconds(5, 300);
/// How long after the pause failures are still a problem when nothing asked for the class since. Then they are history.
const FADES: Duration = Duration::from_secs(3600);

/// What an effect came to.
pub enum Outcome {
    /// How long the forge serves a runner version; `asked` = version and the API root of the forge.
    Deprecation { asked: (String, String), result: Result<Option<RunnerDeprecation>, ForgeError> },
}

/// The classes.
pub struct Classes<'w, W: World> {
    world: &'w W,
    effects: Effects<'w, Outcome>,
    settings: Rc<Settings>,
    /// Names, the smallest class first.
    order: Vec<String>,
    failures: BTreeMap<String, Failures>,
    drains: Drains,
    versions: Versions,
}

/// Containers of one class that ended, one after the other, before they took a job.
#[derive(Debug)]
struct Failures {
    /// How many.
    in_a_row: u32,
    /// How the last one ended.
    last: String,
    /// No other is booted before.
    held_until: Mono,
}

impl Failures {
    /// `None` once they are history.
    fn standing(&self, now: Now) -> Option<&Self> {
        (now.mono < self.held_until + FADES).then_some(self)
    }
}

impl<'w, W: World> Classes<'w, W> {
    /// Those of the settings, with what was drained before the last stop.
    pub fn new(world: &'w W, settings: Rc<Settings>, effects: Effects<'w, Outcome>) -> Self {
        let mut classes: Vec<&Class> = settings.classes.values().collect();
        // What a class may use decides, then how much it promises, then its name.
        classes.sort_by(|a, b| {
            let size =
                |class: &Class| (class.memory.unwrap_or(u64::MAX), class.cpus.unwrap_or(f64::MAX), class.labels.len());
            let ((am, ac, al), (bm, bc, bl)) = (size(a), size(b));
            am.cmp(&bm).then(ac.total_cmp(&bc)).then(al.cmp(&bl)).then(a.name.cmp(&b.name))
        });
        let order = classes.into_iter().map(|class| class.name.clone()).collect();
        Self {
            world,
            effects,
            order,
            failures: BTreeMap::new(),
            drains: drains::recall(world),
            versions: Versions::default(),
            settings,
        }
    }

    /// Takes in what an effect came to.
    pub fn apply(&mut self, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Deprecation { asked, result } => self.deprecation_said(&asked, result, now),
        }
    }

    /// As planning sees them now, the smallest first.
    pub fn views(&self) -> Vec<ClassView> {
        let classes = self.order.iter().filter_map(|name| self.settings.classes.get(name));
        let view = |class: &Class| ClassView {
            name: class.name.clone(),
            labels: class.offers(),
            max: class.max_concurrent,
            min_idle: class.min_idle,
            held_until: self.failures.get(&class.name).map(|failures| failures.held_until),
            outdated: self.is_closed(&class.name),
            drained: self.drains.holds(&class.name),
        };
        classes.map(view).collect()
    }

    /// Some class has idle containers ready, whether a job is queued or not.
    pub fn keep_ready(&self) -> bool {
        self.settings.classes.values().any(|class| class.min_idle > 0)
    }

    /// A container of the class failed to boot, or could not: the next waits, longer with each failure in a row.
    pub fn failed(&mut self, class: &str, last: String, now: Now) {
        let in_a_row = self.standing(class, now).map_or(0, |failures| failures.in_a_row) + 1;
        let pause = BOOT_PAUSE.after(in_a_row);
        warn!(class, failures = in_a_row, pause_s = pause.as_secs(), "boots of this class pause");
        self.failures.insert(class.to_owned(), Failures { in_a_row, last, held_until: now.mono + pause });
    }

    /// A container of the class came up, and the forge serves its runner.
    pub fn came_up(&mut self, class: &str) {
        self.release(class);
        self.runner_served(class);
    }

    /// Boots of the class pause no more.
    pub fn release(&mut self, class: &str) {
        self.failures.remove(class);
    }

    fn standing(&self, class: &str, now: Now) -> Option<&Failures> {
        self.failures.get(class)?.standing(now)
    }

    /// As documents show them. `active` = containers there are, by class.
    pub fn shown(&self, active: &BTreeMap<&str, usize>, now: Now) -> Vec<ClassStatus> {
        let shown = |class: &Class| {
            let (failures, runner) = (self.standing(&class.name, now), self.runner_of(&class.name, now));
            ClassStatus {
                name: class.name.clone(),
                labels: class.labels.clone(),
                labels_have_case: class.forge.labels_have_case(),
                active: active.get(class.name.as_str()).copied().unwrap_or_default(),
                max_concurrent: class.max_concurrent,
                privileged: class.privileged,
                held_until_ms: now.wall_ms_of(failures.map(|failures| failures.held_until)),
                drained: self.drains.classes.contains(&class.name),
                cpus: class.cpus,
                memory: class.memory,
                timeout_seconds: class.timeout.as_secs(),
                boot_failures: failures.map_or(0, |failures| failures.in_a_row),
                runner_version: runner.version,
                runner_deprecated_in_days: runner.days_left,
                outdated: runner.outdated,
            }
        };
        self.settings.classes.values().map(shown).collect()
    }

    /// What an operator should know of them.
    pub fn problems(&self, now: Now) -> Vec<String> {
        let standing = self.failures.iter().filter_map(|(class, failures)| Some((class, failures.standing(now)?)));
        let failing = standing.map(|(class, Failures { in_a_row, last, .. })| {
            format!("class {class}: {in_a_row} containers in a row ended before they took a job; the last, {last}")
        });
        failing.collect()
    }
}
