#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn class(name: &str, labels: &[&str], max: usize) -> ClassView {
    ClassView {
        name: name.into(),
        labels: labels.iter().map(|label| label.to_lowercase()).collect(),
        max,
        min_idle: 0,
        held_until: None,
    }
}

fn job(id: u64, labels: &[&str]) -> JobView {
    JobView {
        id,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        first_seen: Duration::from_secs(id),
    }
}

fn container(number: u64, use_: Use) -> ContainerView {
    let name = ContainerName::for_job(number, |_| false).unwrap();
    ContainerView { name, class: "small".into(), target: "o/r".into(), use_ }
}

fn snapshot(jobs: Vec<JobView>, containers: Vec<ContainerView>) -> Snapshot {
    Snapshot {
        now: NOW,
        intake: true,
        capacity: 3,
        free_subnets: 100,
        idle_grace: Duration::from_secs(60),
        classes: vec![class("small", &["linux"], 10), class("big", &["linux", "big"], 10)],
        targets: vec![TargetView { name: "o/r".into(), held_until: None, looked_at: Some(NOW), queued: jobs }],
        containers,
        pickups: vec![],
    }
}

fn boots(plan: &Plan) -> Vec<(&str, Option<u64>)> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Boot { class, job, .. } => Some((class.as_str(), *job)),
            Action::Retire(_) => None,
        })
        .collect()
}

fn retired(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| matches!(action, Action::Retire(_))).count()
}

#[test]
fn nothing_queued_and_nothing_there_means_nothing_to_do() {
    assert!(plan(&snapshot(vec![], vec![])).actions.is_empty());
}

#[test]
fn the_smallest_class_that_has_all_labels_serves_a_job_whatever_their_case() {
    let jobs = vec![job(1, &["LINUX"]), job(2, &["Big", "linux"]), job(3, &["windows"]), job(4, &[])];
    let plan = plan(&snapshot(jobs, vec![]));
    assert_eq!(boots(&plan), [("small", Some(1)), ("big", Some(2))]);
    assert_eq!(plan.waiting[&("o/r".into(), 3)], Waiting::NoClass);
    assert_eq!(plan.waiting[&("o/r".into(), 4)], Waiting::NoClass, "no labels match nothing");
}

#[test]
fn fifty_jobs_and_three_places_boot_the_three_oldest() {
    let jobs = (1..=50).rev().map(|id| job(id, &["linux"])).collect();
    let plan = plan(&snapshot(jobs, vec![]));
    assert_eq!(boots(&plan), [("small", Some(1)), ("small", Some(2)), ("small", Some(3))]);
    assert_eq!(plan.waiting.values().filter(|why| **why == Waiting::Capacity).count(), 47);
}

#[test]
fn a_container_on_its_way_or_idle_serves_whichever_job_comes() {
    let there = vec![container(7, Use::Coming), container(8, Use::Idle(NOW))];
    assert_eq!(boots(&plan(&snapshot(vec![job(1, &["linux"]), job(2, &["linux"])], there))), []);
}

#[test]
fn a_stolen_job_leaves_its_container_to_the_next() {
    // The runner booted for job 1 took job 2: job 1 is still queued, nothing is idle.
    let there = vec![container(1, Use::Spent)];
    assert_eq!(boots(&plan(&snapshot(vec![job(1, &["linux"])], there))), [("small", Some(1))]);
}

#[test]
fn a_job_taken_since_the_look_is_not_served_twice() {
    let mut snapshot = snapshot(vec![job(1, &["linux"])], vec![container(1, Use::Spent)]);
    let pickup = |at| Pickup { class: "small".into(), target: "o/r".into(), at };
    snapshot.pickups = vec![pickup(NOW)];
    assert_eq!(boots(&plan(&snapshot)), [], "the listing is older than the pickup");
    snapshot.pickups = vec![pickup(NOW - Duration::from_secs(1))];
    assert_eq!(boots(&plan(&snapshot)).len(), 1, "the listing is newer: the job is another one");
}

