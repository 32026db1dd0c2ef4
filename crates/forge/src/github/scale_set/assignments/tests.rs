#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1_793_577_600);

fn job(id: u32, event: JobEvent) -> JobMessage {
    JobMessage {
        job_id: format!("job-{id}"),
        request_id: 0,
        event,
        repository: "o/r".into(),
        run_id: 9000 + u64::from(id),
        job_name: "build".into(),
        event_name: "push".into(),
        workflow_ref: "o/r/.github/workflows/ci.yml@refs/heads/main".into(),
        labels: vec!["nix".into()],
        queued_at: None,
        assigned_at: None,
    }
}

fn started(runner: &str) -> JobEvent {
    JobEvent::Started { runner_name: runner.into() }
}

fn completed(runner: &str) -> JobEvent {
    JobEvent::Completed { result: "succeeded".into(), runner_name: runner.into() }
}

fn assigned(count: u32) -> Statistics {
    Statistics { assigned_jobs: count, ..Statistics::default() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn what_waits_is_told_in_the_order_it_was_heard_of_and_by_when_that_was() {
    let mut set = Assignments::default();
    let message = |id| JobMessage { queued_at: Some(NOW), ..job(id, JobEvent::Assigned) };
    let heard = |set: &Assignments| -> Vec<(u64, Duration)> {
        set.waiting().iter().map(|job| (job.run_id - 9000, job.heard_at - NOW)).collect()
    };
    set.apply(1, &[message(2)], NOW + seconds(1));
    set.apply(2, &[message(1), message(3)], NOW + seconds(2));
    // Told again, as after a restart.
    set.apply(1, &[message(2)], NOW + seconds(9));
    assert_eq!(heard(&set), [(2, seconds(1)), (1, seconds(2)), (3, seconds(2))]);
    assert!(set.waiting().iter().all(|job| job.queued_at == Some(NOW)));
    set.apply(3, &[job(2, started("r"))], NOW + seconds(10));
    assert_eq!(heard(&set), [(1, seconds(2)), (3, seconds(2))]);
    // Taken from a runner that never came, and assigned anew.
    set.apply(4, &[job(1, completed("")), message(1)], NOW + seconds(20));
    set.apply(5, &[message(1)], NOW + seconds(21));
    assert_eq!(heard(&set), [(3, seconds(2)), (1, seconds(21))]);
}

#[test]
fn a_job_goes_from_waiting_through_running_to_finished() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Available)], NOW);
    assert_eq!(all.jobs().len(), 0, "an offer is not ours yet");
    all.apply(2, &[job(1, JobEvent::Assigned)], NOW);
    let state = |all: &Assignments| all.jobs()["job-1"].state.clone();
    assert_eq!(state(&all), AssignmentState::Waiting);
    all.apply(3, &[job(1, started("host-nix-1"))], NOW);
    assert_eq!(state(&all), AssignmentState::Running);
    assert_eq!(all.jobs()["job-1"].runner_name(), Some("host-nix-1"));
    all.apply(4, &[job(1, completed("host-nix-1"))], NOW);
    assert_eq!(state(&all), AssignmentState::Finished("succeeded".into()));
    assert_eq!((all.open().count(), all.last_message_id()), (0, 4));
}

#[test]
fn a_job_assigned_once_more_after_its_end_is_open_again_and_has_no_runner() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned)], NOW);
    all.apply(2, &[job(1, completed("lost-runner"))], NOW);
    all.apply(3, &[job(1, JobEvent::Assigned)], NOW);
    assert_eq!(all.jobs()["job-1"].state, AssignmentState::Waiting);
    assert_eq!(all.jobs()["job-1"].runner_name(), None);
}

#[test]
fn an_assignment_that_github_forgot_is_void_within_three_minutes() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned), job(2, JobEvent::Assigned)], NOW);
    all.reconcile(assigned(2), NOW);
    for minute in 1..=10 {
        all.reconcile(assigned(1), NOW + seconds(60 * minute));
        let expected = if minute < 4 { 2 } else { 1 };
        assert_eq!(all.open().count(), expected, "minute {minute}");
    }
    // Noticed in the first minute, void in the fourth: less than three after GitHub said so.
    assert_eq!(all.jobs().values().filter(|job| job.state == AssignmentState::Void).count(), 1);
}

#[test]
fn a_doubt_that_the_statistics_take_back_starts_anew() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned)], NOW);
    all.reconcile(assigned(0), NOW);
    all.reconcile(assigned(0), NOW + seconds(140));
    all.reconcile(assigned(1), NOW + seconds(145));
    all.reconcile(assigned(0), NOW + seconds(160));
    all.reconcile(assigned(0), NOW + seconds(300));
    assert_eq!(all.open().count(), 1);
    all.reconcile(assigned(0), NOW + seconds(310));
    assert_eq!(all.open().count(), 0);
}

