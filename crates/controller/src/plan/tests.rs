#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NOW: Mono = Mono::after_start(Duration::from_secs(1000));

/// So many seconds after the start.
fn mono(secs: u64) -> Mono {
    Mono::after_start(Duration::from_secs(secs))
}

fn class(name: &str, labels: &[&str], max: usize) -> ClassView {
    ClassView {
        name: name.into(),
        labels: labels.iter().collect(),
        max,
        min_idle: 0,
        held_until: None,
        probed: false,
        outdated: false,
        drained: false,
    }
}

fn target(name: &str) -> TargetView {
    TargetView { name: name.into(), priority: 0, weight: 1, max: 1000 }
}

fn scope(name: &str, target: &str) -> ScopeView {
    ScopeView {
        name: name.into(),
        target: target.into(),
        held_until: None,
        probed: false,
        looked_at: Some(NOW),
        classes: BTreeSet::new(),
    }
}

fn set(scope: &str, assigned: usize) -> SetView {
    SetView {
        class: "small".into(),
        scope: scope.into(),
        assigned,
        oldest: None,
        as_of: Some(NOW),
        ended: 0,
        waiting: BTreeMap::new(),
        waiting_since: None,
        room_since: None,
    }
}

fn job(id: u64, labels: &[&str]) -> JobView {
    JobView {
        id,
        run_id: id,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        repository: "o/r".into(),
        scope: "o/r".into(),
        first_seen: mono(id),
        looked_at: NOW,
        blocked: None,
    }
}

/// A job of another repository, which registers its own runners.
fn job_of(id: u64, repository: &str) -> JobView {
    JobView { repository: repository.into(), scope: repository.into(), ..job(id, &["linux"]) }
}

fn container(number: u64, use_: Use) -> ContainerView {
    let name = ContainerName::for_job(number, |_| false).unwrap();
    ContainerView {
        name,
        class: "small".into(),
        scope: "o/r".into(),
        set: false,
        bound_to: None,
        use_,
        patience: Duration::MAX,
    }
}

fn snapshot(jobs: Vec<JobView>, containers: Vec<ContainerView>) -> Snapshot {
    Snapshot {
        now: NOW,
        intake: true,
        capacity: 3,
        strained: None,
        free_subnets: 100,
        idle_grace: Duration::from_secs(60),
        classes: vec![class("small", &["linux"], 10), class("big", &["linux", "big"], 10)],
        targets: vec![target("o/r")],
        scopes: vec![scope("o/r", "o/r")],
        jobs,
        sets: vec![],
        containers,
        pickups: vec![],
    }
}

fn boots(plan: &Plan) -> Vec<(&str, Option<u64>)> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Boot { class, job, .. } => Some((class.as_str(), job.as_ref().map(|(_, id)| *id))),
            Action::Retire(_) | Action::Replace { .. } => None,
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
fn a_limit_below_what_runs_takes_as_many_idle_containers_as_it_needs_and_none_where_that_would_not_do() {
    let lowered = |max: usize, idle: u64| {
        let ready = (1..=idle).map(|n| ContainerView { scope: "o/s".into(), ..container(n, Use::Idle(NOW)) });
        let mut snapshot = snapshot(vec![job(9, &["linux"])], ready.collect());
        snapshot.targets.push(target("o/s"));
        snapshot.scopes.push(scope("o/s", "o/s"));
        snapshot.capacity = 10;
        snapshot.classes[0] = ClassView { min_idle: 3, ..class("small", &["linux"], max) };
        plan(&snapshot)
    };
    assert_eq!(retired(&lowered(1, 3)), 3);
    assert_eq!(retired(&lowered(0, 3)), 0, "no job of the class runs, whoever goes");
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
    let there = vec![container(1, Use::Busy)];
    assert_eq!(boots(&plan(&snapshot(vec![job(1, &["linux"])], there))), [("small", Some(1))]);
}

#[test]
fn a_job_taken_since_the_look_is_not_served_twice() {
    let mut snapshot = snapshot(vec![job(1, &["linux"])], vec![container(1, Use::Busy)]);
    let name = snapshot.containers[0].name.clone();
    let pickup = |at| Pickup { container: name.clone(), class: "small".into(), scope: "o/r".into(), of: None, at };
    snapshot.pickups = vec![pickup(NOW)];
    assert_eq!(boots(&plan(&snapshot)), [], "the listing is older than the pickup");
    snapshot.pickups = vec![pickup(NOW - Duration::from_secs(1))];
    assert_eq!(boots(&plan(&snapshot)).len(), 1, "the listing is newer: the job is another one");
}

