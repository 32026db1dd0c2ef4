//! A lab host with the product installed, without a controller: the test does what the controller would.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{
    ContainerRecord, ENDINGS_DIR, Ending, GRANT_FILE, Grant, HANDOVER_DIR, RECORD_FILE, VERSION,
    event::{EVENTS_DIR, Event, SOCKET_FILE, What},
    order::{self, Answer, LAUNCHER_SOCKET, Order, Verb},
    unit_name,
};
use gha_runner_controller::units;
use lab::{Lab, LabConfig, Output, Place, Product, Recipe, Source, Template};

pub const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
pub const RUNNER: &str = "/opt/actions-runner/bin/Runner.Listener";
/// What is in the grant and must be nowhere else.
pub const SECRET: &str = "swordfish";
pub const CLASS: &str = "medium";
pub const PATIENCE: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_gha-runner-controller");

pub struct Host {
    pub lab: Lab,
}

/// What can be different about a host.
pub struct HostConfig {
    /// What runs in place of the runner; `say` prints a line with a time stamp.
    pub job: String,
    /// What the host's tree is made of.
    pub host: Recipe,
    /// What the job's tree is made of.
    pub tree: Recipe,
    /// Configuration lines before the tables.
    pub top: String,
    /// What is done in the host before the product is installed; `$template` is the template's path in it.
    pub setup: String,
    /// Keys of the one template.
    pub template: String,
    /// Keys of the one class, and tables after it.
    pub class: String,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            job: String::new(),
            host: Recipe::HOST,
            tree: Recipe::JOB,
            top: String::new(),
            setup: String::new(),
            template: String::new(),
            class: String::new(),
        }
    }
}

impl Host {
    /// A host whose containers run `job` in place of the runner.
    pub fn boot(job: &str) -> Option<Self> {
        Self::boot_with(&HostConfig { job: job.to_owned(), ..HostConfig::default() })
    }

    /// A host, if this machine can have one.
    pub fn boot_with(config: &HostConfig) -> Option<Self> {
        if let Some(reason) = lab::missing_requirement() {
            println!("skipped: {reason}");
            return None;
        }
        let lab = Lab::boot(LabConfig { host: config.host, job: config.tree, ..LabConfig::default() }).unwrap();
        let job = &config.job;
        let script = format!("#!/bin/bash\nsay() {{ echo \"$(date -u '+%Y-%m-%d %H:%M:%SZ'): $*\"; }}\n{job}\n");
        let template = Template::new().runner(Source::Bytes(script.into_bytes()));
        let template = lab.add_template(&template).unwrap();
        lab.shell(&format!("template={template}\n{}", config.setup)).unwrap();
        let config = format!(
            "{}token_file = \"/etc/token\"\n[[target]]\nrepo = \"octo-org/hello\"\n[[target]]\nrepo = \"octo-org/other\"\n\
             [template.default]\npath = \"{template}\"\n{}\n[class.{CLASS}]\n{}\n",
            config.top, config.template, config.class
        );
        lab.install_product(&Product::new(BINARY, config).with_file("/etc/token", "t", 0o400).stopped()).unwrap();
        let user = units::USER;
        lab.shell(&format!(
            "install -d -m 750 -o {user} -g {user} /run/{user} {HANDOVER_DIR}\n\
             systemctl start gha-runner-sweep.service gha-runner-firewall.service gha-runner-launcher.socket || {{ journalctl --namespace='*' -u 'gha-runner-*'; exit 1; }}"
        ))
        .unwrap();
        Some(Self { lab })
    }

    /// Hands a container over as the controller does.
    pub fn hand_over(&self, name: &str, subnet: u32) {
        self.hand_over_for("octo-org/hello", name, subnet);
    }

    /// The same for this scope.
    pub fn hand_over_for(&self, scope: &str, name: &str, subnet: u32) {
        let record = ContainerRecord {
            version: VERSION,
            name: name.parse().unwrap(),
            class: CLASS.into(),
            subnet: format!("192.168.{}.0/24", 100 + subnet).parse().unwrap(),
            scope: scope.into(),
            job_id: None,
            runner_name: format!("lab-{name}"),
            // By its last letter: containers a test wants to have no trust are j0000000x.
            allow_forks: name.ends_with('x'),
            set: false,
        };
        let files = [(".runner", "{}"), (".credentials", SECRET), (".credentials_rsaparams", "k")];
        let files: serde_json::Map<String, serde_json::Value> =
            files.map(|(file, text)| (file.to_owned(), BASE64_STANDARD.encode(text).into())).into_iter().collect();
        let encoded_jit_config = BASE64_STANDARD.encode(serde_json::to_vec(&files).unwrap());
        let grant = Grant::GithubJit { encoded_jit_config };
        let directory = format!("{HANDOVER_DIR}/{name}");
        let put =
            |file: &str, bytes: Vec<u8>| self.lab.write_host(&format!("{directory}/{file}"), &bytes, 0o600).unwrap();
        put(RECORD_FILE, serde_json::to_vec(&record).unwrap());
        put(GRANT_FILE, serde_json::to_vec(&grant).unwrap());
        self.lab.shell(&format!("chown -R {0}:{0} {directory}", units::USER)).unwrap();
    }

    pub fn as_controller(&self, command: &[&str]) -> Output {
        self.lab.exec_as(units::USER, command).unwrap()
    }

