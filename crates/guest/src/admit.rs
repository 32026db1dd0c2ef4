//! The last line of the fork gate: `gha-runner-guest admit`, which the runner runs before the first step of its job.
//!
//! A forge binds no job to a runner, so a job that the controller refused may still be given to a runner that was
//! registered for another. Here the job is known for certain, from what the runner says of it: the event's name and
//! its payload, which the job cannot change.
//!
//! A hook that fails is not enough: the runner would still run the steps that ask for it with `if: always()` or
//! `failure()`. So the runner's worker process is ended, and the runner reports the job as failed by itself
//! (actions/runner, `JobDispatcher`, on a worker that ends unexpectedly).

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use contract::fork_gate::{Refusal, admit};
use rustix::process::{Pid, Signal, getppid, kill_process};
use serde::Deserialize;

use super::{act, hook};

/// Largest payload read; GitHub's own limit is 25 MB (docs/github.md#deliveries).
const PAYLOAD_LIMIT: u64 = 32 * 1024 * 1024;
/// How long what was said may take to reach the forge's page before the worker ends.
const SHOWN: Duration = Duration::from_secs(2);
/// Between the worker and this program are at most a shell or two.
const ANCESTORS: usize = 4;
/// What tells the process that runs the job by its arguments: `Runner.Worker spawnclient <pipe> <pipe>` of GitHub's runner
/// (actions/runner, `JobDispatcher`), and Gitea's runner itself, whose job the controller then ends at the forge.
const WORKERS: [&str; 2] = ["spawnclient", act::CONFIG];

/// What is read of an event's payload. A field of another type than expected makes all of it unknown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload {
    repository: Option<RepositoryPayload>,
    pull_request: Option<PullRequest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PullRequest {
    head: Option<Head>,
}

/// Where the pull request's commits lie. A fork that was deleted is null.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    repo: Option<RepositoryPayload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RepositoryPayload {
    id: Option<u64>,
    private: Option<bool>,
}

/// Whether the job may run, by the name of its event and the payload's text.
pub fn judge(event: Option<&str>, payload: &[u8]) -> Result<(), Refusal> {
    let Payload { repository, pull_request } = serde_json::from_slice(payload).unwrap_or_default();
    let base = repository.unwrap_or_default();
    let head = pull_request.and_then(|pull| pull.head).and_then(|head| head.repo).and_then(|repo| repo.id);
    let from_fork = base.id.zip(head).map(|(base, head)| base != head);
    admit(event, from_fork, base.private.map(|private| !private), false)
}

/// Judges the job whose hook this is. Does not return to a worker whose job is refused.
pub fn run() -> ExitCode {
    let event = env::var("GITHUB_EVENT_NAME").ok();
    let mut payload = Vec::new();
    if let Some(path) = env::var_os("GITHUB_EVENT_PATH") {
        // What cannot be read says nothing.
        let _ = File::open(path).and_then(|file| file.take(PAYLOAD_LIMIT).read_to_end(&mut payload));
    }
    let Err(refusal) = judge(event.as_deref(), &payload) else { return ExitCode::SUCCESS };
    let shown: String = event.as_deref().unwrap_or("unknown").chars().filter(|c| !c.is_control()).take(40).collect();
    let message = format!(
        "gha-runner-controller refuses this job: {refusal} (event {shown}). The operator of this runner can allow such \
         jobs with forks = \"allow\" for the target"
    );
    println!("::error::{message}");
    hook::note_refusal(Path::new(hook::DIRECTORY), &message);
    if let Some(worker) = worker() {
        std::thread::sleep(SHOWN);
        // The runner shows what a worker that ended unexpectedly said last.
        if let Ok(mut errors) = OpenOptions::new().append(true).open(format!("/proc/{}/fd/2", worker.as_raw_pid())) {
            let _ = writeln!(errors, "{message}");
        }
        if let Err(error) = kill_process(worker, Signal::KILL) {
            println!("::error::the runner's worker cannot be ended: {error}");
        }
    }
    ExitCode::FAILURE
}

/// The worker this hook was started by.
fn worker() -> Option<Pid> {
    let parent = |pid: &Pid| {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.as_raw_pid().to_string()).join("stat")).ok()?;
        // `pid (name) state ppid`, and the name may hold anything.
        let ppid = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Pid::from_raw(ppid)
    };
    std::iter::successors(getppid(), parent).take(ANCESTORS).find(|pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| WORKERS.iter().any(|of| argument == of.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(event: &str, payload: &Value) -> Result<(), Refusal> {
        judge(Some(event), payload.to_string().as_bytes())
    }

    fn pull_request(head: &Value, private: bool) -> Value {
        json!({"action": "opened", "repository": {"id": 1, "private": private, "fork": false},
            "pull_request": {"number": 12, "head": {"ref": "x", "repo": head}}})
    }

    #[test]
    fn a_pull_request_is_judged_by_where_its_commits_lie() {
        for event in ["pull_request", "pull_request_review", "pull_request_review_comment"] {
            let of = |head| judged(event, &pull_request(&head, false));
            assert_eq!(of(json!({"id": 2, "fork": true})), Err(Refusal::Fork), "{event}");
            assert_eq!(of(json!({"id": 1})), Ok(()), "a branch of its own: {event}");
            assert_eq!(of(json!(null)), Err(Refusal::Unknown), "the fork was deleted: {event}");
            assert_eq!(judged(event, &pull_request(&json!({"id": 2}), true)), Ok(()), "private: {event}");
        }
    }

    #[test]
    fn what_runs_the_repositorys_own_workflow_needs_no_payload() {
        for event in ["push", "schedule", "pull_request_target", "workflow_dispatch"] {
            assert_eq!(judge(Some(event), b""), Ok(()), "{event}");
        }
    }

    #[test]
    fn a_payload_that_is_not_understood_admits_nothing() {
        for payload in [
            json!({}),
            json!([]),
            json!({"repository": {"id": "1"}, "pull_request": {"head": {"repo": {"id": "1"}}}}),
            json!({"repository": {"private": "true"}}),
            json!({"repository": {"id": 1}, "pull_request": {"head": {"repo": {"full_name": "o/r"}}}}),
            json!({"inputs": {"repository": {"private": true}}}),
        ] {
            assert_eq!(judged("pull_request", &payload), Err(Refusal::Unknown), "{payload}");
            assert_eq!(judge(None, payload.to_string().as_bytes()), Err(Refusal::Unknown), "{payload}");
        }
        assert_eq!(judge(Some("pull_request"), b"{\"repository\":{\"private\":true}"), Err(Refusal::Unknown));
    }
}
