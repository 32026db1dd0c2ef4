//! The lab with the product on it, stand-ins in every place, a neighbouring job, and secrets to be found.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use breakout::{Found, Outcome, parse, targets};
use contract::{ContainerRecord, ENDINGS_DIR, GRANT_FILE, Grant, HANDOVER_DIR, RECORD_FILE, VERSION, unit_name};
use gha_runner_controller::units;
use lab::{Lab, LabConfig, Place, Product, Running, Source, Template};

/// The product; `make build` puts the probe beside it.
const PROGRAM: &str = env!("CARGO_BIN_EXE_gha-runner-controller");
const INSIDE: &str = "/usr/local/bin/breakout-probe";
const HEARD: &str = "/var/tmp/heard";
/// Where the unfenced container lies.
const OPEN: &str = "/var/lib/gha-breakout-open";
/// What of the host it is shown.
const SHOWN: [&str; 10] = [
    "/etc/gha-runner-controller",
    "/run/credentials",
    "/run/dbus",
    "/run/gha-runner-controller",
    "/run/gha-runner-events",
    "/run/gha-runner-sandbox",
    "/run/log/journal",
    "/srv/templates",
    "/var/lib/gha-runner-sandbox",
    "/var/log/journal",
];
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a stand-in may take to hear what a probe sent.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

pub struct House {
    lab: Lab,
    template: String,
    _stand_ins: Vec<Running>,
}

impl House {
    pub fn open() -> Option<Self> {
        if let Some(reason) = lab::missing_requirement() {
            println!("skipped: {reason}");
            return None;
        }
        let lab = Lab::boot(LabConfig { exec_timeout: Duration::from_secs(300), ..LabConfig::default() }).unwrap();
        let template = install(&lab);
        let stand_ins = stand_ins(&lab);
        plant(&lab);
        let house = Self { lab, template, _stand_ins: stand_ins };
        house.hand_over(targets::NEIGHBOUR_CLASS, targets::NEIGHBOUR, 0);
        house.start(targets::NEIGHBOUR_CLASS, targets::NEIGHBOUR);
        house.assert_unharmed("at first");
        Some(house)
    }

    /// What the probes find in a container of this class.
    pub fn try_in(&self, class: &str, name: &str, subnet: u32) -> BTreeMap<String, Found> {
        self.hand_over(class, name, subnet);
        self.start(class, name);
        let ending = self.lab.host_path(format!("{ENDINGS_DIR}/{name}.json")).unwrap();
        let unit = unit(class, name);
        wait(&format!("the end of {name}"), || {
            let text = fs::read_to_string(&ending).unwrap_or_default();
            text.contains("\"left_behind\":[]")
                && !self.lab.exec(Place::Host, &["systemctl", "status", &unit]).unwrap().success()
        });
        self.judge(&self.lab.journal(&unit).unwrap())
    }

    /// What they find in a container that nothing was done to fence: systemd-nspawn with every privilege, none of its
    /// own namespaces but that of mounts, no filter, and the host's directories bound into it.
    pub fn try_in_unfenced_container(&self) -> BTreeMap<String, Found> {
        let binds: String = SHOWN.iter().map(|path| format!(" --bind={path}")).collect();
        let script = format!(
            "mkdir -p {OPEN}/upper {OPEN}/work {OPEN}/root
             mount -t overlay overlay -o lowerdir={template},upperdir={OPEN}/upper,workdir={OPEN}/work {OPEN}/root
             mkdir -p /run/log/journal /var/log/journal
             systemd-run --quiet --wait --unit=gha-breakout-open --property=Delegate=yes \
                 --setenv=SYSTEMD_SECCOMP=0 --setenv=SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes \
                 --setenv=SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 --setenv=SYSTEMD_NSPAWN_USE_CGNS=0 \
                 --setenv=SYSTEMD_NSPAWN_SHARE_NS_IPC=1 --setenv=SYSTEMD_NSPAWN_SHARE_NS_PID=1 \
                 --setenv=SYSTEMD_NSPAWN_SHARE_NS_UTS=1 \
                 systemd-nspawn --quiet --keep-unit --register=no --settings=no --directory={OPEN}/root \
                     --capability=all --link-journal=no --resolv-conf=off --console=pipe{binds} \
                     prlimit --nofile=4096 {INSIDE} try unfenced
             umount {OPEN}/root; rm -rf {OPEN}",
            template = self.template,
        );
        self.lab.shell(&script).unwrap();
        let found = self.judge(&self.lab.journal("gha-breakout-open.service").unwrap());
        self.lab.shell("systemctl stop gha-breakout-target.service").unwrap();
        found
    }

