//! What keeps the host from taking one container more: little room on a disk, pressure, or a clock that is far off.
//! Running jobs go on.
//!
//! A threshold that was crossed counts until things are better by a quarter, so that a value at the threshold does not
//! change the answer with every reading.

mod measure;
mod room;

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use contract::Prunings;
use serde::{Deserialize, Serialize};
use settings::Admission;
use tracing::{info, warn};
use utoipa::ToSchema;

pub use self::measure::measure;
use self::room::Room;
use crate::{incident::Incident, time::Mono};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(5);

/// A clock so many seconds from every forge's is wrong: GitHub refuses what an App signs at a minute, certificates and
/// caches of jobs go wrong with it, and no network sets a clock that slowly.
const CLOCK_WRONG: f64 = 300.0;

/// A file system that is written to.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSystem {
    /// Where it was asked for.
    pub path: PathBuf,
    /// Free to who is not root.
    pub free_bytes: u64,
    /// The same; None = it has as many as there is space.
    pub free_inodes: Option<u64>,
}

/// A reading of the host. What cannot be read is left out, and so not watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Those that containers and the controller write to.
    pub file_systems: Vec<FileSystem>,
    /// Percent of the last ten seconds in which every process waited for memory.
    pub memory: Option<f64>,
    /// The same for disks and file systems.
    pub io: Option<f64>,
    /// Percent of the last ten seconds in which some process waited for a processor.
    pub cpu: Option<f64>,
    /// Seconds that the forges' clocks are ahead of this host's; of several, the one nearest to it.
    pub clock: Option<f64>,
}

/// What the host is short of.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Shortage {
    /// Free space of a file system.
    Disk,
    /// Free inodes of one.
    Inodes,
    /// Memory, by the time that processes wait for it.
    Memory,
    /// Disks and file systems, likewise.
    Io,
    /// Processors, likewise.
    Cpu,
    /// The right time.
    Clock,
}

impl Shortage {
    /// All there are.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Most containers at once while it lasts. Pressure may be of somebody else's making: one goes on at a time.
    fn most(self) -> usize {
        match self {
            Self::Disk | Self::Inodes | Self::Clock => 0,
            Self::Memory | Self::Io | Self::Cpu => 1,
        }
    }

    /// The kind of incident it is.
    pub fn incident(self) -> Incident {
        match self {
            Self::Disk | Self::Inodes => Incident::HostFull,
            Self::Memory | Self::Io | Self::Cpu => Incident::HostPressed,
            Self::Clock => Incident::Clock,
        }
    }
}

/// One shortage, with its figures in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Strain {
    /// Of what.
    pub of: Shortage,
    /// What was measured, and what is to be.
    pub figures: String,
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (effect, remedy) = match self.of {
            Shortage::Disk => ("no container is started", "free space on it, or lower admission.min_free_disk"),
            Shortage::Inodes => ("no container is started", "remove files from it, or lower admission.min_free_inodes"),
            Shortage::Memory => (
                "containers start one at a time",
                "lower max_concurrent or the classes' memory, or raise admission.max_memory_pressure",
            ),
            Shortage::Io => {
                ("containers start one at a time", "lower max_concurrent, or raise admission.max_io_pressure")
            }
            Shortage::Cpu => {
                ("containers start one at a time", "lower max_concurrent, or raise admission.max_cpu_pressure")
            }
            Shortage::Clock => {
                let remedy = "timedatectl set-ntp true";
                return write!(f, "clock: {}; no container is started. Remedy: {remedy}", self.figures);
            }
        };
        write!(f, "the host is short of {}: {}; {effect}. Remedy: {remedy}", self.of, self.figures)
    }
}

/// What the host is short of, kept up to date.
#[derive(Debug)]
pub struct Watch {
    admission: Admission,
    next: Mono,
    strains: Vec<Strain>,
    room: Room,
}

