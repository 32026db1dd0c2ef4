//! The demonstration: a simulated GitHub, a real systemd host, jobs of all kinds, and the proof that nothing is left.
//!
//! Exit status 0 = every job ended as it should and nothing was left anywhere.

mod cast;
mod live;
mod proof;
mod story;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use controller::{phase::Phase, status::Status};
use stage::{Stage, StageConfig, show};

use cast::{Fate, MAX_CONCURRENT, OTHER_REPO, Part};
use live::Live;

/// Longest wait for all jobs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest wait for registrations to be settled.
const SETTLING: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match demonstrate() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            println!("\n{wrong} thing(s) not as they should be.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many things are not as they should be.
fn demonstrate() -> anyhow::Result<usize> {
    let begun = Instant::now();
    println!("The first time on a machine, two Debian trees are built: a minute or two.");
    let what = "Booting a systemd host with the controller on it, and a simulated GitHub";
    let Some(stage) = show::doing(what, || Stage::boot(&config()))? else {
        bail!("the host cannot be booted here");
    };
    show::headline("Jobs");
    let parts = cast::queue_all(&stage)?;
    let status = watch(&stage, &parts)?;
    let jobs = stage.hub.jobs()?;
    show::headline("What became of them");
    let wrong = story::tell(&parts, &jobs, &status);
    if let Some(part) = parts.iter().find(|part| part.name == "who am I") {
        story::quote(&stage, part, &jobs, &status)?;
    }
    show::headline("What is left on the host and at the forge");
    let unclean = proof::show(&stage, &parts, &stage.hub.jobs()?)?;
    println!();
    show::doing("Taking it all down", || drop(stage));
    println!("{:.1} s in all.", begun.elapsed().as_secs_f64());
    Ok(wrong + unclean)
}

fn config() -> StageConfig {
    let default = StageConfig::default();
    StageConfig {
        more_repos: vec![OTHER_REPO.to_owned()],
        top: format!("max_concurrent = {MAX_CONCURRENT}\n{}", default.top),
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\nmemory = \"1G\"\n\
                  [class.large]\nlabels = [\"big-memory\"]\nmemory = \"4G\"\n"
            .to_owned(),
        ..default
    }
}

/// Shows the jobs until all are over and everything is settled.
fn watch(stage: &Stage, parts: &[Part]) -> anyhow::Result<Status> {
    let mut live = Live::new();
    live.note(&format!("{} jobs queued in two repositories; at most {MAX_CONCURRENT} containers at once", parts.len()));
    let mut to_cancel = parts.iter().find(|part| part.fate == Fate::CancelledBeforePickup);
    let deadline = Instant::now() + PATIENCE;
    let mut settled_by = None;
    loop {
        let status = stage.status()?;
        live.show(&status);
        if let Some(part) = to_cancel
            && status.active_containers.iter().any(|c| c.job_id == Some(part.id.0) && c.phase < Phase::Running)
        {
            stage.hub.cancel_job(part.id).context("cannot cancel")?;
            live.note(&format!("\"{}\" is cancelled at the forge while its container boots", part.name));
            to_cancel = None;
        }
        let now = Instant::now();
        let settled = status.active_containers.is_empty() && status.settling.is_empty();
        let over = match settled_by {
            Some(_) => true,
            None => {
                let jobs = stage.hub.jobs()?;
                parts.iter().all(|part| jobs.iter().any(|job| job.id == part.id && cast::is_over(part, job)))
            }
        };
        if over && settled {
            live.erase();
            return Ok(status);
        }
        if over && settled_by.is_none() {
            settled_by = Some(now + SETTLING);
            live.note("every job is over; waiting for the last containers and registrations to go");
        }
        if now > settled_by.unwrap_or(deadline) {
            // The story and the proof say what is wrong.
            live.note("this takes too long");
            return Ok(status);
        }
        std::thread::sleep(PAUSE);
    }
}