    /// Sends the launcher an order as the controller does, and gives its answer.
    pub fn order(&self, verb: Verb, name: &str) -> Answer {
        let order = Order { verb, class: CLASS.into(), name: name.parse().unwrap() };
        let line = String::from_utf8(order::line(&order)).unwrap();
        let output = self.lab.converse_as(units::USER, LAUNCHER_SOCKET, &line).unwrap().check().unwrap();
        order::parse(&output.stdout).unwrap()
    }

    /// Starts the container; returns when its unit is active or failed.
    pub fn start(&self, name: &str) -> Result<(), String> {
        let output = self.lab.exec(Place::Host, &["systemctl", "start", &unit(name)]).unwrap();
        if output.success() { Ok(()) } else { Err(format!("{}\n{}", output.errors(), self.journal(name))) }
    }

    /// Starts them all at once.
    pub fn start_all(&self, names: &[String]) {
        let units: Vec<String> = names.iter().map(|name| unit(name)).collect();
        let command: Vec<&str> =
            ["systemctl", "--no-block", "start"].into_iter().chain(units.iter().map(String::as_str)).collect();
        self.lab.exec(Place::Host, &command).unwrap().check().unwrap();
    }

    pub fn stop(&self, name: &str) {
        self.lab.exec(Place::Host, &["systemctl", "stop", &unit(name)]).unwrap().check().unwrap();
    }

    pub fn kill(&self, name: &str) {
        self.lab.shell(&format!("systemctl kill --signal=KILL {}", unit(name))).unwrap();
    }

    /// Makes every prepare fail after a step, or none if it is empty, as an operator could: by a drop-in.
    pub fn fail_after(&self, step: &str) {
        let directory = format!("/run/systemd/system/gha-runner-{CLASS}@.service.d");
        let script = if step.is_empty() {
            format!("rm -r {directory}")
        } else {
            format!(
                "mkdir -p {directory}; printf '[Service]\\nExecStartPre=\\nExecStartPre={PROGRAM} sandbox prepare \
                 --settings {} --class {CLASS} --fail-after {step} %%i\\n' > {directory}/fail.conf",
                units::SETTINGS_PATH
            )
        };
        self.lab.shell(&format!("{script}; systemctl daemon-reload")).unwrap();
    }

    /// Makes this the containers' only resolver.
    pub fn set_dns(&self, server: &str) {
        self.lab
            .shell(&format!(
                "printf '[network]\\ndns = [\"{server}\"]\\n' >> /etc/gha-runner-controller/config.toml\n\
                 {PROGRAM} units --config /etc/gha-runner-controller/config.toml --output /etc\n\
                 systemctl daemon-reload; systemctl reload gha-runner-firewall.service"
            ))
            .unwrap();
    }

    /// Boots containers from this tree from now on.
    pub fn set_template(&self, path: &str) {
        self.lab
            .shell(&format!(
                "sed -i 's|^path = .*|path = \"{path}\"|' /etc/gha-runner-controller/config.toml\n\
                 {PROGRAM} units --config /etc/gha-runner-controller/config.toml --output /etc\n\
                 systemctl daemon-reload"
            ))
            .unwrap();
    }

    pub fn prepare_by_hand(&self, name: &str, last_step: &str) -> Output {
        let settings = ["--settings", units::SETTINGS_PATH, "--class", CLASS, "--fail-after", last_step, name];
        let command: Vec<&str> = [PROGRAM, "sandbox", "prepare"].into_iter().chain(settings).collect();
        self.lab.exec(Place::Host, &command).unwrap()
    }

    /// Everything the guest says, to its end.
    pub fn story(&self, name: &str) -> Vec<Event> {
        let mut text = String::new();
        self.connect(name).read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the guest says `what`.
    pub fn wait_for(&self, name: &str, what: &What) {
        assert!(self.says(name, what), "{name} never said {what:?}:\n{}", self.journal(name));
    }

    /// Whether the guest says `what` before it ends.
    pub fn says(&self, name: &str, what: &What) -> bool {
        use std::io::{BufRead, BufReader};
        let Ok(stream) = self.try_connect(name) else { return false };
        BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .any(|line| serde_json::from_str::<Event>(&line).unwrap().what == *what)
    }

    fn connect(&self, name: &str) -> UnixStream {
        self.try_connect(name).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.journal(name)))
    }

    /// Once it listens; an error when the container is gone without that.
    fn try_connect(&self, name: &str) -> io::Result<UnixStream> {
        let path = self.lab.host_path(format!("{EVENTS_DIR}/{name}/{SOCKET_FILE}")).unwrap();
        let ending = self.lab.host_path(format!("{ENDINGS_DIR}/{name}.json")).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) if Instant::now() > deadline || ending.exists() => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// How the container ended; waits for it.
    pub fn ending(&self, name: &str) -> Ending {
        let path = self.lab.host_path(format!("{ENDINGS_DIR}/{name}.json")).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(&path) {
                let ending: Ending = serde_json::from_str(&text).unwrap();
                // The last word, and the unit gone as well.
                let gone = !self.lab.exec(Place::Host, &["systemctl", "status", &unit(name)]).unwrap().success();
                if gone && !ending.left_behind.iter().any(|left| left.contains("did not come to its end")) {
                    return ending;
                }
            }
            assert!(Instant::now() < deadline, "{name} did not end:\n{}", self.journal(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn journal(&self, name: &str) -> String {
        self.lab.journal(&unit(name)).unwrap()
    }
}

fn unit(name: &str) -> String {
    unit_name::container_unit(CLASS, &name.parse().unwrap())
}
