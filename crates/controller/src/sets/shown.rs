//! What documents show of scale sets, and what is wrong with them.

use std::time::Duration;

use forge::SetKey;
use settings::{Class, TargetKind};

use super::{Mode, Set, Sets};
use crate::{
    intake::Intake,
    ports::World,
    status::{ClassIntake, IntakeStatus, SetStatus},
    time::Now,
};

/// Somebody else may hold the session for so long before that is a problem: after a crash it is our own.
const HELD: Duration = Duration::from_secs(300);

impl<'w, W: World> Sets<'w, W> {
    /// How the jobs of each class that serves a target are found, and why so.
    pub fn intakes_of(&self, target: &settings::Target, intake: &Intake<'w, W>) -> Vec<ClassIntake> {
        let classes = self.settings.classes.values().filter(|class| target.has_class(&class.name));
        let told = |class: &Class| {
            let own = |(key, _): &(&SetKey, &Set)| {
                key.class == class.name && intake.target_of(&key.scope).is_some_and(|found| found.name == target.name)
            };
            let sets: Vec<(&SetKey, &Set)> = self.sets.iter().filter(own).collect();
            let open = sets.iter().filter(|(_, set)| matches!(set.mode, Mode::Open | Mode::Released)).count();
            let otherwise = if is_set_alone(class.intake, target) { IntakeStatus::None } else { IntakeStatus::Polling };
            let (intake, reason) = match (sets.as_slice(), &class.intake) {
                ([], settings::Intake::Polling) => (IntakeStatus::Polling, ClassIntake::AS_CONFIGURED.to_owned()),
                ([], settings::Intake::Auto) if otherwise == IntakeStatus::Polling => (
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

    /// Its class asks for a set and nothing else.
    fn needs_set(&self, key: &SetKey, intake: &Intake<'w, W>) -> bool {
        let class = self.settings.classes.get(&key.class);
        class.zip(intake.target_of(&key.scope)).is_some_and(|(class, target)| is_set_alone(class.intake, target))
    }

    /// The sets.
    pub fn shown(&self, intake: &Intake<'w, W>, now: Now) -> Vec<SetStatus> {
        let shown = |(key, set): (&SetKey, &Set)| {
            let counts = set.assignments.statistics();
            let (found_by, reason) = match &set.mode {
                Mode::Open | Mode::Released => (IntakeStatus::ScaleSet, set.last_error.clone()),
                Mode::Opening | Mode::Refused(_) | Mode::Unavailable(_) if self.needs_set(key, intake) => {
                    (IntakeStatus::None, set.last_error.clone())
                }
                Mode::Opening => (IntakeStatus::Polling, None),
                Mode::Refused(why) | Mode::Unavailable(why) => (IntakeStatus::Polling, Some(why.clone())),
            };
            SetStatus {
                class: key.class.clone(),
                scope: key.scope.clone(),
                intake: found_by,
                reason,
                heard_age_seconds: set.as_of.map(|at| (now.mono - at).as_secs()),
                capacity: *set.capacity.borrow(),
                assigned: counts.assigned_jobs,
                running: counts.running_jobs,
                refused: self.refused_of(key, set, intake),
            }
        };
        self.sets.iter().map(shown).collect()
    }

    /// What an operator should know of them.
    pub fn problems(&self, intake: &Intake<'w, W>, now: Now) -> Vec<String> {
        let problem = |(key, set): (&SetKey, &Set)| {
            let failing = set.failing_since.filter(|(since, _)| now.mono - *since > HELD);
            match (&set.mode, failing) {
                (Mode::Refused(why) | Mode::Unavailable(why), _) if self.needs_set(key, intake) => {
                    Some(format!("{key}: cannot be had, and nothing else is allowed: {why}"))
                }
                // After a crash the session is our own for some minutes.
                (Mode::Open, Some((_, since))) => {
                    let error = set.last_error.as_deref().unwrap_or("no reason known");
                    Some(format!("{key}: no message since {since}: {error}"))
                }
                _ => None,
            }
        };
        self.sets.iter().filter_map(problem).collect()
    }
}

fn is_set_alone(intake: settings::Intake, target: &settings::Target) -> bool {
    intake == settings::Intake::ScaleSet || target.kind == TargetKind::Enterprise
}