#[test]
fn a_runner_that_is_bound_to_a_job_serves_it_alone_and_goes_with_it() {
    let bound = |id| {
        let idle = container(1, Use::Idle(NOW - Duration::from_secs(1)));
        ContainerView { bound_to: Some(("o/r".into(), id)), ..idle }
    };
    let served = plan(&snapshot(vec![job(1, &["linux"])], vec![bound(1)]));
    assert_eq!((served.actions, served.waiting[&("o/r".into(), 1)]), (vec![], Waiting::Served));
    let gone = plan(&snapshot(vec![job(1, &["linux"])], vec![bound(2)]));
    assert_eq!((boots(&gone).len(), retired(&gone)), (1, 1), "its job is gone, and no other finds it");
}

#[test]
fn a_bound_runner_that_took_its_job_stands_for_that_one_alone() {
    let (taken, idle) = (container(1, Use::Busy), container(2, Use::Idle(NOW - Duration::from_secs(1))));
    let pickup = Pickup {
        container: taken.name.clone(),
        class: "small".into(),
        scope: "o/r".into(),
        of: Some(("o/r".into(), 2)),
        at: NOW,
    };
    let bound = |view, id| ContainerView { bound_to: Some(("o/r".into(), id)), ..view };
    let mut snapshot = snapshot(vec![job(1, &["linux"]), job(2, &["linux"])], vec![bound(taken, 2), bound(idle, 1)]);
    snapshot.pickups = vec![pickup];
    assert_eq!(boots(&plan(&snapshot)), [], "the older job has its own runner");
    snapshot.containers.pop();
    assert_eq!(boots(&plan(&snapshot)), [("small", Some(1))], "what took the other is nothing to it");
}

#[test]
fn a_container_that_nobody_needs_retires_after_its_grace_and_a_look() {
    let idle = |secs| vec![container(1, Use::Idle(NOW - Duration::from_secs(secs)))];
    assert_eq!(retired(&plan(&snapshot(vec![], idle(59)))), 0);
    assert_eq!(retired(&plan(&snapshot(vec![], idle(60)))), 1);
    assert_eq!(retired(&plan(&snapshot(vec![job(1, &["linux"])], idle(60)))), 0, "a job is coming for it");
    let mut unseen = snapshot(vec![], idle(60));
    unseen.scopes[0].looked_at = Some(NOW - Duration::from_secs(61));
    assert_eq!(retired(&plan(&unseen)), 0, "nobody looked since it is idle");
}

#[test]
fn min_idle_is_kept_ready_and_not_retired() {
    let mut wanted = snapshot(vec![], vec![]);
    wanted.classes[0].min_idle = 2;
    assert_eq!(boots(&plan(&wanted)), [("small", None), ("small", None)]);
    wanted.containers = (1..=3).map(|n| container(n, Use::Idle(Mono::START))).collect();
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
    held.scopes[0].held_until = later;
    assert_eq!(plan(&held).waiting[&("o/r".into(), 1)], Waiting::Held);
    held.intake = false;
    let plan = plan(&held);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.waiting[&("o/r".into(), 1)], Waiting::Drained);
}

fn booted_for(plan: &Plan) -> Vec<&str> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Boot { scope, .. } => Some(scope.as_str()),
            Action::Retire(_) | Action::Replace { .. } => None,
        })
        .collect()
}

/// Two targets, each of which is a repository.
fn two_targets(jobs: Vec<JobView>) -> Snapshot {
    let mut two = snapshot(jobs, vec![]);
    two.targets = vec![target("o/a"), target("o/b")];
    two.scopes = vec![scope("o/a", "o/a"), scope("o/b", "o/b")];
    two.capacity = 4;
    two
}

#[test]
fn a_hundred_older_jobs_of_one_target_leave_the_other_its_half() {
    let mut jobs: Vec<JobView> = (1..=100).map(|id| job_of(id, "o/a")).collect();
    jobs.extend((101..=103).map(|id| job_of(id, "o/b")));
    let plan = plan(&two_targets(jobs));
    assert_eq!(booted_for(&plan), ["o/a", "o/b", "o/a", "o/b"]);
    assert_eq!(plan.waiting[&("o/a".into(), 3)], Waiting::Share);
}

