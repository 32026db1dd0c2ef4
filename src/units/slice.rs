//! Slices: they only group; limits are each container's own.

use super::MARKER;

/// The slice of a class. A hyphen in a slice's name means nesting (systemd.slice(5)), so those of the class become
/// underscores, which no class has.
pub fn name(class: &str) -> String {
    format!("gha-runner-{}.slice", class.replace('-', "_"))
}

/// The slice of all containers.
pub fn all() -> String {
    format!("{MARKER}\n\n[Unit]\nDescription=Job containers\n")
}

/// The slice of one class's containers.
pub fn class(class: &str) -> String {
    format!("{MARKER}\n\n[Unit]\nDescription=Job containers of class {class}\n")
}
