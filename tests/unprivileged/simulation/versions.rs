//! Runner versions that the forge serves no more.

use std::time::Duration;

use controller::{
    cause::Cause,
    daemon::Daemon,
    status::{ClassStatus, Status},
};
use github_sim::{
    Call,
    world::{JobId, JobSpec, JobStatus, RunnerFault, RunnerWhat},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{HOST_NAME, REPOS, Simulation, ports::SimWorld, simulate};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Story<'a> {
    simulation: &'a Simulation,
    world: &'a SimWorld,
    status: watch::Receiver<Status>,
}

impl Story<'_> {
    fn queue(&self) -> JobId {
        let now = self.simulation.clock.now();
        let job = JobSpec::new("build", &["self-hosted"], &["true"]);
        self.simulation.hub.borrow_mut().queue_job(now, REPOS[0], job).unwrap().1
    }

    fn is_served(&self, job: JobId) -> bool {
        let hub = self.simulation.hub.borrow();
        hub.job_views().into_iter().any(|view| view.id == job && view.status == JobStatus::Completed)
    }

    /// Asked, as an operator asks.
    fn small(&self) -> ClassStatus {
        self.status.borrow().classes.iter().find(|class| class.name == "small").unwrap().clone()
    }

    fn problems(&self) -> String {
        self.status.borrow().problems.join("; ")
    }

    fn started(&self) -> u32 {
        self.simulation.host.borrow().started
    }

    fn set_end(&self, version: &str, end: Duration) {
        self.simulation.hub.borrow_mut().set_runner_deprecation(version, Some(self.simulation.clock.now() + end));
    }
}

/// Tells a story beside a controller whose templates have this version of the runner.
fn beside<T>(version: Option<&str>, ends: Option<(&str, Duration)>, story: impl AsyncFnOnce(Story<'_>) -> T) -> T {
    simulate(async {
        let mut simulation = Simulation::new(1);
        // Days pass in these stories.
        simulation.settings.poll_interval = 2 * MINUTE;
        simulation.settings.idle_poll_interval = Some(2 * MINUTE);
        let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &simulation.settings, 1);
        world.tree.replace(version.map(str::to_owned));
        let (_commands, inbox) = mpsc::channel(8);
        let (outbox, status) = watch::channel(Status::default());
        let told = Story { simulation: &simulation, world: &world, status };
        if let Some((version, end)) = ends {
            told.set_end(version, end);
        }
        let daemon = Daemon::new(&world, simulation.settings.clone(), HOST_NAME.into(), inbox, outbox);
        tokio::select! {
            biased;
            result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
            told = async {
                // It has asked by then.
                sleep(MINUTE).await;
                story(told).await
            } => told,
        }
    })
}

#[test]
fn days_left_count_down_while_jobs_are_served_and_then_nothing_is_started() {
    beside(Some("2.300.0"), Some(("2.300.0", 2 * DAY + HOUR)), async |story| {
        let job = story.queue();
        sleep(10 * MINUTE).await;
        assert!(story.is_served(job), "an old version serves to its last day");
        let small = story.small();
        assert_eq!((small.runner_version.as_deref(), small.runner_deprecated_in_days), (Some("2.300.0"), Some(2)));
        assert!(!small.outdated && story.problems().is_empty(), "a warning is not an illness: {}", story.problems());

        sleep(DAY).await;
        assert_eq!(story.small().runner_deprecated_in_days, Some(1));
        sleep(DAY + HOUR).await;
        assert!(story.small().outdated);
        let started = story.started();
        let job = story.queue();
        sleep(6 * HOUR).await;
        assert_eq!(story.started(), started, "a container of no use was started");
        assert!(story.problems().contains("class small: the forge refuses its runner 2.300.0"), "{}", story.problems());

        story.world.tree.replace(Some("2.338.2".to_owned()));
        sleep(HOUR).await;
        assert!(story.is_served(job), "the new template serves what waited");
        assert!(!story.small().outdated && story.problems().is_empty(), "{}", story.problems());
    });
}

#[test]
fn a_version_is_asked_about_once_a_day() {
    beside(Some("2.338.2"), None, async |story| {
        sleep(3 * DAY).await;
        let asked = story.simulation.hub.borrow().traffic().of(Call::RunnerDeprecation).requests;
        assert!((3..=5).contains(&asked), "{asked} questions in three days");
    });
}

#[test]
fn a_refused_runner_is_tried_again_once_an_hour_and_said_to_be_outdated_meanwhile() {
    beside(None, None, async |story| {
        story
            .simulation
            .hub
            .borrow_mut()
            .inject_runner(RunnerFault { count: u32::MAX, ..RunnerFault::once(RunnerWhat::VersionTooOld) });
        let job = story.queue();
        sleep(10 * MINUTE).await;
        assert!(story.small().outdated);
        assert!(story.problems().contains("class small: the forge refuses its runner"), "{}", story.problems());
        sleep(5 * HOUR).await;
        let started = story.started();
        assert!((5..=7).contains(&started), "{started} containers in five hours");
        assert!(story.small().outdated);

        story.simulation.hub.borrow_mut().clear_faults();
        sleep(HOUR + 10 * MINUTE).await;
        assert!(story.is_served(job));
        assert!(!story.small().outdated && story.problems().is_empty(), "{}", story.problems());
    });
}

#[test]
fn a_runner_that_is_refused_in_its_jobs_costs_two_of_them_and_no_more_until_it_is_another() {
    beside(Some("2.300.0"), None, async |story| {
        let too_old = RunnerFault { count: u32::MAX, ..RunnerFault::once(RunnerWhat::TooOldInJob) };
        story.simulation.hub.borrow_mut().inject_runner(too_old);
        let mut jobs = Vec::new();
        for _ in 0..6 {
            jobs.push(story.queue());
            sleep(HOUR).await;
        }
        let taken = jobs.iter().filter(|job| story.is_served(**job)).count();
        assert_eq!((taken, story.started()), (2, 2), "two jobs were cancelled by it");
        let causes: Vec<_> = story.status.borrow().finished.iter().map(|ended| ended.cause).collect();
        assert_eq!(causes, [Cause::RunnerRefused; 2]);
        assert!(story.small().outdated);
        assert!(story.problems().contains("class small: the forge refuses its runner 2.300.0"), "{}", story.problems());

        story.simulation.hub.borrow_mut().clear_faults();
        story.world.tree.replace(Some("2.338.2".to_owned()));
        sleep(HOUR).await;
        assert!(jobs.iter().all(|job| story.is_served(*job)), "the new template serves what waited");
        assert!(!story.small().outdated && story.problems().is_empty(), "{}", story.problems());
    });
}

#[test]
fn what_a_runner_says_of_itself_is_known_where_the_tree_does_not_tell() {
    beside(None, None, async |story| {
        assert_eq!(story.small().runner_version, None);
        story.queue();
        sleep(10 * MINUTE).await;
        assert_eq!(story.small().runner_version.as_deref(), Some("2.338.2"));
        story.set_end("2.338.2", 5 * DAY);
        sleep(DAY).await;
        assert_eq!(story.small().runner_deprecated_in_days, Some(4));
    });
}
