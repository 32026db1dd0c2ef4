//! Carries what a job says to the forge, in order: how far its steps are, their logs, its end.

use crate::link;
use github_sim::runner_service::JobMessage;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Output sent at once.
const CHUNK: usize = 64 * 1024;
/// Messages waiting to be sent; a job that prints faster waits.
const QUEUE: usize = 1_024;
/// How often a message is tried.
const TRIES: u32 = 5;
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(20);
/// Most of the job's own record that is uploaded.
const MAX_RECORD: u64 = 1024 * 1024;

enum Item {
    /// How far a step is.
    Step(Value),
    /// The log of a step goes on so. The real one uploads it when the step ends, and shows lines over a stream of their
    /// own before; here they are blocks of the log.
    Log { step: String, text: String },
    /// The log of a step is whole.
    EndOfLog { step: String, page: PathBuf, lines: u64 },
    /// The job's own record is whole.
    EndOfRecord { page: PathBuf, lines: u64 },
    /// The job is over.
    Complete(Value),
}

pub(crate) struct Uplink {
    queue: mpsc::Sender<Item>,
    task: JoinHandle<()>,
}

impl Uplink {
    pub(crate) fn new(job: &JobMessage) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let carrier = Carrier { job: job.clone(), log: None, changes: 0 };
        Self { queue, task: tokio::spawn(carrier.carry(items)) }
    }

    async fn send(&self, item: Item) {
        let _ = self.queue.send(item).await;
    }

    pub(crate) async fn step(&self, step: Value) {
        self.send(Item::Step(step)).await;
    }

    pub(crate) async fn log(&self, step: &str, text: String) {
        self.send(Item::Log { step: step.to_owned(), text }).await;
    }

    pub(crate) async fn end_of_log(&self, step: &str, (page, lines): (PathBuf, u64)) {
        self.send(Item::EndOfLog { step: step.to_owned(), page, lines }).await;
    }

    pub(crate) async fn end_of_record(&self, (page, lines): (PathBuf, u64)) {
        self.send(Item::EndOfRecord { page, lines }).await;
    }

    /// Waits until everything is said and this as well, within limits.
    pub(crate) async fn complete(self, body: Value) {
        self.send(Item::Complete(body)).await;
        drop(self.queue);
        let _ = tokio::time::timeout(FAREWELL, self.task).await;
    }
}

/// A log that was begun: its step, and where it goes.
struct Log {
    step: String,
    address: Option<String>,
}

struct Carrier {
    job: JobMessage,
    log: Option<Log>,
    changes: u64,
}

impl Carrier {
    async fn carry(mut self, mut items: mpsc::Receiver<Item>) {
        let mut held: Option<Item> = None;
        loop {
            let item = match held.take() {
                Some(item) => item,
                None => match items.recv().await {
                    Some(item) => item,
                    None => return,
                },
            };
            match item {
                Item::Step(step) => self.update(step).await,
                Item::Log { step, mut text } => {
                    // Whatever gathered while the last message was under way goes along.
                    while text.len() < CHUNK {
                        match items.try_recv() {
                            Ok(Item::Log { step: same, text: more }) if same == step => text.push_str(&more),
                            Ok(other) => {
                                held = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.append(&step, text.into_bytes()).await;
                }
                Item::EndOfLog { step, page, lines } => {
                    self.log = None;
                    self.metadata("CreateStepLogsMetadata", Some(&step), lines).await;
                    let _ = std::fs::remove_file(page);
                }
                Item::EndOfRecord { page, lines } => {
                    if let Some(address) = self.signed_address("GetJobLogsSignedBlobURL", None).await {
                        let record = head(&page).unwrap_or_default();
                        again(|| link::put(&address, "BlockBlob", record.clone())).await;
                        self.metadata("CreateJobLogsMetadata", None, lines).await;
                    }
                    let _ = std::fs::remove_file(page);
                }
                Item::Complete(body) => {
                    let address = format!("{}completejob", self.job.run_service);
                    again(|| link::ask("POST", &address, &self.job.token, Some(&body))).await;
                }
            }
        }
    }

    /// Calls the results service.
    async fn call(&self, method: &str, body: &Value) -> Option<link::Answer> {
        let address = format!("{}twirp/{method}", self.job.results_service);
        again(|| link::ask("POST", &address, &self.job.token, Some(body))).await
    }

    async fn update(&mut self, step: Value) {
        self.changes += 1;
        let body = json!({
            "steps": [step],
            "change_order": self.changes,
            "workflow_run_backend_id": self.job.plan_id,
            "workflow_job_run_backend_id": self.job.job_id,
        });
        self.call("github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate", &body).await;
    }

    fn of(&self, step: Option<&str>) -> Value {
        let mut body = json!({
            "workflow_run_backend_id": self.job.plan_id,
            "workflow_job_run_backend_id": self.job.job_id,
        });
        if let Some(step) = step {
            body["step_backend_id"] = step.into();
        }
        body
    }

    async fn signed_address(&self, method: &str, step: Option<&str>) -> Option<String> {
        let body = self.of(step);
        let answer = self.call(&format!("results.services.receiver.Receiver/{method}"), &body).await?;
        answer.body["logs_url"].as_str().map(ToOwned::to_owned)
    }

    async fn metadata(&self, method: &str, step: Option<&str>, lines: u64) {
        let mut body = self.of(step);
        body["line_count"] = lines.into();
        self.call(&format!("results.services.receiver.Receiver/{method}"), &body).await;
    }

    async fn append(&mut self, step: &str, block: Vec<u8>) {
        if self.log.as_ref().is_none_or(|log| log.step != step) {
            let address = self.signed_address("GetStepLogsSignedBlobURL", Some(step)).await;
            if let Some(address) = &address {
                again(|| link::put(address, "AppendBlob", Vec::new())).await;
            }
            self.log = Some(Log { step: step.to_owned(), address });
        }
        if let Some(address) = self.log.as_ref().and_then(|log| log.address.as_ref()) {
            let address = format!("{address}&comp=appendblock");
            again(|| link::put(&address, "AppendBlob", block.clone())).await;
        }
    }
}

/// Tries until there is an answer, whatever it says, but for those of a broken server.
async fn again<F: Future<Output = std::io::Result<link::Answer>>>(ask: impl Fn() -> F) -> Option<link::Answer> {
    for attempt in 1..=TRIES {
        match ask().await {
            Ok(answer) if answer.status < 500 => return Some(answer),
            _ if attempt < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => {}
        }
    }
    None
}

fn head(page: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(page)?.take(MAX_RECORD).read_to_end(&mut bytes)?;
    Ok(bytes)
}
