//! Connect, listen, run one job.

use crate::{
    code, console,
    dispatch::{Dispatch, Order},
    failed,
    root::{Root, is_truthy},
    session::{Session, Streak},
    stop::Stop,
    version,
};
use github_sim::{
    jit::{JitConfig, is_true},
    runner_service::JobMessage,
    world::RunnerResult,
};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Pause between two questions that were answered at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What the broker said.
#[derive(Debug)]
enum Heard {
    /// There is a job.
    Job(Value),
    /// The job is cancelled.
    Cancel,
    /// The configuration is to be read anew.
    Refresh,
    /// The runner is not wanted any more.
    End(End),
}

/// How that ends a runner.
#[derive(Debug)]
enum End {
    /// The registration is gone.
    NotFound,
    /// So it says, with this status.
    Failed(String, u8),
    /// Without a word.
    Silent,
}

pub(crate) async fn listen(root: &Root, config: &JitConfig) -> u8 {
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return failed(&error.to_string(), code::TERMINATED),
    };
    console::line("");
    console::line("√ Connected to GitHub");
    console::line("");
    let session = tokio::select! {
        session = Session::open(config) => session,
        () = stop.asked() => return code::SUCCESS,
    };
    let session = match session {
        Ok(session) => session,
        Err(code) => return code,
    };
    console::line(&format!("Current runner version: '{}'", version()));
    console::stamped("Listening for Jobs");
    let is_busy = Arc::new(AtomicBool::new(false));
    let (sender, mut heard) = mpsc::channel(1);
    let asking = tokio::spawn(ask(session.clone(), is_busy.clone(), sender));
    let mut job: Option<Dispatch> = None;
    let mut end = End::Silent;
    let result = loop {
        tokio::select! {
            said = heard.recv() => match said {
                Some(Heard::Job(offer)) if job.is_none() => match take(&session, root, &offer).await {
                    Ok(taken) => {
                        is_busy.store(taken.is_some(), Ordering::Relaxed);
                        job = taken;
                    }
                    Err(()) => break None,
                },
                Some(Heard::Job(_)) => {}
                Some(Heard::Cancel) => tell(&job, Order::Cancel).await,
                Some(Heard::Refresh) => console::stamped("Listening for Jobs"),
                Some(Heard::End(said)) => {
                    end = said;
                    tell(&job, Order::Cancel).await;
                    break finished(&mut job).await;
                }
                None => break finished(&mut job).await,
            },
            result = finished(&mut job), if job.is_some() => break result,
            () = stop.asked() => {
                tell(&job, Order::Shutdown).await;
                break finished(&mut job).await;
            }
        }
    };
    asking.abort();
    session.close().await;
    conclude(root, config, end, result)
}

/// Reports how it all ended, in the real one's words.
fn conclude(root: &Root, config: &JitConfig, end: End, result: Option<RunnerResult>) -> u8 {
    match end {
        End::NotFound => {
            console::line("The runner no longer exists on the server. Cleaning up local configuration.");
            root.forget();
        }
        End::Failed(message, code) => return failed(&message, code),
        End::Silent => {}
    }
    let Some(result) = result else { return code::SUCCESS };
    if is_true(&config.runner.ephemeral) {
        root.forget();
    }
    match is_truthy("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED") {
        true => code::of_result(result),
        false => code::SUCCESS,
    }
}

async fn tell(job: &Option<Dispatch>, order: Order) {
    if let Some(job) = job {
        job.tell(order).await;
    }
}

/// Waits for the end of the job, if there is one.
async fn finished(job: &mut Option<Dispatch>) -> Option<RunnerResult> {
    let result = job.as_mut()?.result().await;
    *job = None;
    Some(result)
}

/// Asks for messages, one after the other, until nobody wants to hear any more.
async fn ask(session: Session, is_busy: Arc<AtomicBool>, heard: mpsc::Sender<Heard>) {
    let mut streak = Streak::default();
    loop {
        let began = Instant::now();
        let answer = match session.message(is_busy.load(Ordering::Relaxed)).await {
            Ok(answer) => answer,
            Err(error) => {
                streak.failed(&error.to_string()).await;
                continue;
            }
        };
        let said = match (answer.status, answer.error_kind()) {
            (200, _) => message(&answer.body),
            (202, _) => None,
            (_, "RunnerNotFound") => Some(Heard::End(End::NotFound)),
            (_, "HostedRunnerDeprovisioned") => Some(Heard::End(End::Silent)),
            (_, "RunnerVersionTooOld") => {
                let text = answer.body["errorMessage"].as_str().unwrap_or_default();
                Some(Heard::End(End::Failed(text.to_owned(), too_old())))
            }
            (_, "RunnerSessionInvalid") => {
                let text = "Get next message failed with non-retryable error.";
                Some(Heard::End(End::Failed(text.to_owned(), code::TERMINATED)))
            }
            (status, _) => {
                streak.failed(&format!("the broker answered {status}")).await;
                continue;
            }
        };
        streak.went_well();
        match said {
            Some(said) => {
                let is_last = matches!(said, Heard::End(_));
                if heard.send(said).await.is_err() || is_last {
                    // What was said last is heard before the end of the channel.
                    return std::future::pending().await;
                }
            }
            None if began.elapsed() < PAUSE => tokio::time::sleep(PAUSE).await,
            None => {}
        }
    }
}

fn message(message: &Value) -> Option<Heard> {
    match message["messageType"].as_str()? {
        "RunnerJobRequest" => Some(Heard::Job(serde_json::from_str(message["body"].as_str()?).ok()?)),
        "JobCancellation" => Some(Heard::Cancel),
        "RunnerRefreshConfig" => Some(Heard::Refresh),
        _ => None,
    }
}

/// Takes the job that was offered. None if it is gone: the runner listens on and says nothing; an error ends it.
async fn take(session: &Session, root: &Root, offer: &Value) -> Result<Option<Dispatch>, ()> {
    let id = offer["runner_request_id"].as_str().unwrap_or_default();
    if offer["should_acknowledge"] == true {
        let heard = session.acknowledge(id).await;
        if heard.is_ok_and(|answer| answer.error_kind() == "AcknowledgeJobNotFound") {
            return Err(());
        }
    }
    let run_service = offer["run_service_url"].as_str().unwrap_or_default();
    let Ok(answer) = session.acquire(run_service, id).await else { return Ok(None) };
    let job = JobMessage::read(&answer.body).filter(|_| answer.is_success());
    Ok(job.map(|job| {
        console::stamped(&format!("Running job: {}", job.display_name));
        Dispatch::start(root.clone(), job, answer.body)
    }))
}

/// Since 2.333.0 there is an exit code for it.
fn too_old() -> u8 {
    let version = version();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let has_code = (next(), next()) >= (2, 333);
    let wants_code = is_truthy("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE");
    if has_code && wants_code { code::VERSION_DEPRECATED } else { code::TERMINATED }
}
