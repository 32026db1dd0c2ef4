//! Every call of our client in one walk, with what it has to be answered. It is the same at a real server and at the
//! stand-ins of the simulation, so that these are as that one is.

use std::time::Duration;

use contract::{ActRunner, Grant};
use forge::{Deletion, Finish, Forge, Job, JobStatus, gitea::Gitea, wire::Wire};
use tokio::time::sleep;

/// Listings are shared for a moment.
const SHARED: Duration = Duration::from_millis(300);
const LABEL: &str = "nix:host";
const WHY: &str = "the reason";

/// What others do at the server, and what it shows them.
pub trait Others {
    /// Queues a job for the label `nix` in the repository; gives its number.
    fn queue(&self) -> u64;
    /// A runner asks for a job, and takes the one that waits; gives the job's number for runners.
    fn take(&self, runner: &ActRunner) -> u64;
    /// The job is cancelled.
    fn cancel(&self, job: u64);
    /// The job's log.
    fn log(&self, job: u64) -> String;
}

/// Walks through a target whose one served repository is `repository`, where nothing is queued and no runner is
/// registered; both are as the controller calls them.
///
/// # Panics
///
/// Where an answer is another one.
pub async fn walk<W: Wire>(client: &Gitea<W>, others: &impl Others, target: &str, repository: &str) {
    let found = client.discover(target).await.expect("repositories");
    let found = found.iter().find(|found| found.name == repository).expect("the repository");
    assert!(!found.archived && found.public.is_some(), "{found:?}");
    let traits = client.traits_of(target);
    assert!(!traits.tells_of_cancel);
    assert_eq!((client.rate_limit(target), client.allowance(target)), (None, None));
    assert_eq!(look(client, repository).await, []);

    let number = others.queue();
    let queued = only(client, repository).await;
    assert_eq!((queued.id, queued.status, &*queued.repository), (number, JobStatus::Queued, repository), "{queued:?}");
    assert_eq!((queued.labels.as_slice(), queued.from_fork), (&["nix".to_owned()][..], Some(false)), "{queued:?}");
    assert_eq!((&queued.conclusion, queued.runner_id), (&None, None), "{queued:?}");
    assert_eq!(client.job(repository, number).await.expect("a job").map(|job| job.status), Some(JobStatus::Queued));
    assert_eq!(client.job(repository, number + 1000).await.expect("no job"), None);

    // A runner that waits.
    let (id, _) = mint(client, target, "walk.idle", &queued).await;
    let listed = client.list_runners(target).await.expect("runners");
    assert!(listed.iter().any(|runner| runner.id == id && runner.name == "walk.idle"), "{listed:?}");
    let by_name = client.find_runner(target, "walk.idle").await.expect("a runner");
    assert_eq!(by_name.map(|runner| (runner.id, runner.busy)), Some((id, false)));
    assert!(client.is_registered(target, id).await.expect("registered"));
    assert_eq!(client.delete_runner(target, id).await, Ok(Deletion::Deleted));
    assert_eq!(client.delete_runner(target, id).await, Ok(Deletion::AlreadyGone));
    assert!(!client.is_registered(target, id).await.expect("not registered"));
    assert_eq!(client.find_runner(target, "walk.idle").await, Ok(None));

    // One that has a job.
    let (id, runner) = mint(client, target, "walk.busy", &queued).await;
    let task = others.take(&runner);
    let running = only(client, repository).await;
    assert_eq!((running.id, running.status), (number, JobStatus::InProgress), "{running:?}");
    // A Forgejo does not tell; there the runner was bound to the job.
    assert!(running.runner_id == Some(id) || queued.handle.is_some(), "{running:?}");
    // Where it was not bound to one, any job of its run may be the one it took.
    let of_run = async |name| client.job_of_run(repository, running.run_id, name).await.expect("a run's jobs");
    let expected = running.handle.is_none().then_some(number);
    assert_eq!(of_run("walk.busy").await.map(|job| job.id), expected);
    assert_eq!(of_run("walk.nobody").await, None);
    assert_eq!(client.delete_runner(target, id).await, Ok(Deletion::Busy));
    assert!(client.is_registered(target, id).await.expect("registered"));
    let finish = async |task, end| client.finish(target, &Grant::ActRunner(runner.clone()), task, end, WHY).await;
    assert_eq!(finish(task, Finish::Failed).await, Ok(true));
    assert!(others.log(number).lines().last().is_some_and(|line| line.ends_with(WHY)), "{}", others.log(number));
    assert_eq!(ended(client, repository, number).await.as_deref(), Some("failure"));
    assert!(!client.is_registered(target, id).await.expect("it went with its job"));
    assert_eq!(finish(task, Finish::Failed).await, Ok(false));
    assert_eq!(look(client, repository).await, []);

    // Ended as cancelled, and cancelled by somebody else.
    for by_us in [true, false] {
        let number = others.queue();
        let queued = only(client, repository).await;
        let (id, runner) = mint(client, target, "walk.cancelled", &queued).await;
        let task = others.take(&runner);
        let grant = Grant::ActRunner(runner);
        if by_us {
            assert_eq!(client.finish(target, &grant, task, Finish::Cancelled, WHY).await, Ok(true));
        } else {
            others.cancel(number);
            assert!(!client.is_registered(target, id).await.expect("gone"), "it goes with its job, and nobody says so");
            assert_eq!(client.finish(target, &grant, task, Finish::Failed, WHY).await, Ok(false));
        }
        assert_eq!(ended(client, repository, number).await.as_deref(), Some("cancelled"));
        assert_eq!(look(client, repository).await, []);
    }

    for finding in client.probe(target).await {
        assert!(finding.problem.is_none(), "{finding:?}");
    }
    let calls = client.traffic(target).calls;
    assert!(calls.succeeded > 20 && calls.unanswered == 0 && calls.limited == 0, "{calls:?}");
}

async fn look<W: Wire>(client: &Gitea<W>, repository: &str) -> Vec<Job> {
    sleep(SHARED).await;
    client.look(repository).await.expect("jobs")
}

async fn only<W: Wire>(client: &Gitea<W>, repository: &str) -> Job {
    let mut jobs = look(client, repository).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

async fn mint<W: Wire>(client: &Gitea<W>, target: &str, name: &str, job: &Job) -> (u64, ActRunner) {
    let labels = [LABEL.to_owned()];
    let minted = client.mint(target, name, &labels, job.handle.as_deref()).await.expect("a runner");
    let Grant::ActRunner(runner) = minted.grant else { panic!("a grant of GitHub's") };
    assert_eq!((runner.id, &*runner.name, &runner.labels[..]), (minted.runner_id, name, &labels[..]));
    (minted.runner_id, runner)
}

async fn ended<W: Wire>(client: &Gitea<W>, repository: &str, job: u64) -> Option<String> {
    let job = client.job(repository, job).await.expect("a job").expect("a known job");
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    job.conclusion
}
