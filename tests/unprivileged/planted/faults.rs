//! The faults.

/// One fault.
pub struct Fault {
    /// One word or a few.
    pub name: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// Where.
    pub file: &'static str,
    /// What is there once, …
    pub old: &'static str,
    /// … and what takes its place; `PLANTED` = the fault is planted.
    pub new: &'static str,
    /// Tests of the simulation of which one must fail.
    pub caught_by: &'static [&'static str],
}

const HISTORIES: &[&str] = &["random_histories"];
const BOOT: &str = "crates/controller/src/fleet/boot.rs";
const SETTLING: &str = "crates/controller/src/fleet/settling.rs";
const ADOPT: &str = "crates/controller/src/fleet/adopt.rs";
const ROOM: &str = "crates/controller/src/plan/room.rs";
const PLAN: &str = "crates/controller/src/plan.rs";
const CAUSE: &str = "crates/controller/src/cause.rs";
const IDLE: &str = "crates/controller/src/fleet/idle_watch.rs";
const LOOKS: &str = "crates/controller/src/intake/looks.rs";

#[rustfmt::skip]
pub const PLANTED: &[Fault] = &[
    Fault {
        name: "unrecorded", what: "a runner is registered before its record is written", file: BOOT, caught_by: HISTORIES,
        old: "if let Err(error) = self.world.records().put(&record) {",
        new: "if let Err(error) = if PLANTED { Ok(()) } else { self.world.records().put(&record) } {",
    },
    Fault {
        name: "not-handed-over", what: "a unit is started without its hand-over", file: BOOT, caught_by: HISTORIES,
        old: ".and_then(|()| records.hand_over(&to_boot, &minted.grant))",
        new: ".and_then(|()| if PLANTED { Ok(()) } else { records.hand_over(&to_boot, &minted.grant) })",
    },
    Fault {
        name: "subnet-twice", what: "a subnet in use is given out again", file: BOOT, caught_by: HISTORIES,
        old: "let used = |subnet| self.live()",
        new: "let used = |subnet| !PLANTED && self.live()",
    },
    Fault {
        name: "host-limit", what: "the limit of the host is counted one too high", file: ROOM, caught_by: HISTORIES,
        old: "host: left_of(snapshot.capacity, snapshot.containers.len()),",
        new: "host: left_of(snapshot.capacity, snapshot.containers.len()) + isize::from(PLANTED),",
    },
    Fault {
        name: "class-limit", what: "the limit of a class is not looked at", file: ROOM, caught_by: HISTORIES,
        old: "self.by_class.get(class.name.as_str()).is_none_or(|left| *left <= 0)",
        new: "!PLANTED && self.by_class.get(class.name.as_str()).is_none_or(|left| *left <= 0)",
    },
    Fault {
        name: "target-limit", what: "the limit of a target is not looked at", file: ROOM, caught_by: HISTORIES,
        old: "} else if place.used >= place.view.max {",
        new: "} else if !PLANTED && place.used >= place.view.max {",
    },
    Fault {
        name: "idle-kept", what: "idle runners that nobody needs are not retired", file: PLAN, caught_by: HISTORIES,
        old: "if !drained && self.snapshot.now - since < self.snapshot.idle_grace {",
        new: "if PLANTED || !drained && self.snapshot.now - since < self.snapshot.idle_grace {",
    },
    Fault {
        name: "never-listening", what: "a runner that never listens is not replaced", file: "crates/controller/src/fleet/mod.rs",
        caught_by: &["a_runner_that_never_listens"],
        old: "Stage::Started if container.use_() == Use::Coming && overdue => {",
        new: "Stage::Started if !PLANTED && container.use_() == Use::Coming && overdue => {",
    },
    Fault {
        name: "reboot-blamed", what: "a healthy job is blamed for the host's reboot", file: CAUSE, caught_by: HISTORIES,
        old: "Cause::JobFailed if before == Cause::HostRebooted && !evidence.job_ended => before,",
        new: "Cause::JobFailed if !PLANTED && before == Cause::HostRebooted && !evidence.job_ended => before,",
    },
    Fault {
        name: "outage-deafness", what: "after a failed look a repository is looked at no more", file: LOOKS, caught_by: &["listeners_are_told_of_a_problem"],
        old: "repository.next_look = now.mono + pause;",
        new: "repository.next_look = now.mono + if PLANTED { Duration::from_secs(86_400) } else { pause };",
    },
    Fault {
        name: "not-adopted", what: "records of an earlier life are not taken over", file: ADOPT, caught_by: &["what_an_earlier_version_left"],
        old: "for record in records {",
        new: "for record in records.into_iter().filter(|_| !PLANTED) {",
    },
    Fault {
        name: "dropped", what: "a container that ended while nobody was there is dropped", file: ADOPT, caught_by: &["a_controller_killed_between_any_two_writes"],
        old: "None if rebooted => self.end(&name, Cause::HostRebooted, now),",
        new: "None if PLANTED => drop(self.containers.remove(&name)),\n            None if rebooted => self.end(&name, Cause::HostRebooted, now),",
    },
    Fault {
        name: "history-lost", what: "a record goes before the history has its row", file: SETTLING, caught_by: HISTORIES,
        old: "*self = entry.take().map_or(Self::Settled, Self::Keeping)",
        new: "*self = entry.take().filter(|_| !PLANTED).map_or(Self::Settled, Self::Keeping)",
    },
    Fault {
        name: "fork-booted", what: "a container is booted for a job of a fork", file: LOOKS, caught_by: HISTORIES,
        old: "blocked: known.refusal.map(|_| Blocked::Refused),",
        new: "blocked: known.refusal.filter(|_| !PLANTED).map(|_| Blocked::Refused),",
    },
    Fault {
        name: "session-kept", what: "a polite stop does not give back its sessions", file: "crates/controller/src/daemon.rs",
        caught_by: HISTORIES,
        old: "self.parts.sets.release();",
        new: "if !PLANTED { self.parts.sets.release(); }",
    },
    Fault {
        name: "no-pause", what: "failed boots make no class pause", file: ROOM,
        caught_by: &["a_runner_that_listens_and_then_gives_up"],
        old: "} else if self.is_held(class.held_until) {",
        new: "} else if !PLANTED && self.is_held(class.held_until) {",
    },
    Fault {
        name: "idle-for-ever", what: "an idle runner outlives its idle_timeout", file: IDLE,
        caught_by: &["an_idle_container_is_replaced_at_its_own_limit"],
        old: "if now.mono - since >= self.settings.idle_timeout {",
        new: "if !PLANTED && now.mono - since >= self.settings.idle_timeout {",
    },
    Fault {
        name: "cut-off-kept", what: "an idle runner that lost the forge is kept", file: IDLE,
        caught_by: &["an_idle_runner_that_is_offline_or_cut_off"],
        old: "if cut_off.is_some_and(|since| now.mono - since >= CUT_OFF) {",
        new: "if !PLANTED && cut_off.is_some_and(|since| now.mono - since >= CUT_OFF) {",
    },
    Fault {
        name: "deaf-kept", what: "an idle runner that is given no job is kept", file: IDLE,
        caught_by: &["a_runner_that_lost_its_assignment"],
        old: "let Some(container) = self.containers.get(name) else { return false };\n        let kind",
        new: "let Some(container) = self.containers.get(name).filter(|_| !PLANTED) else { return false };\n        let kind",
    },
    Fault {
        name: "listed-once", what: "a runner is replaced after one look that did not show it", file: IDLE,
        caught_by: &["an_idle_runner_that_is_offline_or_cut_off"],
        old: "if !self.idle_watch.missed.insert(name.clone()) {",
        new: "if !self.idle_watch.missed.insert(name.clone()) || PLANTED {",
    },
    Fault {
        name: "job-for-ever", what: "a job outlives the limit of its class", file: "crates/controller/src/fleet/mod.rs",
        caught_by: &["a_job_ends_at_its_limit_counted_from_its_start"],
        old: "if now.mono - container.phase_since >= limit + GUESTS_PART {",
        new: "if !PLANTED && now.mono - container.phase_since >= limit + GUESTS_PART {",
    },
    Fault {
        name: "idle-counted", what: "the limit of a job counts its container's waiting", file: "crates/controller/src/fleet/mod.rs",
        caught_by: &["an_idle_container_is_replaced_at_its_own_limit"],
        old: "now.mono - container.phase_since >= limit + GUESTS_PART",
        new: "now.mono - if PLANTED { container.asked_at } else { container.phase_since } >= limit + GUESTS_PART",
    },
    Fault {
        name: "strain-ignored", what: "a full disk keeps no job waiting", file: ROOM,
        caught_by: &["a_full_disk_keeps_jobs_waiting"],
        old: "strained: snapshot.strained.map_or(isize::MAX, |most| left_of(most, at_work)),",
        new: "strained: snapshot.strained.filter(|_| !PLANTED).map_or(isize::MAX, |most| left_of(most, at_work)),",
    },
    Fault {
        name: "cancel-unseen", what: "a job cancelled at a Gitea runs on", file: "crates/controller/src/fleet/job_watch.rs",
        caught_by: &["a_job_that_is_cancelled_while_it_runs_stops"],
        old: "if goes_on && now.mono - since >= PATIENCE {",
        new: "if !PLANTED && goes_on && now.mono - since >= PATIENCE {",
    },
    Fault {
        name: "passed-over", what: "a job that idle runners are not given is booted for at once, for ever",
        file: "crates/controller/src/intake/groups.rs",
        caught_by: &["a_job_that_idle_runners_are_not_given"],
        old: "(seen.given_up_until > now).then_some(Exclusion::PassedOver)",
        new: "(!PLANTED && seen.given_up_until > now).then_some(Exclusion::PassedOver)",
    },
];
