//! The guest of a directory tree: the host brings the program and its unit, so that host and guest are of one version and a
//! template owes neither.
//!
//! A NixOS system has both in the Nix store; its configuration names them (`nix/container.nix`).

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use contract::{
    event::GuestExit,
    guest_settings::{GRANT_CREDENTIAL, PROGRAM, SETTINGS_CREDENTIAL},
};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::{
    nspawn::{MOST_FILES, USUAL_LOCKED},
    rootfs,
};

/// File name of the guest's program, on the host beside this one.
const FILE: &str = "gha-runner-guest";
/// Where the unit lies in the container: before those of the template (systemd.unit(5)).
const UNITS: &str = "etc/systemd/system";
/// The unit's name.
const UNIT: &str = "gha-runner-guest.service";
/// What starts it.
const WANTS: &str = "etc/systemd/system/basic.target.wants";

/// Files the job may have open at once unless it asks for more.
const JOB_FILES: u64 = 65_536;

/// The guest's program on the host; `program` is this one.
pub fn beside(program: &Path) -> PathBuf {
    program.with_file_name(FILE)
}

/// Puts the unit into the container's root file system in `layers`, and a file for the program to be mounted on. What the
/// template has of these names is replaced. Everything belongs to the container's root.
pub fn put(layers: &Path, program: &Path, uid_base: u32) -> anyhow::Result<()> {
    let usable = fs::metadata(program)
        .with_context(|| format!("the guest's program is missing: {}. Install it there", program.display()))?;
    ensure!(
        usable.is_file() && usable.permissions().mode() & 0o001 != 0,
        "the guest's program {} is not a file that everybody may run",
        program.display()
    );
    let file = Path::new(PROGRAM.trim_start_matches('/'));
    write(layers, file, b"", uid_base)?;
    write(layers, &Path::new(UNITS).join(UNIT), unit(Path::new(PROGRAM)).as_bytes(), uid_base)?;
    let wants = rootfs::make_directory(layers, Path::new(WANTS), uid_base)?;
    match rustix::fs::symlinkat(format!("../{UNIT}"), &wants, UNIT) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot enable {UNIT} in the container")),
    }
}

/// Writes a file anew, without following a link, and gives it to the container's root.
pub(super) fn write(layers: &Path, path: &Path, content: &[u8], uid_base: u32) -> anyhow::Result<()> {
    let (parent, name) =
        (path.parent().context("a file has a parent")?, path.file_name().context("a file has a name")?);
    let parent = rootfs::make_directory(layers, parent, uid_base)?;
    let make = || -> io::Result<()> {
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
        file.write_all(content)?;
        Ok(rustix::fs::fchown(&file, Some(Uid::from_raw(uid_base)), Some(Gid::from_raw(uid_base)))?)
    };
    make().with_context(|| format!("cannot write /{} in the container", path.display()))
}

/// The unit; `program` is the guest's path inside the container.
///
/// It starts with the first units there are and takes the container down with it, whichever way it ends.
pub fn unit(program: &Path) -> String {
    let program = program.display();
    let own: Vec<String> =
        GuestExit::ALL.iter().map(|exit| exit.code()).filter(|code| *code != 0).map(|code| code.to_string()).collect();
    let own = own.join(" ");
    format!(
        "# Written by gha-runner-controller; changes are lost.

[Unit]
Description=Job of this container
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
# What starts on first use is not waited for, and when the container is stopped it outlives the job that uses it.
After=docker.service containerd.service nix-daemon.service
ConditionVirtualization=container
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=exec
ExecStart={program}
LoadCredential={GRANT_CREDENTIAL}
LoadCredential={SETTINGS_CREDENTIAL}
# What the guest says by them is no failure of this unit, after which systemd 258 and newer keeps the container for
# five seconds more. Either action takes the status to the host.
SuccessExitStatus={own}
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
# The runner is asked first and gets 60 seconds; what is left is killed.
KillMode=mixed
TimeoutStopSec=75
# A process of the job that runs out of memory is the job's business.
OOMPolicy=continue
TasksMax=infinity
# A job begins with as many files as on the forge's own machines, and may ask for more.
LimitNOFILE={JOB_FILES}:{MOST_FILES}
LimitMEMLOCK={USUAL_LOCKED}:infinity
Delegate=yes

[Install]
WantedBy=basic.target
"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join(FILE);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(home.path().join("root/etc/systemd/system/basic.target.wants")).unwrap();
        (home, program)
    }

    #[test]
    fn the_unit_and_a_place_for_the_program_belong_to_the_containers_root_in_place_of_older_ones() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let (home, program) = tree();
        let system = home.path().join("root/etc/systemd/system");
        fs::write(system.join(UNIT), "an older version's").unwrap();
        symlink("/somewhere", system.join("basic.target.wants").join(UNIT)).unwrap();
        put(home.path(), &program, 70_000).unwrap();
        assert_eq!(fs::read_to_string(system.join(UNIT)).unwrap(), unit(Path::new(PROGRAM)));
        for path in ["etc/systemd/system/gha-runner-guest.service", PROGRAM.trim_start_matches('/')] {
            assert_eq!(fs::metadata(home.path().join("root").join(path)).unwrap().uid(), 70_000, "{path}");
        }
    }

    #[test]
    fn a_link_of_the_template_leads_nowhere_else_and_a_missing_program_is_named() {
        let (home, program) = tree();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), home.path().join("root/usr")).unwrap();
        assert!(put(home.path(), &program, 70_000).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        fs::remove_file(&program).unwrap();
        let error = format!("{:#}", put(home.path(), &program, 70_000).unwrap_err());
        assert!(error.contains(program.to_str().unwrap()) && error.contains("Install it there"), "{error}");
    }

    #[test]
    fn an_end_the_guest_chose_is_no_failure_of_its_unit_and_every_other_is() {
        let unit = unit(Path::new(PROGRAM));
        let named: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SuccessExitStatus=")).collect();
        assert_eq!(named.len(), 1, "{unit}");
        // Numbers alone: a guest that a signal ended has failed.
        let named: Vec<i32> = named[0].split(' ').map(|status| status.parse().unwrap()).collect();
        for status in 1..=255 {
            assert_eq!(named.contains(&status), GuestExit::from_code(status).is_some(), "{status}");
        }
        // The status reaches the host whichever it is.
        for action in ["SuccessAction=exit-force", "FailureAction=exit-force"] {
            assert!(unit.lines().any(|line| line == action), "{unit}");
        }
        assert!(!unit.contains("ActionExitStatus="), "{unit}");
    }
}
