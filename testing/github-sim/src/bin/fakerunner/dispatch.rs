//! A job on the listener's side: it is renewed, its worker is started and watched.

use crate::{code, console, link, root::Root, worker};
use github_sim::{runner_service::JobMessage, world::RunnerResult};
use serde_json::{Value, json};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest time between two renewals: the real one's, which is a tenth of GitHub's lease.
const RENEWAL: Duration = Duration::from_secs(60);
/// How often a job is renewed that could not be renewed yet.
const FIRST_TRIES: u32 = 5;

/// What the listener wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// It is cancelled at the forge.
    Cancel,
    /// The runner has to stop.
    Shutdown,
}

/// A job that was taken.
#[derive(Debug)]
pub(crate) struct Dispatch {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<RunnerResult>,
}

impl Dispatch {
    pub(crate) fn start(root: Root, job: JobMessage, message: Value) -> Self {
        let (orders, wanted) = mpsc::channel(4);
        Self { orders, task: tokio::spawn(run(root, job, message, wanted)) }
    }

    pub(crate) async fn tell(&self, order: Order) {
        let _ = self.orders.send(order).await;
    }

    /// How it ended. May be dropped and called again before that.
    pub(crate) async fn result(&mut self) -> RunnerResult {
        (&mut self.task).await.unwrap_or(RunnerResult::Failed)
    }
}

/// What came of a renewal.
enum Renewed {
    /// The next one is due after this time.
    Again(Duration),
    /// The job is gone.
    Gone,
    /// Perhaps next time.
    Failed,
}

async fn renew(job: &JobMessage) -> Renewed {
    let body = json!({ "planId": job.plan_id, "jobId": job.job_id });
    match link::ask("POST", &format!("{}renewjob", job.run_service), &job.token, Some(&body)).await {
        Ok(answer) if answer.status == 404 => Renewed::Gone,
        Ok(answer) if answer.is_success() => {
            let until = answer.body["lockedUntil"].as_str().and_then(|text| humantime::parse_rfc3339_weak(text).ok());
            let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok()).unwrap_or_default();
            Renewed::Again((left / 10).clamp(Duration::from_millis(200), RENEWAL))
        }
        _ => Renewed::Failed,
    }
}

/// The worker is started only once the job was renewed. What ends before that ends without a result on the console.
async fn first_renewal(job: &JobMessage) -> Option<Duration> {
    for _ in 0..FIRST_TRIES {
        match renew(job).await {
            Renewed::Again(after) => return Some(after),
            Renewed::Gone => return None,
            Renewed::Failed => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
    None
}

async fn run(root: Root, job: JobMessage, message: Value, mut orders: mpsc::Receiver<Order>) -> RunnerResult {
    let mut pause = tokio::select! {
        renewed = first_renewal(&job) => match renewed {
            Some(after) => after,
            None => return RunnerResult::Abandoned,
        },
        Some(_) = orders.recv() => return RunnerResult::Canceled,
    };
    let mut result = match start_worker(&root, &message).await {
        Ok((mut child, mut input)) => {
            let mut is_gone = false;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    Some(order) = orders.recv() => {
                        let word = match order {
                            Order::Cancel => worker::CANCEL,
                            Order::Shutdown => worker::SHUTDOWN,
                        };
                        // One that ended meanwhile needs no order.
                        let _ = input.write_all(format!("{word}\n").as_bytes()).await;
                    }
                    () = tokio::time::sleep(pause), if !is_gone => match renew(&job).await {
                        Renewed::Again(after) => pause = after,
                        Renewed::Failed => {}
                        Renewed::Gone => {
                            is_gone = true;
                            let _ = input.write_all(format!("{}\n", worker::CANCEL).as_bytes()).await;
                        }
                    },
                }
            };
            match is_gone {
                true => Some(RunnerResult::Abandoned),
                false => status.ok().and_then(result_of),
            }
        }
        Err(_) => None,
    };
    if result.is_none() {
        // The worker is dead: the listener says so in its place.
        let body = json!({
            "planId": job.plan_id, "jobId": job.job_id, "conclusion": "failed", "outputs": {}, "stepResults": [],
            "annotations": [{ "level": "failure", "message": "The worker ended." }],
        });
        let _ = link::ask("POST", &format!("{}completejob", job.run_service), &job.token, Some(&body)).await;
        result = Some(RunnerResult::Failed);
    }
    let result = result.unwrap_or(RunnerResult::Failed);
    console::stamped(&format!("Job {} completed with result: {result:?}", job.display_name));
    result
}

/// The real one is a program of its own, which is told its job and then what else is wanted.
async fn start_worker(root: &Root, message: &Value) -> io::Result<(Child, ChildStdin)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg0(root.path("bin/Runner.Worker"))
        .arg("spawnclient")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the worker"))?;
    input.write_all(format!("{message}\n").as_bytes()).await?;
    Ok((child, input))
}

fn result_of(status: ExitStatus) -> Option<RunnerResult> {
    let code = u8::try_from(status.code()?).ok()?;
    code::RESULTS.into_iter().find(|result| code::of_result(*result) == code)
}
