//! At start: what exists is taken over, what is neither recorded nor handed over is cleaned.

use std::{collections::BTreeMap, time::Duration};

use contract::{ContainerName, ContainerRecord};
use tracing::{info, warn};

use super::{Container, Fleet};
use crate::{
    cause::Cause,
    phase::Phase,
    ports::{PortError, Records, Systemd, Unit, UnitState, World},
    record::{Record, Stage, Timeline},
    time::Now,
};

/// Tries to reach systemd at start, one a second.
const TRIES: u32 = 30;

impl<W: World> Fleet<'_, W> {
    /// Takes over what there is. `clock` tells when that is: systemd may take its time to answer.
    pub async fn adopt(&mut self, clock: impl Fn() -> Now) -> Result<(), PortError> {
        let records = self.world.records().load()?;
        let handed_over = self.world.records().handed_over()?;
        let mut units = self.units_at_start().await?;
        let now = clock();
        for record in records {
            let unit = units.remove(&record.name);
            self.adopt_record(record, unit, now);
        }
        for handed in handed_over {
            match units.remove(&handed.name) {
                _ if self.containers.contains_key(&handed.name) => {}
                Some(unit) => {
                    warn!(container = %handed.name, "its record is lost; adopted from what was handed over");
                    let record = self.rebuilt(handed);
                    self.adopt_record(record, Some(unit), now);
                }
                None => {
                    info!(container = %handed.name, "a hand-over that nobody took is removed");
                    self.world.records().take_back(&handed.name)?;
                }
            }
        }
        for unit in units.into_values() {
            self.orphans.insert(unit.name.clone());
            self.stop_orphan(unit);
        }
        Ok(())
    }

    async fn units_at_start(&self) -> Result<BTreeMap<ContainerName, Unit>, PortError> {
        let mut tries = 0;
        let units = loop {
            match self.world.systemd().list().await {
                Ok(units) => break units,
                Err(error) if tries < TRIES => {
                    warn!(%error, "systemd does not answer yet");
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let there = |unit: &Unit| !matches!(unit.state, UnitState::Inactive | UnitState::Failed);
        Ok(units.into_iter().filter(there).map(|unit| (unit.name.clone(), unit)).collect())
    }

    fn adopt_record(&mut self, mut record: Record, unit: Option<Unit>, now: Now) {
        let name = record.name.clone();
        let rebooted = record.boot_id != self.boot_id;
        if unit.is_some() && record.stage == Stage::Minting {
            // Only a started unit exists, so the registration was answered.
            record.stage = Stage::Started;
        }
        let ended = matches!(record.stage, Stage::Settling { .. });
        let mut container = Container::new(record, now.mono);
        // The limits on waiting and on the job go on where they were.
        let timeline = &container.record.timeline;
        let since_ms = match container.phase {
            Phase::Idle => timeline.listening_ms,
            Phase::Running => timeline.job_started_ms,
            _ => None,
        };
        if let Some(since_ms) = since_ms {
            let ago = now.wall.as_millis().saturating_sub(since_ms);
            container.phase_since = now.mono - Duration::from_millis(ago);
        }
        if let Some(unit) = &unit {
            container.unit_is(unit.state, now.wall.as_millis(), now.mono);
        }
        info!(container = %name, phase = %container.phase, unit = unit.is_some(), "adopted");
        if ended {
            // Known before the controller went away, and not recorded.
            if let Some(ending) = self.world.records().ending(&name).filter(|ending| container.owns(ending, now.wall)) {
                container.ended_with(&ending);
            }
        }
        self.containers.insert(name.clone(), container);
        match unit {
            Some(unit) if ended => {
                // Ended by our record, and yet there: a name was used again behind our back.
                self.orphans.insert(name);
                self.stop_orphan(unit);
            }
            Some(_) => self.follow(&name),
            None if ended => {}
            None if rebooted => self.end(&name, Cause::HostRebooted, now),
            None => self.unit_ended(&name, now),
        }
    }

    /// A record from a hand-over; what only the lost record knew stays unknown.
    fn rebuilt(&self, handed: ContainerRecord) -> Record {
        Record {
            name: handed.name,
            class: handed.class,
            scope: handed.scope,
            set: handed.set,
            subnet: handed.subnet,
            job_id: handed.job_id,
            repository: None,
            job_name: String::new(),
            took: None,
            handle: None,
            task: None,
            rerun: false,
            runner_name: handed.runner_name,
            runner_id: None,
            stage: Stage::Started,
            boot_id: self.boot_id.clone(),
            timeline: Timeline::default(),
        }
    }

    /// Takes over the records alone, to see what they say: nothing is followed, and nothing will be driven.
    pub fn read_records(&mut self, now: Now) {
        for record in self.world.records().load().unwrap_or_default() {
            self.containers.insert(record.name.clone(), Container::new(record, now.mono));
        }
    }
}
