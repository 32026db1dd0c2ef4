//! One job: its directories, its environment, its steps, its result.

mod containers;

use crate::{
    orphans,
    pages::{Page, now, uuid},
    root::Root,
    shell::{self, Event, Script},
    uplink::Uplink,
    version,
    worker::Wish,
};
use containers::Containers;
use github_sim::{
    jit::JitConfig,
    runner_service::JobMessage,
    world::{RunnerResult, SHUTDOWN},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use tokio::process::Command;
use tokio::sync::watch;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Exit(i32),
    Cancelled,
    /// The runner itself has to stop.
    Shutdown,
}

impl End {
    /// In the words of the protocol: for a step that is under way, and once the job is over.
    fn conclusion(self) -> (u64, &'static str) {
        match self {
            Self::Exit(0) => (2, "succeeded"),
            Self::Exit(_) => (3, "failed"),
            Self::Cancelled | Self::Shutdown => (4, "canceled"),
        }
    }

    /// What is said of it.
    fn error(self) -> Option<String> {
        match self {
            Self::Exit(0) => None,
            Self::Exit(code) => Some(format!("Process completed with exit code {code}.")),
            Self::Cancelled => Some("The operation was canceled.".to_owned()),
            Self::Shutdown => Some(SHUTDOWN.to_owned()),
        }
    }
}

/// A step that is under way: what it is called and where its lines go.
struct Record {
    id: String,
    name: String,
    number: usize,
    began: String,
    page: Page,
}

struct Running {
    uplink: Uplink,
    wish: watch::Receiver<Wish>,
    /// The runner's own.
    environment: BTreeMap<String, String>,
    /// What each step finds besides.
    variables: BTreeMap<String, String>,
    containers: Containers,
    workspace: PathBuf,
    temp: PathBuf,
    diag: PathBuf,
    timeline: String,
    /// The job's own record, which repeats what its steps have.
    record: Page,
    /// What became of the steps so far.
    results: Vec<Value>,
    /// What runs after a cancellation is not cancelled again.
    cancelled: bool,
}

/// Runs the job and reports its result.
pub(crate) async fn run(
    root: &Root,
    config: &JitConfig,
    job: &JobMessage,
    wish: watch::Receiver<Wish>,
) -> RunnerResult {
    let tracking_id = format!("github_{}", uuid());
    let repository = job.github.get("repository").and_then(Value::as_str).unwrap_or_default();
    let repo = repository.rsplit('/').next().unwrap_or_default();
    let work = root.path(&config.runner.work_folder);
    let diag = root.path("_diag");
    let mut running = Running {
        uplink: Uplink::new(job),
        wish,
        workspace: work.join(repo).join(repo),
        temp: work.join("_temp"),
        record: Page::new(&diag, &job.timeline_id, &job.job_id),
        diag,
        timeline: job.timeline_id.clone(),
        results: Vec::new(),
        cancelled: false,
        environment: root.environment(),
        variables: BTreeMap::new(),
        containers: Containers::new(root, &work),
    };
    running.environment.insert(orphans::VARIABLE.to_owned(), tracking_id.clone());
    running.variables = variables(config, job, &running);
    let end = running.all(config, job).await;
    orphans::kill(&tracking_id);
    running.report(job, end).await
}

