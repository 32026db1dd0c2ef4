//! Names of our runners at the forge: how they are made, and how our own are told from everybody else's.

use std::collections::BTreeSet;

use contract::ContainerName;
use forge::Runner;

/// `<host>.<class>.<container>.<attempt>`: at most 64 characters, and no host's names begin like another's.
pub fn runner_name(host: &str, class: &str, name: &ContainerName, attempt: u64) -> String {
    format!("{host}.{class}.{name}.{:06x}", attempt & 0xff_ffff)
}

/// The container in a name that this host gave; `None` for everybody else's names.
pub fn container_of(host: &str, runner_name: &str) -> Option<ContainerName> {
    let mut parts = runner_name.strip_prefix(host)?.strip_prefix('.')?.split('.');
    let (class, name, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    let shaped = parts.next().is_none()
        && !class.is_empty()
        && attempt.len() == 6
        && attempt.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    name.parse().ok().filter(|_| shaped)
}

/// Registrations that this host made, that nobody claims, and that neither have a job nor are connected: what is left
/// when an answer or a state directory was lost. Others' are never among them (docs/github.md#orphaned-registrations).
pub fn ghosts(runners: Vec<Runner>, host: &str, claimed: &BTreeSet<&str>) -> Vec<Runner> {
    runners
        .into_iter()
        .filter(|runner| container_of(host, &runner.name).is_some() && !claimed.contains(runner.name.as_str()))
        .filter(|runner| !runner.busy && !runner.online)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn runner(name: &str, online: bool, busy: bool) -> Runner {
        Runner { id: 1, name: name.to_owned(), online, busy }
    }

    #[test]
    fn only_our_own_unclaimed_idle_and_unconnected_registrations_are_ghosts() {
        let claimed = BTreeSet::from(["ci.small.j0000002.00beef"]);
        for (name, online, busy, ghost) in [
            ("ci.small.j0000001.00beef", false, false, true),
            ("ci.small.i0000001ab.00beef", false, false, true),
            ("ci.small.j0000001.00beef", true, false, false),
            ("ci.small.j0000001.00beef", false, true, false),
            ("ci.small.j0000002.00beef", false, false, false),
            ("ci.runner-1", false, false, false),
            ("ci.small.j0000001", false, false, false),
            ("ci.small.j0000001.00BEEF", false, false, false),
            ("ci.small.j0000001.00beef.old", false, false, false),
            ("ci2.small.j0000001.00beef", false, false, false),
            ("my-ci.small.j0000001.00beef", false, false, false),
        ] {
            let found = ghosts(vec![runner(name, online, busy)], "ci", &claimed);
            assert_eq!(!found.is_empty(), ghost, "{name} online={online} busy={busy}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_known_again_by_the_host_that_gave_it_and_by_no_other(
            host in "[a-z0-9][a-z0-9-]{0,19}", other in "[a-z0-9][a-z0-9-]{0,19}",
            class in "[a-z][a-z0-9]{0,23}", job: u64, attempt: u64,
        ) {
            let container = ContainerName::for_job(job, |_| false).unwrap();
            let name = runner_name(&host, &class, &container, attempt);
            prop_assert!(name.len() <= 64);
            prop_assert_eq!(container_of(&host, &name), Some(container));
            prop_assert!(host == other || container_of(&other, &name).is_none());
        }
    }
}
