//! What takes no new jobs because the operator said so.

use tracing::warn;

use super::Classes;
use crate::{
    drains::Drains,
    operation::{Denied, Done},
    ports::{Records, World},
};

/// What was drained before the last stop stays so.
pub(super) fn recall(world: &impl World) -> Drains {
    world.records().load_drains().unwrap_or_else(|error| {
        // To take jobs that were not to be taken is worse than to wait for a person.
        warn!(%error, "what is drained cannot be read; the host takes no new jobs until it is resumed");
        Drains { host: true, ..Drains::default() }
    })
}

impl<W: World> Classes<'_, W> {
    /// The whole host takes no new jobs.
    pub fn host_is_drained(&self) -> bool {
        self.drains.host
    }

    /// A class, or the host if none is named, takes no new jobs, or takes them again.
    pub fn set_drained(&mut self, class: Option<&str>, drained: bool) -> Result<Done, Denied> {
        let mut drains = self.drains.clone();
        let what = match class {
            None => {
                drains.host = drained;
                "the host".to_owned()
            }
            Some(name) if drained => {
                self.check_known(name)?;
                drains.classes.insert(name.to_owned());
                format!("class {name}")
            }
            Some(name) => {
                // One that is drained and no longer configured can be resumed.
                if !drains.classes.remove(name) {
                    self.check_known(name)?;
                }
                format!("class {name}")
            }
        };
        self.world
            .records()
            .put_drains(&drains)
            .map_err(|error| Denied::Failed(format!("it cannot be written down, so nothing is changed: {error}")))?;
        self.drains = drains;
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

    /// There is a class of this name.
    pub fn check_known(&self, name: &str) -> Result<(), Denied> {
        let names: Vec<&str> = self.settings.classes.keys().map(String::as_str).collect();
        let known = names.contains(&name);
        known.then_some(()).ok_or_else(|| {
            Denied::NotFound(format!("there is no class {name:?}. Remedy: name one of: {}", names.join(", ")))
        })
    }
}
