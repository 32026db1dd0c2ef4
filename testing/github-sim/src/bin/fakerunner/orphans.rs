//! Processes a job left behind. The real runner finds them by a variable it gave them.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// The variable.
pub(crate) const VARIABLE: &str = "RUNNER_TRACKING_ID";

/// Kills every process that carries this tracking id. Gives how many.
pub(crate) fn kill(tracking_id: &str) -> usize {
    let wanted = format!("{VARIABLE}={tracking_id}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            })
        })
        .filter_map(Pid::from_raw)
        .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
        .count()
}
