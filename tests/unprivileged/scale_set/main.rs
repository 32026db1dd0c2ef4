//! The scale set client against the simulated GitHub, in both of its ways to give jobs, with the faults that have
//! bitten others (tests/README.md#faults, 13 to 19).
#![allow(clippy::unwrap_used, missing_docs)]

mod host;
mod tls;

use std::time::Duration;

use forge::{
    ErrorKind,
    github::scale_set::{Origin, assignments::AssignmentState},
};
use github_sim::{
    Call,
    world::{AccountSpec, Assignment, Fault, RunnerGroupSpec, ScaleSetRules, Scope, What},
};
use tokio::time::{Instant, sleep};

use host::{Host, Hub, MINUTE, SECOND, spec};

/// github.com's way and that of GitHub Enterprise Server.
fn both() -> [ScaleSetRules; 2] {
    [Assignment::Automatic, Assignment::Acquire]
        .map(|assignment| ScaleSetRules { assignment, ..ScaleSetRules::default() })
}

fn hubs() -> [Hub; 2] {
    both().map(|rules| Hub::new(rules, 1))
}

fn of(hub: &Hub, call: Call) -> u64 {
    hub.world.borrow().traffic().of(call).requests
}

#[tokio::test(start_paused = true)]
async fn jobs_run_up_to_the_capacity_and_nothing_is_left_of_them() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.capacity.send(2).unwrap();
        let jobs = hub.queue(5);
        let mut most = 0;
        while hub.succeeded(&jobs) < 5 {
            host.round().await.unwrap();
            most = most.max(host.runners.len());
            let assigned = hub.world.borrow().scale_set_views()[0].statistics.total_assigned_jobs;
            assert!(assigned <= 2, "{assigned} jobs are ours, of 2 we can take");
            assert!(hub.elapsed() < 10 * MINUTE);
        }
        assert_eq!((most, host.minted), (2, 5), "one runner for each job, two at once");
        // The last JobCompleted.
        host.quiet().await;
        host.set.release().await.unwrap();
        let view = hub.world.borrow().scale_set_views()[0].clone();
        assert_eq!((view.undeleted_messages, view.listener), (Vec::new(), None));
        let finished = AssignmentState::Finished("succeeded".into());
        assert!(host.assignments().jobs().values().all(|job| job.state == finished && job.repository == "o/r"));
    }
}

#[tokio::test(start_paused = true)]
async fn claims_are_made_where_jobs_are_offered_and_nowhere_else() {
    let [github, enterprise] = hubs();
    for (hub, claims) in [(github, false), (enterprise, true)] {
        let mut host = Host::new(&hub);
        let jobs = hub.queue(3);
        host.finish(&jobs, 10 * MINUTE).await;
        assert_eq!(of(&hub, Call::AcquireJobs) > 0, claims);
        assert_eq!(hub.world.borrow().traffic().of(Call::AcquireJobs).errors, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_heard_of_at_once_and_a_changed_capacity_is_told_at_once() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.capacity.send(0).unwrap();
        assert!(host.hear().await.unwrap().fresh);
        hub.queue(2);
        assert_eq!(host.hear().await.unwrap().message_id, None, "draining: nothing is given to us");
        assert_eq!(hub.world.borrow().scale_set_views()[0].statistics.total_assigned_jobs, 0);
        let sender = host.capacity.clone();
        let raised = async {
            sleep(20 * SECOND).await;
            sender.send(1).unwrap();
            Instant::now()
        };
        let ((), raised) = tokio::join!(host.hear_of(1), raised);
        assert!(raised.elapsed() < 2 * SECOND, "{:?}", raised.elapsed());
    }
}

/// Fault 13.
#[tokio::test(start_paused = true)]
async fn after_a_crash_the_old_session_is_waited_out_without_a_storm() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        let mut host = host.crashed();
        let jobs = hub.queue(2);
        let begun = Instant::now();
        let tries = of(&hub, Call::OpenMessageSession);
        while let Err(error) = host.round().await {
            assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
            assert!(host.set.held_for().unwrap() <= begun.elapsed());
            assert_eq!(host.minted, 0, "nothing is launched on suspicion");
            assert!(begun.elapsed() < 3 * MINUTE, "the session was free after two");
        }
        assert!(of(&hub, Call::OpenMessageSession) - tries <= 12);
        assert_eq!(host.set.held_for(), None);
        host.finish(&jobs, 10 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_orderly_stop_the_successor_does_not_wait() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        host.set.release().await.unwrap();
        let mut host = host.crashed();
        let begun = Instant::now();
        host.hear().await.unwrap();
        assert!(begun.elapsed() < SECOND);
    }
}

