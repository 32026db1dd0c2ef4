//! Faults of tests/README.md#faults that are worth a story of their own, and a check of the table there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use controller::{
    cause::Cause,
    incident::Incident,
    status::{BreakerKind, BreakerState},
};
use github_sim::{
    Call,
    world::{Conclusion, Fault, Gate, JobSpec, RunnerFault, RunnerWhat, What},
};
use tokio::time::sleep;

use crate::{
    REPOS, Simulation,
    host::HostFault,
    story::{MINUTE, SECOND, Story, beside},
};

/// So many there are.
const FAULTS: usize = 24;

fn inject(story: &Story, count: u32, call: Call, what: What) {
    story.simulation.hub.borrow_mut().inject(Fault::times(count, call, what));
}

fn nothing(_: &mut Simulation) {}

#[test]
fn a_registration_that_is_lost_or_whose_name_is_taken_costs_a_name_and_leaves_no_orphan() {
    for what in [What::LostAnswer, What::Status { code: 409, message: "Already exists".into(), headers: vec![] }] {
        beside(1, nothing, async |story| {
            sleep(2 * MINUTE).await;
            inject(story, 2, Call::Mint, what.clone());
            let job = story.queue_polled(REPOS[0]);
            sleep(15 * MINUTE).await;
            assert!(story.is_taken(job), "{what:?}");
            sleep(15 * MINUTE).await;
            assert_eq!(story.registrations(), 0, "{what:?}");
            assert_eq!(story.started(), 1, "{what:?}: only what is registered is started");
        });
    }
}

#[test]
fn a_policy_that_allows_no_runners_is_told_as_that_and_costs_one_record_a_day() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        inject(story, u32::MAX, Call::Mint, What::NoRunners);
        let job = story.queue_polled(REPOS[0]);
        let elsewhere = story.queue(REPOS[1]);
        // After a day the forge would give the job up.
        sleep(23 * 60 * MINUTE).await;
        assert!(story.is_taken(elsewhere), "its runners are the scale set's");
        let status = story.status.borrow().clone();
        let refused = status.finished.iter().filter(|ended| ended.cause == Cause::RegistrationRefused).count();
        assert_eq!((refused, story.simulation.host.borrow().history.count()), (1, 2));
        assert!(status.queue[0].reason.contains("a policy allows no self-hosted runners"), "{:?}", status.queue);
        assert!(story.problems().contains("Remedy: allow them"), "{}", story.problems());
        let asked = story.simulation.hub.borrow().traffic().of(Call::Mint).requests;
        assert!((24..=60).contains(&asked), "asked {asked} times");
        story.simulation.hub.borrow_mut().clear_faults();
        sleep(45 * MINUTE).await;
        assert!(story.is_taken(job));
        assert_eq!(story.problems(), "");
    });
}

#[test]
fn a_registration_that_cannot_be_removed_now_is_removed_later() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        let oops = What::Status { code: 502, message: String::new(), headers: vec![] };
        inject(story, 3, Call::DeleteRunner, oops);
        // Nobody takes it, so its runner has to be removed by hand.
        let job = story.queue_polled(REPOS[0]);
        while story.started() == 0 {
            sleep(SECOND / 10).await;
        }
        story.simulation.hub.borrow_mut().cancel_job(story.simulation.clock.now(), job).unwrap();
        sleep(30 * MINUTE).await;
        assert_eq!((story.registrations(), story.simulation.host.borrow().units.len()), (0, 0));
    });
}

#[test]
fn a_job_that_is_held_back_boots_nothing_until_it_is_queued() {
    for gate in [Gate::Waiting, Gate::Pending, Gate::Requested] {
        beside(1, nothing, async |story| {
            let (now, hub) = (story.simulation.clock.now(), &story.simulation.hub);
            let held = ["self-hosted", "big"].map(|label| {
                let spec = JobSpec { gate: Some(gate), ..JobSpec::new("held", &["self-hosted", label], &["true"]) };
                hub.borrow_mut().queue_job(now, REPOS[0], spec).unwrap().1
            });
            sleep(20 * MINUTE).await;
            assert_eq!(story.started(), 0, "{gate:?}");
            for job in held {
                hub.borrow_mut().release_job(story.simulation.clock.now(), job).unwrap();
            }
            sleep(10 * MINUTE).await;
            assert!(held.iter().all(|job| story.is_taken(*job)), "{gate:?}");
            assert_eq!(story.started(), 2, "{gate:?}");
        });
    }
}

