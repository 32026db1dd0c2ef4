//! Limits on waiting and on running, each counted from its own beginning.

use std::time::Duration;

use controller::{cause::Cause, status::Finished};
use tokio::time::sleep;

use crate::{
    Simulation,
    story::{MINUTE, SECOND, Story, beside, life},
};

const IDLE: Duration = Duration::from_secs(600);
const JOB: Duration = Duration::from_secs(300);

/// One container is kept ready; jobs take so long.
fn warm(simulation: &mut Simulation, job_takes: Duration) {
    simulation.settings.idle_timeout = IDLE;
    let class = simulation.settings.classes.get_mut("big").unwrap();
    (class.min_idle, class.timeout) = (1, JOB);
    let whole = simulation.settings.longest_life(&simulation.settings.classes["big"]);
    simulation.settings.targets.retain(|target| target.name == "acme/api");
    let mut host = simulation.host.borrow_mut();
    (host.life, host.job_limit, host.job_takes) = (whole, Some(JOB), Some(job_takes));
}

fn ended(story: &Story) -> Vec<Finished> {
    story.status.borrow().finished.iter().map(|ended| (**ended).clone()).collect()
}

#[test]
fn an_idle_container_is_replaced_at_its_own_limit_and_a_job_of_its_last_minute_runs_to_its_end() {
    beside(
        1,
        |simulation| warm(simulation, JOB - 10 * SECOND),
        async |story| {
            sleep(IDLE * 3 + 5 * MINUTE).await;
            let idle = ended(story);
            assert!(idle.len() == 3 && idle.iter().all(|ended| ended.cause == Cause::IdleTooLong), "{idle:?}");
            assert!(idle[0].reason.as_deref().is_some_and(|reason| reason.contains("its idle_timeout")));
            assert_eq!((story.registrations(), story.problems().as_str()), (1, ""));
            // The fourth has waited for about five minutes.
            sleep(4 * MINUTE).await;
            let job = story.queue_polled("acme/api");
            sleep(MINUTE).await;
            assert!(story.is_taken(job));
            sleep(10 * MINUTE).await;
            let ran = ended(story).into_iter().find(|ended| ended.job_id == Some(job.0)).unwrap();
            assert!(matches!(ran.cause, Cause::Succeeded | Cause::JobFailed), "{ran:?}");
            let timeline = &ran.timeline;
            assert!(timeline.job_started_ms.unwrap() - timeline.listening_ms.unwrap() > 8 * 60_000, "it was warm");
            assert!(timeline.ran_ms().unwrap() >= 280_000, "{timeline:?}");
        },
    );
}

#[test]
fn a_job_ends_at_its_limit_counted_from_its_start_whether_its_guest_keeps_it_or_not() {
    for guest_keeps in [true, false] {
        let prepare = |simulation: &mut Simulation| {
            warm(simulation, 3 * JOB);
            if !guest_keeps {
                simulation.host.borrow_mut().job_limit = None;
            }
        };
        beside(1, prepare, async |story| {
            sleep(8 * MINUTE).await;
            let job = story.queue_polled("acme/api");
            sleep(12 * MINUTE).await;
            let ran = ended(story).into_iter().find(|ended| ended.job_id == Some(job.0)).unwrap();
            assert_eq!(ran.cause, Cause::TimedOut, "{ran:?}");
            let ran = Duration::from_millis(ran.timeline.ran_ms().unwrap());
            assert!(ran >= JOB && ran < JOB + 2 * MINUTE, "{ran:?}");
        });
    }
}

#[test]
fn a_job_ends_at_its_limit_while_the_controller_is_dead_and_is_told_as_timed_out() {
    crate::simulate(async {
        let mut simulation = Simulation::new(1);
        warm(&mut simulation, 3 * JOB);
        simulation.settings.classes.get_mut("big").unwrap().min_idle = 0;
        life(&simulation, async |_| {
            sleep(2 * MINUTE).await;
            let spec = github_sim::world::JobSpec::new("build", &["self-hosted", "big"], &["true"]);
            simulation.hub.borrow_mut().queue_job(simulation.clock.now(), "acme/api", spec).unwrap();
            sleep(MINUTE).await;
        })
        .await;
        assert_eq!(simulation.host.borrow().units.len(), 1);
        sleep(JOB).await;
        assert_eq!(simulation.host.borrow().units.len(), 0, "nobody ended it");
        life(&simulation, async |status| {
            sleep(5 * MINUTE).await;
            let causes: Vec<Cause> = status.borrow().finished.iter().map(|ended| ended.cause).collect();
            assert_eq!(causes, [Cause::TimedOut]);
        })
        .await;
    });
}