#[test]
fn what_one_target_does_not_want_goes_to_the_other() {
    let mut jobs: Vec<JobView> = (1..=100).map(|id| job_of(id, "o/a")).collect();
    jobs.push(job_of(101, "o/b"));
    assert_eq!(booted_for(&plan(&two_targets(jobs))), ["o/a", "o/b", "o/a", "o/a"]);
}

#[test]
fn a_target_of_three_times_the_weight_gets_three_times_as_much() {
    let mut jobs: Vec<JobView> = (1..=10).map(|id| job_of(id, "o/a")).collect();
    jobs.extend((11..=20).map(|id| job_of(id, "o/b")));
    let mut weighted = two_targets(jobs);
    weighted.targets[1].weight = 3;
    let plan = plan(&weighted);
    assert_eq!(booted_for(&plan).iter().filter(|scope| **scope == "o/b").count(), 3);
}

#[test]
fn a_higher_priority_is_served_first_and_still_keeps_to_its_own_limit() {
    let mut jobs: Vec<JobView> = (1..=10).map(|id| job_of(id, "o/a")).collect();
    jobs.extend((11..=20).map(|id| job_of(id, "o/b")));
    let mut urgent = two_targets(jobs);
    urgent.targets[1].priority = 1;
    assert_eq!(booted_for(&plan(&urgent)), ["o/b"; 4]);
    urgent.targets[1].max = 1;
    let plan = plan(&urgent);
    assert_eq!(booted_for(&plan), ["o/b", "o/a", "o/a", "o/a"]);
    assert_eq!(plan.waiting[&("o/b".into(), 12)], Waiting::TargetLimit);
}

#[test]
fn containers_kept_ready_give_way_to_jobs_that_wait_for_their_place() {
    let mut full = snapshot(vec![job_of(1, "o/b")], (1..=3).map(|n| container(n, Use::Idle(NOW))).collect());
    full.targets.push(target("o/b"));
    full.scopes.push(scope("o/b", "o/b"));
    full.classes[0].min_idle = 3;
    let plan = plan(&full);
    assert_eq!((retired(&plan), boots(&plan).len()), (1, 0), "one place is wanted, one is made");
}

#[test]
fn a_pickup_covers_no_job_seen_after_it_in_another_repository_of_the_organisation() {
    let in_org = |id, repository: &str, looked_at| JobView { scope: "o".into(), looked_at, ..job_of(id, repository) };
    let then = NOW - Duration::from_secs(10);
    let mut org = snapshot(vec![], vec![]);
    org.targets = vec![target("o")];
    org.scopes = vec![scope("o", "o")];
    let name = ContainerName::for_job(9, |_| false).unwrap();
    org.pickups = vec![Pickup { container: name, class: "small".into(), scope: "o".into(), of: None, at: then }];
    org.jobs = vec![in_org(1, "o/a", NOW)];
    assert_eq!(boots(&plan(&org)).len(), 1, "the look came after the pickup");
    org.jobs = vec![in_org(1, "o/a", NOW), in_org(2, "o/b", then)];
    assert_eq!(boots(&plan(&org)), [("small", Some(1))], "the pickup may be the job of the older look");
}

#[test]
fn a_job_from_a_fork_or_of_a_quarantined_repository_boots_nothing() {
    let mut blocked = snapshot(vec![job(1, &["linux"]), job(2, &["linux"])], vec![]);
    blocked.jobs[0].blocked = Some(Blocked::Refused);
    blocked.jobs[1].blocked = Some(Blocked::Quarantined);
    let plan = plan(&blocked);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.waiting[&("o/r".into(), 1)], Waiting::Refused);
    assert_eq!(plan.waiting[&("o/r".into(), 2)], Waiting::Quarantined);
}

#[test]
fn an_outdated_class_boots_nothing_and_says_so() {
    let mut outdated = snapshot(vec![job(1, &["linux"])], vec![]);
    outdated.classes[0].outdated = true;
    let plan = plan(&outdated);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.waiting[&("o/r".into(), 1)], Waiting::Outdated);
}

#[test]
fn a_class_that_does_not_serve_a_target_is_passed_over() {
    let mut narrow = snapshot(vec![job(1, &["linux"])], vec![]);
    narrow.scopes[0].classes = BTreeSet::from(["big".to_owned()]);
    assert_eq!(boots(&plan(&narrow)), [("big", Some(1))]);
}

