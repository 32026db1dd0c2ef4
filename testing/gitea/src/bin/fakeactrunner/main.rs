//! A stand-in for the runners of Gitea and Forgejo: it takes one job from the real server, runs its `run:` steps, prints
//! what gitea-runner 1.0 prints, and misbehaves as that one does: a job that is cancelled at the server runs to its end,
//! and one that is stopped by a signal is reported as a success.
//!
//! Called as the real ones are: `fakeactrunner daemon -c config.yaml`, `fakeactrunner one-job --wait -c config.yaml`. With
//! a file `never-fetches` beside the program it asks for no job.

mod image;
mod job;
mod log;
mod remote;
mod steps;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use self::{
    job::{Ending, Job},
    log::log,
    remote::Remote,
};

/// What the real one says it is.
const VERSION: &str = "v1.0.8";
/// Pause between two questions for a job.
const FETCH: Duration = Duration::from_secs(1);

/// The part of the configuration that counts here.
#[derive(Debug, Deserialize)]
struct Config {
    runner: RunnerConfig,
}

#[derive(Debug, Deserialize)]
struct RunnerConfig {
    file: String,
    #[serde(default)]
    hooks: Hooks,
}

#[derive(Debug, Default, Deserialize)]
struct Hooks {
    job_started: Option<String>,
}

/// The `.runner` file.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Registration {
    pub(crate) uuid: String,
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) labels: Vec<String>,
}

/// Whose runner this stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Gitea,
    Forgejo,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let flavour = match arguments.first().map(String::as_str) {
        Some("daemon") => Flavour::Gitea,
        Some("one-job") => Flavour::Forgejo,
        _ => bail!("usage: fakeactrunner daemon -c FILE | one-job --wait -c FILE [--handle=HANDLE]"),
    };
    let config = arguments.iter().position(|argument| argument == "-c").and_then(|at| arguments.get(at + 1));
    let config = fs::read_to_string(config.context("no -c")?)?;
    let config: Config = serde_saphyr::from_str(&config).context("the configuration")?;
    let registration: Registration = serde_json::from_str(&fs::read_to_string(&config.runner.file)?)?;
    let handle = arguments.iter().find_map(|argument| argument.strip_prefix("--handle="));
    let mut stop = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    log("info", if flavour == Flavour::Gitea { "Starting runner daemon" } else { "Starting job" }, None);
    let remote = Remote::new(&registration)?;
    let name = &registration.name;
    let labels: Vec<&str> = registration.labels.iter().filter_map(|label| label.split(':').next()).collect();
    if let Err(error) = remote.call("Declare", &json!({ "version": VERSION, "labels": labels })).await {
        log("error", "fail to invoke Declare", Some(&error.to_string()));
        return Err(error);
    }
    let word = if flavour == Flavour::Gitea { "declare" } else { "declared" };
    let labels = labels.join(" ");
    log(
        "info",
        &format!("runner: {name}, with version: {VERSION}, with labels: [{labels}], {word} successfully"),
        None,
    );
    let end = tokio::select! {
        task = fetch(&remote, handle) => {
            let job = Job::new(&remote, &task, &registration.labels, config.runner.hooks.job_started.as_deref())?;
            log("info", &format!("task {} repo is {} https://github.com {}", job.id, job.repository, registration.address), None);
            job.run(stopped(&mut stop), match flavour {
                Flavour::Gitea => Ending::Success,
                Flavour::Forgejo => Ending::Failure,
            }).await
        }
        () = stopped(&mut stop) => Ok(()),
    };
    if flavour == Flavour::Gitea {
        let line =
            format!("runner: {name} shutdown initiated, waiting 0s for running jobs to complete before shutting down");
        log("info", &line, None);
    }
    end
}

async fn stopped([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Asks until there is a job.
async fn fetch(remote: &Remote, handle: Option<&str>) -> Value {
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join("never-fetches")));
    let never = beside.is_some_and(|file: std::path::PathBuf| Path::new(&file).exists());
    loop {
        if !never {
            let answer = match handle {
                None => remote.call("FetchTask", &json!({ "tasksVersion": "0" })).await,
                Some(handle) => remote.call("FetchSingleTask", &json!({ "tasksVersion": "0", "handle": handle })).await,
            };
            match answer {
                Ok(mut answer) if answer["task"].is_object() => return answer["task"].take(),
                Ok(_) => {}
                Err(error) => log("error", "failed to fetch task", Some(&error.to_string())),
            }
        }
        sleep(FETCH).await;
    }
}