#[test]
fn a_container_that_nobody_needs_retires_after_its_grace_and_a_look() {
    let idle = |secs| vec![container(1, Use::Idle(NOW - Duration::from_secs(secs)))];
    assert_eq!(retired(&plan(&snapshot(vec![], idle(59)))), 0);
    assert_eq!(retired(&plan(&snapshot(vec![], idle(60)))), 1);
    assert_eq!(retired(&plan(&snapshot(vec![job(1, &["linux"])], idle(60)))), 0, "a job is coming for it");
    let mut unseen = snapshot(vec![], idle(60));
    unseen.targets[0].looked_at = Some(NOW - Duration::from_secs(61));
    assert_eq!(retired(&plan(&unseen)), 0, "nobody looked since it is idle");
}

#[test]
fn min_idle_is_kept_ready_and_not_retired() {
    let mut wanted = snapshot(vec![], vec![]);
    wanted.classes[0].min_idle = 2;
    assert_eq!(boots(&plan(&wanted)), [("small", None), ("small", None)]);
    wanted.containers = (1..=3).map(|n| container(n, Use::Idle(Duration::ZERO))).collect();
    let plan = plan(&wanted);
    assert_eq!((boots(&plan).len(), retired(&plan)), (0, 1));
}

#[test]
fn back_off_and_stopped_intake_hold_boots_and_say_so() {
    let later = Some(NOW + Duration::from_secs(1));
    let mut held = snapshot(vec![job(1, &["linux"])], vec![]);
    held.classes[0].held_until = later;
    assert_eq!(plan(&held).waiting[&("o/r".into(), 1)], Waiting::Held);
    held.classes[0].held_until = None;
    held.targets[0].held_until = later;
    assert_eq!(plan(&held).waiting[&("o/r".into(), 1)], Waiting::Held);
    held.intake = false;
    let plan = plan(&held);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.waiting[&("o/r".into(), 1)], Waiting::Drained);
}

