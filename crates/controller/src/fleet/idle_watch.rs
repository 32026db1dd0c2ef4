//! Idle runners are trusted only so long: what is gone or offline at the forge, cut off from it, or deaf beside jobs makes
//! room for another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::ContainerName;
use forge::{Forge, ForgeError, Runner, SetKey};
use tracing::{debug, warn};

use super::{Fleet, Outcome, container::Container};
use crate::{
    cause::Cause,
    plan::Use,
    ports::World,
    time::{Backoff, Mono, Now},
};

/// The forge gives a job to a runner that fits within seconds. One that is idle beside it for so long, first and longest,
/// will not be given it. With the time to see it and to boot another this stays below five minutes.
const PATIENCE: Backoff = Backoff::seconds(120, 180);
/// Time between two looks at the registrations of idle runners, of which two must agree: a list may be empty once.
const LOOK_EVERY: Duration = Duration::from_secs(120);
/// What has just begun to listen may not be shown yet.
const SHOWN_AFTER: Duration = Duration::from_secs(60);
/// A runner that lost the forge tries again every half minute, and is left alone with it for so long.
const CUT_OFF: Duration = Duration::from_secs(300);

/// What is known of idle runners.
#[derive(Debug, Default)]
pub(super) struct IdleWatch {
    /// Deaf runners since the forge last gave a job to one of its kind: class and scope, and whether it is a scale set's.
    deaf: BTreeMap<(SetKey, bool), u32>,
    /// When the registrations of a place are looked at next.
    next: BTreeMap<String, Mono>,
    /// Those that the last look did not find, or found offline.
    missed: BTreeSet<ContainerName>,
}

impl IdleWatch {
    /// How long this container may be idle beside a job.
    pub fn patience(&self, container: &Container) -> Duration {
        let deaf = self.deaf.get(&(container.set_key(), container.record.set)).copied().unwrap_or_default();
        PATIENCE.after(deaf + 1)
    }

    /// The forge gave a job to a container.
    pub fn gave_job(&mut self, container: &Container) {
        self.deaf.remove(&(container.set_key(), container.record.set));
    }
}

impl<W: World> Fleet<'_, W> {
    /// Ends idle containers whose runners are of no use any more, and asks the forge about the others where that is due.
    pub fn watch_idle(&mut self, now: Now) {
        let idle: Vec<(ContainerName, String, Mono, Option<Mono>)> = self
            .live()
            .filter_map(|container| match container.use_() {
                Use::Idle(since) => {
                    let record = &container.record;
                    Some((record.name.clone(), record.scope.clone(), since, container.cut_off_since))
                }
                _ => None,
            })
            .collect();
        self.idle_watch.missed.retain(|name| idle.iter().any(|(idle, ..)| idle == name));
        let scopes: BTreeSet<&String> = idle
            .iter()
            .filter(|(_, _, since, _)| now.mono - *since >= LOOK_EVERY)
            .map(|(_, scope, ..)| scope)
            .collect();
        self.idle_watch.next.retain(|scope, _| scopes.contains(scope));
        for scope in scopes {
            if self.idle_watch.next.get(scope).is_some_and(|next| *next > now.mono) {
                continue;
            }
            self.idle_watch.next.insert(scope.clone(), now.mono + LOOK_EVERY);
            let (world, scope, began) = (self.world, scope.clone(), now.mono);
            self.effects.start(async move {
                let result = world.forge().list_runners(&scope).await;
                Outcome::IdleListed { scope, began, result }
            });
        }
        for (name, _, since, cut_off) in idle {
            if now.mono - since >= self.settings.idle_timeout {
                let limit = humantime::format_duration(self.settings.idle_timeout);
                self.end_idle(&name, Cause::IdleTooLong, Some(format!("idle for {limit}, its idle_timeout")), now);
            }
            if cut_off.is_some_and(|since| now.mono - since >= CUT_OFF) {
                self.replace(&name, "its runner lost the forge and has not reached it again", now);
            }
        }
    }

    pub(super) fn idle_listed(&mut self, scope: &str, began: Mono, result: Result<Vec<Runner>, ForgeError>, now: Now) {
        let runners = match result {
            Ok(runners) => runners,
            Err(error) => {
                debug!(scope, %error, "{scope}: nobody said how its idle runners are");
                return;
            }
        };
        let runners: BTreeMap<&str, &Runner> = runners.iter().map(|runner| (runner.name.as_str(), runner)).collect();
        let mut useless = Vec::new();
        for container in self.containers.values().filter(|container| container.record.scope == scope) {
            let name = &container.record.name;
            let why = match (container.use_(), runners.get(container.record.runner_name.as_str())) {
                (Use::Idle(since), None) if began - since >= SHOWN_AFTER => "the registration of its runner is gone",
                (Use::Idle(since), Some(Runner { online: false, busy: false, .. })) if began - since >= SHOWN_AFTER => {
                    "its runner is offline at the forge"
                }
                _ => {
                    self.idle_watch.missed.remove(name);
                    continue;
                }
            };
            if !self.idle_watch.missed.insert(name.clone()) {
                useless.push((name.clone(), why));
            }
        }
        for (name, why) in useless {
            self.replace(&name, why, now);
        }
    }

    /// Ends a container whose runner was idle beside jobs and was given none. False if it cannot be now.
    pub fn replace_deaf(&mut self, name: &ContainerName, now: Now) -> bool {
        let Some(container) = self.containers.get(name) else { return false };
        let kind = (container.set_key(), container.record.set);
        let replaced = self.replace(name, "its runner listened and was given none of the jobs that waited for it", now);
        if replaced {
            *self.idle_watch.deaf.entry(kind).or_default() += 1;
        }
        replaced
    }

    fn replace(&mut self, name: &ContainerName, why: &str, now: Now) -> bool {
        let replaced = self.end_idle(name, Cause::Replaced, Some(why.to_owned()), now);
        if replaced {
            warn!(container = %name, why, "{name}: is replaced: {why}");
        }
        replaced
    }
}