#[test]
fn a_list_that_is_empty_once_or_has_another_tag_starts_and_stops_nothing() {
    for (call, what) in [
        (Call::ListRuns, What::EmptyList),
        (Call::ListJobs, What::EmptyJobs),
        (Call::ListRuns, What::StaleEtag),
        (Call::ListJobs, What::StaleEtag),
    ] {
        beside(1, nothing, async |story| {
            sleep(2 * MINUTE).await;
            let job = story.queue_polled(REPOS[0]);
            while story.started() == 0 {
                sleep(SECOND / 10).await;
            }
            // While it boots, and while its job runs.
            for _ in 0..6 {
                inject(story, 1, call, what.clone());
                sleep(10 * SECOND).await;
            }
            assert!(story.is_taken(job), "{call:?} {what:?}");
            sleep(10 * MINUTE).await;
            assert_eq!(story.started(), 1, "{call:?} {what:?}");
        });
    }
}

#[test]
fn a_run_that_is_gone_before_its_jobs_are_read_keeps_nobody_from_being_served() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        let gone = What::Status { code: 404, message: "Not Found".into(), headers: vec![] };
        inject(story, 2, Call::ListJobs, gone);
        let job = story.queue_polled(REPOS[0]);
        sleep(5 * MINUTE).await;
        assert!(story.is_taken(job), "{}", story.problems());
        assert_eq!(story.problems(), "");
    });
}

#[test]
fn a_runner_that_never_listens_is_stopped_at_its_deadline_and_its_class_pauses_ever_longer() {
    beside(1, nothing, async |story| {
        let never = RunnerFault { count: u32::MAX, ..RunnerFault::once(RunnerWhat::NeverListening) };
        story.simulation.hub.borrow_mut().inject_runner(never);
        let job = story.queue_polled(REPOS[0]);
        let mut by_hour = Vec::new();
        for _ in 0..2 {
            let before = story.started();
            sleep(60 * MINUTE).await;
            by_hour.push(story.started() - before);
        }
        // A minute each until the deadline, with pauses of 5 s, 10 s … 5 min between them; two at once would be more.
        assert!(by_hour[0] <= 16 && by_hour[1] <= 11, "{by_hour:?}: it is tried ever less");
        assert!(
            story.problems().contains("class big: ")
                && story.problems().contains("in a row ended before they took a job")
        );
        assert!(story.registrations() <= 1, "what did not come up is not left registered");
        story.simulation.hub.borrow_mut().clear_faults();
        sleep(60 * MINUTE).await;
        assert!(story.is_taken(job));
        assert_eq!((story.registrations(), story.problems().as_str()), (0, ""));
    });
}

/// Those that are not closed: what they are for, whose, and how they stand.
fn breakers(story: &Story) -> Vec<(BreakerKind, String, BreakerState)> {
    let status = story.status.borrow();
    let not_closed = status.breakers.iter().filter(|one| one.state != BreakerState::Closed);
    not_closed.map(|one| (one.kind, one.name.clone(), one.state)).collect()
}

#[test]
fn a_class_a_target_and_a_credential_that_fail_again_and_again_are_left_alone_and_probed() {
    let refused = What::Status { code: 422, message: "Invalid".into(), headers: vec![] };
    for (fault, kind, name) in [
        (None, BreakerKind::Class, "big"),
        (Some((Call::Mint, refused)), BreakerKind::Target, "acme/api"),
        (Some((Call::ListRuns, What::Unauthorized)), BreakerKind::Credential, "first"),
    ] {
        beside(1, nothing, async |story| {
            sleep(2 * MINUTE).await;
            let jobs = [story.queue_polled(REPOS[0]), story.queue_polled(REPOS[0])];
            match &fault {
                Some((call, what)) => inject(story, u32::MAX, *call, what.clone()),
                None => {
                    let never = RunnerFault { count: u32::MAX, ..RunnerFault::once(RunnerWhat::NeverListening) };
                    story.simulation.hub.borrow_mut().inject_runner(never);
                }
            }
            let (mut seen, mut most, mut told) = (BTreeSet::new(), 0, String::new());
            // A registration that is tried is refused a moment later.
            let (mut news, end) = (story.status.clone(), story.simulation.clock.now() + 120 * MINUTE);
            while story.simulation.clock.now() < end {
                news.changed().await.unwrap();
                let stands = breakers(story);
                if stands.iter().any(|(.., state)| *state == BreakerState::HalfOpen) {
                    most = most.max(story.simulation.host.borrow().units.len());
                }
                if stands.iter().any(|(.., state)| *state == BreakerState::Open) {
                    told = story.problems();
                }
                seen.extend(stands.into_iter().map(|(kind, name, state)| (kind.into(), name, state as u8)));
            }
            let word: &str = kind.into();
            let states = [BreakerState::Open, BreakerState::HalfOpen].map(|state| (word, name.to_owned(), state as u8));
            assert!(seen.iter().all(|(kind, ..)| *kind == word), "{seen:?}");
            assert!(seen.is_superset(&BTreeSet::from(states)), "{word}: open, and half-open: {seen:?}");
            assert!(most <= 1, "{word}: {most} at once were to show whether it goes well again");
            assert!(told.contains("; nothing is tried until 2"), "{word}: {told}");
            assert!(story.started() <= 14, "{word}: {} containers in two hours", story.started());
            let cost = story.simulation.host.borrow().history.count();
            assert!(cost <= 14, "{word}: {cost} entries of the history");
            story.simulation.hub.borrow_mut().clear_faults();
            sleep(45 * MINUTE).await;
            assert!(jobs.iter().all(|job| story.is_taken(*job)), "{word}");
            assert_eq!((breakers(story), story.problems().as_str()), (vec![], ""), "{word}");
        });
    }
}