#[test]
fn a_scale_set_gets_what_the_forge_counts_and_listed_jobs_are_not_counted_again() {
    let mut jobs = snapshot((1..=4).map(|id| job(id, &["linux"])).collect(), vec![]);
    jobs.sets = vec![set("o/r", 2)];
    let first = plan(&jobs);
    assert_eq!(boots(&first), [("small", None), ("small", None)]);
    assert!(first.actions.iter().all(|action| matches!(action, Action::Boot { set: true, .. })));
    assert_eq!(first.waiting[&("o/r".into(), 2)], Waiting::Served);
    assert_eq!(first.waiting[&("o/r".into(), 3)], Waiting::NotAdmitted);
    let of_set = |n, use_| ContainerView { set: true, ..container(n, use_) };
    jobs.containers = vec![of_set(1, Use::Coming), of_set(2, Use::Busy)];
    assert_eq!(boots(&plan(&jobs)), [], "one is coming, one is busy: that is all the forge counts");
    jobs.containers = vec![container(1, Use::Idle(NOW))];
    assert_eq!(boots(&plan(&jobs)).len(), 2, "a runner outside the set takes none of its jobs");
}

#[test]
fn a_job_that_its_set_is_not_assigned_with_room_for_it_is_served_without_the_set() {
    let bound = Duration::from_secs(300);
    let waits = |room_since: Option<Mono>, run: &[(u64, usize)], jobs: &[u64]| {
        let jobs = jobs.iter().map(|id| JobView { run_id: 7, ..job(*id, &["linux"]) }).collect();
        let mut found = snapshot(jobs, vec![]);
        found.sets = vec![SetView { room_since, waiting: run.iter().copied().collect(), ..set("o/r", 0) }];
        plan(&found)
    };
    let own =
        |id| Action::Boot { class: "small".into(), scope: "o/r".into(), set: false, job: Some(("o/r".into(), id)) };
    assert_eq!(waits(Some(NOW - bound), &[], &[1]).actions, [own(1)]);
    for (room_since, runs) in
        [(None, &[][..]), (Some(NOW - bound + Duration::from_secs(1)), &[]), (Some(NOW - bound), &[(7, 1)])]
    {
        let left = waits(room_since, runs, &[1]);
        assert_eq!((left.actions, left.waiting[&("o/r".into(), 1)]), (vec![], Waiting::NotAdmitted));
    }
    assert_eq!(waits(Some(NOW - bound), &[(7, 1)], &[1, 2]).actions, [own(2)], "one of the two is assigned");
    assert_eq!(waits(Some(NOW - bound), &[], &[900]).actions, [], "seen for the first time a moment ago");
}

#[test]
fn a_set_is_promised_the_next_place_of_a_full_host_while_its_target_has_less_than_its_share() {
    let promised = |own: usize, waiting: usize, priority: i32| {
        let busy = |n, at: &str| ContainerView { scope: at.into(), set: at == "o/r", ..container(n, Use::Busy) };
        let there = (0..4).map(|n| busy(n + 1, if (n as usize) < own { "o/r" } else { "o/hog" })).collect();
        let mut full = snapshot((1..=waiting as u64).map(|id| job_of(id, "o/hog")).collect(), there);
        full.capacity = 4;
        full.targets = vec![target("o/r"), TargetView { priority, ..target("o/hog") }];
        full.scopes = vec![scope("o/r", "o/r"), scope("o/hog", "o/hog")];
        full.sets = vec![set("o/r", own)];
        plan(&full).capacity[&("small".into(), "o/r".into())]
    };
    assert_eq!(promised(0, 9, 0), 1, "it has nothing");
    assert_eq!(promised(1, 9, 0), 2, "two of four are its share");
    assert_eq!(promised(2, 9, 0), 2, "it has its share");
    assert_eq!(promised(0, 9, 1), 0, "jobs of a higher priority come first");
    assert_eq!(promised(0, 0, 1), 1, "and those that run now are no jobs that wait");
}

#[test]
fn a_container_that_ended_since_the_forge_counted_is_not_replaced_for_the_same_job() {
    let mut ended = snapshot(vec![], vec![]);
    ended.sets = vec![SetView { ended: 1, ..set("o/r", 2) }];
    assert_eq!(boots(&plan(&ended)).len(), 1);
}

#[test]
fn idle_runners_of_a_set_retire_when_the_forge_counts_less() {
    let old = Use::Idle(NOW - Duration::from_secs(100));
    let mut less = snapshot(vec![], (1..=3).map(|n| ContainerView { set: true, ..container(n, old) }).collect());
    less.sets = vec![set("o/r", 1)];
    assert_eq!(retired(&plan(&less)), 2);
    less.sets[0].as_of = Some(NOW - Duration::from_secs(200));
    assert_eq!(retired(&plan(&less)), 0, "the forge has not been heard since");
}

