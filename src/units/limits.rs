//! What a control group may use, as systemd words it (systemd.resource-control(5)).

use std::fmt::Write;

use settings::Limits;

/// The lines of a unit; `tasks` where the settings say nothing of them.
pub fn directives(limits: &Limits, tasks: Option<u64>) -> String {
    let mut lines = String::new();
    // Writing to a String does not fail.
    if let Some(cpus) = limits.cpus {
        let _ = writeln!(lines, "CPUQuota={}%", (cpus * 100.0).round().max(1.0));
    }
    if let Some(memory) = limits.memory {
        let _ = writeln!(lines, "MemoryMax={memory}\nMemorySwapMax=0");
    }
    if let Some(tasks) = limits.tasks.or(tasks) {
        let _ = writeln!(lines, "TasksMax={tasks}");
    }
    if let Some(weight) = limits.io_weight {
        let _ = writeln!(lines, "IOWeight={weight}");
    }
    lines
}