#[test]
fn a_running_job_is_doubted_last_and_a_sign_of_life_revives_a_void_one() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned)], NOW);
    all.apply(2, &[job(1, started("a"))], NOW);
    all.apply(3, &[job(2, JobEvent::Assigned)], NOW + seconds(10));
    all.reconcile(assigned(1), NOW + seconds(20));
    all.reconcile(assigned(1), NOW + seconds(200));
    assert_eq!(all.jobs()["job-1"].state, AssignmentState::Running);
    assert_eq!(all.jobs()["job-2"].state, AssignmentState::Void);
    all.apply(3, &[job(2, JobEvent::Assigned)], NOW + seconds(201));
    assert_eq!(all.jobs()["job-2"].state, AssignmentState::Void, "a replay is no sign of life");
    all.apply(4, &[job(2, started("b"))], NOW + seconds(202));
    assert_eq!(all.jobs()["job-2"].state, AssignmentState::Running);
}

#[test]
fn statistics_of_zero_beside_an_assignment_still_launch_but_keep_nobody() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned)], NOW);
    all.reconcile(assigned(0), NOW);
    assert_eq!(all.wanted(0, 5, NOW + seconds(5)), RunnerCount { launch_up_to: 1, keep: 0 });
    assert_eq!(all.wanted(0, 5, NOW + seconds(61)), RunnerCount { launch_up_to: 0, keep: 0 });
}

#[test]
fn an_old_assignment_that_is_replayed_launches_nothing_of_its_own() {
    let mut all = Assignments::default();
    let old = JobMessage { assigned_at: Some(NOW - seconds(3600)), ..job(1, JobEvent::Assigned) };
    all.apply(1, &[old], NOW);
    all.reconcile(assigned(0), NOW);
    assert_eq!(all.wanted(0, 5, NOW).launch_up_to, 0);
}

#[test]
fn wanted_is_what_is_assigned_and_what_is_to_be_ready_up_to_the_limit() {
    let mut all = Assignments::default();
    assert_eq!(all.wanted(2, 5, NOW), RunnerCount { launch_up_to: 2, keep: 2 });
    all.reconcile(assigned(2), NOW);
    assert_eq!(all.wanted(2, 5, NOW), RunnerCount { launch_up_to: 4, keep: 4 });
    all.reconcile(assigned(u32::MAX), NOW);
    assert_eq!(all.wanted(2, 5, NOW), RunnerCount { launch_up_to: 5, keep: 5 });
    assert_eq!(all.wanted(2, 0, NOW), RunnerCount { launch_up_to: 0, keep: 0 }, "draining");
}

#[test]
fn a_clock_set_back_delays_no_more_than_the_time_it_was_set_back_from() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, JobEvent::Assigned)], NOW);
    all.reconcile(assigned(0), NOW);
    let back = NOW - seconds(600);
    all.reconcile(assigned(0), back);
    assert_eq!(all.wanted(0, 5, back + seconds(61)).launch_up_to, 0);
    all.reconcile(assigned(0), back + seconds(150));
    assert_eq!(all.open().count(), 0);
}

#[test]
fn another_scale_set_begins_with_nothing() {
    let mut all = Assignments::default();
    all.belong_to(7);
    all.apply(100_000_005, &[job(1, JobEvent::Assigned)], NOW);
    all.belong_to(7);
    assert_eq!(all.open().count(), 1);
    all.belong_to(8);
    assert_eq!((all.open().count(), all.last_message_id()), (0, 0));
}

#[test]
fn jobs_that_are_over_are_forgotten_after_two_days_and_when_there_are_too_many() {
    let mut all = Assignments::default();
    all.apply(1, &[job(1, completed(""))], NOW);
    all.reconcile(assigned(0), NOW + seconds(47 * 3600));
    assert_eq!(all.jobs().len(), 1);
    all.reconcile(assigned(0), NOW + seconds(49 * 3600));
    assert_eq!(all.jobs().len(), 0);
    for id in 0..5000 {
        all.apply(10 + u64::from(id), &[job(id, completed(""))], NOW + seconds(u64::from(id)));
    }
    all.reconcile(assigned(0), NOW + seconds(5000));
    assert_eq!(all.jobs().len(), 4096);
    assert!(all.jobs().contains_key("job-4999") && !all.jobs().contains_key("job-0"));
}