fn any_use() -> impl Strategy<Value = Use> {
    prop_oneof![Just(Use::Coming), (0u64..1000).prop_map(|s| Use::Idle(mono(s))), Just(Use::Busy), Just(Use::Ending)]
}

const CLASSES: [&str; 2] = ["small", "big"];
/// A repository, an organisation, and two repositories of a third target.
const SCOPES: [(&str, &str); 4] = [("o/a", "o/a"), ("org", "org"), ("u/c", "u"), ("u/d", "u")];
const TARGETS: [&str; 3] = ["o/a", "org", "u"];

type Numbers = (Vec<(usize, usize, Option<u64>, bool)>, Vec<(i32, u32, usize)>, Vec<Option<u64>>);

fn any_numbers() -> impl Strategy<Value = Numbers> {
    let classes = proptest::collection::vec(
        (0usize..6, 0usize..3, proptest::option::of(900u64..1100), proptest::bool::weighted(0.1)),
        2,
    );
    let targets = proptest::collection::vec((0i32..2, 1u32..4, 0usize..6), 3);
    let looked = proptest::collection::vec(proptest::option::of(0u64..1000), 4);
    (classes, targets, looked)
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let labels = proptest::sample::subsequence(vec!["linux", "big", "gpu"], 0..=3);
    let blocked = proptest::option::weighted(0.1, Just(Blocked::Refused));
    let jobs = proptest::collection::vec((1u64..60, labels, 0u64..1000, 0usize..4, blocked), 0..30);
    let containers = proptest::collection::btree_map(1u64..60, (any_use(), 0usize..2, 0usize..4, any::<bool>()), 0..12);
    let pickups = proptest::collection::vec((0usize..2, 0usize..4, 0u64..1000), 0..4);
    let room_since = proptest::option::of(0u64..1000);
    let sets = proptest::collection::btree_map((0usize..2, 0usize..4), (0usize..6, 0usize..3, room_since), 0..3);
    (jobs, containers, pickups, sets, any_numbers(), 0usize..10, 0usize..10, proptest::bool::weighted(0.9)).prop_map(
        |(jobs, containers, pickups, sets, (classes, targets, looked), capacity, free_subnets, intake)| {
            let mut views = vec![class("small", &["linux"], 0), class("big", &["linux", "big"], 0)];
            for (view, (max, min_idle, held, outdated)) in views.iter_mut().zip(classes) {
                (view.max, view.min_idle, view.outdated) = (max, min_idle, outdated);
                view.held_until = held.map(mono);
            }
            let mut unique = BTreeSet::new();
            let jobs = jobs
                .into_iter()
                .filter(|(id, ..)| unique.insert(*id))
                .map(|(id, labels, first_seen, at, blocked)| JobView {
                    repository: format!("{}/{at}", SCOPES[at].0),
                    scope: SCOPES[at].0.into(),
                    first_seen: mono(first_seen),
                    looked_at: looked[at].map_or(NOW, mono),
                    blocked,
                    ..job(id, &labels)
                })
                .collect();
            let named = |number| ContainerName::for_job(number, |_| false).unwrap();
            Snapshot {
                now: NOW,
                intake,
                capacity,
                strained: None,
                free_subnets,
                idle_grace: Duration::from_secs(60),
                classes: views,
                targets: TARGETS
                    .iter()
                    .zip(targets)
                    .map(|(name, (priority, weight, max))| TargetView { priority, weight, max, ..target(name) })
                    .collect(),
                scopes: SCOPES
                    .iter()
                    .zip(&looked)
                    .map(|((name, owner), looked)| ScopeView { looked_at: looked.map(mono), ..scope(name, owner) })
                    .collect(),
                jobs,
                sets: sets
                    .into_iter()
                    .map(|((class, at), (assigned, ended, room_since))| SetView {
                        class: CLASSES[class].into(),
                        ended,
                        room_since: room_since.map(mono),
                        ..set(SCOPES[at].0, assigned)
                    })
                    .collect(),
                containers: containers
                    .into_iter()
                    .map(|(number, (use_, class, at, set))| ContainerView {
                        class: CLASSES[class].into(),
                        scope: SCOPES[at].0.into(),
                        set,
                        ..container(number, use_)
                    })
                    .collect(),
                pickups: pickups
                    .into_iter()
                    .map(|(class, at, when)| Pickup {
                        container: named(900 + when),
                        class: CLASSES[class].into(),
                        scope: SCOPES[at].0.into(),
                        of: None,
                        at: mono(when),
                    })
                    .collect(),
            }
        },
    )
}

