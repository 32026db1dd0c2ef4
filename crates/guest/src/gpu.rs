//! What a CDI specification wants done inside a container for its graphics processors: links, and the linker's cache. A
//! container's own root does it here, where container engines run hooks as the host's.
//!
//! None of it can keep a job from running: what cannot be done is printed.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use contract::guest_settings::GpuSettings;

/// Where the linker's own configuration lies, and the file in it: before those of distributions.
const OF_LINKER: (&str, &str) = ("etc/ld.so.conf.d", "00-gha-runner-gpu.conf");
/// Where the program is; a NixOS system has none, and its programs look into `/run/opengl-driver`.
const LDCONFIG: [&str; 2] = ["usr/sbin/ldconfig", "sbin/ldconfig"];
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Does it below `root`; what could not be done, one line each.
pub fn set_up(root: &Path, settings: &GpuSettings) -> Vec<String> {
    let mut problems = Vec::new();
    for link in &settings.links {
        let at = below(root, &link.at);
        let made = match at.symlink_metadata() {
            // The template's own, or the same as another.
            Ok(_) => Ok(()),
            Err(_) => at.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(&link.target, &at)),
        };
        if let Err(error) = made {
            problems.push(format!("cannot make the link {}: {error}", link.at.display()));
        }
    }
    if let Err(error) = name_libraries(root, &settings.libraries) {
        problems.push(format!("cannot name the libraries of graphics processors to the linker: {error}"));
    }
    problems
}

fn name_libraries(root: &Path, libraries: &[std::path::PathBuf]) -> io::Result<()> {
    let there: Vec<&str> =
        libraries.iter().filter(|library| below(root, library).is_dir()).filter_map(|its| its.to_str()).collect();
    let program = LDCONFIG.iter().map(|program| root.join(program)).find(|program| program.is_file());
    let (Some(program), false) = (program, there.is_empty()) else { return Ok(()) };
    let (directory, file) = OF_LINKER;
    let directory = root.join(directory);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(file), there.join("\n") + "\n")?;
    let mut linker = Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begun = Instant::now();
    loop {
        match linker.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("ldconfig ended with {status}"))),
            None if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            None => {
                linker.kill()?;
                linker.wait()?;
                return Err(io::Error::other(format!("ldconfig took longer than {PATIENCE:.0?}")));
            }
        }
    }
}

fn below(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use contract::guest_settings::SymbolicLink;

    use super::*;

    #[test]
    fn links_and_the_linkers_cache_are_made_and_what_cannot_be_is_named() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::create_dir_all(root.join("usr/lib/nvidia")).unwrap();
        let ldconfig = root.join("usr/sbin/ldconfig");
        let script = format!("#!/bin/sh\ncp {0}/etc/ld.so.conf.d/00-gha-runner-gpu.conf {0}/cache\n", root.display());
        fs::write(&ldconfig, script).unwrap();
        fs::set_permissions(&ldconfig, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let link = |at: &str, target: &str| SymbolicLink { at: at.into(), target: target.into() };
        let settings = GpuSettings {
            links: vec![
                link("/usr/lib/nvidia/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1"),
                link("/usr/lib/nvidia", "/elsewhere"),
                link("/file/below", "x"),
            ],
            libraries: vec!["/usr/lib/nvidia".into(), "/usr/lib/none".into()],
            ..GpuSettings::default()
        };
        let problems = set_up(root, &settings);
        assert!(matches!(&problems[..], [one] if one.contains("/file/below")), "{problems:?}");
        let made = fs::read_link(root.join("usr/lib/nvidia/gbm/nvidia-drm_gbm.so")).unwrap();
        assert_eq!(made, Path::new("../libnvidia-allocator.so.1"));
        assert!(root.join("usr/lib/nvidia").is_dir(), "what the template has stays");
        assert_eq!(fs::read_to_string(root.join("cache")).unwrap(), "/usr/lib/nvidia\n");
        fs::write(&ldconfig, "#!/bin/sh\nexit 3\n").unwrap();
        assert!(set_up(root, &settings).iter().any(|problem| problem.contains("exit status: 3")));
    }
}
