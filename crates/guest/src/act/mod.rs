//! The runners of Gitea and Forgejo, which share their files, their lines and most of their ways.

use std::{
    env,
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use anyhow::Context;
use contract::{ActFlavour, ActRunner, guest_settings::GuestSettings};
use serde_json::{Value, json};

use crate::{
    account::Account,
    dialect::{Dialect, Prepared},
    hook, runner, variables,
};

pub mod console;

/// Where the runner's own files lie: the job user's alone, and on a tmpfs.
pub const DIRECTORY: &str = "/run/gha-runner-act";
/// The runner's configuration, as its arguments name it.
pub const CONFIG: &str = "/run/gha-runner-act/config.yaml";
const REGISTRATION: &str = "/run/gha-runner-act/.runner";
/// Longest job by the runner's own watch: the host's is the one that counts.
const LONGEST: &str = "168h";

/// Writes the runner's registration and its configuration.
pub fn prepare(settings: &GuestSettings, account: &Account, runner: &ActRunner) -> anyhow::Result<Prepared> {
    // Forgejo's is bound to a job that the controller has judged.
    let asks = runner.flavour == ActFlavour::Gitea && !settings.allow_forks;
    let hook = match asks {
        true => Some(hook::install_program(Path::new(hook::DIRECTORY), &env::current_exe()?)?),
        false => None,
    };
    make_directory(Path::new(DIRECTORY), account)?;
    for (file, content) in [(REGISTRATION, registration(runner)), (CONFIG, configuration(hook.as_deref()))] {
        write(Path::new(file), &content, account)?;
    }
    let mut environment = runner::environment(account, env::var("PATH").ok());
    environment.extend(variables::of(settings));
    Ok(Prepared {
        dialect: match runner.flavour {
            ActFlavour::Gitea => Dialect::Gitea,
            ActFlavour::Forgejo => Dialect::Forgejo,
        },
        arguments: arguments(runner),
        directory: account.home.clone(),
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        pages: None,
        forge: Some(runner.url.clone()),
        asks,
    })
}

/// In the `.runner` file, which the runner takes as its own when every label has its schema.
fn registration(runner: &ActRunner) -> Value {
    let ActRunner { url, id, uuid, token, name, labels, .. } = runner;
    json!({ "id": id, "uuid": uuid, "name": name, "token": token, "address": url, "labels": labels, "ephemeral": true })
}

/// As JSON, which is YAML.
fn configuration(hook: Option<&Path>) -> Value {
    let mut runner = json!({
        "file": REGISTRATION,
        "capacity": 1,
        "timeout": LONGEST,
        "shutdown_timeout": "0s",
        "fetch_interval": "2s",
        "fetch_timeout": "5s",
    });
    if let Some(hook) = hook {
        runner["hooks"] = json!({ "job_started": hook });
    }
    json!({
        "log": { "level": "info" },
        "runner": runner,
        // A cache that ends with its container serves nobody.
        "cache": { "enabled": false },
        // The container's own Docker, and its socket is not for the images that jobs run in.
        "container": { "docker_host": "-" },
    })
}

fn arguments(runner: &ActRunner) -> Vec<String> {
    let config = ["-c", CONFIG].map(str::to_owned);
    match runner.flavour {
        ActFlavour::Gitea => std::iter::once("daemon".to_owned()).chain(config).collect(),
        ActFlavour::Forgejo => {
            let handle = runner.handle.iter().map(|handle| format!("--handle={handle}"));
            ["one-job", "--wait"].map(str::to_owned).into_iter().chain(config).chain(handle).collect()
        }
    }
}

fn make_directory(directory: &Path, account: &Account) -> anyhow::Result<()> {
    let make = || -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(directory)?;
        chown(directory, Some(account.uid), Some(account.gid))
    };
    make().with_context(|| format!("cannot make {}", directory.display()))
}

/// For the job user alone. Nothing of the job runs yet.
fn write(file: &Path, content: &Value, account: &Account) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file: std::fs::File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        file.write_all(content.to_string().as_bytes())?;
        fchown(&file, Some(account.uid), Some(account.gid))
    };
    let shown: PathBuf = file.to_owned();
    write().with_context(|| format!("cannot write {}", shown.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    use super::*;

    fn runner(flavour: ActFlavour, handle: Option<&str>) -> ActRunner {
        ActRunner {
            flavour,
            url: "http://forge".into(),
            id: 2,
            uuid: "u-u".into(),
            token: "swordfish".into(),
            name: "lab.j0000001".into(),
            labels: vec!["nix:host".into(), "builder:docker://debian:trixie".into()],
            handle: handle.map(str::to_owned),
        }
    }

    #[test]
    fn the_registration_is_in_a_file_and_not_in_the_arguments() {
        let found = registration(&runner(ActFlavour::Gitea, None));
        assert_eq!(
            found,
            json!({"id": 2, "uuid": "u-u", "name": "lab.j0000001", "token": "swordfish", "address": "http://forge",
                "labels": ["nix:host", "builder:docker://debian:trixie"], "ephemeral": true})
        );
        assert_eq!(arguments(&runner(ActFlavour::Gitea, None)), ["daemon", "-c", CONFIG]);
        assert_eq!(arguments(&runner(ActFlavour::Forgejo, None)), ["one-job", "--wait", "-c", CONFIG]);
        // One argument, whatever the forge calls the job.
        assert_eq!(arguments(&runner(ActFlavour::Forgejo, Some("-x")))[4..], ["--handle=-x"]);
    }

    #[test]
    fn the_hook_is_named_if_there_is_one() {
        assert!(configuration(None)["runner"].get("hooks").is_none());
        let with = configuration(Some(Path::new("/run/hook")));
        assert_eq!(with["runner"]["hooks"]["job_started"], "/run/hook");
        assert_eq!(with["container"]["docker_host"], "-", "no socket for the job's image");
    }

    #[test]
    fn the_files_are_the_users_alone_and_no_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let me = fs::metadata(home.path()).unwrap();
        let account = Account {
            name: "runner".into(),
            uid: me.uid(),
            gid: me.gid(),
            groups: vec![],
            home: "/".into(),
            shell: "/bin/sh".into(),
        };
        let directory = home.path().join("act");
        make_directory(&directory, &account).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(make_directory(&directory, &account).is_err(), "somebody was there before");
        let file = directory.join(".runner");
        write(&file, &registration(&runner(ActFlavour::Gitea, None)), &account).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let link = directory.join("config.yaml");
        std::os::unix::fs::symlink(home.path().join("outside"), &link).unwrap();
        assert!(write(&link, &configuration(None), &account).is_err());
        assert!(!home.path().join("outside").exists());
    }
}