    /// What these find as a service of the host: a container with nothing but its control group left.
    pub fn try_as_a_service(&self, probes: &[&str]) -> BTreeMap<String, Found> {
        let run = [&["prlimit", "--nofile=4096", INSIDE, "try", "service"], probes].concat();
        let found = self.judge(&self.lab.exec(Place::Host, &run).unwrap().check().unwrap().text());
        self.lab.shell("systemctl stop gha-breakout-target.service").unwrap();
        found
    }

    fn judge(&self, lines: &str) -> BTreeMap<String, Found> {
        let mut found: BTreeMap<String, Found> = lines.lines().filter_map(parse).collect();
        // What was sent last may still be on its way.
        let deadline = Instant::now() + ON_ITS_WAY;
        loop {
            let heard = self.heard();
            let mut unheard = false;
            for found in found.values_mut() {
                match &found.outcome {
                    Outcome::Witness(word) if heard.contains(word.as_str()) => found.outcome = Outcome::Succeeded,
                    Outcome::Witness(_) => unheard = true,
                    _ => (),
                }
            }
            if !unheard || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for found in found.values_mut().filter(|found| matches!(found.outcome, Outcome::Witness(_))) {
            found.outcome = Outcome::Refused;
        }
        found
    }

    /// Everything that any stand-in or the host's mount table knows, or a table of neighbours ever held.
    fn heard(&self) -> String {
        let places = Place::ALL.iter().copied();
        let logs = places.flat_map(|place| [self.log_of(place), self.neighbours_of(place)]);
        let logs = logs.map(|log| fs::read_to_string(log).unwrap_or_default());
        let host =
            format!("cat {HEARD} /proc/1/mountinfo /var/lib/gha-runner-sandbox/{}/root/var/heard", targets::NEIGHBOUR);
        logs.chain([self.lab.shell(&host).unwrap()]).collect()
    }

    /// The neighbouring job runs, is still heard and still served, and so is the host.
    pub fn assert_unharmed(&self, when: &str) {
        let beats =
            || fs::read_to_string(self.log_of(Place::Internet)).unwrap_or_default().matches(targets::HEARTBEAT).count();
        let before = beats();
        wait(&format!("a sign of life of the neighbour {when}"), || beats() > before + 2);
        let unit = unit(targets::NEIGHBOUR_CLASS, targets::NEIGHBOUR);
        let state = |unit: &str| self.lab.exec(Place::Host, &["systemctl", "is-active", unit]).unwrap().text();
        assert_eq!(state(&unit), "active", "{when}");
        assert_eq!(state("gha-breakout-target.service"), "inactive", "{when}");
        for address in [targets::NEIGHBOUR_ADDRESS, Place::Host.address(), Place::Lan.address()] {
            let ask = format!("exec 3<>/dev/tcp/{address}/80; head -c 4 <&3");
            let answer = self.lab.exec(Place::Host, &["timeout", "5", "bash", "-c", &ask]).unwrap();
            assert_eq!(answer.text(), "at y", "{address} {when}");
        }
        self.lab.shell(&format!("test -e {} && pgrep -x {}", targets::MARKER, targets::VICTIM)).unwrap();
    }

    fn log_of(&self, place: Place) -> std::path::PathBuf {
        self.lab.shared().join(format!("{place}.heard"))
    }

    /// What the lab's own programs there print.
    fn neighbours_of(&self, place: Place) -> std::path::PathBuf {
        self.lab.shared().join(format!("{place}.log"))
    }

    fn hand_over(&self, class: &str, name: &str, subnet: u32) {
        let record = ContainerRecord {
            version: VERSION,
            name: name.parse().unwrap(),
            class: class.into(),
            subnet: format!("192.168.{}.0/24", 100 + subnet).parse().unwrap(),
            scope: "octo-org/hello".into(),
            job_id: None,
            runner_name: format!("lab-{name}"),
            allow_forks: false,
            set: false,
        };
        let files = format!("{{\".runner\":\"{}\"}}", BASE64_STANDARD.encode("{}"));
        let grant = Grant::GithubJit { encoded_jit_config: BASE64_STANDARD.encode(files) };
        let directory = format!("{HANDOVER_DIR}/{name}");
        let put =
            |file: &str, bytes: Vec<u8>| self.lab.write_host(&format!("{directory}/{file}"), &bytes, 0o600).unwrap();
        put(RECORD_FILE, serde_json::to_vec(&record).unwrap());
        put(GRANT_FILE, serde_json::to_vec(&grant).unwrap());
        self.lab.shell(&format!("chown -R {0}:{0} {directory}", units::USER)).unwrap();
    }

    fn start(&self, class: &str, name: &str) {
        let unit = unit(class, name);
        let started = self.lab.exec(Place::Host, &["systemctl", "start", &unit]).unwrap();
        assert!(started.success(), "{}", self.lab.journal(&unit).unwrap());
    }
}

fn unit(class: &str, name: &str) -> String {
    unit_name::container_unit(class, &name.parse().unwrap())
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Installs the product; gives the template's path in the host.
fn install(lab: &Lab) -> String {
    let program = PathBuf::from(PROGRAM);
    let runner = format!(
        "#!/bin/sh\ncase $(hostname) in {}) exec sudo {INSIDE} neighbour;; *) sudo {INSIDE} try $(hostname);; esac\n",
        targets::NEIGHBOUR
    );
    let template =
        Template::new().runner(Source::Bytes(runner.into_bytes())).file(INSIDE, Source::File(probe()), 0o755);
    let template = lab.add_template(&template).unwrap();
    let config = format!(
        "token_file = \"{token}\"\n[[target]]\nrepo = \"octo-org/hello\"\n[class.medium]\ndisk = \"64M\"\nservices = [\"registry\"]\n\
         [class.root]\nprivileged = true\nservices = [\"registry\"]\n[service.registry]\naddress = \"127.0.0.1:5000\"\n\
         [template.default]\npath = \"{template}\"\n[network]\ndns = [\"{lan}\"]\ndeny = [\"{forge}\"]\n\
         connections = {connections}\n",
        token = targets::SECRET_FILES[0].1,
        lan = Place::Lan.address(),
        forge = Place::Forge.address(),
        connections = targets::CONNECTIONS,
    );
    let product = Product::new(program, config).with_file(targets::SECRET_FILES[0].1, targets::SECRET, 0o400).stopped();
    lab.install_product(&product).unwrap();
    lab.write_host(INSIDE, &fs::read(probe()).unwrap(), 0o755).unwrap();
    let user = units::USER;
    lab.shell(&format!(
        "install -d -m 750 -o {user} -g {user} /run/{user} {HANDOVER_DIR}
         systemctl start gha-runner-sweep.service gha-runner-firewall.service"
    ))
    .unwrap();
    template
}

fn stand_ins(lab: &Lab) -> Vec<Running> {
    lab.exec(Place::Host, &["ip", "-6", "address", "add", "fd50::2/64", "dev", "eth0", "nodad"]).unwrap();
    lab.exec(Place::Lan, &["ip", "-6", "address", "add", "fd50::10/64", "dev", "eth0", "nodad"]).unwrap();
    let shared = lab.shared();
    let serve = |place: Place| {
        let log = shared.join(format!("{place}.heard")).display().to_string();
        lab.spawn_in(place, &[probe().to_str().unwrap(), "serve", &log]).unwrap()
    };
    // An entry of such a table is gone after a minute, and the probes take longer.
    let watch = |place: Place| lab.spawn_in(place, &["ip", "monitor", "neigh"]).unwrap();
    let places = Place::ALL.iter().copied();
    let elsewhere = places.clone().filter(|place| *place != Place::Host).map(serve);
    let host = lab.spawn_in(Place::Host, &[INSIDE, "host", HEARD]).unwrap();
    elsewhere.chain(places.map(watch)).chain([host]).collect()
}

fn plant(lab: &Lab) {
    for (_, path) in &targets::SECRET_FILES[1..] {
        lab.write_host(path, targets::SECRET.as_bytes(), 0o600).unwrap();
    }
    lab.write_host(targets::MARKER, b"", 0o644).unwrap();
    let target = "[Service]\nExecStart=/bin/sleep 1000\n";
    lab.write_host("/etc/systemd/system/gha-breakout-target.service", target.as_bytes(), 0o644).unwrap();
    lab.shell(&format!(
        "echo {secret} | systemd-cat; journalctl --sync; systemctl daemon-reload
         cp /bin/sleep /usr/local/bin/{victim}; systemd-run --quiet --unit=victim /usr/local/bin/{victim} 10000",
        secret = targets::SECRET,
        victim = targets::VICTIM,
    ))
    .unwrap();
}

fn probe() -> PathBuf {
    PathBuf::from(PROGRAM).with_file_name("breakout-probe")
}