fn any_use() -> impl Strategy<Value = Use> {
    prop_oneof![Just(Use::Coming), (0u64..1000).prop_map(|s| Use::Idle(Duration::from_secs(s))), Just(Use::Spent)]
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let labels = proptest::sample::subsequence(vec!["linux", "big", "gpu"], 0..=3);
    let jobs = proptest::collection::vec((1u64..40, labels, 0u64..1000), 0..30);
    let containers = proptest::collection::btree_map(1u64..60, (any_use(), 0usize..2, 0usize..2), 0..12);
    let pickups = proptest::collection::vec((0usize..2, 0usize..2, 0u64..1000), 0..4);
    let class_numbers = proptest::collection::vec((0usize..6, 0usize..3, proptest::option::of(900u64..1100)), 2);
    let looked = proptest::collection::vec(proptest::option::of(0u64..1000), 2);
    (jobs, containers, pickups, class_numbers, looked, 0usize..10, 0usize..10, any::<bool>()).prop_map(
        |(jobs, containers, pickups, class_numbers, looked, capacity, free_subnets, intake)| {
            let class_names = ["small", "big"];
            let target_names = ["o/a", "o/b"];
            let mut classes = vec![class("small", &["linux"], 0), class("big", &["linux", "big"], 0)];
            for (view, (max, min_idle, held)) in classes.iter_mut().zip(class_numbers) {
                (view.max, view.min_idle) = (max, min_idle);
                view.held_until = held.map(Duration::from_secs);
            }
            let mut targets: Vec<TargetView> = target_names
                .iter()
                .zip(looked)
                .map(|(name, looked)| TargetView {
                    name: (*name).into(),
                    held_until: None,
                    looked_at: looked.map(Duration::from_secs),
                    queued: vec![],
                })
                .collect();
            for (id, labels, first_seen) in jobs {
                let mut job = job(id, &labels);
                job.first_seen = Duration::from_secs(first_seen);
                let queued = &mut targets[(id % 2) as usize].queued;
                if queued.iter().all(|other| other.id != id) {
                    queued.push(job);
                }
            }
            Snapshot {
                now: NOW,
                intake,
                capacity,
                free_subnets,
                idle_grace: Duration::from_secs(60),
                classes,
                targets,
                containers: containers
                    .into_iter()
                    .map(|(number, (use_, class, target))| ContainerView {
                        class: class_names[class].into(),
                        target: target_names[target].into(),
                        ..container(number, use_)
                    })
                    .collect(),
                pickups: pickups
                    .into_iter()
                    .map(|(class, target, at)| Pickup {
                        class: class_names[class].into(),
                        target: target_names[target].into(),
                        at: Duration::from_secs(at),
                    })
                    .collect(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_plan_exceeds_any_limit(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let boots = boots(&plan);
        prop_assert!(boots.is_empty() || snapshot.containers.len() + boots.len() <= snapshot.capacity);
        prop_assert!(boots.len() <= snapshot.free_subnets);
        prop_assert!(snapshot.intake || boots.is_empty());
        for class in &snapshot.classes {
            let there = snapshot.containers.iter().filter(|c| c.class == class.name).count();
            let more = boots.iter().filter(|(name, _)| *name == class.name).count();
            prop_assert!(more == 0 || there + more <= class.max);
            prop_assert!(more == 0 || class.held_until.is_none_or(|until| until <= snapshot.now));
        }
    }

    #[test]
    fn every_boot_is_for_a_job_its_class_can_run_or_for_min_idle(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let mut booted = BTreeSet::new();
        for action in &plan.actions {
            let Action::Boot { class, target, job } = action else { continue };
            let class = snapshot.classes.iter().find(|c| c.name == *class).unwrap();
            match job {
                None => prop_assert!(class.min_idle > 0),
                Some(id) => {
                    let target = snapshot.targets.iter().find(|t| t.name == *target).unwrap();
                    let job = target.queued.iter().find(|j| j.id == *id).unwrap();
                    prop_assert_eq!(&class_for(&snapshot.classes, &job.labels).unwrap().name, &class.name);
                    prop_assert!(booted.insert((target.name.clone(), *id)), "booted twice for one job");
                }
            }
        }
    }

    #[test]
    fn only_idle_containers_past_their_grace_retire(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let mut seen = BTreeSet::new();
        for action in &plan.actions {
            let Action::Retire(name) = action else { continue };
            let container = snapshot.containers.iter().find(|c| c.name == *name).unwrap();
            let Use::Idle(since) = container.use_ else { panic!("{name} is not idle") };
            prop_assert!(snapshot.now - since >= snapshot.idle_grace);
            prop_assert!(seen.insert(name.clone()));
        }
    }

    #[test]
    fn nothing_is_retired_that_a_boot_would_replace(snapshot in any_snapshot()) {
        // Booting and retiring in one class and target at once would go round for ever.
        let plan = plan(&snapshot);
        for action in &plan.actions {
            let Action::Retire(name) = action else { continue };
            let gone = snapshot.containers.iter().find(|c| c.name == *name).unwrap();
            let replaced = plan.actions.iter().any(|action| matches!(
                action,
                Action::Boot { class, target, .. } if *class == gone.class && *target == gone.target
            ));
            prop_assert!(!replaced, "{name} is retired and replaced");
        }
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_more_to_boot(snapshot in any_snapshot()) {
        let mut after = snapshot.clone();
        for (index, action) in plan(&snapshot).actions.into_iter().enumerate() {
            match action {
                Action::Boot { class, target, .. } => {
                    after.free_subnets -= 1;
                    let number = 1_000_000 + index as u64;
                    after.containers.push(ContainerView { class, target, ..container(number, Use::Coming) });
                }
                Action::Retire(name) => {
                    after.containers.iter_mut().find(|c| c.name == name).unwrap().use_ = Use::Spent;
                }
            }
        }
        let again = plan(&after);
        prop_assert_eq!(boots(&again), []);
    }
}
