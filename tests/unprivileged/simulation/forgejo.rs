//! What a Forgejo answers otherwise than a Gitea, by its sources (15 and 16): runners are registered by one call and can
//! be bound to a job, listings are bare, a run says by itself whether it is a fork's. Nobody ran a real one against it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    gitea::{GiteaJob, REPO, SimGitea},
    story::{MINUTE, beside_gitea},
};

/// The number of its one repository.
const REPOSITORY: u64 = 7;
/// A runner that reported so lately is active.
pub const ACTIVE: Duration = Duration::from_secs(10);

/// What a runner is bound to one attempt of a job by.
pub fn handle(id: u64, job: &GiteaJob) -> String {
    format!("h-{id}-{}", job.asked)
}

impl SimGitea {
    /// The answer to what is Forgejo's alone; None if it answers as a Gitea does.
    pub fn as_forgejo(&mut self, now: Duration, method: &str, parts: &[&str], body: &Value) -> Option<(u16, Value)> {
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        let shown = |(id, job): (&u64, &GiteaJob)| {
            let status = match (job.status, job.conclusion) {
                ("queued", _) => "waiting",
                ("in_progress", _) => "running",
                (_, conclusion) => conclusion.unwrap_or("unknown"),
            };
            json!({"id": id, "run_id": id, "attempt": job.asked, "handle": handle(*id, job), "repo_id": REPOSITORY,
                "owner_id": 1, "name": "build", "needs": null, "runs_on": ["nix"], "task_id": 0, "status": status})
        };
        let runner = |forge: &Self, id: u64| {
            let runner = forge.runners.get(&id)?;
            let heard = runner.job.and_then(|job| forge.jobs.get(&job)).map(|job| job.heard_at);
            let status = if heard.is_some_and(|heard| now - heard < ACTIVE) { "active" } else { "idle" };
            Some(json!({"id": id, "name": runner.name, "status": status, "ephemeral": true, "labels": ["nix"]}))
        };
        let answer = match (method, parts) {
            ("GET", ["version"]) => (200, json!({"version": "16.0.0+gitea-1.22.0"})),
            ("GET", ["repositories", _]) => (200, json!({"full_name": REPO, "private": false, "has_actions": true})),
            ("GET", ["orgs", _, "repos"]) => (200, json!([{"full_name": REPO, "private": false, "has_actions": true}])),
            ("GET", [.., "runners", "jobs"]) => {
                let open: Vec<Value> =
                    self.jobs.iter().filter(|(_, job)| job.status != "completed").map(shown).collect();
                (200, if open.is_empty() { Value::Null } else { Value::Array(open) })
            }
            ("GET", [.., "runs", id, "jobs"]) => match self.jobs.get_key_value(&number(id)) {
                Some(job) => (200, json!([shown(job)])),
                None => (404, Value::Null),
            },
            ("GET", [.., "runs", id]) => {
                let is_fork = self.jobs.get(&number(id)).is_some_and(|job| job.is_fork);
                let event = if is_fork { "pull_request" } else { "push" };
                (
                    200,
                    json!({"trigger_event": event, "is_fork_pull_request": is_fork, "repository": {"private": false}}),
                )
            }
            ("POST", [.., "runners"]) => {
                assert_eq!(body["ephemeral"], true);
                let id = self.register(body);
                (201, json!({"id": id, "uuid": id.to_string(), "token": "t"}))
            }
            ("GET", [.., "registration-token"]) => (200, json!({"token": "REG"})),
            ("GET", [.., "runners"]) => {
                (200, self.runners.keys().filter_map(|id| runner(self, *id)).collect::<Vec<_>>().into())
            }
            ("GET", [.., "runners", id]) => runner(self, number(id)).map_or((404, Value::Null), |shown| (200, shown)),
            ("PATCH", _) | ("POST", [.., "registration-token" | "Register"]) => panic!("it has no {method} {parts:?}"),
            _ => return None,
        };
        Some(answer)
    }
}

#[test]
fn a_runner_of_a_forgejo_gets_the_job_it_was_booted_for_and_that_of_a_fork_gets_none() {
    beside_gitea(async |story| {
        let forgejo = story.simulation.host.borrow().forge(contract::ActFlavour::Forgejo);
        let fork = forgejo.borrow_mut().queue();
        forgejo.borrow_mut().jobs.get_mut(&fork).unwrap().is_fork = true;
        let own: Vec<u64> = (0..3).map(|_| forgejo.borrow_mut().queue()).collect();
        for _ in 0..60 {
            sleep(MINUTE / 6).await;
            if own.iter().all(|id| forgejo.borrow().jobs[id].status == "completed") {
                break;
            }
        }
        sleep(2 * MINUTE).await;
        assert_eq!(forgejo.borrow().jobs[&fork].status, "queued", "it is nobody's");
        let finished = story.status.borrow().finished.clone();
        let ended = |id: u64| finished.iter().filter(|ended| ended.job_id == Some(id)).count();
        assert_eq!(own.iter().map(|id| ended(*id)).collect::<Vec<_>>(), [1, 1, 1], "{finished:?}");
        assert_eq!((story.started(), forgejo.borrow().registrations()), (3, 0));
    });
}