/// The world right after a plan was carried out: boots are coming, what retires is ending.
fn carried_out(snapshot: &Snapshot) -> Snapshot {
    let mut after = snapshot.clone();
    for (index, action) in plan(snapshot).actions.into_iter().enumerate() {
        match action {
            Action::Boot { class, scope, set, .. } => {
                after.free_subnets -= 1;
                let number = 1_000_000 + index as u64;
                after.containers.push(ContainerView { class, scope, set, ..container(number, Use::Coming) });
            }
            Action::Retire(name) | Action::Replace { container: name, .. } => {
                after.containers.iter_mut().find(|c| c.name == name).unwrap().use_ = Use::Ending;
            }
        }
    }
    after
}

fn target_of(scope: &str) -> &'static str {
    SCOPES.iter().find(|(name, _)| *name == scope).unwrap().1
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
            prop_assert!(more == 0 || !class.outdated);
        }
        for target in &snapshot.targets {
            let there = snapshot.containers.iter().filter(|c| target_of(&c.scope) == target.name).count();
            let more = booted_for(&plan).into_iter().filter(|scope| target_of(scope) == target.name).count();
            prop_assert!(more == 0 || there + more <= target.max);
        }
    }

    #[test]
    fn a_strained_host_boots_no_more_than_it_may_and_only_where_it_otherwise_would(snapshot in any_snapshot(), most in 0..3_usize) {
        let strained = plan(&Snapshot { strained: Some(most), ..snapshot.clone() });
        let at_work = snapshot.containers.iter().filter(|c| !matches!(c.use_, Use::Idle(_))).count();
        prop_assert!(boots(&strained).len() <= most.saturating_sub(at_work));
        prop_assert!(boots(&strained).len() <= boots(&plan(&snapshot)).len());
        prop_assert!(most > at_work || strained.capacity.iter().all(|((class, scope), count)| {
            *count <= snapshot.containers.iter().filter(|c| c.class == *class && c.scope == *scope).count()
        }), "a scale set was promised a container that the host has no room for");
    }

    #[test]
    fn every_boot_is_for_a_job_its_class_can_run_or_for_min_idle_or_for_a_set(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let mut booted = BTreeSet::new();
        for action in &plan.actions {
            let Action::Boot { class, scope, set, job } = action else { continue };
            let class = snapshot.classes.iter().find(|c| c.name == *class).unwrap();
            let served = snapshot.sets.iter().find(|s| s.class == class.name && s.scope == *scope);
            // But for a job that it could have been assigned for long, and was not.
            let left_out = job.is_some() && served.is_some_and(|set| set.room_since.is_some_and(|at| at + UNASSIGNED <= NOW));
            prop_assert!(*set == served.is_some() || !*set && left_out, "a set serves its class in its scope alone");
            match job {
                None => prop_assert!(class.min_idle > 0 || *set),
                Some((repository, id)) => {
                    let job = snapshot.jobs.iter().find(|j| j.id == *id && j.repository == *repository).unwrap();
                    let scope = snapshot.scopes.iter().find(|s| s.name == job.scope).unwrap();
                    prop_assert_eq!(&class_for(&snapshot.classes, scope, &job.labels).unwrap().name, &class.name);
                    prop_assert!(job.blocked.is_none(), "a refused job booted something");
                    prop_assert!(booted.insert(*id), "booted twice for one job");
                }
            }
        }
    }

    #[test]
    fn only_idle_containers_retire_and_before_their_grace_only_for_somebody_who_waits(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let mut seen = BTreeSet::new();
        let mut early = 0;
        for action in &plan.actions {
            let Action::Retire(name) = action else { continue };
            let container = snapshot.containers.iter().find(|c| c.name == *name).unwrap();
            let Use::Idle(since) = container.use_ else { panic!("{name} is not idle") };
            early += usize::from(snapshot.now - since < snapshot.idle_grace);
            prop_assert!(seen.insert(name.clone()));
        }
        let wait = |why: &&Waiting| matches!(why, Waiting::Capacity | Waiting::Share | Waiting::TargetLimit);
        let waiting = plan.waiting.values().filter(wait).count();
        let for_sets: usize = snapshot.sets.iter().map(|set| set.assigned).sum();
        prop_assert!(early <= waiting + for_sets);
    }

    #[test]
    fn nothing_is_retired_that_a_boot_would_replace(snapshot in any_snapshot()) {
        // Booting and retiring in one class and scope at once would go round for ever.
        let plan = plan(&snapshot);
        for action in &plan.actions {
            let Action::Retire(name) = action else { continue };
            let gone = snapshot.containers.iter().find(|c| c.name == *name).unwrap();
            let replaced = plan.actions.iter().any(|action| matches!(
                action,
                Action::Boot { class, scope, set, .. } if *class == gone.class && *scope == gone.scope && *set == gone.set
            ));
            prop_assert!(!replaced, "{name} is retired and replaced");
        }
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_more_to_boot(snapshot in any_snapshot()) {
        let again = plan(&carried_out(&snapshot));
        prop_assert_eq!(boots(&again), []);
    }

    #[test]
    fn no_place_stays_free_while_somebody_who_may_have_it_waits(snapshot in any_snapshot()) {
        let made = plan(&snapshot);
        let after = carried_out(&snapshot);
        for ((repository, id), why) in &made.waiting {
            let job = snapshot.jobs.iter().find(|j| j.id == *id && j.repository == *repository).unwrap();
            let scope = snapshot.scopes.iter().find(|s| s.name == job.scope).unwrap();
            let target = snapshot.targets.iter().find(|t| t.name == scope.target).unwrap();
            let used = after.containers.iter().filter(|c| target_of(&c.scope) == target.name).count();
            match why {
                Waiting::Capacity | Waiting::Share => {
                    let class = class_for(&snapshot.classes, scope, &job.labels).unwrap();
                    let of_class = after.containers.iter().filter(|c| c.class == class.name).count();
                    let full = after.containers.len() >= after.capacity;
                    prop_assert!(full || of_class >= class.max || after.free_subnets == 0);
                }
                Waiting::TargetLimit => prop_assert!(used >= target.max),
                _ => {}
            }
        }
    }

    #[test]
    fn the_order_things_are_listed_in_decides_nothing(snapshot in any_snapshot()) {
        let mut turned = snapshot.clone();
        turned.jobs.reverse();
        turned.scopes.reverse();
        turned.targets.reverse();
        turned.containers.reverse();
        turned.pickups.reverse();
        let sorted = |plan: Plan| {
            let mut actions: Vec<String> = plan.actions.iter().map(|action| format!("{action:?}")).collect();
            actions.sort();
            (actions, plan.waiting)
        };
        prop_assert_eq!(sorted(plan(&snapshot)), sorted(plan(&turned)));
    }

    #[test]
    fn a_busy_repository_cannot_starve_the_others(
        weights in proptest::collection::vec(1u32..5, 2..5),
        demands in proptest::collection::vec(0usize..40, 5),
        capacity in 1usize..20,
        hog in 0usize..5,
        ends in proptest::collection::vec(any::<proptest::sample::Index>(), 20),
    ) {
        // One target has the whole host. Its containers end one after the other; everybody who wants gets their share.
        let names: Vec<String> = (0..weights.len()).map(|n| format!("o/{n}")).collect();
        let hog = hog % names.len();
        let mut world = snapshot(vec![], vec![]);
        world.capacity = capacity;
        world.classes[0].max = 1000;
        world.targets =
            names.iter().zip(&weights).map(|(name, weight)| TargetView { weight: *weight, ..target(name) }).collect();
        world.scopes = names.iter().map(|name| scope(name, name)).collect();
        let busy = |number: usize, name: &String| ContainerView {
            scope: name.clone(),
            ..container(number as u64, Use::Busy)
        };
        world.containers = (0..capacity).map(|number| busy(number, &names[hog])).collect();
        let mut left: Vec<usize> = demands[..names.len()].to_vec();
        let mut number = capacity;
        let mut old = capacity;
        for end in ends.iter().take(capacity) {
            let gone = end.index(old);
            world.containers.remove(gone);
            old -= 1;
            world.jobs = left
                .iter()
                .enumerate()
                .flat_map(|(n, count)| (0..*count).map(move |i| (n, i)))
                .map(|(n, i)| job_of((n * 1000 + i) as u64 + 1, &names[n]))
                .collect();
            for scope in booted_for(&plan(&world)) {
                let n = names.iter().position(|name| name == scope).unwrap();
                left[n] -= 1;
                number += 1;
                world.containers.push(busy(number, &names[n]));
            }
        }
        prop_assert_eq!(old, 0, "capacity has turned over");
        let used = |n: usize| world.containers.iter().filter(|c| c.scope == names[n]).count();
        let wanting: Vec<usize> = (0..names.len()).filter(|n| left[*n] > 0).collect();
        let rest = capacity - (0..names.len()).filter(|n| left[*n] == 0).map(used).sum::<usize>();
        let weight: u32 = wanting.iter().map(|n| weights[*n]).sum();
        for n in wanting {
            let share = rest as f64 * f64::from(weights[n]) / f64::from(weight);
            prop_assert!(used(n) as f64 + 1.0 > share, "{} has {} of its {share}", names[n], used(n));
        }
    }
}

