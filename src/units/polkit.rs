//! The one thing the controller's user may do to systemd.

use super::USER;
use crate::config::Settings;

/// The rule: start units whose whole name is a container's of a class there is, and stop those of any class: containers
/// of one that was since removed from the settings may still be there. Transient units carry no unit name for polkit and
/// so never match (NSPAWN 0.2).
pub fn rule(settings: &Settings) -> String {
    // A class is letters, digits and hyphens: nothing that means anything to a regular expression here.
    let classes = settings.classes.keys().map(String::as_str).collect::<Vec<_>>().join("|");
    let marker = super::MARKER.trim_start_matches("# ");
    let instance = "@[ji][0-9]{7}[a-z]{0,3}\\.service$/";
    format!(
        "// {marker}
polkit.addRule(function(action, subject) {{
    if (action.id == \"org.freedesktop.systemd1.manage-units\" &&
        subject.user == \"{USER}\" &&
        ((action.lookup(\"verb\") == \"start\" &&
          /^gha-runner-({classes}){instance}.test(action.lookup(\"unit\"))) ||
         (action.lookup(\"verb\") == \"stop\" &&
          /^gha-runner-[A-Za-z0-9-]+{instance}.test(action.lookup(\"unit\"))))) {{
        return polkit.Result.YES;
    }}
}});
"
    )
}