/// Fault 14.
#[tokio::test(start_paused = true)]
async fn refused_tokens_and_lost_sessions_lose_no_job() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        for round in 0..6 {
            let jobs = hub.queue(2);
            let set = hub.world.borrow().scale_set_views()[0].id;
            if round % 2 == 0 {
                hub.world.borrow_mut().revoke_scale_set_tokens();
            }
            if round % 3 != 1 {
                hub.world.borrow_mut().lose_session(hub.clock(), set).unwrap();
            }
            host.finish(&jobs, 10 * MINUTE).await;
        }
        assert_eq!(host.minted, 12);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_with_short_lives_are_renewed_for_hours() {
    for rules in both() {
        let rules = ScaleSetRules { admin_token_ttl: 17 * MINUTE, queue_token_ttl: 7 * MINUTE, ..rules };
        let hub = Hub::new(rules, 1);
        let mut host = Host::new(&hub);
        for _ in 0..12 {
            let jobs = hub.queue(1);
            host.finish(&jobs, 5 * MINUTE).await;
            sleep(MINUTE).await;
            let begun = Instant::now();
            while begun.elapsed() < 15 * MINUTE {
                host.round().await.unwrap();
            }
        }
        assert_eq!(of(&hub, Call::OpenMessageSession), 1, "one session for all of it");
        assert!(of(&hub, Call::RunnerRegistration) < 30);
    }
}

/// Fault 15.
#[tokio::test(start_paused = true)]
async fn the_whole_queue_again_after_a_restart_launches_nothing() {
    for hub in hubs() {
        for forgetful in [false, true] {
            let mut host = Host::new(&hub);
            let jobs = hub.queue(4);
            host.finish(&jobs, 10 * MINUTE).await;
            host.quiet().await;
            host.set.release().await.unwrap();
            let set = hub.world.borrow().scale_set_views()[0].id;
            hub.world.borrow_mut().restore_messages(hub.clock(), set).unwrap();
            // A disk that was lost as well makes the replay news; an hour later it is old news.
            sleep(60 * MINUTE).await;
            let mut host = host.crashed();
            if forgetful {
                host.disk = Host::new(&hub).disk;
            }
            let minted = host.minted;
            let (mut replayed, begun) = (0, Instant::now());
            while begun.elapsed() < 4 * MINUTE {
                replayed += u32::from(host.round().await.unwrap().message_id.is_some());
            }
            assert!(replayed > 1, "there was something to replay");
            assert_eq!(host.minted, minted, "no runner for a job that is over");
            assert_eq!(host.assignments().open().count(), 0);
            host.set.release().await.unwrap();
        }
    }
}

/// Fault 16.
#[tokio::test(start_paused = true)]
async fn an_assignment_that_github_dropped_is_let_go_within_minutes() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        let job = hub.queue(1)[0];
        host.hear_of(1).await;
        hub.world.borrow_mut().drop_assignment(hub.clock(), job).unwrap();
        let dropped = Instant::now();
        while host.wanted().launch_up_to > 0 {
            host.hear().await.unwrap();
            assert!(dropped.elapsed() < 3 * MINUTE, "a runner for nobody is wanted");
        }
        while host.assignments().open().count() > 0 {
            host.hear().await.unwrap();
            assert!(dropped.elapsed() < 6 * MINUTE, "it is still on the books");
        }
        assert_eq!(host.assignments().jobs().values().next().unwrap().state, AssignmentState::Void);
    }
}

