//! A NixOS system as the template: an empty root, the store of the machine this runs on, and the system's own init.
//! Only where a system was built; GHA_LAB_STORE names the store's directory, GHA_LAB_SYSTEM and GHA_LAB_NIX_RUNNER the
//! system and the stand-in runner in it, as they are called inside (/nix/store/...).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{env, time::Duration};

use controller::{cause::Cause, phase::Phase};
use github_sim::world::Conclusion;
use lab::Place;
use settings::NIX_STORE;
use stage::{SERVICE, Stage, StageConfig, scenario::Scenario};

/// Where the lab installs them.
const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
const CONFIG: &str = "/etc/gha-runner-controller/config.toml";
const MINUTE: Duration = Duration::from_secs(60);

/// Where a container's boot is, in microseconds of the monotonic clock, and what the guest waited for: units that
/// became active after systemd had read its units and before the guest began, though they are ordered before it.
/// A slice and a socket are no wait: they start no program. `basic` is when sudo can be used.
/// $unit, $system: the container's. systemd's own two clocks tell how far apart they are.
const BOOT: &str = r#"
    pid=$(systemctl show -P MainPID $unit)
    init=$(cut -d' ' -f1 /proc/$pid/task/$pid/children)
    inside="nsenter -t $init -U -m -p -- $system/sw/bin"
    ask() { $inside/systemctl show --timestamp=us+utc -P "$@"; }
    of() { date -u -d "$1" +%s%6N; }
    apart=$(($(of "$(ask UserspaceTimestamp)") - $(ask UserspaceTimestampMonotonic)))
    changed() { echo $(($($inside/stat -c %.6Y $1 | tr -d .) - apart)); }
    read=$(ask UnitsLoadFinishTimestampMonotonic)
    guest=$(ask ExecMainStartTimestampMonotonic gha-runner-guest.service)
    echo began $(systemctl show -P InactiveExitTimestampMonotonic $unit)
    echo prepared $(systemctl show -P ExecMainStartTimestampMonotonic $unit)
    echo activation $(changed /etc/nixos)
    echo etc $(changed /etc/static)
    echo activated $(changed /run/booted-system)
    echo systemd $(ask UserspaceTimestampMonotonic)
    echo read $read
    echo guest $guest
    for i in $(seq 100); do basic=$(ask ActiveEnterTimestampMonotonic basic.target); [ $basic = 0 ] || break; sleep 0.1; done
    echo basic $basic
    for before in $(ask After gha-runner-guest.service); do
        since=$(ask ActiveEnterTimestampMonotonic $before)
        [ $since -le $read ] || [ $since -ge $guest ] || echo waited $before
    done"#;

#[test]
fn a_nixos_container_waits_for_no_unit_before_its_runner() {
    let Some(Built { system, runner, .. }) = Built::given() else { return };
    let config = StageConfig { classes: class(&system, &runner), ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    stage.lab.shell("mkdir -p /nix/var/nix/gcroots").unwrap();
    let boots: u32 = env::var("GHA_LAB_BOOTS").map_or(1, |boots| boots.parse().unwrap());
    for _ in 0..boots {
        let (_, job) = stage.queue_small("boot", "until test -e /tmp/go; do sleep 0.1; done").unwrap();
        let active = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
        let unit = stage::unit("small", &active.name);
        let boot =
            stage.lab.shell(&format!("unit={unit} system={system}\n{BOOT}\n: > /proc/$init/root/tmp/go")).unwrap();
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        let reached: Vec<(&str, u64)> = boot
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(step, at)| Some((step, at.parse().ok()?)))
            .collect();
        let began = reached[0].1;
        let shown: Vec<String> = reached.iter().map(|(step, at)| format!("{step} {}", (at - began) / 1000)).collect();
        let guest =
            ended.timeline.runner_started_ms.zip(ended.timeline.booted_ms).map(|(runner, guest)| runner - guest);
        println!("{}; from the guest to the runner {guest:?}", shown.join(", "));
        assert_eq!(reached.len(), 9, "{boot}");
        let waited = boot
            .lines()
            .find(|line| line.starts_with("waited") && !line.ends_with(".slice") && !line.ends_with(".socket"));
        assert_eq!(waited, None, "{boot}");
    }
}

#[test]
fn what_a_nixos_container_promises_holds_inside() {
    let Some(Built { system, runner, .. }) = Built::given() else { return };
    let classes = class(&system, &runner).replace("[template", "docker.enable = true\n[template");
    let Some(stage) = Stage::boot(&StageConfig { classes, ..StageConfig::default() }).unwrap() else { return };
    stage.lab.shell("mkdir -p /nix/var/nix/gcroots").unwrap();
    Scenario { hub: &stage.hub, host: &stage.lab }.inside().unwrap();
}

