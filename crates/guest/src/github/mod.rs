//! GitHub's runner.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, chown},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use contract::guest_settings::GuestSettings;
use rustix::fs::{Mode, OFlags};

use crate::{
    account::Account,
    dialect::{Dialect, Prepared},
    hook, runner, variables,
};

pub mod console;
pub mod grant;
pub mod pages;

/// Where the runner puts the job's output, below its root directory.
const PAGES: [&str; 2] = ["_diag", "pages"];

/// Writes the runner's files from its JIT configuration.
pub fn prepare(settings: &GuestSettings, account: &Account, jit_config: &str) -> anyhow::Result<Prepared> {
    let program = &settings.runner;
    let resolved =
        fs::canonicalize(program).with_context(|| format!("cannot use the runner program {}", program.display()))?;
    let root = settings.runner_root(env::var_os("RUNNER_ROOT").map(PathBuf::from), &resolved);
    let pages = lay_out(&root, account)?;
    variables::add_to_runner(&root, &variables::of(settings))?;
    let files = grant::files(jit_config)?;
    grant::write(&files, &root, account)?;
    let hook = match settings.allow_forks {
        true => None,
        false => Some(hook::install(Path::new(hook::DIRECTORY), &env::current_exe()?, &root)?),
    };
    Ok(Prepared {
        dialect: Dialect::Github,
        arguments: vec!["run".to_owned()],
        environment: environment(account, &root, env::var("PATH").ok(), hook.as_deref())
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        directory: root,
        pages: Some(pages),
        forge: grant::service(&files),
        asks: hook.is_some(),
    })
}

/// Makes the runner's root directory the job user's and opens the directory of job output in it.
fn lay_out(root: &Path, account: &Account) -> anyhow::Result<OwnedFd> {
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

/// `hook` = what runs before the first step of the job.
fn environment(
    account: &Account,
    root: &Path,
    path: Option<String>,
    hook: Option<&Path>,
) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut environment = runner::environment(account, path);
    environment.extend([
        ("RUNNER_ROOT", text(root)),
        // Exit status 7 instead of 1 when the forge refuses the version (docs/github.md#runner-exit-codes).
        ("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1".to_owned()),
        (
            "GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT",
            concat!("gha-runner-controller/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ]);
    environment.extend(hook.map(|hook| (hook::VARIABLE, text(hook))));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_told_its_root_and_the_hook_if_there_is_one() {
        let account = Account {
            name: "runner".into(),
            uid: 4242,
            gid: 4243,
            groups: vec![4243],
            home: "/home/runner".into(),
            shell: "/bin/bash".into(),
        };
        let root = Path::new("/opt/actions-runner");
        let without = environment(&account, root, None, None);
        assert!(without.contains(&("RUNNER_ROOT", "/opt/actions-runner".to_owned())));
        let with = environment(&account, root, None, Some(Path::new("/run/hook.sh")));
        assert_eq!(with.len(), without.len() + 1);
        assert!(with.contains(&(hook::VARIABLE, "/run/hook.sh".to_owned())));
    }
}
