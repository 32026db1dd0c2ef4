//! Jobs with `container:` and `services:`, by the commands of GitHub's runner, with images of a real registry.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::cause::Cause;
use github_sim::world::{Conclusion, Container, JobId, JobSpec, JobView, RunId};
use lab::{Place, Recipe, Running};
use stage::{REPO, Stage, StageConfig, registry};

const MINUTE: Duration = Duration::from_secs(60);
/// What GitHub's runner says when its job's containers are gone.
const REMOVED: &str = "Remove container network: ";

/// A stage whose class has Docker, and Debian's registry as its mirror, in the internet of the lab.
fn stage() -> Option<(Stage, Running)> {
    let mirror = registry::address();
    let config = StageConfig {
        tree: Recipe::DOCKER,
        classes: format!(
            "[class.small]\nlabels = [\"linux\"]\n[class.small.docker]\nenable = true\nmirror = \"{mirror}\"\n"
        ),
        ..StageConfig::default()
    };
    let stage = Stage::boot(&config).unwrap()?;
    let serving = registry::serve(&stage.lab).unwrap();
    Some((stage, serving))
}

fn container(image: &str, options: &str) -> Container {
    Container { image: image.to_owned(), options: options.to_owned(), ..Container::default() }
}

/// A job of these steps: in this container, with this service by the name `web`.
fn queue(stage: &Stage, steps: &[&str], container: Option<Container>, web: Option<Container>) -> (RunId, JobId) {
    let services = web.map(|web| ("web".to_owned(), web)).into_iter().collect();
    let job = JobSpec { container, services, ..JobSpec::new("a job", &["linux"], steps) };
    stage.hub.queue_job(REPO, job).unwrap()
}

/// How a job ended: its container, and what `logs` shows of it.
fn end(stage: &Stage, job: JobId, cause: Cause, conclusion: Conclusion) -> (JobView, String) {
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(conclusion), "{done:#?}");
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!((ended.cause, ended.conclusion.as_deref()), (cause, Some(conclusion.as_str())), "{ended:#?}");
    let logs = ["/usr/local/bin/gha-runner-controller", "logs", &ended.name];
    let logs = stage.lab.exec(Place::Host, &logs).unwrap().check().unwrap().text();
    println!("{logs}");
    (done, logs)
}

#[test]
fn jobs_in_containers_and_with_services_run_side_by_side() {
    let Some((stage, _registry)) = stage() else { return };
    let health = "--health-cmd \"wget -q -O - http://127.0.0.1/\" --health-interval 1s";
    let web = Container { ports: vec!["8080:80".to_owned()], ..container("box:1", health) };
    let began = Instant::now();
    let inside = [
        "echo \"its first process: $(cat /proc/1/comm)\"",
        "echo \"by name: $(wget -q -O - http://web/)\"",
        "pwd; echo \"written in $GITHUB_WORKSPACE as $(id -u)\" > file",
        "cat file",
    ];
    let (_, inside) = queue(&stage, &inside, Some(container("box:1", "--init")), Some(web.clone()));
    let outside = ["echo \"by port: $(curl --silent http://127.0.0.1:8080/)\""];
    let (_, outside) = queue(&stage, &outside, None, Some(web));
    let user = ["echo \"mine as $(id -u)\" > file", "cat file; ls -n file"];
    let (_, user) = queue(&stage, &user, Some(container("box:1", "--user 1001")), None);
    let (inside, logs) = end(&stage, inside, Cause::Succeeded, Conclusion::Success);
    for line in [
        "its first process: docker-init",
        "by name: served",
        "/__w/hello/hello",
        "written in /__w/hello/hello as 0",
        "web service is healthy.",
    ] {
        assert!(logs.lines().any(|shown| shown.ends_with(&format!("Z {line}"))), "{line}:\n{logs}");
    }
    assert!(logs.contains(REMOVED), "{logs}");
    let (outside, logs) = end(&stage, outside, Cause::Succeeded, Conclusion::Success);
    assert!(logs.contains("Z by port: served\n"), "{logs}");
    let (_, logs) = end(&stage, user, Cause::Succeeded, Conclusion::Success);
    assert!(logs.contains("Z mine as 1001\n"), "{logs}");
    println!("three jobs with containers took {:.1?}", began.elapsed());
    assert!(inside.acquired_at < outside.completed_at && outside.acquired_at < inside.completed_at, "not at once");
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_job_with_containers_that_fails_is_cancelled_or_stopped_is_told_as_that_and_leaves_nothing() {
    let Some((stage, _registry)) = stage() else { return };
    let long = ["echo begun", "exec sleep 1000"];
    let begins = |job| {
        stage.hub.wait_for_job(job, MINUTE, |job| job.steps[1].started_at.is_some()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    };
    let (_, fails) = queue(&stage, &["echo never"], Some(container("gone:1", "")), None);
    let (run, cancelled) = queue(&stage, &long, Some(container("box:1", "")), Some(container("box:1", "")));
    begins(cancelled);
    stage.hub.cancel_run(run).unwrap();
    let (_, logs) = end(&stage, cancelled, Cause::JobCancelled, Conclusion::Cancelled);
    assert!(logs.contains(REMOVED), "{logs}");
    let (view, logs) = end(&stage, fails, Cause::JobFailed, Conclusion::Failure);
    for line in ["Error response from daemon: ", "##[error]Docker pull failed with exit code 1"] {
        assert!(logs.contains(line), "{line}:\n{logs}");
    }
    assert!(view.output.contains("##[error]Docker pull failed with exit code 1"), "{}", view.output);

    let (_, stopped) = queue(&stage, &long, Some(container("box:1", "")), Some(container("box:1", "")));
    begins(stopped);
    let name = stage.hub.job(stopped).unwrap().runner_name.unwrap();
    let name = stage.status().unwrap().active_containers.into_iter().find(|c| name.contains(&c.name)).unwrap().name;
    let stop = ["/usr/local/bin/gha-runner-controller", "stop", &name];
    let began = Instant::now();
    stage.lab.exec(Place::Host, &stop).unwrap().check().unwrap();
    let (_, logs) = end(&stage, stopped, Cause::StoppedByOperator, Conclusion::Failure);
    // Neither the runner nor Docker waits for what runs in its containers.
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:.1?} to stop", began.elapsed());
    // GitHub's runner leaves its containers then; they go with the container around them.
    assert!(!logs.contains(REMOVED), "{logs}");
    stage.wait_until_clean(MINUTE).unwrap();
}
