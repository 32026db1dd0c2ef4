//! Starts the forge's runner program as the job user and listens to what it prints.

use std::{io, path::Path, process::Stdio};

use anyhow::Context;
use rustix::process::{Gid, Uid};
use tokio::process::{Child, Command};

use super::{account::Account, dialect::Prepared};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the environment of every runner, and so of its job, starts from; nothing of the guest's own gets in but its search
/// path, which the template's unit decides.
pub fn environment(account: &Account, path: Option<String>) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    vec![
        ("HOME", text(&account.home)),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", text(&account.shell)),
        ("PATH", path.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned())),
        ("LANG", "C.UTF-8".to_owned()),
    ]
}

/// Starts the runner. Needs a runtime.
pub fn start(program: &Path, prepared: &Prepared, account: &Account) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(&prepared.arguments)
        .env_clear()
        .envs(prepared.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&prepared.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals to the guest's group are not for the runner, which is told by the guest how to stop.
        .process_group(0);
    spawn_as(account, command).with_context(|| format!("cannot start the runner program {}", program.display()))
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
        let environment = environment(&account(), None);
        let keys: Vec<&str> = environment.iter().map(|(key, _)| *key).collect();
        assert!(!keys.contains(&"CREDENTIALS_DIRECTORY"));
        assert!(environment.contains(&("HOME", "/home/runner".to_owned())));
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
