//! Whether this machine can run a lab at all.

use std::path::Path;

const PROGRAMS: &[&str] = &["mmdebstrap", "systemd-nspawn", "unshare", "nsenter", "setpriv", "flock", "ip"];

/// Why no lab can boot on this machine, or `None` when one can. A test that gets a reason prints it and returns.
#[must_use]
pub fn missing_requirement() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the lab needs root".to_owned());
    }
    if let Some(program) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return Some(format!("the lab needs {program}: run tests/setup.sh as root"));
    }
    if !Path::new("/proc/self/ns/cgroup").exists() {
        return Some("the lab needs a kernel with control group namespaces".to_owned());
    }
    None
}

/// Whether a program is where programs are.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|directory| directory.join(program).exists())
}
