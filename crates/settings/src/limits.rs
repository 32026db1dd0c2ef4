//! What containers may use: `[limits]` for all together, and the same keys in `[class.NAME]` for each.

use super::{
    check::Found,
    file::{LimitsWritten, Size},
    settings::Limits,
};

/// Below this not even an init runs.
const LEAST_MEMORY: u64 = 16 << 20;

/// Checks one table.
pub(super) fn check(found: &mut Found, key: &dyn Fn(&str) -> String, written: LimitsWritten) -> Limits {
    if let Some(cpus) = written.cpus {
        found.unless(
            cpus.is_finite() && (0.01..=4096.0).contains(&cpus),
            key("cpus"),
            format!("{cpus} is not a number of CPUs"),
            "write how many CPUs may be used, e.g. 2 or 0.5",
        );
    }
    let mut whole = |field: &str, value: Option<u64>, range| {
        value.inspect(|value| {
            found.count(&key(field), Some(usize::try_from(*value).unwrap_or(usize::MAX)), 0, range);
        })
    };
    let tasks = whole("tasks", written.tasks, 32..=4_194_304);
    let io_weight = whole("io_weight", written.io_weight, 1..=10_000);
    let memory = size(found, &key("memory"), written.memory, LEAST_MEMORY);
    Limits { cpus: written.cpus, memory, tasks, io_weight }
}

/// A size of at least so many bytes.
pub(super) fn size(found: &mut Found, key: &str, written: Option<Size>, least: u64) -> Option<u64> {
    let written = written?;
    let bytes = written.bytes().filter(|bytes| (least..=1 << 50).contains(bytes));
    found.unless(
        bytes.is_some(),
        key,
        format!("{written:?} is not a size of at least {}M", least >> 20),
        "write bytes or a size such as 512M or 4G",
    );
    bytes
}

impl From<&Limits> for LimitsWritten {
    fn from(limits: &Limits) -> Self {
        Self {
            cpus: limits.cpus,
            memory: limits.memory.map(Size::Bytes),
            tasks: limits.tasks,
            io_weight: limits.io_weight,
        }
    }
}