impl Running {
    fn prepare(&self, job: &JobMessage) -> io::Result<()> {
        let file = self.payload_file();
        for directory in [&self.workspace, &self.temp, file.parent().unwrap_or(&self.temp)] {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(file, job.github.get("event").unwrap_or(&Value::Null).to_string())
    }

    fn payload_file(&self) -> PathBuf {
        self.temp.join("_github_workflow/event.json")
    }

    async fn all(&mut self, config: &JitConfig, job: &JobMessage) -> End {
        let mut end = self.introduce(config, job).await;
        if end == End::Exit(0) {
            end = self.hook("ACTIONS_RUNNER_HOOK_JOB_STARTED", "Set up runner").await;
        }
        if end == End::Exit(0) && (job.container.is_some() || !job.services.is_empty()) {
            end = self.start_containers(job).await;
        }
        for step in &job.steps {
            if end != End::Exit(0) {
                break;
            }
            let mut record = self.begin(&step.id, &step.display_name).await;
            let first = step.script.trim_start().lines().next().unwrap_or_default();
            self.line(&mut record, &format!("##[group]Run {first}")).await;
            for line in step.script.trim_end_matches('\n').lines() {
                self.line(&mut record, &format!("\x1b[36;1m{line}\x1b[0m")).await;
            }
            let shell = if job.container.is_some() { "sh" } else { "/usr/bin/bash" };
            self.line(&mut record, &format!("shell: {shell} -e {{0}}")).await;
            self.line(&mut record, "##[endgroup]").await;
            let script = self.temp.join(format!("{}.sh", uuid()));
            end = match std::fs::write(&script, &step.script) {
                Ok(()) => self.script(self.step(&script), record).await,
                Err(error) => self.cannot_run(record, &error).await,
            };
            let _ = std::fs::remove_file(&script);
        }
        if end != End::Shutdown && *self.wish.borrow() != Wish::Gone {
            self.stop_containers().await;
        }
        // The hook at the end runs whatever became of the steps, and its own failure counts only after theirs.
        if end != End::Shutdown && *self.wish.borrow() != Wish::Gone {
            let hook = self.hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", "Complete runner").await;
            if end == End::Exit(0) {
                end = hook;
            }
        }
        end
    }

    /// The step "Set up job" says who runs what.
    async fn introduce(&mut self, config: &JitConfig, job: &JobMessage) -> End {
        let mut record = self.begin(&uuid(), "Set up job").await;
        for line in [
            format!("Current runner version: '{}'", version()),
            format!("Runner name: '{}'", config.runner.agent_name),
            format!("Runner group name: '{}'", config.runner.pool_name),
            format!("Machine name: '{}'", crate::machine()),
            format!("Complete job name: {}", job.display_name),
        ] {
            self.line(&mut record, &line).await;
        }
        match self.prepare(job) {
            Ok(()) => self.end(record, End::Exit(0)).await,
            Err(error) => {
                self.line(&mut record, &format!("##[error]cannot make the work directories: {error}")).await;
                self.end(record, End::Exit(1)).await
            }
        }
    }

    async fn begin(&mut self, id: &str, name: &str) -> Record {
        let number = self.results.len() + 1;
        let page = Page::new(&self.diag, &self.timeline, id);
        let record = Record { id: id.to_owned(), name: name.to_owned(), number, began: now(), page };
        self.uplink.step(record.update(3, None)).await;
        record
    }

    /// A line of a step.
    async fn line(&mut self, record: &mut Record, text: &str) {
        let line = record.page.line(text);
        self.record.line(text);
        self.uplink.log(&record.id, line).await;
    }

    /// The step is over.
    async fn end(&mut self, record: Record, end: End) -> End {
        self.end_saying(record, end, end.error()).await
    }

    async fn end_saying(&mut self, record: Record, end: End, error: Option<String>) -> End {
        let (number, word) = end.conclusion();
        let annotations: Vec<Value> =
            error.map(|text| json!({ "level": "failure", "message": text })).into_iter().collect();
        self.results.push(json!({
            "external_id": record.id,
            "number": record.number,
            "name": record.name,
            "status": "completed",
            "conclusion": word,
            "started_at": record.began,
            "completed_at": now(),
            "annotations": annotations,
        }));
        let update = record.update(6, Some(number));
        self.uplink.step(update).await;
        self.uplink.end_of_log(&record.id, record.page.end()).await;
        end
    }

    async fn hook(&mut self, variable: &str, name: &str) -> End {
        let Some(script) = self.environment.get(variable).map(PathBuf::from) else {
            return End::Exit(0);
        };
        let mut record = self.begin(&uuid(), name).await;
        self.line(&mut record, &format!("##[group]Run '{}'", script.display())).await;
        self.line(&mut record, "##[endgroup]").await;
        self.script(self.shell(&script), record).await
    }

    /// The shell of a script on the runner itself.
    fn shell(&self, script: &Path) -> Command {
        let shell = shell::find("bash", &self.environment).unwrap_or_else(|| PathBuf::from("/bin/sh"));
        let mut command = shell::command(&shell, &self.workspace, &self.environment);
        command.envs(&self.variables).arg("-e").arg(script);
        command
    }

    /// The shell of a step: in the job's container, if it has one.
    fn step(&self, script: &Path) -> Command {
        self.in_container(script).unwrap_or_else(|| self.shell(script))
    }

    async fn cannot_run(&mut self, mut record: Record, error: &io::Error) -> End {
        self.line(&mut record, &format!("##[error]cannot run the script: {error}")).await;
        self.end(record, End::Exit(127)).await
    }

    async fn script(&mut self, script: Command, mut record: Record) -> End {
        let end = match self.follow(script, &mut record, |_| ()).await {
            Ok(end) => end,
            Err(error) => return self.cannot_run(record, &error).await,
        };
        if let Some(error) = end.error() {
            self.line(&mut record, &format!("##[error]{error}")).await;
        }
        self.end(record, end).await
    }

    /// Runs a program to its end, or until something else is wanted; its lines are the step's.
    async fn follow(&mut self, program: Command, record: &mut Record, mut also: impl FnMut(&str)) -> io::Result<End> {
        let mut script = Script::start(program)?;
        let mut wish = self.wish.clone();
        let end = loop {
            tokio::select! {
                event = script.next() => match event {
                    Ok(Event::Line(line)) => {
                        also(&line);
                        self.line(record, &line).await;
                    }
                    Ok(Event::Ended(code)) => break End::Exit(code),
                    Err(error) => {
                        script.stop().await;
                        return Err(error);
                    }
                },
                wish = wished(&mut wish), if !self.cancelled => match wish {
                    Wish::Shutdown => break End::Shutdown,
                    Wish::Gone => {
                        script.kill();
                        break End::Cancelled;
                    }
                    Wish::Cancel | Wish::GoOn => break End::Cancelled,
                },
            }
        };
        if !matches!(end, End::Exit(_)) {
            script.stop().await;
        }
        self.cancelled |= !matches!(end, End::Exit(_));
        Ok(end)
    }

    async fn report(self, job: &JobMessage, end: End) -> RunnerResult {
        // The console shows a runner that was told to stop as cancelled; to the forge its job failed.
        let (result, word) = match end {
            End::Exit(0) => (RunnerResult::Succeeded, "succeeded"),
            End::Exit(_) => (RunnerResult::Failed, "failed"),
            End::Cancelled => (RunnerResult::Canceled, "canceled"),
            End::Shutdown => (RunnerResult::Canceled, "failed"),
        };
        let annotations: Vec<Value> = match end {
            End::Shutdown => vec![json!({ "level": "failure", "message": SHUTDOWN })],
            _ => Vec::new(),
        };
        if *self.wish.borrow() == Wish::Gone {
            // Without its listener a worker reports nothing.
            return result;
        }
        self.uplink.end_of_record(self.record.end()).await;
        let body = json!({
            "planId": job.plan_id,
            "jobId": job.job_id,
            "conclusion": word,
            "outputs": {},
            "stepResults": self.results,
            "annotations": annotations,
            "telemetry": [],
        });
        self.uplink.complete(body).await;
        result
    }
}

impl Record {
    /// How far it is, as the results service has it.
    fn update(&self, status: u64, conclusion: Option<u64>) -> Value {
        json!({
            "external_id": self.id,
            "number": self.number,
            "name": self.name,
            "status": status,
            "started_at": self.began,
            "completed_at": conclusion.map(|_| now()),
            "conclusion": conclusion.unwrap_or(0),
        })
    }
}

/// Resolves when the listener wants something else than going on.
async fn wished(wish: &mut watch::Receiver<Wish>) -> Wish {
    match wish.wait_for(|wish| *wish != Wish::GoOn).await {
        Ok(wish) => *wish,
        // Nobody will ever want anything.
        Err(_) => std::future::pending().await,
    }
}

/// What every step finds in its environment besides what the runner has.
fn variables(config: &JitConfig, job: &JobMessage, running: &Running) -> BTreeMap<String, String> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let parent = running.workspace.parent().unwrap_or(&running.workspace);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        other => other,
    };
    let of_github = job
        .github
        .iter()
        .filter_map(|(key, value)| Some((format!("GITHUB_{}", key.to_uppercase()), value.as_str()?.to_owned())));
    let own = [
        ("CI", "true".to_owned()),
        ("GITHUB_ACTIONS", "true".to_owned()),
        ("GITHUB_EVENT_PATH", path(&running.payload_file())),
        ("GITHUB_WORKSPACE", path(&running.workspace)),
        ("RUNNER_NAME", config.runner.agent_name.clone()),
        ("RUNNER_OS", "Linux".to_owned()),
        ("RUNNER_ARCH", arch.to_owned()),
        ("RUNNER_ENVIRONMENT", "self-hosted".to_owned()),
        ("RUNNER_TEMP", path(&running.temp)),
        ("RUNNER_WORKSPACE", path(parent)),
    ];
    of_github.chain(own.map(|(key, value)| (key.to_owned(), value))).collect()
}
