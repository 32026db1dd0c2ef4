//! A real Gitea and a runner: the stand-in, or the real one whose path `GHA_LAB_GITEA_RUNNER` has.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod crowd;
mod endings;
mod hooks;
mod images;
mod jobs;
mod runner;
mod workflows;

use std::{path::PathBuf, time::Duration};

use controller::status::{Finished, Status};
use gitea::{GITEA_RUNNER, Gitea};
use lab::Place;
use stage::{SERVICE, Stage, StageConfig};

const MINUTE: Duration = Duration::from_secs(60);
const REPO: &str = "acme/app";
/// A target of the one credential, `own`.
const ACME: &str = "repo = \"acme/app\"";
/// How soon a job whose container was stopped has ended at the forge.
const ENDED_BY: Duration = Duration::from_secs(20);

fn runner_program() -> PathBuf {
    std::env::var_os(GITEA_RUNNER).map_or_else(|| stage::program("fakeactrunner").unwrap(), PathBuf::from)
}

/// A workflow that is started by hand, of one job with these steps.
fn workflow(label: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|step| format!("      - run: {step}\n")).collect();
    format!("on: workflow_dispatch\njobs:\n  one:\n    runs-on: {label}\n    steps:\n{steps}")
}

/// Where the file of a credential's token lies in the host.
fn token_file(credential: &str) -> String {
    format!("/etc/gha-runner-controller/token-{credential}")
}

/// The table of a credential for the lab's Gitea.
fn credential(name: &str) -> String {
    let (forge, file) = (format!("http://{}:{}", Place::Forge.address(), gitea::PORT), token_file(name));
    format!("[credential.{name}]\nkind = \"gitea\"\nurl = \"{forge}\"\ntoken_file = \"{file}\"\n")
}

/// A stage with these targets at a Gitea, by the credential `own`, beside one at the simulated GitHub; each forge has a
/// class of its own.
fn config(targets: &[&str]) -> StageConfig {
    let at_gitea: String =
        targets.iter().map(|target| format!("[[target]]\n{target}\ncredential = \"own\"\n")).collect();
    StageConfig {
        targets: format!(
            "[[target]]\nrepo = \"{}\"\nclasses = [\"small\"]\n{at_gitea}{}",
            stage::REPO,
            credential("own")
        ),
        // What is in it, the forge says once it is there.
        files: vec![(token_file("own"), b"none-yet".to_vec(), 0o400)],
        act_runner: Some(runner_program()),
        classes: "[template.act]\npath = \"$template\"\nkind = \"gitea\"\n\
                  [class.small]\nlabels = [\"self-hosted\", \"linux\"]\n\
                  [class.act]\ntemplate = \"act\"\nlabels = [\"nix:host\"]\n"
            .to_owned(),
        start: false,
        ..StageConfig::default()
    }
}

/// Boots it. `prepare` makes at the Gitea what is there before the controller starts, and gives the token of each
/// credential.
fn stage(
    config: StageConfig,
    prepare: impl FnOnce(&Gitea) -> anyhow::Result<Vec<(&'static str, String)>>,
) -> Option<(Stage, Gitea)> {
    let stage = Stage::boot(&config).unwrap()?;
    let gitea = Gitea::start(&stage.lab).unwrap()?;
    for (credential, token) in prepare(&gitea).unwrap() {
        stage.lab.write_host(&token_file(credential), token.as_bytes(), 0o400).unwrap();
    }
    stage.systemctl(&["start", SERVICE]).unwrap();
    Some((stage, gitea))
}

/// One repository, served with the administrator's token.
fn one_token(gitea: &Gitea) -> anyhow::Result<Vec<(&'static str, String)>> {
    gitea.create_repo("acme", "app")?;
    Ok(vec![("own", gitea.token.clone())])
}

/// Waits until a container that was booted for this job of a Gitea, or had it, has ended, and gives the last such.
fn finished(stage: &Stage, job: u64) -> Finished {
    let of = |status: &Status| {
        let at_gitea = |ended: &&std::sync::Arc<Finished>| ended.repo.contains(':') && ended.job_id == Some(job);
        status.finished.iter().filter(at_gitea).max_by_key(|ended| ended.name.clone()).map(|ended| (**ended).clone())
    };
    of(&stage.wait_for(&format!("the end of job {job}"), MINUTE, |status| of(status).is_some()).unwrap()).unwrap()
}

/// No container, and no registration at either forge.
fn nothing_left(stage: &Stage, gitea: &Gitea) {
    stage.wait_until_clean(MINUTE).unwrap();
    assert_eq!(gitea.runners("/admin").unwrap(), Vec::<String>::new());
}
