//! A lab with everything on it: the forge with a simulated GitHub, the host with the product installed as its
//! documentation says, templates with the guest and the stand-in runner.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use contract::order::{self, Answer, LAUNCHER_SOCKET, Order, Verb};
use controller::{
    phase::Phase,
    status::{ActiveContainer, Finished, Status},
};
use gha_runner_controller::units;
use github_sim::{
    ControlClient,
    world::{JobId, JobSpec, RunId},
};
use lab::{Inventory, Lab, LabConfig, Place, Product, Recipe, Running, Source, Template};

/// The repository every stage has.
pub const REPO: &str = "octo-org/hello";
/// The credential: in no place that anybody but the controller can read.
pub const TOKEN: &str = "stage-token-5dc9c2";
/// The file it is in.
pub const TOKEN_FILE: &str = "/etc/gha-runner-controller/token";
/// The service under test.
pub const SERVICE: &str = "gha-runner-controller.service";

/// The container unit of this class and name.
pub fn unit(class: &str, name: &str) -> String {
    format!("gha-runner-{class}@{name}.service")
}

/// What can be different about a stage.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// Repositories besides [`REPO`].
    pub more_repos: Vec<String>,
    /// Tables of targets, credentials and the webhook, in place of one target for each repository.
    pub targets: String,
    /// Files they name: path, content, mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Configuration lines before the tables.
    pub top: String,
    /// What the host's tree is made of.
    pub host: Recipe,
    /// What the job's tree is made of.
    pub tree: Recipe,
    /// Where a release of GitHub's runner is unpacked that is to run jobs in place of the stand-in.
    pub runner: Option<PathBuf>,
    /// The runner for Gitea and Forgejo, if the template has one.
    pub act_runner: Option<PathBuf>,
    /// The path by which the configuration names the template, if that is not its own.
    pub template_path: Option<String>,
    /// What is done in the host before the product is installed; `$template` is the template's path in it.
    pub setup: String,
    /// Keys of the one template.
    pub template: String,
    /// `[class.…]` tables, and further ones; `$template` is the template's path.
    pub classes: String,
    /// Further arguments of the simulator.
    pub simulator: Vec<String>,
    /// Whether the controller is started.
    pub start: bool,
}

impl Default for StageConfig {
    /// One class, a poll each second, minutes at the forge shortened to seconds.
    fn default() -> Self {
        Self {
            more_repos: Vec::new(),
            targets: String::new(),
            files: Vec::new(),
            top: "poll_interval = \"1s\"\nidle_grace = \"3s\"\nboot_timeout = \"20s\"\nregistration_linger = \"3s\"\n"
                .to_owned(),
            host: Recipe::HOST,
            tree: Recipe::JOB,
            runner: None,
            act_runner: None,
            template_path: None,
            setup: String::new(),
            template: String::new(),
            classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n".to_owned(),
            simulator: vec!["--hurry".into(), "20".into()],
            start: true,
        }
    }
}

/// The stage. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct Stage {
    /// GitHub's back door.
    pub hub: ControlClient,
    /// The simulator's process.
    pub simulator: Running,
    /// What was there before the product was installed.
    pub before: Inventory,
    /// The lab.
    pub lab: Lab,
}

impl Stage {
    /// Sets everything up. `None`, and a line that says why, where a lab cannot be.
    pub fn boot(config: &StageConfig) -> Result<Option<Self>> {
        if let Some(reason) = lab::missing_requirement() {
            println!("skipped: {reason}");
            return Ok(None);
        }
        let lab = Lab::boot(LabConfig { host: config.host, job: config.tree, ..LabConfig::default() })?;
        let socket = lab.shared().join("hub.sock");
        let simulator = Self::start_simulator(&lab, config, &socket)?;
        let hub = ControlClient::connect_within(&socket, Duration::from_secs(10))?;
        let before = lab.leftovers()?;
        let template = match &config.runner {
            Some(release) => Template::new().runner_release(release),
            None => Template::new().runner(Source::File(program("fakerunner")?)),
        };
        let template = config.act_runner.iter().fold(template, |template, runner| {
            let put = |template: Template, path| template.file(path, Source::File(runner.clone()), 0o755);
            put(put(template, "/usr/local/bin/gitea-runner"), "/usr/local/bin/forgejo-runner")
        });
        let template = lab.add_template(&template)?;
        lab.shell(&format!("template={template}\n{}", config.setup))?;
        let template = config.template_path.clone().unwrap_or(template);
        let each: String = std::iter::once(REPO)
            .chain(config.more_repos.iter().map(String::as_str))
            .map(|repo| format!("[[target]]\nrepo = \"{repo}\"\n"))
            .collect();
        let targets = if config.targets.is_empty() { &each } else { &config.targets };
        // A quiet repository is looked at as often as a busy one, unless the stage is about that.
        let pace = config.top.lines().find_map(|line| line.strip_prefix("poll_interval"));
        let pace = pace.filter(|_| !config.top.contains("idle_poll_interval"));
        let idle = pace.map(|pace| format!("idle_poll_interval{pace}\n")).unwrap_or_default();
        let text = format!(
            "{top}\n{idle}token_file = \"{TOKEN_FILE}\"\nhost_name = \"lab\"\n[github]\napi_url = \"http://{forge}\"\n\
             [network]\ndns = []\n{targets}[template.default]\npath = \"{template}\"\n{keys}{classes}",
            keys = config.template,
            top = config.top,
            forge = Place::Forge.address(),
            classes = config.classes.replace("$template", &template),
        );
        let mut product = Product::new(program("gha-runner-controller")?, text).with_file(TOKEN_FILE, TOKEN, 0o400);
        product.files.extend(config.files.iter().cloned());
        product.start = config.start;
        lab.install_product(&product)?;
        Ok(Some(Self { hub, simulator, before, lab }))
    }