#[test]
fn what_is_on_disk_comes_back_as_it_was() {
    let mut all = Assignments::default();
    all.belong_to(3);
    all.apply(5, &[job(1, JobEvent::Assigned), job(2, started("x")), job(3, completed("y"))], NOW);
    all.reconcile(Statistics { idle_runners: 4, ..assigned(1) }, NOW);
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Assignments>(&text).unwrap(), all);
}

/// A queue: for each of a few jobs a life in GitHub's order, interleaved, cut into messages.
fn log() -> impl Strategy<Value = Vec<(u64, Vec<JobMessage>)>> {
    let life = prop::collection::vec(
        prop_oneof![
            Just(vec![JobEvent::Assigned]),
            Just(vec![JobEvent::Assigned, started("r1")]),
            Just(vec![JobEvent::Assigned, started("r2"), completed("r2")]),
            Just(vec![JobEvent::Assigned, completed("")]),
            Just(vec![JobEvent::Assigned, completed(""), JobEvent::Assigned, started("r3"), completed("r3")]),
            Just(vec![JobEvent::Available, JobEvent::Assigned, started("r4")]),
        ],
        1..6,
    );
    (life, any::<u64>(), 1usize..4).prop_map(|(lives, mut dice, size)| {
        let mut lives: Vec<_> = lives.into_iter().map(Vec::into_iter).collect();
        let mut events = Vec::new();
        while lives.iter().any(|life| life.len() > 0) {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let which = (dice >> 33) as usize % lives.len();
            if let Some(event) = lives[which].next() {
                events.push(job(u32::try_from(which).unwrap(), event));
            }
        }
        // GitHub does not put two turns of one job's life into one message out of order; ours keep one each.
        let mut messages: Vec<(u64, Vec<JobMessage>)> = Vec::new();
        for event in events {
            match messages.last_mut() {
                Some((_, jobs)) if jobs.len() < size && jobs.iter().all(|job| job.job_id != event.job_id) => {
                    jobs.push(event);
                }
                _ => messages.push((100_000_001 + messages.len() as u64, vec![event])),
            }
        }
        messages
    })
}

fn applied<'a>(log: impl IntoIterator<Item = &'a (u64, Vec<JobMessage>)>) -> Assignments {
    let mut all = Assignments::default();
    for (id, jobs) in log {
        all.apply(*id, jobs, NOW);
    }
    all
}

proptest! {
    #[test]
    fn replayed_doubled_and_shuffled_messages_come_to_the_same(
        (log, shuffled) in log().prop_flat_map(|log| {
            let twice: Vec<_> = log.iter().chain(&log).cloned().collect();
            (Just(log), Just(twice).prop_shuffle())
        })
    ) {
        let once = applied(&log);
        prop_assert_eq!(&applied(&shuffled), &once);
        prop_assert_eq!(&applied(log.iter().chain(&log)), &once);
    }

    #[test]
    fn a_restart_that_sees_the_whole_log_again_provisions_nothing_that_is_over(
        log in log(), cut in any::<prop::sample::Index>()
    ) {
        let before = applied(&log);
        // Kept on disk, then the log from any place again, in order.
        let text = serde_json::to_string(&before).unwrap();
        let mut after: Assignments = serde_json::from_str(&text).unwrap();
        for (id, jobs) in &log[cut.index(log.len())..] {
            after.apply(*id, jobs, NOW + seconds(7200));
            for (id, job) in after.open() {
                prop_assert!(before.jobs()[id].is_open(), "{} is over and came back: {:?}", id, job);
            }
            let open = u32::try_from(before.open().count()).unwrap();
            prop_assert!(after.wanted(0, 100, NOW + seconds(7200)).launch_up_to <= open);
        }
        prop_assert_eq!(after, before);
    }

    #[test]
    fn the_statistics_win_in_the_end_whatever_the_messages_said(
        log in log(), counts in prop::collection::vec(0u32..8, 1..30), min in 0u32..4, max in 0u32..10
    ) {
        let mut all = applied(&log);
        let mut now = NOW;
        let mut last = 0;
        for count in counts {
            now += seconds(40);
            all.reconcile(assigned(count), now);
            last = count;
            let wanted = all.wanted(min, max, now);
            prop_assert!(wanted.keep <= wanted.launch_up_to && wanted.launch_up_to <= max);
            prop_assert!(wanted.launch_up_to >= (min + count).min(max), "what GitHub counts is provided for");
        }
        all.reconcile(assigned(last), now + seconds(1));
        all.reconcile(assigned(last), now + seconds(200));
        prop_assert!(all.open().count() <= last as usize);
        let wanted = all.wanted(min, max, now + seconds(200));
        prop_assert_eq!(wanted.launch_up_to, (min + last).min(max));
    }
}
