//! One job: its directories, its environment, its steps, its result.

use crate::{
    console,
    link::Link,
    orphans,
    pages::{Page, uuid},
    root::Root,
    shell::{Event, Script},
    stop::Stop,
    uplink::{Uplink, Wish},
    version,
};
use github_sim::{
    jit::JitConfig,
    runner_protocol::{Answer, Message},
    world::{Beat, JobOrder, RunnerResult, RunnerSession, SHUTDOWN},
};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Exit(i32),
    Cancelled,
    /// The runner itself has to stop.
    Shutdown,
}

struct Running<'a> {
    uplink: Uplink,
    stop: &'a mut Stop,
    session: &'a RunnerSession,
    environment: BTreeMap<String, String>,
    workspace: PathBuf,
    temp: PathBuf,
    diag: PathBuf,
    timeline: String,
    /// What runs after a cancellation is not cancelled again.
    cancelled: bool,
}

/// Runs the job and reports its result.
pub(crate) async fn run(
    root: &Root,
    config: &JitConfig,
    link: &Link,
    session: &RunnerSession,
    order: &JobOrder,
    stop: &mut Stop,
) -> RunnerResult {
    console::stamped(&format!("Running job: {}", order.name));
    if let Some(result) = ended_before_it_began(link, session).await {
        return result;
    }
    let tracking_id = format!("github_{}", uuid());
    let repo = order.repository.rsplit('/').next().unwrap_or_default();
    let work = root.path(&config.runner.work_folder);
    let mut running = Running {
        uplink: Uplink::new(link.clone(), session.clone()),
        stop,
        session,
        workspace: work.join(repo).join(repo),
        temp: work.join("_temp"),
        diag: root.path("_diag"),
        timeline: uuid(),
        cancelled: false,
        environment: BTreeMap::new(),
    };
    running.environment = environment(root, config, order, &running, &tracking_id);
    let end = match running.prepare(&order.payload) {
        Ok(()) => running.all(config, order).await,
        Err(error) => {
            let text = format!("##[error]cannot make the work directories: {error}\n");
            running.uplink.text(&text).await;
            End::Exit(1)
        }
    };
    orphans::kill(&tracking_id);
    let result = running.report(end).await;
    console::stamped(&format!("Job {} completed with result: {result:?}", order.name));
    result
}

/// The runner renews its job before it starts the job's worker. Where that is the end, it prints no result.
async fn ended_before_it_began(link: &Link, session: &RunnerSession) -> Option<RunnerResult> {
    let session = session.clone();
    match link.send(&Message::Beat { session: session.clone() }).await {
        Ok(Answer::Refused(_)) => Some(RunnerResult::Abandoned),
        Ok(Answer::Beat(Beat::Cancel)) => {
            let result = RunnerResult::Canceled;
            let _ = link.send(&Message::Complete { session, result, exit_code: None, note: None }).await;
            Some(result)
        }
        _ => None,
    }
}

