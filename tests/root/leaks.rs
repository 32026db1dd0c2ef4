//! Container after container, each ended in another way: afterwards the host is as it was.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use stage::{SERVICE, Stage, StageConfig};

const AT_ONCE: usize = 20;
/// How much the controller's memory may differ between two moments of rest, in KiB: its allocator keeps some. That it does
/// not grow by a little with each life, the simulation shows, which counts what is allocated.
const SLACK: u64 = 2048;
/// Endings that the controller keeps to tell of. With each until then it has more to remember.
const KEPT: usize = 200;
/// Connections to the forge that the controller may keep for the next question: one a question at once.
const CONNECTIONS: u64 = AT_ONCE as u64;

/// Scripts of jobs, each with another end.
const ENDINGS: [&str; 6] = [
    "echo fine",
    "echo failed; exit 1",
    "sudo poweroff; sleep 100",
    "sudo kill -9 -1; sleep 100",
    "sudo ip link delete $(ip -o link | grep -o 'gp-[^@:]*' | head -n 1); echo cut off",
    "sudo systemctl --no-block start reboot.target; sleep 100",
];

#[test]
fn after_many_lives_nothing_of_them_is_left() {
    let lives: usize = std::env::var("LIVES").map_or(60, |lives| lives.parse().unwrap());
    let config = StageConfig {
        top: "poll_interval = \"1s\"\nidle_grace = \"3s\"\nboot_timeout = \"20s\"\nregistration_linger = \"1s\"\n\
              max_concurrent = 20\n"
            .into(),
        classes: "[class.row]\nlabels = [\"row\"]\nmax_concurrent = 3\n[class.many]\nlabels = [\"many\"]\n".into(),
        // As many questions as so many lives take: the forge would else make them wait for the next hour.
        simulator: ["--hurry", "300", "--rate-limit", "0"].map(str::to_owned).to_vec(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    // What is made once and for all is there after the first ones.
    live(&stage, "many", AT_ONCE);
    let before = State::of(&stage);
    println!("at first: {before:?}");
    let begun = Instant::now();
    let mut done = 0;
    let mut full = None;
    while done < lives {
        let some = (lives - done).min(60);
        live(&stage, "row", some);
        done += some;
        let state = State::of(&stage);
        println!("{done} lives after {:.0?}: {state:?}", begun.elapsed());
        if done >= KEPT {
            full.get_or_insert(state.memory);
        }
    }
    live(&stage, "many", AT_ONCE);
    let after = State::of(&stage);
    println!("{} lives in a row, three abreast, and {AT_ONCE} at once: {after:?}", lives);
    let at_rest = |state: &State| State { memory: 0, files: 0, ..state.clone() };
    assert_eq!(at_rest(&after), at_rest(&before));
    assert!(after.files <= before.files + CONNECTIONS, "open files: {before:?}, {after:?}");
    let full = full.unwrap_or(before.memory);
    assert!(after.memory <= full + SLACK, "the controller grew from {full} KiB with {KEPT} endings: {after:?}");
}

/// Lets this many jobs of the class come to their different ends, and the host to rest.
fn live(stage: &Stage, label: &str, count: usize) {
    let queue = |index: usize| {
        let (_, job) = stage.queue(&format!("{label}-{index}"), &[label], ENDINGS[index % ENDINGS.len()]).unwrap();
        job
    };
    let jobs: Vec<_> = (0..count).map(queue).collect();
    let limit = Duration::from_secs(60) + Duration::from_secs(6) * u32::try_from(count).unwrap();
    for job in jobs {
        stage.hub.wait_completed(job, limit).unwrap();
    }
    stage.wait_until_clean(limit).unwrap();
}

/// What could grow, beyond what the inventory lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// Elements in the sets of the firewall's table.
    elements: String,
    /// Network, mount, process and user namespaces with processes in them.
    namespaces: String,
    /// Mounts of the host.
    mounts: String,
    /// Files and processes of users that only containers have.
    foreign: String,
    /// The controller's open files.
    files: u64,
    /// The controller's resident memory, KiB.
    memory: u64,
}

impl State {
    fn of(stage: &Stage) -> Self {
        let ask = |script: &str| stage.lab.shell(script).unwrap();
        let pid = stage.property(SERVICE, "MainPID").unwrap();
        Self {
            elements: ask(
                "nft -j list table inet gha_runner | jq -c '[.nftables[] | (.set // .map // empty) | select(.name != \"forbidden\") | .elem // [] | length]'",
            ),
            namespaces: ask("for kind in net mnt pid user; do lsns -n -t $kind | wc -l; done | tr '\\n' ' '"),
            mounts: ask("wc -l < /proc/1/mountinfo"),
            foreign: ask(
                "find /run /var/lib /tmp /var/tmp -xdev -uid +524287 | head -n 5; ps -e -o uid= | awk '$1 > 524287' | head -n 5",
            ),
            files: ask(&format!("ls /proc/{pid}/fd | wc -l")).parse().unwrap(),
            memory: ask(&format!("awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status")).parse().unwrap(),
        }
    }
}
