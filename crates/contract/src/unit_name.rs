//! Names of units, both ways.

use crate::ContainerName;

/// Matches every container unit, and nothing else of ours.
pub const CONTAINER_PATTERN: &str = "gha-runner-*@*.service";
/// Journal namespace of container units (systemd.exec(5), `LogNamespace=`): what jobs write takes no room from the
/// host's own journal.
pub const JOURNAL_NAMESPACE: &str = "gha-runner";

/// `gha-runner-<class>@<name>.service`
pub fn container_unit(class: &str, name: &ContainerName) -> String {
    format!("gha-runner-{class}@{name}.service")
}

/// `gha-runner-<class>@.service`: the file all containers of a class are instances of.
pub fn container_template(class: &str) -> String {
    format!("gha-runner-{class}@.service")
}

/// Class and container of a unit name; `None` if it is not a container unit.
pub fn parse_container_unit(unit: &str) -> Option<(String, ContainerName)> {
    let (class, name) = unit.strip_prefix("gha-runner-")?.strip_suffix(".service")?.split_once('@')?;
    Some((class.to_owned(), name.parse().ok()?))
}

/// The slice of a class. A hyphen in a slice's name means nesting (systemd.slice(5)), so those of the class become
/// underscores, which no class has.
pub fn class_slice(class: &str) -> String {
    format!("gha-runner-{}.slice", class.replace('-', "_"))
}
