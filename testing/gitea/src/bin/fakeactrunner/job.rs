//! The one job: its steps, its log, its state at the server.

use std::{
    collections::BTreeMap,
    env, fs,
    future::Future,
    pin::pin,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    image::Image,
    log::log,
    remote::Remote,
    steps::{Next, Running},
};

/// How often the server is told that the job runs.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the last report is tried.
const TRIES: u32 = 60;

/// What a job that is stopped is reported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Failure,
}

impl Ending {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "RESULT_SUCCESS",
            Self::Failure => "RESULT_FAILURE",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Workflow {
    #[serde(default)]
    env: BTreeMap<String, Value>,
    jobs: BTreeMap<String, JobText>,
}

#[derive(Debug, Deserialize)]
struct JobText {
    #[serde(default, rename = "runs-on")]
    runs_on: Value,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Deserialize)]
struct Step {
    #[serde(default)]
    run: String,
    #[serde(default, rename = "if")]
    condition: Option<String>,
}

/// A job in hand.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) id: u64,
    pub(crate) repository: String,
    remote: &'a Remote,
    environment: BTreeMap<String, String>,
    steps: Vec<Step>,
    hook: Option<&'a str>,
    /// What its steps run in, if not here.
    image: Option<Image>,
    directory: String,
    started: String,
    /// Steps that have begun, each with its first line, its number of lines and, once it has ended, how.
    done: Vec<(usize, usize, Option<Ending>)>,
    rows: usize,
}

impl<'a> Job<'a> {
    /// Of this task; `labels` = the runner's, with their schemas.
    pub(crate) fn new(remote: &'a Remote, task: &Value, labels: &[String], hook: Option<&'a str>) -> Result<Self> {
        let id = task["id"].as_str().context("a task without a number")?.parse()?;
        let text = BASE64_STANDARD.decode(task["workflowPayload"].as_str().context("a task without a workflow")?)?;
        let workflow: Workflow = serde_saphyr::from_str(&String::from_utf8(text)?).context("the workflow")?;
        let job = workflow.jobs.into_values().next().context("a workflow without a job")?;
        let context = &task["context"];
        let home = env::var("HOME").context("no home")?;
        let directory = format!("{home}/.cache/act/{id}/hostexecutor");
        fs::create_dir_all(&directory)?;
        let event = format!("{home}/.cache/act/{id}/event.json");
        fs::write(&event, context["event"].to_string())?;
        let plain = |value: Value| (!value.is_null()).then(|| text_of(&value));
        let written = workflow.env.into_iter().chain(job.env);
        let mut environment: BTreeMap<String, String> =
            written.filter_map(|(name, value)| Some((name, plain(value)?))).collect();
        let keys = [
            "actor",
            "event_name",
            "job",
            "ref",
            "ref_name",
            "repository",
            "run_id",
            "run_number",
            "run_attempt",
            "sha",
            "server_url",
            "api_url",
        ];
        for key in keys {
            environment.insert(format!("GITHUB_{}", key.to_uppercase()), text_of(&context[key]));
        }
        let more =
            [("GITHUB_EVENT_PATH", event.as_str()), ("GITHUB_WORKSPACE", &directory), ("CI", "true"), ("ACT", "true")];
        environment.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let runs_on: Vec<&str> = match &job.runs_on {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        Ok(Self {
            id,
            image: Image::of(id, &runs_on, labels),
            repository: text_of(&context["repository"]),
            remote,
            environment,
            steps: job.steps,
            hook,
            directory,
            started: now(),
            done: Vec::new(),
            rows: 0,
        })
    }

    /// Runs it to its end, or to the stop, which is then reported as `when_stopped`.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>, when_stopped: Ending) -> Result<()> {
        let mut stop = pin!(stop);
        let mut ending = Ending::Success;
        if let Some(hook) = self.hook
            && self.command(None, hook, &[], &mut stop).await? != Some(0)
        {
            ending = Ending::Failure;
        }
        if let Some(image) = self.image.clone() {
            let start = image.start();
            let start: Vec<&str> = start.iter().map(String::as_str).collect();
            if self.command(None, "docker", &start, &mut stop).await? != Some(0) {
                ending = Ending::Failure;
            }
        }
        for (index, step) in self.steps.clone().into_iter().enumerate() {
            let always = step.condition.as_ref().is_some_and(|condition| condition.contains("always()"));
            if ending == Ending::Failure && !always {
                continue;
            }
            let (program, arguments) = match &self.image {
                None => ("bash", ["-e", "-c", &step.run].map(str::to_owned).to_vec()),
                Some(image) => ("docker", image.run(&self.environment, &step.run)),
            };
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match self.command(Some(index), program, &arguments, &mut stop).await? {
                Some(0) => {}
                Some(status) => {
                    self.say(&format!("exitcode '{status}': failure")).await;
                    ending = Ending::Failure;
                }
                None => return self.report(when_stopped).await,
            }
        }
        if let Some(image) = self.image.take() {
            self.command(None, "docker", &image.remove(), &mut stop).await?;
        }
        self.report(ending).await
    }