impl Watch {
    /// Nothing is known yet.
    pub fn new(admission: Admission) -> Self {
        Self { admission, next: Mono::START, strains: Vec::new(), room: Room::default() }
    }

    /// Takes a reading, if it is time for one, and writes down what begins and what is over.
    pub fn look_if_due(&mut self, read: impl FnOnce() -> Measured, now: Mono) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let before: BTreeSet<Shortage> = self.strains.iter().map(|strain| strain.of).collect();
        self.strains = judge(&self.admission, &read(), &before);
        for strain in self.strains.iter().filter(|strain| !before.contains(&strain.of)) {
            warn!(shortage = %strain.of, "{strain}");
        }
        for over in before.into_iter().filter(|of| self.strains.iter().all(|strain| strain.of != *of)) {
            info!(shortage = %over, "the host is no longer short of {over}");
        }
    }

    /// Asks root for room while a disk is short, and notes what root has removed.
    pub fn make_room(&mut self, removed: impl FnOnce() -> Prunings, ask: impl FnOnce(), now: Mono) {
        let is_short = self.strains.iter().any(|strain| strain.of == Shortage::Disk);
        self.room.watch(is_short, removed, ask, now);
    }

    /// What root has removed to make room.
    pub fn prunings(&self) -> &Prunings {
        self.room.prunings()
    }

    /// What it is short of now.
    pub fn strains(&self) -> &[Strain] {
        &self.strains
    }

    /// Most containers at once; None = whatever else limits them.
    pub fn most(&self) -> Option<usize> {
        self.strains.iter().map(|strain| strain.of.most()).min()
    }
}