#[test]
fn a_runner_that_listens_and_then_gives_up_is_tried_one_at_a_time_and_ever_less() {
    beside(1, nothing, async |story| {
        let gives_up = RunnerFault { count: u32::MAX, ..RunnerFault::once(RunnerWhat::SessionInvalid) };
        story.simulation.hub.borrow_mut().inject_runner(gives_up);
        let job = story.queue_polled(REPOS[0]);
        let mut by_hour = Vec::new();
        for _ in 0..2 {
            let before = story.started();
            sleep(60 * MINUTE).await;
            by_hour.push(story.started() - before);
        }
        // Pauses of 5 s, 10 s … 5 min.
        assert!(by_hour[0] <= 18 && by_hour[1] <= 12, "{by_hour:?}: it is tried ever less");
        assert_eq!(
            story.simulation.host.borrow().peak,
            1,
            "one was started before it was known how the last one ended"
        );
        assert!(
            story.problems().contains("class big: ")
                && story.problems().contains("in a row ended before they took a job")
        );
        let causes: BTreeSet<Cause> = story.status.borrow().finished.iter().map(|ended| ended.cause).collect();
        assert_eq!(causes, BTreeSet::from([Cause::RunnerFailed]));
        story.simulation.hub.borrow_mut().clear_faults();
        sleep(60 * MINUTE).await;
        assert!(story.is_taken(job));
        assert_eq!((story.registrations(), story.problems().as_str()), (0, ""));
    });
}

#[test]
fn a_job_that_ends_before_it_begins_is_what_the_forge_says_of_it_and_no_idle_container() {
    for (what, cause) in
        [(RunnerWhat::CancelledAtOnce, Cause::JobCancelled), (RunnerWhat::RenewalFails, Cause::Unknown)]
    {
        beside(1, nothing, async |story| {
            sleep(2 * MINUTE).await;
            story.simulation.hub.borrow_mut().inject_runner(RunnerFault::once(what));
            story.queue_polled(REPOS[0]);
            sleep(40 * MINUTE).await;
            let status = story.status.borrow().clone();
            let ended: Vec<_> =
                status.finished.iter().map(|ended| (ended.cause, ended.exit_status.as_deref())).collect();
            assert_eq!(ended, [(cause, Some("19"))], "{what:?}");
            assert_eq!((story.registrations(), story.problems().as_str()), (0, ""), "{what:?}");
        });
    }
}

#[test]
fn a_container_killed_after_the_clock_was_set_back_is_told_as_that() {
    let takes_long = |simulation: &mut Simulation| simulation.host.borrow_mut().job_takes = Some(10 * MINUTE);
    beside(1, takes_long, async |story| {
        *story.simulation.clock.skew.borrow_mut() = 240.0;
        sleep(MINUTE).await;
        story.simulation.host.borrow_mut().faults.push(HostFault::Killed);
        story.queue_polled(REPOS[0]);
        while story.started() == 0 {
            sleep(SECOND / 10).await;
        }
        *story.simulation.clock.skew.borrow_mut() = 0.0;
        sleep(3 * MINUTE).await;
        let causes: Vec<Cause> = story.status.borrow().finished.iter().map(|ended| ended.cause).collect();
        assert_eq!(causes.first(), Some(&Cause::StoppedByOperator), "{causes:?}");
    });
}

#[test]
fn a_clock_that_jumps_four_minutes_either_way_delays_no_job() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        for skew in [240.0, -240.0, 0.0, -240.0, 240.0] {
            *story.simulation.clock.skew.borrow_mut() = skew;
            let jobs = [story.queue(REPOS[0]), story.queue_polled(REPOS[0]), story.queue(REPOS[1])];
            sleep(2 * MINUTE).await;
            assert!(jobs.iter().all(|job| story.is_taken(*job)), "{skew}");
            sleep(10 * MINUTE).await;
            assert_eq!(story.simulation.host.borrow().units.len(), 0, "{skew}");
            let told = story.problems();
            match skew {
                0.0 => assert_eq!(told, ""),
                240.0 => assert!(told.starts_with("clock: this host's is more than 30 s ahead of that of "), "{told}"),
                _ => assert!(told.starts_with("clock: this host's is more than 30 s behind that of "), "{told}"),
            }
        }
    });
}

