//! Classes: which of them boot now. Owns why one pauses, what the operator drained, and which runner version each has.

mod drains;
mod versions;

use std::{collections::BTreeMap, rc::Rc};

use forge::{ForgeError, RunnerDeprecation};
use settings::{Class, Settings};
use tracing::warn;

use self::versions::Versions;
use super::{
    breaker::{Breaker, Failure},
    drains::Drains,
    effects::Effects,
    pace::spread,
    plan::ClassView,
    ports::{Clock, World},
    status::{BreakerKind, BreakerStatus, ClassStatus},
    time::Now,
};

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
    /// Of classes whose containers ended, one after the other, before they took a job.
    breakers: BTreeMap<String, Breaker>,
    drains: Drains,
    versions: Versions,
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
            breakers: BTreeMap::new(),
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
    pub fn views(&self, now: Now) -> Vec<ClassView> {
        let classes = self.order.iter().filter_map(|name| self.settings.classes.get(name));
        let local = self.world.clock().local();
        let view = |class: &Class| ClassView {
            name: class.name.clone(),
            labels: class.offers(),
            max: class.max_concurrent,
            min_idle: class.min_idle_at(local),
            held_until: self.breakers.get(&class.name).and_then(Breaker::held_until),
            probed: self.breakers.get(&class.name).is_some_and(|breaker| breaker.is_probed(now.mono)),
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
    /// `at_forge` = its runner could not reach the forge, whose outage is over for the class as soon as it is over.
    pub fn failed(&mut self, class: &str, last: &str, at_forge: bool, now: Now) {
        let breaker = self.breakers.entry(class.to_owned()).or_default();
        let failure = if at_forge { Failure::Passing(None) } else { Failure::Counted };
        breaker.failed(last, failure, now, spread(&format!("{class} {}", now.round)));
        let pause = breaker.held_until().map_or(0, |until| (until - now.mono).as_secs());
        warn!(class, failures = breaker.failures(now.mono), pause_s = pause, "boots of this class pause");
    }

    /// A container of the class came up, and the forge serves its runner.
    pub fn came_up(&mut self, class: &str) {
        self.release(class);
        self.runner_served(class);
    }

    /// Boots of the class pause no more.
    pub fn release(&mut self, class: &str) {
        self.breakers.remove(class);
    }

    /// A class, or each of them if none is named, is tried again now, whatever was said of it.
    pub fn try_again(&mut self, class: Option<&str>) {
        self.breakers.retain(|name, _| class.is_some_and(|class| class != name));
        self.forget_refusals(class);
    }

    /// Of those that fail.
    pub fn breakers(&self, now: Now) -> impl Iterator<Item = BreakerStatus> {
        self.breakers.iter().filter_map(move |(class, breaker)| breaker.shown(BreakerKind::Class, class, now))
    }

    /// As documents show them. `active` = containers there are, by class.
    pub fn shown(&self, active: &BTreeMap<&str, usize>, now: Now) -> Vec<ClassStatus> {
        let shown = |class: &Class| {
            let runner = self.runner_of(&class.name, now);
            let failing = self.breakers.get(&class.name).filter(|breaker| breaker.failures(now.mono) > 0);
            ClassStatus {
                name: class.name.clone(),
                labels: class.labels.clone(),
                labels_have_case: class.forge.labels_have_case(),
                active: active.get(class.name.as_str()).copied().unwrap_or_default(),
                max_concurrent: class.max_concurrent,
                privileged: class.privileged,
                held_until_ms: now.wall_ms_of(failing.and_then(Breaker::held_until)),
                drained: self.drains.classes.contains(&class.name),
                cpus: class.cpus,
                memory: class.memory,
                timeout_seconds: class.timeout.as_secs(),
                boot_failures: failing.map_or(0, |breaker| breaker.failures(now.mono)),
                runner_version: runner.version,
                runner_deprecated_in_days: runner.days_left,
                outdated: runner.outdated,
            }
        };
        self.settings.classes.values().map(shown).collect()
    }

    /// What an operator should know of them.
    pub fn problems(&self, now: Now) -> Vec<String> {
        let failing = self.breakers.iter().filter(|(_, breaker)| breaker.failures(now.mono) > 0);
        let failing = failing.map(|(class, breaker)| {
            let (count, last, next) = (breaker.failures(now.mono), breaker.cause(), breaker.told(now.mono));
            format!("class {class}: {count} containers in a row ended before they took a job; the last, {last}{next}")
        });
        failing.collect()
    }
}
