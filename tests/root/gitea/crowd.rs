//! Many jobs at once, and forge and controller that go away in the middle.

use std::{collections::BTreeSet, time::Duration, time::Instant};

use stage::SERVICE;

use crate::{ACME, MINUTE, REPO, config, nothing_left, one_token, stage};

const JOBS: usize = 20;

#[test]
fn twenty_jobs_at_once_run_once_each_through_restarts_of_forge_and_controller() {
    let mut config = config(&[ACME]);
    config.top += &format!("max_concurrent = {JOBS}\n");
    let Some((stage, mut gitea)) = stage(config, one_token) else { return };
    let numbers: Vec<String> = (1..=JOBS).map(|number| number.to_string()).collect();
    let text = format!(
        "on: workflow_dispatch\njobs:\n  one:\n    strategy:\n      matrix:\n        n: [{}]\n    runs-on: nix\n    \
         steps:\n      - run: echo begun; sleep 8; echo ended\n",
        numbers.join(", ")
    );
    gitea.write(REPO, ".gitea/workflows/many.yml", &text).unwrap();
    let began = Instant::now();
    let run = gitea.dispatch(REPO, "many.yml").unwrap();
    let taken = |jobs: &[gitea::Job], count| {
        jobs.iter().filter(|job| matches!(job.status.as_str(), "in_progress" | "completed")).count() >= count
    };
    gitea.wait_jobs(REPO, run, MINUTE, |jobs| taken(jobs, 3)).unwrap();
    stage.systemctl(&["kill", "--signal=KILL", "--kill-whom=main", SERVICE]).unwrap();
    stage.wait_for("the controller is back", MINUTE, |_| true).unwrap();
    gitea.wait_jobs(REPO, run, MINUTE, |jobs| taken(jobs, 8)).unwrap();
    gitea.switch_off();
    std::thread::sleep(Duration::from_secs(3));
    gitea.switch_on(&stage.lab).unwrap();
    gitea.wait_jobs(REPO, run, MINUTE, |jobs| taken(jobs, 12)).unwrap();
    stage.systemctl(&["restart", SERVICE]).unwrap();
    let over = |jobs: &[gitea::Job]| jobs.len() == JOBS && jobs.iter().all(|job| job.status == "completed");
    let jobs = gitea.wait_jobs(REPO, run, 2 * MINUTE, over).unwrap();
    println!("{JOBS} jobs took {:.1?}", began.elapsed());
    for job in &jobs {
        assert_eq!((job.conclusion.as_deref(), job.run_attempt), (Some("success"), 1), "{job:#?}");
    }
    let runners: BTreeSet<_> = jobs.iter().filter_map(|job| job.runner_name.clone()).collect();
    assert_eq!(runners.len(), JOBS, "a container for each");
    nothing_left(&stage, &gitea);
    // One that was booted while the forge or the controller was away may have found its job taken.
    let history = stage.lab.shell("gha-runner-controller history --json").unwrap();
    let booted = history.matches("\"runner_name\"").count();
    println!("{booted} containers");
    assert!(booted <= JOBS + 5, "{history}");
}
