//! A real Gitea: how soon a queued job is known and runs, by polling and by its deliveries, and what an organisation of
//! 200 repositories costs it; at the default intervals.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use ::gitea::Gitea;
use anyhow::{Context, Result, bail, ensure};
use controller::{record::Timeline, status::Status};
use lab::Place;
use stage::{SERVICE, Stage, StageConfig, program, show};

use crate::{
    paths::Amount,
    report::{Report, TIMES, times},
    stats::{Sample, between},
};

const PATIENCE: Duration = Duration::from_secs(150);
const REPOSITORIES: usize = 200;
/// Time between two jobs of a path: no divisor of the poll interval.
const APART: Duration = Duration::from_millis(3100);
const SECRET: &str = "bench-webhook-secret";
/// The organisation of each path, by the name of its credential, with the repository in which something happens.
const PATHS: [(&str, &str, &str); 2] = [("polling", "acme", "acme/service-001"), ("webhook", "beta", "beta/hooked")];
const WORKFLOW: &str = "on: workflow_dispatch\njobs:\n  one:\n    runs-on: nix\n    steps:\n      - run: 'true'\n";

/// Measures it, on a stage of its own.
pub fn measure(amount: &Amount, report: Report) -> Result<()> {
    let (stage, gitea) = show::doing("Booting a host with the controller on it, and a Gitea", boot)?;
    let found = |status: &Status| status.targets.iter().any(|target| target.repositories == REPOSITORIES);
    stage.wait_for("the organisation's repositories are found", PATIENCE, found)?;
    // Each has been looked at once.
    sleep(Duration::from_secs(5));
    let before = calls(&stage)?;
    show::doing("Watching while nothing happens", || sleep(amount.idle));
    let idle = calls(&stage)? - before;
    let began = Instant::now();
    let jobs = show::doing("Jobs one after the other by each path", || sequence(&stage, &gitea, amount.jobs))?;
    let busy = calls(&stage)? - before - idle;
    let hour = |calls: f64, measured: Duration| format!("{:.0}", calls * 3600.0 / measured.as_secs_f64());
    let busy = hour(busy, began.elapsed());
    let mut rows = Vec::new();
    for (path, (name, ..)) in PATHS.iter().enumerate() {
        let of = |at: fn(&Timeline) -> Option<u64>| -> Sample {
            let jobs = jobs.iter().filter(|(of, ..)| *of == path);
            jobs.filter_map(|(_, queued, timeline)| Some(between(*queued, at(timeline)?))).collect()
        };
        rows.push(times(&format!("{name}: queued to known"), &of(|it| it.visible_ms), ""));
        rows.push(times(&format!("{name}: queued to runner started"), &of(|it| it.runner_started_ms), ""));
        rows.push(times(&format!("{name}: queued to job started"), &of(|it| it.job_started_ms), ""));
    }
    report.table("A Gitea's jobs", &TIMES, &rows, 1);
    let rows = [("idle", hour(idle, amount.idle)), ("a job every 3.1 s in one of them", busy)];
    let rows = rows.map(|(what, calls)| vec![what.to_owned(), calls]);
    report.table("An organisation of 200 repositories at a Gitea", &["", "calls an hour"], &rows, 1);
    show::doing("Taking it down", || drop(stage));
    Ok(())
}

fn boot() -> Result<(Stage, Gitea)> {
    let directory = "/etc/gha-runner-controller";
    let forge = format!("http://{}:{}", Place::Forge.address(), ::gitea::PORT);
    let mut targets = format!("[webhook]\naddress = \"0.0.0.0\"\n[[target]]\nrepo = \"{}\"\n", stage::REPO);
    for (name, org, _) in PATHS {
        targets += &format!(
            "[[target]]\norg = \"{org}\"\ncredential = \"{name}\"\n[credential.{name}]\nkind = \"gitea\"\n\
             url = \"{forge}\"\ntoken_file = \"{directory}/gitea\"\nwebhook_secret_file = \"{directory}/hook\"\n"
        );
    }
    let config = StageConfig {
        targets,
        files: [("hook", SECRET), ("gitea", "none-yet")]
            .map(|(name, text)| (format!("{directory}/{name}"), text.into(), 0o400))
            .to_vec(),
        top: "max_concurrent = 20\nidle_grace = \"5s\"\nboot_timeout = \"60s\"\nregistration_linger = \"3s\"\n"
            .to_owned(),
        act_runner: Some(program("fakeactrunner")?),
        classes: "[template.act]\npath = \"$template\"\nkind = \"gitea\"\n[class.small]\nlabels = [\"linux\"]\n\
                  [class.act]\ntemplate = \"act\"\nlabels = [\"nix:host\"]\n"
            .to_owned(),
        start: false,
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config)? else { bail!("the host cannot be booted here") };
    let Some(gitea) = Gitea::start(&stage.lab)? else { bail!("there is no Gitea") };
    for number in 1..=REPOSITORIES {
        gitea.create_repo("acme", &format!("service-{number:03}"))?;
    }
    gitea.create_repo("beta", "hooked")?;
    for (_, _, repo) in PATHS {
        gitea.write(repo, ".gitea/workflows/one.yml", WORKFLOW)?;
    }
    gitea.hook("/orgs/beta", &format!("http://{}:8081/webhook/webhook", Place::Host.address()), SECRET)?;
    stage.lab.write_host(&format!("{directory}/gitea"), gitea.token.as_bytes(), 0o400)?;
    stage.systemctl(&["start", SERVICE])?;
    Ok((stage, gitea))
}

/// Calls made for the polled organisation.
#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn calls(stage: &Stage) -> Result<f64> {
    let status = stage.status()?;
    let of = status.credentials.iter().find(|credential| credential.name == PATHS[0].0).context("no credential")?;
    Ok(of.calls.by_outcome().iter().map(|(_, count)| *count as f64).sum())
}

/// The path of each job, when it was queued, and what the controller knows of its container.
fn sequence(stage: &Stage, gitea: &Gitea, count: usize) -> Result<Vec<(usize, u64, Timeline)>> {
    let mut queued = Vec::new();
    for _ in 0..count {
        let next = Instant::now() + APART;
        for (path, (_, _, repo)) in PATHS.iter().enumerate() {
            let run = gitea.dispatch(repo, "one.yml")?;
            queued.push((path, now_ms()?, *repo, run));
        }
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let mut jobs = Vec::new();
    for (path, at, repo, run) in queued {
        let done = gitea.wait_completed(repo, run, PATIENCE)?;
        ensure!(done.conclusion.as_deref() == Some("success"), "{repo}: {done:#?}");
        let of = |status: &Status| {
            let mut ended = status.finished.iter().filter(|ended| ended.repo.contains(':'));
            ended.find(|ended| ended.job_id == Some(done.id)).map(|ended| ended.timeline.clone())
        };
        let status = stage.wait_for("the end of its container", PATIENCE, |status| of(status).is_some())?;
        jobs.push((path, at, of(&status).context("it ended a moment ago")?));
    }
    Ok(jobs)
}

fn now_ms() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}
