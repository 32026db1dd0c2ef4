//! What the controller talks to is restarted under it: no job notices, and nobody has to do anything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::{cause::Cause, status::Status};
use github_sim::world::Conclusion;
use stage::{SERVICE, Stage, StageConfig};

const MINUTE: Duration = Duration::from_secs(60);
/// Seldom enough that the forge's points for bursts last for all of it.
const TOP: &str = "poll_interval = \"2s\"\nidle_grace = \"3s\"\nboot_timeout = \"20s\"\nregistration_linger = \"3s\"\n";

fn is_well(status: &Status) -> bool {
    status.problems.is_empty()
}

#[test]
fn a_message_bus_machined_and_polkit_that_are_restarted_in_the_middle_of_twenty_jobs_cost_none() {
    for (what, jobs, script) in [
        ("bus", 20, "systemctl restart dbus.service"),
        ("machined", 20, "systemctl kill --signal=KILL systemd-machined.service"),
        ("bus, killed", 7, "systemctl kill --signal=KILL dbus.service; sleep 0.5; systemctl start dbus.service"),
        ("polkit", 7, "systemctl restart polkit.service"),
    ] {
        println!("{what}");
        let Some(stage) = Stage::boot(&StageConfig { top: TOP.into(), ..StageConfig::default() }).unwrap() else {
            return;
        };
        let controller = stage.property(SERVICE, "MainPID").unwrap();
        let jobs: Vec<_> = (0..jobs)
            .map(|index| stage.queue_small(&format!("{what} {index}"), "sleep 1; echo ran").unwrap().1)
            .collect();
        stage.wait_for("containers there", MINUTE, |status| status.active_containers.len() >= 5).unwrap();
        stage.lab.shell(script).unwrap();
        let begun = Instant::now();
        for job in jobs {
            let done = stage.hub.wait_completed(job, MINUTE).unwrap();
            assert_eq!(done.conclusion, Some(Conclusion::Success), "{what}: {done:#?}");
        }
        println!("  all ran {:.1?} after it", begun.elapsed());
        stage.wait_until_clean(MINUTE).unwrap();
        let status = stage.status().unwrap();
        let odd: Vec<_> = status.finished.iter().filter(|ended| ended.cause != Cause::Succeeded).collect();
        // Of a failed boot its class says so until the next one came up, which here may never be asked for.
        let is_well = |status: &Status| match odd.is_empty() {
            true => is_well(status),
            false => status.problems.iter().all(|problem| problem.starts_with("class small")),
        };
        stage.wait_for("well", Duration::from_secs(10), is_well).unwrap();
        // A container that was just coming up needs machined, and the bus to reach it: it may have to be booted again.
        let harmless = |cause| matches!(cause, Cause::BootFailed | Cause::TakenByAnotherRunner | Cause::IdleTooLong);
        assert!(odd.iter().all(|ended| harmless(ended.cause)), "{what}: {odd:#?}");
        println!(
            "  {} of {} containers did not end as succeeded: {:?}",
            odd.len(),
            status.finished.len(),
            odd.iter().map(|ended| (ended.cause, &ended.reason)).collect::<Vec<_>>()
        );
        assert_eq!(stage.property(SERVICE, "MainPID").unwrap(), controller, "{what}: the controller was restarted");
    }
}

#[test]
fn within_ten_seconds_after_a_restart_of_the_bus_everything_is_as_before() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, running) = stage.queue_small("running", "echo begun; sleep 15; echo ran").unwrap();
    stage.hub.wait_for_job(running, MINUTE, |job| job.output.contains("begun")).unwrap();
    stage.lab.shell("systemctl restart dbus.service").unwrap();
    let begun = Instant::now();
    let (_, job) = stage.queue_small("after", "echo ran").unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stage.wait_for("well", Duration::from_secs(10).saturating_sub(begun.elapsed()), is_well).unwrap();
    let done = stage.hub.wait_completed(running, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    // The end is known from a signal again, not from the next listing.
    let status = stage.wait_for("its end", MINUTE, |status| status.finished.len() == 2).unwrap();
    assert!(status.finished.iter().all(|ended| ended.cause == Cause::Succeeded), "{:#?}", status.finished);
    stage.wait_until_clean(MINUTE).unwrap();
}