/// A container that is idle since then, and trusted for a minute beside a job.
fn idle_since(number: u64, since: Mono) -> ContainerView {
    ContainerView { patience: Duration::from_secs(60), ..container(number, Use::Idle(since)) }
}

#[test]
fn a_runner_that_is_given_none_of_the_jobs_beside_it_is_replaced_and_another_booted() {
    let since = NOW - Duration::from_secs(60);
    let waits = |first_seen| JobView { first_seen, ..job(7, &["linux"]) };
    let deaf = plan(&snapshot(vec![waits(mono(1))], vec![idle_since(1, since), idle_since(2, since)]));
    let beside = Some(("o/r".to_owned(), 7));
    let first = Action::Replace { container: container(1, Use::Coming).name, beside };
    // As many as there are such jobs; the other one may be of use.
    assert_eq!(deaf.actions, [first]);
    let only = plan(&snapshot(vec![waits(mono(1))], vec![idle_since(1, since)]));
    assert_eq!((only.actions.len(), boots(&only)), (2, vec![("small", Some(7))]));
    for (first_seen, idle) in [(since + Duration::from_secs(1), since), (mono(1), since + Duration::from_secs(1))] {
        let both = plan(&snapshot(vec![waits(first_seen)], vec![idle_since(1, idle)]));
        assert_eq!(both.actions, [], "neither was there for a minute beside the other");
    }
    let refused = JobView { blocked: Some(Blocked::Refused), ..waits(mono(1)) };
    let others = JobView { labels: vec!["big".into()], ..waits(mono(1)) };
    for job in [refused, others] {
        let plan = plan(&snapshot(vec![job], vec![idle_since(1, since)]));
        assert!(!plan.actions.iter().any(|action| matches!(action, Action::Replace { .. })), "{:?}", plan.actions);
    }
}

