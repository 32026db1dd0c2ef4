//! Slices: one for all containers, with what they may use together, and in it one for each class, which only groups.

use settings::Limits;

use super::{MARKER, limits};

/// Stopping a slice stops what is in it: a switch of NixOS to a configuration without it must not.
const STAYS: &str = "X-StopOnRemoval=false\n";

/// The slice of all containers.
pub fn all(together: &Limits) -> String {
    format!(
        "{MARKER}\n\n[Unit]\nDescription=Job containers\n{STAYS}\n[Slice]\n# Peaks are told by these.\n\
         CPUAccounting=yes\nMemoryAccounting=yes\nTasksAccounting=yes\n{}",
        limits::directives(together, None)
    )
}

/// The slice of one class's containers.
pub fn class(class: &str) -> String {
    format!("{MARKER}\n\n[Unit]\nDescription=Job containers of class {class}\n{STAYS}")
}