/// What was built for these tests.
struct Built {
    system: String,
    runner: String,
    store: String,
}

impl Built {
    fn given() -> Option<Self> {
        let [system, runner, store] = ["GHA_LAB_SYSTEM", "GHA_LAB_NIX_RUNNER", "GHA_LAB_STORE"].map(env::var);
        let (Ok(system), Ok(runner), Ok(store)) = (system, runner, store) else {
            println!("skipped: no NixOS system was built for it (GHA_LAB_STORE, GHA_LAB_SYSTEM, GHA_LAB_NIX_RUNNER)");
            return None;
        };
        Some(Self { system, runner, store })
    }
}

/// A class whose containers boot this system.
fn class(system: &str, runner: &str) -> String {
    format!(
        "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\ntemplate = \"nixos\"\n\
         [template.nixos]\nsystem = \"{system}\"\nrunner = \"{runner}\"\n"
    )
}

#[test]
fn a_job_runs_in_a_nixos_container_writes_to_its_store_and_leaves_the_hosts_as_it_was() {
    let Some(Built { system, runner, store }) = Built::given() else { return };
    let config = StageConfig { classes: class(&system, &runner), ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    stage.lab.shell("mkdir -p /nix/var/nix/gcroots").unwrap();
    let script = "grep -q ID=nixos /etc/os-release; readlink /run/current-system; id -un; test ! -w /nix/store; \
                  until test -e /tmp/go; do sleep 0.1; done; ls /nix/store/made-by-a-job";
    let (_, job) = stage.queue_small("nixos", script).unwrap();
    let active = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
    let held = stage.lab.shell("readlink /nix/var/nix/gcroots/gha-runner/*").unwrap();
    assert_eq!(held.trim(), system, "the system is held while the container runs on it");
    let unit = stage::unit("small", &active.name);
    let pid = stage.property(&unit, "MainPID").unwrap();
    let inside = format!("nsenter -t $(cat /proc/{pid}/task/{pid}/children | cut -d' ' -f1) -U -m");
    stage.lab.shell(&format!("{inside} {system}/sw/bin/touch /nix/store/made-by-a-job /tmp/go")).unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    println!("{}\n{:?}", done.output, ended.timeline);
    assert_eq!((done.conclusion, ended.cause), (Some(Conclusion::Success), Cause::Succeeded));
    assert!(done.output.contains(&system), "{}", done.output);
    assert!(!std::path::Path::new(&store).join("made-by-a-job").exists(), "the container wrote to the host's store");
    stage.wait_until_clean(MINUTE).unwrap();
    let left = stage.lab.exec(Place::Host, &["ls", "/nix/var/nix/gcroots/gha-runner", NIX_STORE]).unwrap().text();
    assert!(!left.contains(&active.name) && !left.contains("made-by-a-job"), "{left}");
}

#[test]
fn a_runner_the_host_keeps_runs_in_a_nixos_container_and_stays_as_it_was() {
    let (Ok(system), Ok(_)) = (env::var("GHA_LAB_SYSTEM"), env::var("GHA_LAB_STORE")) else {
        println!("skipped: no NixOS system was built for it (GHA_LAB_STORE, GHA_LAB_SYSTEM)");
        return;
    };
    let config = StageConfig { start: false, ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    // The tree's own runner plays the unpacked release.
    let shell = |script: &str| stage.lab.shell(script).unwrap();
    shell(&format!(
        "cp -a $(sed -n 's/^path = \"\\(.*\\)\"/\\1/p' {CONFIG})/opt/actions-runner /var/lib/actions-runner
         printf '[template.nixos]\\nsystem = \"{system}\"\\nrunner_dir = \"/var/lib/actions-runner\"\\n' >> {CONFIG}
         sed -i 's/^\\[class.small\\]/&\\ntemplate = \"nixos\"/' {CONFIG}
         {PROGRAM} units --config {CONFIG} --output /etc && systemctl daemon-reload && systemctl start {SERVICE}"
    ));
    let list = "cd /var/lib/actions-runner && find . -exec ls -ld --time-style=full-iso {} +";
    let before = shell(list);
    let (_, job) = stage.queue_small("kept", "readlink /proc/[0-9]*/exe || true").unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    assert!(done.output.contains("/opt/actions-runner/bin/Runner.Listener"), "{}", done.output);
    stage.wait_until_clean(MINUTE).unwrap();
    assert_eq!(shell(list), before);
}