/// What a reading means, after `before`. Pure.
fn judge(admission: &Admission, measured: &Measured, before: &BTreeSet<Shortage>) -> Vec<Strain> {
    let mut found = Vec::new();
    let least = |of: Shortage, threshold: u64| {
        if before.contains(&of) { threshold.saturating_add(threshold / 4) } else { threshold }
    };
    if let Some(threshold) = admission.min_free_disk {
        let least = least(Shortage::Disk, threshold);
        found.extend(measured.file_systems.iter().find(|system| system.free_bytes < least).map(|system| {
            let mebibytes = |bytes: u64| bytes >> 20;
            let (path, free) = (system.path.display(), mebibytes(system.free_bytes));
            Strain {
                of: Shortage::Disk,
                figures: format!("{path} has {free} MiB free of {} MiB at least", mebibytes(least)),
            }
        }));
    }
    if let Some(threshold) = admission.min_free_inodes {
        let least = least(Shortage::Inodes, threshold);
        let free = |system: &FileSystem| system.free_inodes.filter(|free| *free < least);
        found.extend(measured.file_systems.iter().find_map(|system| Some((system, free(system)?))).map(
            |(system, free)| {
                let figures = format!("{} has {free} inodes free of {least} at least", system.path.display());
                Strain { of: Shortage::Inodes, figures }
            },
        ));
    }
    let pressures = [
        (Shortage::Memory, admission.max_memory_pressure, measured.memory),
        (Shortage::Io, admission.max_io_pressure, measured.io),
        (Shortage::Cpu, admission.max_cpu_pressure, measured.cpu),
    ];
    for (of, threshold, percent) in pressures {
        let Some((threshold, percent)) = threshold.zip(percent) else { continue };
        let most = if before.contains(&of) { f64::from(threshold) * 0.75 } else { f64::from(threshold) };
        if percent > most {
            found.push(Strain {
                of,
                figures: format!("processes wait {percent:.0} % of the time, of {most:.0} % at most"),
            });
        }
    }
    if let Some(offset) = measured.clock {
        let most = if before.contains(&Shortage::Clock) { CLOCK_WRONG * 0.75 } else { CLOCK_WRONG };
        if offset.abs() > most {
            let way = if offset > 0.0 { "behind" } else { "ahead of" };
            let figures = format!("this host's is more than {most} s {way} that of every forge");
            found.push(Strain { of: Shortage::Clock, figures });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const ADMISSION: Admission = Admission {
        min_free_disk: Some(1 << 30),
        min_free_inodes: Some(10_000),
        max_memory_pressure: Some(40),
        max_io_pressure: Some(90),
        max_cpu_pressure: None,
    };

    fn disk(free_bytes: u64, free_inodes: Option<u64>) -> Measured {
        let path = "/var/lib".into();
        Measured { file_systems: vec![FileSystem { path, free_bytes, free_inodes }], ..Measured::default() }
    }

    fn memory(percent: f64) -> Measured {
        Measured { memory: Some(percent), ..Measured::default() }
    }

    /// Readings, five seconds apart; what the host is short of after each, and how many containers there may be.
    fn watched(readings: &[Measured]) -> Vec<(Vec<Shortage>, Option<usize>)> {
        let mut watch = Watch::new(ADMISSION);
        let mut now = Mono::START;
        readings
            .iter()
            .map(|reading| {
                now = now + INTERVAL;
                watch.look_if_due(|| reading.clone(), now);
                (watch.strains().iter().map(|strain| strain.of).collect(), watch.most())
            })
            .collect()
    }

    #[test]
    fn a_full_disk_stops_intake_until_a_quarter_more_than_the_threshold_is_free() {
        const MIB: u64 = 1 << 20;
        let free = [2000, 1023, 1100, 1279, 1281].map(|mebibytes| disk(mebibytes * MIB, None));
        let short = (vec![Shortage::Disk], Some(0));
        let well = (vec![], None);
        assert_eq!(watched(&free), [well.clone(), short.clone(), short.clone(), short, well]);
    }

    #[test]
    fn inodes_count_where_a_file_system_has_a_number_of_them() {
        let readings = [disk(u64::MAX, Some(9_999)), disk(u64::MAX, None)];
        assert_eq!(watched(&readings), [(vec![Shortage::Inodes], Some(0)), (vec![], None)]);
    }

    #[test]
    fn under_pressure_one_container_goes_on_at_a_time_until_it_is_a_quarter_less() {
        let readings = [39.0, 41.0, 31.0, 29.0].map(memory);
        let pressed = (vec![Shortage::Memory], Some(1));
        assert_eq!(watched(&readings), [(vec![], None), pressed.clone(), pressed, (vec![], None)]);
    }

    #[test]
    fn what_cannot_be_read_or_is_not_watched_keeps_nobody_out() {
        let busy = Measured { cpu: Some(100.0), ..Measured::default() };
        assert_eq!(watched(&[Measured::default(), busy]), [(vec![], None), (vec![], None)]);
    }

    #[test]
    fn a_person_reads_what_is_short_what_follows_and_what_to_do() {
        let mut watch = Watch::new(ADMISSION);
        watch.look_if_due(|| disk(300 << 20, None), Mono::START);
        assert_eq!(
            watch.strains()[0].to_string(),
            "the host is short of disk: /var/lib has 300 MiB free of 1024 MiB at least; no container is started. \
             Remedy: free space on it, or lower admission.min_free_disk"
        );
    }

    #[test]
    fn a_clock_five_minutes_off_stops_intake_until_it_is_a_quarter_less() {
        let readings =
            [-299.0, -301.0, 226.0, 224.0].map(|clock| Measured { clock: Some(clock), ..Measured::default() });
        let wrong = (vec![Shortage::Clock], Some(0));
        assert_eq!(watched(&readings), [(vec![], None), wrong.clone(), wrong, (vec![], None)]);
    }

    proptest! {
        #[test]
        fn more_room_never_means_more_shortage(free in 0_u64..4 << 30, more in 0_u64..4 << 30, was_short: bool) {
            let before = was_short.then_some(Shortage::Disk).into_iter().collect();
            let short = |free| !judge(&ADMISSION, &disk(free, None), &before).is_empty();
            prop_assert!(short(free) || !short(free + more));
        }
    }
}
