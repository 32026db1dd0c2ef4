//! Starts the forge's runner program as the job user and listens to what it prints.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, chown},
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context;
use contract::guest_settings::GuestSettings;
use rustix::{
    fs::{Mode, OFlags},
    process::{Gid, Uid},
};
use tokio::process::{Child, Command};

use super::{account::Account, hook};

/// Where the runner puts the job's output, below its root directory.
const PAGES: [&str; 2] = ["_diag", "pages"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the runner program lies, links resolved.
pub fn resolved(settings: &GuestSettings) -> anyhow::Result<PathBuf> {
    let program = &settings.runner;
    fs::canonicalize(program).with_context(|| format!("cannot use the runner program {}", program.display()))
}

/// Makes the runner's root directory the job user's and opens the directory of job output in it.
pub fn lay_out(root: &Path, account: &Account) -> anyhow::Result<OwnedFd> {
    let mut directory = root.to_owned();
    make(&directory, account)?;
    for part in PAGES {
        directory.push(part);
        make(&directory, account)?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(&directory, flags, Mode::empty()).with_context(|| format!("cannot open {}", directory.display()))
}

fn make(directory: &Path, account: &Account) -> anyhow::Result<()> {
    let made = || -> io::Result<()> {
        match DirBuilder::new().mode(0o755).recursive(true).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        chown(directory, Some(account.uid), Some(account.gid))
    };
    made().with_context(|| format!("cannot make {}", directory.display()))
}

/// Everything the job's environment starts from; nothing of the guest's own gets in but its search path, which the
/// template's unit decides.
/// `hook` = what runs before the first step of the job.
pub fn environment(
    account: &Account,
    root: &Path,
    path: Option<String>,
    hook: Option<&Path>,
) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut environment = vec![
        ("HOME", text(&account.home)),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", text(&account.shell)),
        ("PATH", path.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned())),
        ("LANG", "C.UTF-8".to_owned()),
        ("RUNNER_ROOT", text(root)),
        // Exit status 7 instead of 1 when the forge refuses the version (docs/github.md#runner-exit-codes).
        ("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1".to_owned()),
        (
            "GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT",
            concat!("gha-runner-controller/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ];
    environment.extend(hook.map(|hook| (hook::VARIABLE, text(hook))));
    environment
}

/// Starts the runner. Needs a runtime.
pub fn start(
    settings: &GuestSettings,
    root: &Path,
    account: &Account,
    path: Option<String>,
    hook: Option<&Path>,
) -> anyhow::Result<Child> {
    let program = &settings.runner;
    let shown = program.display();
    let mut command = Command::new(program);
    command
        .arg("run")
        .env_clear()
        .envs(environment(account, root, path, hook))
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals to the guest's group are not for the runner, which is told by the guest how to stop.
        .process_group(0);
    spawn_as(account, command).with_context(|| format!("cannot start the runner program {shown}"))
}

/// Starts `command` with the ids of `account`.
///
/// On Linux credentials belong to a thread and a new process inherits those of the thread that starts it. So a thread
/// becomes the job user, starts the process and ends. The standard library can set user and group of a child, but not
/// its supplementary groups.
fn spawn_as(account: &Account, mut command: Command) -> io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let _inside = runtime.enter();
            let groups: Vec<Gid> = account.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
            rustix::thread::set_thread_groups(&groups)?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            command.spawn()
        });
        started.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn account() -> Account {
        Account {
            name: "runner".into(),
            uid: 4242,
            gid: 4243,
            groups: vec![4243, 4244],
            home: "/home/runner".into(),
            shell: "/bin/bash".into(),
        }
    }

    #[test]
    fn the_environment_is_the_users_and_has_no_credentials() {
        let environment = environment(&account(), Path::new("/opt/actions-runner"), None, None);
        let keys: Vec<&str> = environment.iter().map(|(key, _)| *key).collect();
        assert!(!keys.contains(&"CREDENTIALS_DIRECTORY"));
        assert!(environment.contains(&("RUNNER_ROOT", "/opt/actions-runner".to_owned())));
        assert!(environment.contains(&("PATH", DEFAULT_PATH.to_owned())));
    }

    #[tokio::test]
    async fn a_child_is_the_user_with_its_groups_and_no_more() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can become somebody else");
            return;
        }
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "id -u; id -g; id -G; grep CapEff /proc/self/status"])
            .stdout(Stdio::piped())
            .current_dir("/");
        let child = spawn_as(&account(), command).unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("4242\n4243\n4243 4244\nCapEff:\t0000000000000000"), "{text}");
        assert!(rustix::process::geteuid().is_root(), "only the thread changed");
    }
}