/// Fault 17.
#[tokio::test(start_paused = true)]
async fn statistics_of_zero_beside_an_assignment_still_launch() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        let jobs = hub.queue(1);
        hub.world.borrow_mut().inject(Fault::times(2, Call::GetMessage, What::ZeroStatistics));
        let begun = Instant::now();
        while host.minted == 0 {
            host.round().await.unwrap();
            assert!(begun.elapsed() < 5 * SECOND);
        }
        host.finish(&jobs, 10 * MINUTE).await;
    }
}

/// Fault 18.
#[tokio::test(start_paused = true)]
async fn strange_messages_cost_no_job() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        for what in [What::EmptyMessage, What::ByteOrderMark, What::UnknownEvent, What::UnknownMessage, What::BadJson] {
            let jobs = hub.queue(1);
            hub.world.borrow_mut().inject(Fault::once(Call::GetMessage, what.clone()));
            host.finish(&jobs, 10 * MINUTE).await;
            assert_eq!(hub.world.borrow().pending_faults().0.len(), 0, "{what:?} happened");
        }
        for call in [Call::CreateScaleSet, Call::OpenMessageSession, Call::ListScaleSets, Call::RunnerRegistration] {
            hub.world.borrow_mut().inject(Fault::once(call, What::ByteOrderMark));
        }
        let mut other = spec("http://github.invalid/o/r");
        other.set_name = "another".into();
        other.labels = vec!["another".into()];
        assert!(Host::with(&hub, other).hear().await.unwrap().fresh);
        assert_eq!(hub.world.borrow().pending_faults().0.len(), 0);
    }
}

