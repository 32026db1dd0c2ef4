//! What a host with the product on it must show, whatever it is: the lab's, or a NixOS (nix/tests), where the program
//! `scenario` does the same as the lab's tests.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use github_sim::{
    ControlClient,
    world::{Conclusion, JobId, JobSpec, JobStatus, JobView},
};
use lab::Lab;

use crate::REPO;

const MINUTE: Duration = Duration::from_secs(60);
/// Labels of the class every host has.
const LABELS: [&str; 2] = ["self-hosted", "linux"];
/// A file that a job waits for.
const WORD: &str = "/tmp/go";
/// Where the probe listens that containers must not reach.
const PORT: u16 = 7777;

/// Makes a program of one that is there that asks for its interpreter where other distributions have it, and runs it.
const FOREIGN: &str = r#"
    test -e /run/current-system/sw/share/nix-ld/lib/ld.so
    interpreter=$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2>/dev/null | head -1)
    program=$(readlink -f $(command -v jq))
    there=$(grep -aoE '/nix/store/[A-Za-z0-9/._+-]*/ld-linux[a-z0-9._-]*' $program | head -1)
    rest=$(printf '%*s' $((${#there} - ${#interpreter})) '' | sed 's/ /\\x00/g')
    LC_ALL=C sed "0,\#$there#s##$interpreter$rest#" $program > /tmp/foreign
    chmod +x /tmp/foreign
    ! cmp -s $program /tmp/foreign
    echo '"I was built elsewhere"' | /tmp/foreign -r . | grep elsewhere"#;

/// Root's shell on the host.
pub trait Host {
    /// Runs a command line and returns what it printed; its failure is an error.
    fn shell(&self, script: &str) -> Result<String>;
}

impl Host for Lab {
    fn shell(&self, script: &str) -> Result<String> {
        Lab::shell(self, script)
    }
}

/// The machine this runs on.
#[derive(Debug, Clone, Copy)]
pub struct Here;

impl Host for Here {
    fn shell(&self, script: &str) -> Result<String> {
        let output = Command::new("sh").args(["-euc", script]).output().context("cannot start sh")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if !output.status.success() {
            bail!("{script}: {}:\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }
}

/// A forge and a host that serves it.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)]
pub struct Scenario<'a> {
    /// The forge's back door.
    pub hub: &'a ControlClient,
    /// The host.
    pub host: &'a dyn Host,
}

/// A job that waits for a word, and its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The job.
    pub job: JobId,
    /// Its container's unit.
    pub unit: String,
    /// What changes when systemd starts the unit anew.
    life: String,
}

impl Scenario<'_> {
    /// A job becomes one container, and the next job knows nothing of it.
    pub fn job(&self) -> Result<()> {
        let script = "echo hello from $(hostname); id -un; test ! -e ~/trace; touch ~/trace";
        let first = self.succeeds("hello", script)?;
        ensure!(first.output.contains("hello from j") && first.output.contains("runner"), "{}", first.output);
        let second = self.succeeds("again", script)?;
        ensure!(first.runner_name != second.runner_name, "one container had both: {:?}", second.runner_name);
        self.nothing_left()
    }

    /// The token shows to nobody but the controller, whoever looks.
    pub fn secrets(&self, token: &str) -> Result<()> {
        // Whoever looks must not show it: in two halves, and never as an argument of a program.
        let (first, second) = token.split_at(token.len() / 2);
        let look =
            format!("token='{first}''{second}'; find() {{ printf %s \"$token\" | \"$@\" grep -rlsF -D skip -f - ");
        let files = format!("{look} /run /etc /tmp /var /home /proc/[0-9]*/environ; }}");
        let job =
            self.queue("curious", &LABELS, &format!("{files}; ! find env; ! find sudo -n; echo begun; sleep 4"))?;
        self.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun") || job.status == JobStatus::Completed)?;
        let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        let seen = self.host.shell(&format!(
            "{look} /run /tmp /var/log /var/tmp; }}; find {nobody} || true
             shown=$(cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'
                     journalctl --namespace='*' --no-pager; systemctl show '*'; systemctl cat 'gha-runner-*'
                     cat /etc/gha-runner-controller/*.json)
             case $shown in *\"$token\"*) echo processes, journal or units;; esac"
        ))?;
        ensure!(seen.is_empty(), "everybody can read it: {seen}");
        self.completes(job)?;
        self.nothing_left()
    }

    /// A job reaches the forge, and neither the host nor the metadata of a cloud.
    pub fn fence(&self) -> Result<()> {
        let connect = |address: &str, port: u16| format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'");
        // What listens there can be reached from where it is allowed.
        self.host.shell(&format!(
            "systemctl is-active -q gha-probe || \
             systemd-run -q --unit=gha-probe -- $(command -v systemd-socket-activate) --listen=0.0.0.0:{PORT} --accept \
             $(command -v cat); for i in 1 2 3 4 5; do sleep 1; {probe} && exit 0; done; exit 1",
            probe = connect("127.0.0.1", PORT)
        ))?;
        let gateway = "$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')";
        let script = format!(
            "gateway={gateway}; test -n \"$gateway\"; ! timeout 2 bash -c \"exec 3<>/dev/tcp/$gateway/{PORT}\"; ! {metadata}",
            metadata = connect("169.254.169.254", 80)
        );
        self.succeeds("outside", &script)?;
        self.nothing_left()
    }

    /// What the default NixOS container promises: sudo, tools, a Nix that knows what is there and builds without the
    /// host's seeing it, an interpreter for programs of other distributions, Docker that starts on demand.
    pub fn inside(&self) -> Result<()> {
        let build = "nix build --offline --impure --expr 'derivation { name = \"made-by-a-job\"; \
                     system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo hi > $out\" ]; }'";
        for (name, script) in [
            // Its wrapper is made beside the runner's start. The stand-in runs a job's first step some milliseconds
            // after it was started, GitHub's own takes seconds.
            (
                "sudo",
                "for i in $(seq 100); do test -e /run/wrappers/bin/sudo && break; sleep 0.1; done; test $(sudo -n id -u) = 0",
            ),
            ("tools", "for tool in git curl jq gcc make python3 zstd; do command -v $tool; done"),
            (
                "nix",
                &format!(
                    "nix-store --query --hash $(readlink -f $(command -v git) | cut -d/ -f1-4); {build}; grep hi result"
                ),
            ),
            ("nix-path", "test -e $(nix-instantiate --find-file nixpkgs)/default.nix"),
            (
                "bash",
                "printf '#!/bin/bash\\necho $BASH\\n' > /tmp/script; chmod +x /tmp/script; /tmp/script | grep -x /bin/bash",
            ),
            ("nix-ld", FOREIGN),
            ("docker", "test ! -e /run/docker.pid; docker info; tar -c --files-from=/dev/null | docker import - empty"),
        ] {
            self.succeeds(name, script)?;
        }
        self.host.shell("! ls /nix/store | grep made-by-a-job")?;
        self.nothing_left()
    }

    /// What is done to the host while jobs of these classes run touches none of them. Gives what it said of itself.
    pub fn undisturbed<T>(&self, labels: &[[&str; 2]], disturbance: impl FnOnce(&[Waiting]) -> Result<T>) -> Result<T> {
        let waiting: Vec<Waiting> = labels.iter().map(|labels| self.waiting(labels)).collect::<Result<_>>()?;
        let result = disturbance(&waiting)?;
        for Waiting { job, unit, life } in &waiting {
            ensure!(&self.life(unit)? == life, "{unit} was touched: {life}, now {}", self.life(unit)?);
            self.host.shell(&format!(
                "pid=$(systemctl show -P MainPID {unit}); \
                 nsenter -t $(cut -d' ' -f1 /proc/$pid/task/$pid/children) -U -m sh -c ': > {WORD}'"
            ))?;
            let done = self.completes(*job)?;
            ensure!(done.output.contains("not disturbed"), "{}", done.output);
        }
        Ok(result)
    }

    /// The one class every host has.
    pub fn usual(&self) -> [[&'static str; 2]; 1] {
        [LABELS]
    }

    /// Begins a job that does not end.
    pub fn endless(&self) -> Result<()> {
        self.waiting(&LABELS).map(drop)
    }

    /// After the host lost power: no job is left to run, nothing is left of those that did, and the next one runs.
    pub fn afterwards(&self) -> Result<()> {
        for job in self.hub.jobs()?.iter().filter(|job| job.status != JobStatus::Completed) {
            let lost = self.hub.wait_completed(job.id, 5 * MINUTE)?;
            ensure!(lost.conclusion == Some(Conclusion::Failure), "{lost:#?}");
        }
        self.succeeds("next", "true")?;
        self.nothing_left()
    }

    /// No container, and nothing that only a container has.
    pub fn nothing_left(&self) -> Result<()> {
        let look = "ls -d /var/lib/gha-runner-sandbox/* /run/gha-runner-sandbox/* /nix/var/nix/gcroots/gha-runner/* 2>/dev/null; \
                    systemctl list-units --all --plain --no-legend 'gha-runner-*@*.service'; \
                    ip -o link | grep -E ': g[jp]-'; machinectl --no-legend list | grep -v '^\\.host' | grep .";
        let deadline = Instant::now() + MINUTE;
        loop {
            let left = self.host.shell(&format!("{{ {look}; }} || true"))?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left on the host:\n{left}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn queue(&self, name: &str, labels: &[&str], script: &str) -> Result<JobId> {
        Ok(self.hub.queue_job(REPO, JobSpec::new(name, labels, &[script]))?.1)
    }

    fn completes(&self, job: JobId) -> Result<JobView> {
        let done = self.hub.wait_completed(job, 3 * MINUTE)?;
        ensure!(done.conclusion == Some(Conclusion::Success), "{done:#?}");
        Ok(done)
    }

    fn succeeds(&self, name: &str, script: &str) -> Result<JobView> {
        let job = self.queue(name, &LABELS, script)?;
        self.completes(job)
    }

    fn waiting(&self, labels: &[&str]) -> Result<Waiting> {
        let script = format!("echo I am $(hostname).; until test -e {WORD}; do sleep 0.1; done; echo not disturbed");
        let job = self.queue("waiting", labels, &script)?;
        let begun = self.hub.wait_for_job(job, 3 * MINUTE, |job| job.output.contains("I am "))?;
        let name = begun.output.split("I am ").nth(1).and_then(|rest| rest.split('.').next()).context("no name")?;
        let unit = self.host.shell(&format!(
            "systemctl list-units --plain --no-legend 'gha-runner-*@{name}.service' | cut -d' ' -f1"
        ))?;
        let life = self.life(&unit)?;
        Ok(Waiting { job, unit, life })
    }

    fn life(&self, unit: &str) -> Result<String> {
        let properties = "MainPID,ActiveEnterTimestampMonotonic,ActiveState,LoadState";
        let life = self.host.shell(&format!("systemctl show --property={properties} {unit}"))?;
        ensure!(life.contains("ActiveState=active") && life.contains("LoadState=loaded"), "{unit}: {life}");
        Ok(life)
    }
}