    /// Starts the simulator alone, in a lab whose host is not this stage's.
    pub fn start_simulator(lab: &Lab, config: &StageConfig, socket: &std::path::Path) -> Result<Running> {
        let program = program("github-sim")?;
        let address = Place::Forge.address();
        let mut command: Vec<String> = vec![
            program.display().to_string(),
            "--listen".into(),
            format!("{address}:80"),
            "--public-url".into(),
            format!("http://{address}/"),
            "--control-socket".into(),
            socket.display().to_string(),
            "--token".into(),
            TOKEN.into(),
        ];
        if !config.simulator.iter().any(|argument| argument == "--rate-limit") {
            // Looks each second are more than a real hour allows; the pace would be stretched.
            command.extend(["--rate-limit".into(), "1000000".into()]);
        }
        for repo in std::iter::once(REPO).chain(config.more_repos.iter().map(String::as_str)) {
            command.extend(["--repo".into(), repo.into()]);
        }
        command.extend(config.simulator.iter().cloned());
        lab.spawn_in(Place::Forge, &command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What `runner-status --json` prints.
    pub fn status(&self) -> Result<Status> {
        let output = self.lab.exec(Place::Host, &["/usr/local/bin/gha-runner-controller", "status", "--json"])?;
        // 3 = answered, and not healthy.
        ensure!(matches!(output.status.code(), Some(0 | 3)), "status: {}", output.errors());
        serde_json::from_str(&output.text()).context("status --json is not a status document")
    }

    /// Waits until the status is as wanted.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let last = match self.status() {
                Ok(status) if wanted(&status) => return Ok(status),
                Ok(status) => format!("{status:#?}"),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > deadline {
                let journal = self.lab.journal(SERVICE).unwrap_or_default();
                bail!("{what}: not within {limit:?}; last status: {last}\njournal:\n{journal}");
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until no container, unit, directory, link or registration is left.
    pub fn wait_until_clean(&self, limit: Duration) -> Result<()> {
        self.wait_for("nothing active and nothing to settle", limit, |status| {
            status.active_containers.is_empty() && status.settling.is_empty()
        })?;
        let left = self.left_over()?;
        ensure!(left.is_empty(), "left on the host:\n{left}");
        let mut runners = self.hub.runners()?;
        // Strangers who take jobs are the simulator's own.
        runners.retain(|runner| runner.name.starts_with("lab."));
        ensure!(runners.is_empty(), "registrations left at the forge: {runners:#?}");
        Ok(())
    }

    /// Queues a job for this class of labels and gives its run and itself.
    pub fn queue(&self, name: &str, labels: &[&str], script: &str) -> Result<(RunId, JobId)> {
        Ok(self.hub.queue_job(REPO, JobSpec::new(name, labels, &[script]))?)
    }

    /// Queues a job for the class every stage has.
    pub fn queue_small(&self, name: &str, script: &str) -> Result<(RunId, JobId)> {
        self.queue(name, &["self-hosted", "linux"], script)
    }

    /// Waits until a container that was booted for this job, or ran it, has ended, and tells how.
    pub fn wait_finished(&self, job: JobId, limit: Duration) -> Result<Finished> {
        let ended = |status: &Status| status.finished.iter().rev().find(|ended| ended.job_id == Some(job.0)).cloned();
        let status = self.wait_for(&format!("the end of the container of job {job}"), limit, |s| ended(s).is_some())?;
        ended(&status).map(|ended| (*ended).clone()).context("it ended and is not listed")
    }

    /// Waits until the container of this job is in this phase, and gives it.
    pub fn wait_phase(&self, job: JobId, phase: Phase, limit: Duration) -> Result<ActiveContainer> {
        let of = |status: &Status| status.active_containers.iter().find(|c| c.job_id == Some(job.0)).cloned();
        let what = format!("job {job} {phase}");
        let status = self.wait_for(&what, limit, |status| of(status).is_some_and(|c| c.phase == phase))?;
        of(&status).context("it was there a moment ago")
    }

    /// Writes these bytes to the launcher as this user, and gives what it answers; an error if it lets nobody in.
    pub fn send_launcher(&self, user: &str, bytes: &str) -> Result<String> {
        Ok(self.lab.converse_as(user, LAUNCHER_SOCKET, bytes)?.check()?.text())
    }

    /// Sends the launcher an order as the controller does.
    pub fn order(&self, verb: Verb, class: &str, name: &str) -> Result<Answer> {
        let order = Order { verb, class: class.to_owned(), name: name.parse()? };
        let line = String::from_utf8(order::line(&order))?;
        let answer = self.send_launcher(units::USER, &line)?;
        // What comes from the lab has lost its line feed.
        order::parse(format!("{answer}\n").as_bytes()).map_err(|error| anyhow::anyhow!("{answer}: {error}"))
    }

    /// `systemctl` with these arguments, as root of the host.
    pub fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let command: Vec<&str> = std::iter::once("systemctl").chain(arguments.iter().copied()).collect();
        Ok(self.lab.exec(Place::Host, &command)?.check()?.text())
    }

    /// A property of a unit; empty where it has none.
    pub fn property(&self, unit: &str, property: &str) -> Result<String> {
        self.systemctl(&["show", "--value", "--property", property, unit])
    }

    /// `/health`: its status code and its body.
    pub fn health(&self) -> Result<(u16, String)> {
        let script = "exec 3<>/dev/tcp/127.0.0.1/8080; \
                      printf 'GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n' >&3; cat <&3";
        let answer = self.lab.exec(Place::Host, &["bash", "-c", script])?.check()?.text();
        let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        Ok((code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }

    /// What is on the host now that was not before the product was installed, and is not the installed product.
    pub fn left_over(&self) -> Result<Inventory> {
        Ok(self.lab.leftovers()?.since(&self.before).without(is_installation))
    }
}

/// What an installed, idle product has on a host: its own directories and its firewall table.
fn is_installation(kind: lab::Kind, name: &str) -> bool {
    match kind {
        lab::Kind::Path => {
            [
            "/run/gha-runner-launcher.sock",
            "/run/gha-runner-control",
            "/run/gha-runner-control/control.sock",
            "/run/gha-runner-controller",
            "/run/gha-runner-controller/containers",
            "/run/gha-runner-controller/life",
            "/run/gha-runner-controller/room-wanted",
            "/run/gha-runner-prunings.json",
            "/run/gha-runner-sandbox",
            "/run/gha-runner-sandbox/.lock",
            "/run/gha-runner-events",
            "/var/lib/gha-runner-controller",
            "/var/lib/gha-runner-controller/containers",
            "/var/lib/gha-runner-controller/drains.json",
            "/var/lib/gha-runner-controller/history.sqlite",
            "/var/lib/gha-runner-controller/history.sqlite-shm",
            "/var/lib/gha-runner-controller/history.sqlite-wal",
            "/var/lib/gha-runner-controller/sets",
            "/var/lib/gha-runner-disks",
            "/var/lib/gha-runner-sandbox",
            "/var/lib/gha-runner-stores",
        ]
        .contains(&name)
            || name.starts_with("/run/gha-runner-endings")
            || name.starts_with("/run/gha-runner-secrets")
            // What each scale set told, kept for as long as there is the set.
            || name.starts_with("/var/lib/gha-runner-controller/sets/")
            // systemd's own, made by the first container of any kind.
            || lab::OF_NSPAWN.contains(&name)
        }
        lab::Kind::Mount => name.starts_with("/run/credentials/gha-runner-controller.service"),
        lab::Kind::Table => name.contains("gha_runner"),
        lab::Kind::Unit => name.ends_with(".slice"),
        _ => false,
    }
}

/// A program of this workspace, built into the same directory as the running one.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/release/demo, or target/release/deps/test-…
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built. Remedy: cargo build --release --workspace --bins"))
}