    /// Runs one command; `None` if it was stopped.
    async fn command(
        &mut self,
        step: Option<usize>,
        program: &str,
        arguments: &[&str],
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<i32>> {
        let mut running = Running::start(program, arguments, &self.directory, &self.environment)?;
        if step.is_some() {
            self.done.push((self.rows, 0, None));
        }
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = loop {
            tokio::select! {
                next = running.next() => match next? {
                    Next::Line(line) => self.say(&line).await,
                    Next::Ended(status) => break Some(status),
                },
                // A job that is over at the server is not noticed.
                _ = beat.tick() => drop(self.remote.call("UpdateTask", &self.state(None)).await),
                () = &mut *stop => break None,
            }
        };
        if let (Some(_), Some(last)) = (step, self.done.last_mut()) {
            last.1 = self.rows - last.0;
            last.2 = Some(if status == Some(0) { Ending::Success } else { Ending::Failure });
        }
        Ok(status)
    }

    /// Adds a line to the log at the server.
    async fn say(&mut self, line: &str) {
        let row = json!({ "time": now(), "content": line });
        let body =
            json!({ "taskId": self.id.to_string(), "index": self.rows.to_string(), "rows": [row], "noMore": false });
        if self.remote.call("UpdateLog", &body).await.is_ok() {
            self.rows += 1;
        }
    }

    /// Tells the server how it ended, for as long as the real runner tries it.
    async fn report(&mut self, ending: Ending) -> Result<()> {
        let word = if ending == Ending::Success { "Job succeeded" } else { "Job failed" };
        let row = json!({ "time": now(), "content": word });
        let log_end =
            json!({ "taskId": self.id.to_string(), "index": self.rows.to_string(), "rows": [row], "noMore": true });
        for _ in 0..TRIES {
            let told = async {
                self.remote.call("UpdateLog", &log_end).await?;
                self.remote.call("UpdateTask", &self.state(Some(ending))).await
            };
            match told.await {
                Ok(_) => return Ok(()),
                Err(error) => log("warning", &format!("ReportLog error: {error:#}"), None),
            }
            sleep(HEARTBEAT).await;
        }
        Ok(())
    }

    fn state(&self, ending: Option<Ending>) -> Value {
        let steps = self.done.iter().enumerate().map(|(id, (first, length, ended))| {
            let mut step = json!({
                "id": id.to_string(), "startedAt": self.started, "logIndex": first.to_string(),
                "logLength": (if ended.is_some() { *length } else { self.rows - first }).to_string(),
            });
            if let Some(ended) = ended {
                step["result"] = json!(ended.word());
                step["stoppedAt"] = json!(now());
            }
            step
        });
        let steps: Vec<Value> = steps.collect();
        let mut state = json!({ "id": self.id.to_string(), "startedAt": self.started, "steps": steps });
        if let Some(ending) = ending {
            state["result"] = json!(ending.word());
            state["stoppedAt"] = json!(now());
        }
        json!({ "state": state })
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