impl Running<'_> {
    fn prepare(&self, payload: &serde_json::Value) -> io::Result<()> {
        let file = self.payload_file();
        for directory in [&self.workspace, &self.temp, file.parent().unwrap_or(&self.temp)] {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(file, payload.to_string())
    }

    fn payload_file(&self) -> PathBuf {
        self.temp.join("_github_workflow/event.json")
    }

    async fn all(&mut self, config: &JitConfig, order: &JobOrder) -> End {
        self.introduce(config, order).await;
        let mut end = self.hook("ACTIONS_RUNNER_HOOK_JOB_STARTED").await;
        for (index, step) in order.steps.iter().enumerate() {
            if end != End::Exit(0) {
                break;
            }
            let began = Message::Step { session: self.session.clone(), index, exit_code: None };
            self.uplink.message(began).await;
            end = self.step(&step.run).await;
            if let End::Exit(code) = end {
                let ended = Message::Step { session: self.session.clone(), index, exit_code: Some(code) };
                self.uplink.message(ended).await;
            }
        }
        // The hook at the end runs whatever became of the steps, and its own failure counts only after theirs.
        if end != End::Shutdown && self.uplink.wish() != Wish::Gone {
            let hook = self.hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED").await;
            if end == End::Exit(0) {
                end = hook;
            }
        }
        end
    }

    /// The step "Set up job" says who runs what.
    async fn introduce(&mut self, config: &JitConfig, order: &JobOrder) {
        let mut page = Page::new(&self.diag, &self.timeline);
        for line in [
            format!("Current runner version: '{}'", version()),
            format!("Runner name: '{}'", config.runner.agent_name),
            format!("Runner group name: '{}'", config.runner.pool_name),
            format!("Machine name: '{}'", machine()),
            format!("Complete job name: {}", order.name),
        ] {
            page.line(&line);
        }
        page.end();
    }

    async fn hook(&mut self, variable: &str) -> End {
        let Some(script) = self.environment.get(variable).map(PathBuf::from) else {
            return End::Exit(0);
        };
        let mut page = Page::new(&self.diag, &self.timeline);
        page.line(&format!("##[group]Run '{}'", script.display()));
        page.line("##[endgroup]");
        self.script(&script, page).await
    }

    async fn step(&mut self, text: &str) -> End {
        let mut page = Page::new(&self.diag, &self.timeline);
        let first = text.trim_start().lines().next().unwrap_or_default();
        page.line(&format!("##[group]Run {first}"));
        for line in text.trim_end_matches('\n').lines() {
            page.line(&format!("\x1b[36;1m{line}\x1b[0m"));
        }
        page.line("shell: /usr/bin/bash -e {0}");
        page.line("##[endgroup]");
        let script = self.temp.join(format!("{}.sh", uuid()));
        if let Err(error) = std::fs::write(&script, text) {
            return self.cannot_run(page, &error).await;
        }
        let end = self.script(&script, page).await;
        let _ = std::fs::remove_file(&script);
        end
    }

    async fn cannot_run(&mut self, mut page: Page, error: &io::Error) -> End {
        let text = format!("##[error]cannot run the script: {error}");
        page.line(&text);
        page.end();
        self.uplink.text(&format!("{text}\n")).await;
        End::Exit(127)
    }

    async fn script(&mut self, script: &Path, mut page: Page) -> End {
        let mut script = match Script::start(script, &self.workspace, &self.environment) {
            Ok(script) => script,
            Err(error) => return self.cannot_run(page, &error).await,
        };
        let end = loop {
            tokio::select! {
                event = script.next() => match event {
                    Ok(Event::Line(line)) => {
                        page.line(&line);
                        self.uplink.text(&format!("{line}\n")).await;
                    }
                    Ok(Event::Ended(code)) => break End::Exit(code),
                    Err(error) => {
                        script.stop().await;
                        return self.cannot_run(page, &error).await;
                    }
                },
                wish = self.uplink.wanted(), if !self.cancelled => match wish {
                    Wish::Die => {
                        script.signal(Signal::KILL);
                        let _ = kill_process(getpid(), Signal::KILL);
                    }
                    _ => break End::Cancelled,
                },
                () = self.stop.asked() => break End::Shutdown,
            }
        };
        let error = match end {
            End::Exit(0) => None,
            End::Exit(code) => Some(format!("Process completed with exit code {code}.")),
            End::Cancelled => Some("The operation was canceled.".to_owned()),
            End::Shutdown => Some(SHUTDOWN.to_owned()),
        };
        if !matches!(end, End::Exit(_)) {
            script.stop().await;
        }
        self.cancelled |= end == End::Cancelled;
        if let Some(error) = error {
            let text = format!("##[error]{error}");
            page.line(&text);
            self.uplink.text(&format!("{text}\n")).await;
        }
        page.end();
        end
    }

    async fn report(self, end: End) -> RunnerResult {
        let session = self.session.clone();
        let (result, exit_code) = match end {
            End::Exit(0) => (RunnerResult::Succeeded, Some(0)),
            End::Exit(code) => (RunnerResult::Failed, Some(code)),
            End::Cancelled => (RunnerResult::Canceled, None),
            End::Shutdown => (RunnerResult::Failed, None),
        };
        let message = match end {
            End::Shutdown => Message::Stop { session },
            _ => Message::Complete { session, result, exit_code, note: None },
        };
        self.uplink.message(message).await;
        self.uplink.finish().await;
        result
    }
}

fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What every step finds in its environment.
fn environment(
    root: &Root,
    config: &JitConfig,
    order: &JobOrder,
    running: &Running<'_>,
    tracking_id: &str,
) -> BTreeMap<String, String> {
    let mut environment = root.environment();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let owner = order.repository.split('/').next().unwrap_or_default();
    let parent = running.workspace.parent().unwrap_or(&running.workspace);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        other => other,
    };
    let own = [
        ("CI", "true".to_owned()),
        ("GITHUB_ACTIONS", "true".to_owned()),
        ("GITHUB_REPOSITORY", order.repository.clone()),
        ("GITHUB_REPOSITORY_OWNER", owner.to_owned()),
        ("GITHUB_RUN_ID", order.run_id.to_string()),
        ("GITHUB_RUN_NUMBER", order.run_number.to_string()),
        ("GITHUB_RUN_ATTEMPT", order.run_attempt.to_string()),
        ("GITHUB_JOB", order.name.clone()),
        ("GITHUB_WORKFLOW", order.workflow.clone()),
        ("GITHUB_EVENT_NAME", order.event.clone()),
        ("GITHUB_EVENT_PATH", path(&running.payload_file())),
        ("GITHUB_SHA", order.sha.clone()),
        ("GITHUB_REF", format!("refs/heads/{}", order.branch)),
        ("GITHUB_REF_NAME", order.branch.clone()),
        ("GITHUB_SERVER_URL", order.server_url.clone()),
        ("GITHUB_API_URL", order.server_url.clone()),
        ("GITHUB_WORKSPACE", path(&running.workspace)),
        ("RUNNER_NAME", config.runner.agent_name.clone()),
        ("RUNNER_OS", "Linux".to_owned()),
        ("RUNNER_ARCH", arch.to_owned()),
        ("RUNNER_ENVIRONMENT", "self-hosted".to_owned()),
        ("RUNNER_TEMP", path(&running.temp)),
        ("RUNNER_WORKSPACE", path(parent)),
        (orphans::VARIABLE, tracking_id.to_owned()),
    ];
    environment.extend(own.map(|(key, value)| (key.to_owned(), value)));
    environment
}
