//! Whether the host's kernel grants what all containers together may need.

use std::{fs, io, path::Path};

use settings::Settings;

use super::Finding;
use crate::units::sysctl::{self, LIMITS, Shared};

/// One warning for each limit that is too low, or one finding that none is. `root` = the host's root.
pub fn limits(root: &Path, settings: &Settings) -> Vec<Finding> {
    let containers = settings.max_concurrent;
    let low: Vec<Finding> = LIMITS.iter().filter_map(|limit| low(root, limit, containers)).collect();
    if low.is_empty() {
        return vec![Finding::fine("host", format!("the kernel's limits suffice for {containers} containers at once"))];
    }
    low
}

fn low(root: &Path, limit: &Shared, containers: usize) -> Option<Finding> {
    let (key, needed) = (limit.key, limit.needed(containers));
    let file = root.join("proc/sys").join(key.replace('.', "/"));
    let granted = match fs::read_to_string(&file) {
        // A kernel that was built without it has no such limit.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unknown(key, &file, &error.to_string())),
        Ok(text) => match text.trim().parse::<u64>() {
            Err(error) => return Some(unknown(key, &file, &error.to_string())),
            Ok(granted) => granted,
        },
    };
    let why = if limit.each == 0 {
        format!("is {granted}, and one job may need {needed}: it cannot raise it itself")
    } else {
        format!(
            "is {granted}, and {containers} containers at once may need {needed}: what one job takes, others and the \
             host do not get"
        )
    };
    (granted < needed).then(|| {
        Finding::warning(
            key,
            why,
            format!(
                "write /etc/{} by `units`, or `{key} = {}` into a file that sorts behind it (NixOS: \
                 boot.kernel.sysctl), and run `systemctl restart systemd-sysctl`",
                sysctl::FILE,
                limit.written(containers)
            ),
        )
    })
}

fn unknown(key: &str, file: &Path, why: &str) -> Finding {
    Finding::warning(key, format!("cannot be read: {}: {why}", file.display()), "run check as root on the host itself")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::{Severity, worst};
    use settings::check::check;

    fn settings(max_concurrent: usize) -> Settings {
        let text = "token_file = \"/run/token\"\n[[target]]\nrepo = \"octo-org/hello\"\n";
        Settings { max_concurrent, ..check(toml::from_str(text).unwrap()).unwrap() }
    }

    /// A host whose kernel grants these.
    fn host(values: impl IntoIterator<Item = (&'static str, String)>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (key, value) in values {
            let file = root.path().join("proc/sys").join(key.replace('.', "/"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value + "\n").unwrap();
        }
        root
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_both_values_and_what_to_write() {
        let root = host([("fs.inotify.max_user_instances", "128".into()), ("kernel.pty.max", "1000000".into())]);
        let found = limits(root.path(), &settings(7));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].severity, found[0].about.as_str()), (Severity::Warning, "fs.inotify.max_user_instances"));
        let said = found[0].to_string();
        for words in [
            "is 128, and 7 containers at once may need 9088",
            "`systemctl restart systemd-sysctl`",
            "/etc/sysctl.d/60-gha-runner-controller.conf",
            "`fs.inotify.max_user_instances = 2147483647`",
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
    }

    #[test]
    fn a_kernel_with_its_defaults_is_warned_of_before_the_fourteenth_container_does_not_boot() {
        // Of a machine with 2 GiB.
        let defaults = LIMITS.iter().map(|limit| (limit.key, limit.least.min(8192).to_string()));
        let found = limits(host(defaults).path(), &settings(14));
        for key in ["fs.inotify.max_user_instances", "kernel.pty.max", "fs.aio-max-nr", "user.max_uts_namespaces"] {
            assert!(found.iter().any(|finding| finding.about == key), "{key} in {found:#?}");
        }
        assert_eq!(worst(&found), Severity::Warning, "limits that are too low keep nothing from being tried");
    }

    #[test]
    fn what_is_written_suffices_and_so_does_what_is_needed_and_one_less_does_not() {
        for containers in [1, 7, 1000] {
            let settings = settings(containers);
            let with = |value: &dyn Fn(&Shared) -> u64| {
                let values = LIMITS.iter().map(|limit| (limit.key, value(limit).to_string()));
                limits(host(values.collect::<Vec<_>>()).path(), &settings)
            };
            for enough in [with(&|limit| limit.written(containers)), with(&|limit| limit.needed(containers))] {
                assert_eq!(enough.len(), 1, "{enough:#?}");
                assert_eq!((enough[0].severity, enough[0].about.as_str()), (Severity::Fine, "host"));
            }
            let less = with(&|limit| limit.needed(containers) - 1);
            assert_eq!(less.len(), LIMITS.len());
        }
    }

    #[test]
    fn a_limit_the_kernel_does_not_have_is_none_and_one_that_is_no_number_is_told() {
        assert_eq!(worst(&limits(host([]).path(), &settings(7))), Severity::Fine);
        let found = limits(host([("fs.aio-max-nr", "many".into())]).path(), &settings(7));
        assert!(found.len() == 1 && found[0].to_string().contains("fs.aio-max-nr: cannot be read"), "{found:#?}");
    }
}