#[test]
fn a_clock_that_jumps_ten_minutes_stops_intake_until_it_is_right_and_jobs_that_run_go_on() {
    beside(1, nothing, async |story| {
        sleep(2 * MINUTE).await;
        for skew in [600.0, -600.0] {
            let running = story.queue_polled(REPOS[0]);
            sleep(MINUTE / 4).await;
            assert!(story.is_taken(running), "{skew}");
            *story.simulation.clock.skew.borrow_mut() = skew;
            // The next answer of the forge tells.
            sleep(MINUTE).await;
            let started = story.started();
            let job = story.queue_polled(REPOS[0]);
            sleep(5 * MINUTE).await;
            assert_eq!(story.started(), started, "{skew}");
            let status = story.status.borrow().clone();
            let of = if skew > 0.0 { "ahead of" } else { "behind" };
            let words =
                format!("clock: this host's is more than 225 s {of} that of every forge; no container is started");
            assert!(status.queue[0].reason.starts_with(&words), "{}", status.queue[0].reason);
            assert!(story.problems().contains(&words), "{}", story.problems());
            let told: Vec<_> = status.incidents.iter().map(|ongoing| (ongoing.incident, &*ongoing.about)).collect();
            assert_eq!(told, [(Incident::Clock, "clock")]);
            assert_eq!(story.view(running).conclusion, Some(Conclusion::Success), "{skew}");
            *story.simulation.clock.skew.borrow_mut() = 0.0;
            sleep(3 * MINUTE).await;
            assert!(story.is_taken(job), "{skew}");
            assert_eq!((story.problems(), story.status.borrow().incidents.clone()), (String::new(), vec![]));
        }
    });
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rows of a Markdown table that begin with a number, by that number; `start` = what stands before each row.
fn rows(text: &str, start: &str) -> BTreeMap<usize, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix(start)?.strip_prefix("| "))
        .filter_map(|row| Some((row.split_once(" |")?.0.parse().ok()?, row.to_owned())))
        .collect()
}

#[test]
fn each_of_the_faults_can_be_injected_and_has_a_test_where_it_can_hurt() {
    let every: Vec<usize> = (1..=FAULTS).collect();
    let source = read("testing/github-sim/src/world/faults.rs");
    assert_eq!(rows(&source, "//! ").into_keys().collect::<Vec<_>>(), every, "the simulator's table");
    let document = read("tests/README.md");
    let tested = tests_of_faults(&document);
    assert_eq!(tested.keys().copied().collect::<Vec<_>>(), every, "faults that have tests");
    for (number, named) in tested {
        for (path, name) in named {
            assert!(read(path).contains(&format!("fn {name}(")), "fault {number}: {path} has no test {name}");
        }
    }
}

/// File and name of the tests of each fault, from the document's last section: a line with a file, below it lines
/// `- FAULT, FAULT: NAME`.
fn tests_of_faults(text: &str) -> BTreeMap<usize, Vec<(&str, &str)>> {
    let (mut tests, mut file) = (BTreeMap::<usize, Vec<_>>::new(), "");
    for line in text.lines() {
        if let Some(path) = line.strip_prefix('`').and_then(|line| line.strip_suffix('`')) {
            file = path;
        } else if let Some((numbers, name)) = line.strip_prefix("- ").and_then(|line| line.split_once(": `")) {
            for number in numbers.split(", ").filter_map(|number| number.parse().ok()) {
                tests.entry(number).or_default().push((file, name.trim_end_matches('`')));
            }
        }
    }
    tests
}

#[test]
fn every_fault_that_the_simulator_knows_is_in_its_table() {
    let (faults, hooks) =
        (read("testing/github-sim/src/world/faults.rs"), read("testing/github-sim/src/world/hooks.rs"));
    let table: String = faults.lines().filter(|line| line.starts_with("//! | ")).collect();
    let variants = |source: &str, name: &str| -> Vec<String> {
        let body =
            source.split_once(&format!("pub enum {name} {{\n")).unwrap().1.split_once("\n}").unwrap().0.to_owned();
        let variant = |line: &str| {
            let word = line.strip_prefix("    ")?;
            word.starts_with(|c: char| c.is_ascii_uppercase())
                .then(|| word.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned())
        };
        body.lines().filter_map(variant).collect()
    };
    for (source, name, at_least) in [(&faults, "What", 20), (&faults, "RunnerWhat", 5)] {
        let variants = variants(source, name);
        assert!(variants.len() >= at_least, "{name}: {variants:?}");
        for variant in variants {
            assert!(table.contains(&format!("[`{name}::{variant}`]")), "{name}::{variant} is in no row");
        }
    }
    assert_eq!(variants(&hooks, "HookWhat").len(), 5, "the table says that there are five");
}
