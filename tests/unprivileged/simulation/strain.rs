//! A host that is short of something takes fewer jobs, or none, and says why.

use controller::{
    status::{Status, WaitingFor},
    strain::{FileSystem, Measured, Shortage},
};
use tokio::time::sleep;

use crate::{
    REPOS,
    story::{MINUTE, SECOND, Story, beside},
};

fn free(bytes: u64) -> Measured {
    let system = FileSystem { path: "/var/lib".into(), free_bytes: bytes, free_inodes: Some(1_000_000) };
    Measured { file_systems: vec![system], ..Measured::default() }
}

fn status(story: &Story) -> Status {
    story.status.borrow().clone()
}

fn measures(story: &Story, measured: Measured) {
    story.simulation.host.borrow_mut().measured = measured;
}

#[test]
fn a_full_disk_keeps_jobs_waiting_with_the_reason_and_they_run_once_there_is_room() {
    beside(
        1,
        |_| {},
        async |story| {
            measures(story, free(100 << 20));
            sleep(MINUTE).await;
            let job = story.queue_polled(REPOS[0]);
            sleep(5 * MINUTE).await;
            let told = status(story);
            assert_eq!(story.simulation.host.borrow().started, 0);
            assert_eq!(told.strains[0].of, Shortage::Disk);
            assert_eq!(told.queue[0].waiting, WaitingFor::Host);
            let words = "/var/lib has 100 MiB free of 1280 MiB at least; no container is started";
            assert!(told.queue[0].reason.contains(words), "{}", told.queue[0].reason);
            assert!(story.problems().contains(words), "{}", story.problems());
            measures(story, free(2 << 30));
            sleep(MINUTE / 2).await;
            assert!(story.is_taken(job));
            assert_eq!((status(story).strains, story.problems()), (vec![], String::new()));
        },
    );
}

#[test]
fn a_full_disk_is_made_room_on_by_what_no_container_uses_and_it_is_told() {
    beside(
        1,
        |_| {},
        async |story| {
            sleep(MINUTE).await;
            story.simulation.host.borrow_mut().removable = 2 << 30;
            measures(story, free(100 << 20));
            let job = story.queue_polled(REPOS[0]);
            sleep(2 * MINUTE).await;
            assert!(story.is_taken(job), "{:?}", status(story).queue);
            let told = status(story);
            assert_eq!((told.pruned_bytes, told.prunings.len()), (2 << 30, 1));
            assert_eq!(told.prunings[0].removed, ["big/caches/old"]);
            sleep(10 * MINUTE).await;
            assert_eq!(story.simulation.host.borrow().prunings.last.len(), 1, "no more than is needed");
            assert_eq!((story.problems(), status(story).incidents), (String::new(), vec![]));
        },
    );
}

#[test]
fn under_pressure_containers_come_one_at_a_time_and_all_jobs_run() {
    beside(
        1,
        |_| {},
        async |story| {
            measures(story, Measured { memory: Some(70.0), ..Measured::default() });
            sleep(MINUTE).await;
            let jobs = [(); 3].map(|()| story.queue_polled(REPOS[0]));
            let mut most = 0;
            for _ in 0..3600 {
                sleep(SECOND).await;
                most = most.max(story.simulation.host.borrow().units.len());
                if jobs.iter().all(|job| story.is_taken(*job)) {
                    break;
                }
            }
            assert!(jobs.iter().all(|job| story.is_taken(*job)), "{:?}", status(story).queue);
            assert_eq!(most, 1);
        },
    );
}