/// Fault 19.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_at_once_is_asked_once_a_second() {
    for hub in hubs() {
        let mut host = Host::new(&hub);
        host.hear().await.unwrap();
        hub.world.borrow_mut().inject(Fault::times(60, Call::GetMessage, What::NothingAtOnce));
        let begun = Instant::now();
        for _ in 0..60 {
            host.hear().await.unwrap();
        }
        assert!(begun.elapsed() >= 58 * SECOND, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_made_up_for_wherever_it_is_lost() {
    for hub in hubs() {
        for call in [
            Call::RegistrationToken,
            Call::RunnerRegistration,
            Call::ListScaleSets,
            Call::CreateScaleSet,
            Call::OpenMessageSession,
            Call::GetMessage,
            Call::DeleteMessage,
            Call::MintScaleSetRunner,
        ] {
            hub.world.borrow_mut().inject(Fault::once(call, What::LostAnswer));
        }
        let mut host = Host::new(&hub);
        let jobs = hub.queue(3);
        host.finish(&jobs, 15 * MINUTE).await;
        assert_eq!(hub.world.borrow().pending_faults().0.len(), 0);
        sleep(MINUTE).await;
        hub.world.borrow_mut().advance(hub.clock());
        assert_eq!(hub.world.borrow().leaked_runners(), []);
        host.quiet().await;
        host.round().await.unwrap();
        assert!(hub.world.borrow().scale_set_views()[0].undeleted_messages.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_picks_up_ends_as_github_says() {
    for rules in both() {
        let hub = Hub::new(ScaleSetRules { pickup_limit: Some(3 * MINUTE), ..rules }, 1);
        let mut host = Host::new(&hub);
        hub.queue(1);
        while hub.elapsed() < 15 * MINUTE {
            host.hear().await.unwrap();
        }
        let assignments = host.assignments();
        assert_eq!(assignments.jobs().len(), 1, "it is one job, however often it is assigned");
        assert_eq!(assignments.jobs().values().next().unwrap().state, AssignmentState::Finished("canceled".into()));
        assert_eq!(host.wanted().launch_up_to, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_can_be_an_organisations_or_an_enterprises_and_in_a_group_of_its_own() {
    for hub in hubs() {
        let enterprise = AccountSpec { login: "o".into(), kind: Default::default(), enterprise: Some("corp".into()) };
        let group =
            RunnerGroupSpec { name: "Team A".into(), visibility: Default::default(), allows_public_repositories: true };
        hub.world.borrow_mut().set_account(enterprise).unwrap();
        hub.world.borrow_mut().set_runner_group(&Scope::Org("o".into()), group).unwrap();
        let organisation = spec("http://github.invalid/o");

        let mut host = Host::with(&hub, spec("http://github.invalid/enterprises/corp"));
        let jobs = hub.queue_in("o/secret", 2);
        host.finish(&jobs, 10 * MINUTE).await;
        host.set.release().await.unwrap();
        host.capacity.send(0).unwrap();

        let mut grouped = organisation.clone();
        grouped.runner_group = Some("team a".into());
        let mut host = Host::with(&hub, grouped);
        let jobs = hub.queue(2);
        host.finish(&jobs, 10 * MINUTE).await;

        let mut nobody = organisation;
        nobody.runner_group = Some("Team Z".into());
        let error = Host::with(&hub, nobody).hear().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.message.contains("Team Z"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_that_the_server_drops_and_labels_that_changed_are_found_out() {
    let hub = Hub::new(ScaleSetRules { several_labels: false, ..ScaleSetRules::default() }, 1);
    let mut two = spec("http://github.invalid/o/r");
    two.labels = vec!["nix".into(), "big".into()];
    let host = Host::with(&hub, two);
    let opened = host.set.open().await.unwrap();
    assert_eq!((opened.origin, opened.missing_labels), (Origin::Created, vec!["big".to_owned()]));

    let mut changed = spec("http://github.invalid/o/r");
    changed.labels = vec!["nix-2".into()];
    let opened = Host::with(&hub, changed.clone()).set.open().await.unwrap();
    assert_eq!((opened.origin, opened.labels), (Origin::Recreated, vec!["nix-2".to_owned()]));

    let mut host = Host::new(&hub);
    assert_eq!(host.set.open().await.unwrap().origin, Origin::Recreated);
    hub.queue(1);
    host.hear_of(1).await;
    let opened = Host::with(&hub, changed).set.open().await.unwrap();
    assert_eq!((opened.origin, opened.missing_labels), (Origin::FoundBusy, vec!["nix-2".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_all_jobs_run_and_nothing_is_left_behind() {
    let faults = |dice: u64| match dice % 9 {
        0 => What::LostAnswer,
        1 => What::Refused,
        2 => What::Status { code: 500 + (dice / 9 % 4) as u16, message: String::new(), headers: Vec::new() },
        3 => What::Unauthorized,
        4 => What::RateLimitSecondary { retry_after: Some(7) },
        5 => What::Slow { ms: 5_000 },
        6 => What::EmptyMessage,
        7 => What::ZeroStatistics,
        _ => What::ByteOrderMark,
    };
    for seed in 1..=12 {
        for rules in both() {
            let rules = ScaleSetRules { queue_token_ttl: 11 * MINUTE, admin_token_ttl: 7 * MINUTE, ..rules };
            let hub = Hub::new(rules, seed);
            let mut host = Host::new(&hub);
            let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut jobs = Vec::new();
            for _ in 0..15 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let roll = dice >> 33;
                jobs.extend(hub.queue((roll % 3) as usize));
                hub.world.borrow_mut().inject(Fault::any(1, faults(roll / 3)).after((roll / 64 % 5) as u32));
                let set = hub.world.borrow().scale_set_views().first().map(|set| set.id);
                if let Some(set) = set
                    && roll.is_multiple_of(11)
                {
                    hub.world.borrow_mut().lose_session(hub.clock(), set).unwrap();
                }
                if roll.is_multiple_of(7) {
                    host = host.crashed();
                }
                let _ = host.round().await;
            }
            hub.world.borrow_mut().clear_faults();
            host.finish(&jobs, 30 * MINUTE).await;
            host.quiet().await;
            host.set.release().await.unwrap();
            sleep(Duration::from_secs(120)).await;
            hub.world.borrow_mut().advance(hub.clock());
            assert_eq!(hub.world.borrow().leaked_runners(), [], "seed {seed}");
            assert!(host.minted <= 3 * jobs.len() as u64 + 20, "seed {seed}: {} of {}", host.minted, jobs.len());
        }
    }
}
