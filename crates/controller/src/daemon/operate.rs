//! What the operator asks for.

use tracing::{info, warn};

use super::Daemon;
use crate::{
    cause::Cause,
    edges::{Records, World},
    operation::{Denied, Done, Operation, Order},
    plan::{ScopeView, Waiting, may_boot},
    record::Stage,
};

impl<W: World> Daemon<'_, W> {
    /// What was drained before the last stop stays so.
    pub(super) fn recall_drains(&mut self) {
        match self.world.records().load_drains() {
            Ok(drains) => self.drains = drains,
            Err(error) => {
                // To take jobs that were not to be taken is worse than to wait for a person.
                warn!(%error, "what is drained cannot be read; the host takes no new jobs until it is resumed");
                self.drains.host = true;
            }
        }
        self.apply_drains();
    }

    fn apply_drains(&mut self) {
        for class in &mut self.classes {
            class.drained = self.drains.holds(&class.name);
        }
    }

    pub(super) fn operate(&mut self, order: Order) {
        let result = match &order.operation {
            Operation::Drain { class } => self.set_drained(class.as_deref(), true),
            Operation::Resume { class } => self.set_drained(class.as_deref(), false),
            Operation::Stop { container } => self.stop_by_operator(container),
            Operation::Provision { repo, class } => self.provision(repo, class.as_deref()),
        };
        match &result {
            Ok(done) => info!(by = order.by, "operator: {}", done.message),
            Err(denied) => info!(by = order.by, operation = ?order.operation, "operator: denied: {denied}"),
        }
        // Who asked may have gone away: it is done all the same.
        let _ = order.answer.send(result);
    }

    fn set_drained(&mut self, class: Option<&str>, drained: bool) -> Result<Done, Denied> {
        let mut drains = self.drains.clone();
        let what = match class {
            None => {
                drains.host = drained;
                "the host".to_owned()
            }
            Some(name) if drained => {
                self.known_class(name)?;
                drains.classes.insert(name.to_owned());
                format!("class {name}")
            }
            Some(name) => {
                // One that is drained and no longer configured can be resumed.
                if !drains.classes.remove(name) {
                    self.known_class(name)?;
                }
                format!("class {name}")
            }
        };
        self.world
            .records()
            .put_drains(&drains)
            .map_err(|error| Denied::Failed(format!("it cannot be written down, so nothing is changed: {error}")))?;
        self.drains = drains;
        self.apply_drains();
        let mut message = match drained {
            true => format!("{what} takes no new jobs; running jobs go on"),
            false => format!("{what} takes jobs"),
        };
        if !drained && class.is_some() && self.drains.host {
            message.push_str(" once the host is resumed as well");
        } else if !drained && class.is_none() && !self.drains.classes.is_empty() {
            let classes: Vec<&str> = self.drains.classes.iter().map(String::as_str).collect();
            message.push_str(&format!(", except for classes {}, which are drained", classes.join(", ")));
        }
        Ok(Done { message, container: None })
    }

    fn known_class(&self, name: &str) -> Result<(), Denied> {
        let names: Vec<&str> = self.settings.classes.keys().map(String::as_str).collect();
        let known = names.contains(&name);
        known.then_some(()).ok_or_else(|| {
            Denied::NotFound(format!("there is no class {name:?}. Remedy: name one of: {}", names.join(", ")))
        })
    }

    fn stop_by_operator(&mut self, container: &str) -> Result<Done, Denied> {
        let parsed = container.parse().map_err(|error: contract::InvalidName| Denied::NotFound(error.to_string()));
        let name = parsed?;
        let found = self.containers.get(&name).filter(|found| !found.has_ended());
        let Some(found) = found else {
            return Err(Denied::NotFound(format!("there is no container {name}")));
        };
        match found.record.stage {
            Stage::Minting => {
                return Err(Denied::Conflict(format!("{name} is being registered. Remedy: try again in a moment")));
            }
            Stage::Started if found.in_flight => {
                return Err(Denied::Conflict(format!("{name} is being started. Remedy: try again in a moment")));
            }
            Stage::Started | Stage::Stopping { .. } | Stage::Settling { .. } => {}
        }
        self.stop(&name, Cause::StoppedByOperator);
        Ok(Done { message: format!("{name} is stopping"), container: Some(name.to_string()) })
    }

    fn provision(&mut self, repo: &str, class: Option<&str>) -> Result<Done, Denied> {
        let scope = self.scope_named(repo)?;
        if let Some(name) = class {
            self.known_class(name)?;
        }
        let mut views = self.classes.iter().filter(|view| scope.allows(&view.name));
        let view = match class {
            None => views.next(),
            Some(name) => views.find(|view| view.name == name),
        };
        let Some(view) = view else {
            return Err(Denied::Conflict(format!("class {} does not serve {}", class.unwrap_or("-"), scope.name)));
        };
        let snapshot = self.snapshot(self.now());
        may_boot(&snapshot, view, &scope).map_err(|why| Denied::Conflict(self.refusal(why, &view.name, &scope)))?;
        let name = view.name.clone();
        let set = snapshot.sets.iter().any(|set| set.class == name && set.scope == scope.name);
        match self.boot(&name, &scope.name, set, None) {
            Some(container) => Ok(Done {
                message: format!("{container} boots: class {name}, registered with {}", scope.name),
                container: Some(container.to_string()),
            }),
            None => Err(Denied::Failed("its record cannot be written; see the journal".to_owned())),
        }
    }

    /// Where a runner for the jobs of this repository is registered.
    fn scope_named(&self, repo: &str) -> Result<ScopeView, Denied> {
        let by_repository = self.repositories.iter().find(|(name, _)| name.eq_ignore_ascii_case(repo));
        let name = by_repository
            .map(|(_, repository)| repository.scope.as_str())
            .or_else(|| self.scopes.keys().map(String::as_str).find(|scope| scope.eq_ignore_ascii_case(repo)));
        let unknown = || {
            let remedy = "Remedy: name one that `gha-runner-controller status` shows, or add it to the configuration";
            Denied::NotFound(format!("{repo:?} is not served here. {remedy}"))
        };
        let name = name.ok_or_else(unknown)?;
        let place = self.scopes.get(name).ok_or_else(unknown)?;
        let target = self.targets.get(&place.target).ok_or_else(unknown)?;
        Ok(ScopeView {
            name: name.to_owned(),
            target: place.target.clone(),
            held_until: place.held_until,
            looked_at: None,
            classes: target.settings.classes.iter().cloned().collect(),
        })
    }

    fn refusal(&self, why: Waiting, class: &str, scope: &ScopeView) -> String {
        let scope = &scope.name;
        match why {
            Waiting::Drained if self.stopping_since.is_some() => "the controller is stopping".to_owned(),
            Waiting::Drained => format!("class {class} or the host is drained. Remedy: resume it"),
            Waiting::Outdated => format!("the forge refuses the runner of class {class}. Remedy: update its template"),
            Waiting::Held => format!("class {class} or registration with {scope} pauses after failures; see status"),
            Waiting::TargetLimit => format!("the target of {scope} has as many containers as it may"),
            _ => format!("the host or class {class} is full"),
        }
    }
}