#[test]
fn a_runner_of_a_scale_set_that_is_given_no_assigned_job_is_replaced_as_of_the_sets_last_word() {
    let since = NOW - Duration::from_secs(60);
    let there = ContainerView { set: true, ..idle_since(1, since) };
    let replaced = |set: SetView| {
        let mut snapshot = snapshot(vec![], vec![there.clone()]);
        snapshot.sets = vec![set];
        let plan = plan(&snapshot);
        plan.actions.iter().filter(|action| matches!(action, Action::Replace { beside: None, .. })).count()
    };
    let waiting = SetView { waiting: BTreeMap::from([(1, 1)]), waiting_since: Some(mono(1)), ..set("o/r", 1) };
    assert_eq!(replaced(waiting.clone()), 1);
    assert_eq!(replaced(SetView { as_of: Some(NOW - Duration::from_secs(1)), ..waiting.clone() }), 0);
    assert_eq!(replaced(SetView { ended: 1, ..waiting.clone() }), 0, "a container had it");
    assert_eq!(replaced(SetView { waiting: BTreeMap::new(), ..waiting }), 0);
}

#[test]
fn what_failed_too_often_is_tried_by_one_container_at_a_time() {
    let jobs = || (1..=3).map(|id| job(id, &["linux"])).collect();
    // One that listens has yet to show that it is served; one that has for long has shown it.
    let (fresh, old) = (Use::Idle(NOW), Use::Idle(NOW - 2 * SERVED_AFTER));
    for (use_, expected) in [(None, 1), (Some(Use::Coming), 0), (Some(fresh), 0), (Some(old), 1), (Some(Use::Busy), 1)]
    {
        for of_class in [true, false] {
            let mut snapshot = snapshot(jobs(), use_.map(|use_| container(9, use_)).into_iter().collect());
            snapshot.capacity = 10;
            (snapshot.classes[0].probed, snapshot.scopes[0].probed) = (of_class, !of_class);
            let plan = plan(&snapshot);
            assert_eq!(boots(&plan).len(), expected, "class: {of_class}, {use_:?}");
            assert_eq!(plan.waiting[&("o/r".into(), 3)], Waiting::Held);
        }
    }
}
