//! The lab as a whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    cache::Cache,
    cgroup::Cgroup,
    exec::{Output, Running},
    host::Host,
    inventory::Inventory,
    network::Network,
    place::Place,
    product::Product,
    recipe::Recipe,
    shelf::Kept,
    suite::Suite,
    supervisor::Supervisor,
    template::Template,
    tree::Tree,
    workdir::Workdir,
};

/// What can be different about a lab.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// How long the host may take to boot or to shut down.
    pub boot_timeout: Duration,
    /// How long a program run by [`Lab::exec`] may take.
    pub exec_timeout: Duration,
    /// What the host's tree is made of. If that names no release, `$GHA_LAB_SUITE` does.
    pub host: Recipe,
    /// What job templates are made of.
    pub job: Recipe,
    /// Whether the lab's directory stays after it, for a person to look into, until the next lab boots.
    pub keep: bool,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            boot_timeout: Duration::from_secs(60),
            exec_timeout: Duration::from_secs(60),
            host: Recipe::HOST,
            job: Recipe::JOB,
            keep: std::env::var_os("GHA_LAB_KEEP").is_some(),
        }
    }
}

/// A running lab. Dropping it ends and removes all of it; so does the end of this process.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the host's parent is waited for after its world has ended.
    supervisor: Supervisor,
    host: Option<Host>,
    workdir: Workdir,
    cgroup: Cgroup,
    cache: Cache,
    _host_tree: Tree,
    job_tree: Tree,
    templates: Mutex<Vec<Kept>>,
    config: LabConfig,
}

impl Lab {
    /// Boots a lab. The first on a machine builds the trees, which takes a minute.
    pub fn boot(config: LabConfig) -> Result<Self> {
        if let Some(reason) = crate::requirements::missing_requirement() {
            bail!("{reason}");
        }
        let cache = Cache::open()?;
        let host_tree = Tree::ensure(&cache, &config.host.or(Suite::of_hosts()?))?;
        let job_tree = Tree::ensure(&cache, &config.job)?;
        let (workdir, lock) = Workdir::create(&cache)?;
        let cgroup = lay_out(&workdir, &host_tree)?;
        let supervisor = Supervisor::start(workdir.path(), config.keep)?;
        drop(lock);
        let mut lab = Self {
            supervisor,
            host: None,
            workdir,
            cgroup,
            cache,
            _host_tree: host_tree,
            job_tree,
            templates: Mutex::default(),
            config,
        };
        lab.start_host()?;
        Ok(lab)
    }

    /// Runs a program in a place and waits for it. Failing is the program's right: see [`Output::check`].
    pub fn exec<S: AsRef<OsStr>>(&self, place: Place, arguments: &[S]) -> Result<Output> {
        self.exec_with_input(place, arguments, &[])
    }

    /// Runs a program in a place with this standard input.
    pub fn exec_with_input<S: AsRef<OsStr>>(&self, place: Place, arguments: &[S], input: &[u8]) -> Result<Output> {
        let command = crate::exec::entering(&self.namespaces(place)?, &[], arguments);
        crate::exec::run(command, input, self.config.exec_timeout)
    }

    /// Runs a program in the host as one of its users.
    pub fn exec_as<S: AsRef<OsStr>>(&self, user: &str, arguments: &[S]) -> Result<Output> {
        let group = self.exec(Place::Host, &["id", "--group", user])?.check()?.text();
        let privileges = [format!("--reuid={user}").into(), format!("--regid={group}").into(), "--init-groups".into()];
        let command = crate::exec::entering(&self.namespaces(Place::Host)?, &privileges, arguments);
        crate::exec::run(command, &[], self.config.exec_timeout)
    }

    /// Connects to a Unix socket of the host as one of its users, writes these bytes, and gives what is answered until
    /// the other side closes; not being let in is a failure of the program.
    pub fn converse_as(&self, user: &str, socket: &str, bytes: &str) -> Result<Output> {
        const TALK: &str = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"$!\\n\"; \
                            $s->autoflush(1); print $s $ARGV[1]; print while <$s>";
        self.exec_as(user, &["timeout", "30", "perl", "-e", TALK, socket, bytes])
    }

    /// Runs a shell command line in the host and returns what it printed; its failure is an error.
    pub fn shell(&self, script: &str) -> Result<String> {
        Ok(self.exec(Place::Host, &["sh", "-euc", script])?.check()?.text())
    }

    /// Starts a program in a place and lets it run. What it prints goes to a file in [`Lab::shared`].
    pub fn spawn_in<S: AsRef<OsStr>>(&self, place: Place, arguments: &[S]) -> Result<Running> {
        let log = File::options().create(true).append(true).open(self.shared().join(format!("{place}.log")))?;
        let mut command = self.command_in(place, arguments)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start nsenter")?;
        Ok(Running::new(child))
    }

    /// The command that runs a program in a place, for callers who want its pipes or their own way of waiting. The
    /// program gets none of this process's environment, and is killed when the command's process is.
    pub fn command_in<S: AsRef<OsStr>>(&self, place: Place, arguments: &[S]) -> Result<Command> {
        Ok(crate::exec::entering(&self.namespaces(place)?, &[], arguments))
    }

    /// A directory for sockets and files between this process and programs in all places but the host.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.workdir.path().join("shared")
    }

    /// Makes a job template, unless it was made before, and returns its path in the host, where it is read-only.
    pub fn add_template(&self, template: &Template) -> Result<String> {
        let kept = template.ensure(&self.cache, self.job_tree.path())?;
        let name = kept.path().file_name().unwrap_or_default().to_owned();
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        Ok(format!("/srv/templates/{}", name.display()))
    }

    /// Installs the product in the host.
    pub fn install_product(&self, product: &Product) -> Result<()> {
        product.install(self)
    }

    /// Writes a file of the host, making its parents; a file that was there is replaced.
    pub fn write_host(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let mode = format!("--mode={mode:o}");
        let arguments = ["install", "-D", &mode, "--", "/dev/stdin", path];
        self.exec_with_input(Place::Host, &arguments, bytes)?.check()?;
        Ok(())
    }

    /// Reads a file of the host.
    pub fn read_host(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.exec(Place::Host, &["cat", "--", path])?.check()?.stdout)
    }

    /// The host's process 1, as this process sees it.
    pub fn host_pid(&self) -> Result<u32> {
        self.host.as_ref().map(Host::pid).context("the host is switched off")
    }

    /// A path of the host as this process reaches it. An absolute symbolic link on the way would lead into this
    /// machine instead: only for paths without one.
    pub fn host_path(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.host_pid()?));
        Ok(root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// What a unit of the host has written to the journal, to the last line: journald is asked to take in first what
    /// still waits for it.
    pub fn journal(&self, unit: &str) -> Result<String> {
        // Each instance by itself, and not all have been started.
        let sync = "for of in '' /run/systemd/journal.*/io.systemd.journal; do of=${of%/*}
                    [ -n \"$of\" -a ! -e \"$of\" ] || journalctl ${of:+--namespace=${of#*.}} --sync; done";
        self.exec(Place::Host, &["sh", "-c", sync])?;
        let arguments =
            ["journalctl", "--namespace=*", "--no-pager", "--quiet", "--output=short-precise", "--unit", unit];
        Ok(self.exec(Place::Host, &arguments)?.check()?.text())
    }

    /// What there is in the host that the product could have left: compare with [`Inventory::since`].
    pub fn leftovers(&self) -> Result<Inventory> {
        Inventory::take(self)
    }

    /// What the host's consoles have said since the lab's start.
    #[must_use]
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.workdir.path().join("host.log")).unwrap_or_default()
    }

    /// Reboots the host, as an operator would: services are stopped, the disk stays, `/run` does not.
    pub fn reboot_host(&mut self) -> Result<()> {
        self.shut_down("reboot")?;
        self.start_host()
    }

    /// Shuts the host down and leaves it off.
    pub fn poweroff(&mut self) -> Result<()> {
        self.shut_down("poweroff")
    }

    /// Takes the host's power away: nothing in it gets to say a word. It stays off.
    pub fn pull_the_plug(&mut self) -> Result<()> {
        let pid = self.host_pid()?;
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("not a process number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        self.wait_off()
    }

    /// Switches a host on that is off.
    pub fn start_host(&mut self) -> Result<()> {
        if self.host.is_some() {
            bail!("the host is on");
        }
        self.host = Some(Host::boot(
            self.workdir.path(),
            self.supervisor.pid(),
            &self.cgroup.unified,
            &self.cache.templates(),
            self.config.boot_timeout,
        )?);
        Ok(())
    }

    /// The process outside the lab that cleans up after it: with it gone too, the next lab's boot does.
    #[must_use]
    pub fn cleaner_pid(&self) -> u32 {
        self.supervisor.cleaner()
    }

    fn shut_down(&mut self, how: &str) -> Result<()> {
        // The command itself may be killed by what it asks for.
        self.exec(Place::Host, &["systemctl", "--no-block", how])?;
        self.wait_off()
    }

    fn wait_off(&mut self) -> Result<()> {
        let timeout = self.config.boot_timeout;
        self.host.as_mut().context("the host is switched off")?.wait(timeout)?;
        self.host = None;
        Ok(())
    }

    /// The network of a place, for sockets of this process.
    pub fn network(&self, place: Place) -> Result<Network> {
        let world = self.supervisor.pid();
        let path = match (place, place.namespace()) {
            (Place::Host, _) => format!("/proc/{}/ns/net", self.host_pid()?),
            (_, None) => format!("/proc/{world}/ns/net"),
            (_, Some(name)) => format!("/proc/{world}/root/run/netns/{name}"),
        };
        Network::open(path.as_ref())
    }

    /// The options of nsenter that lead into a place.
    fn namespaces(&self, place: Place) -> Result<Vec<OsString>> {
        let world = self.supervisor.pid();
        let words: Vec<OsString> = match place {
            Place::Host => ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
                .map(OsString::from)
                .into_iter()
                .chain([format!("--target={}", self.host_pid()?).into()])
                .collect(),
            _ => {
                let network = place.namespace().map_or_else(
                    || format!("--net=/proc/{world}/ns/net"),
                    |name| format!("--net=/proc/{world}/root/run/netns/{name}"),
                );
                vec![format!("--target={world}").into(), "--mount".into(), "--pid".into(), network.into()]
            }
        };
        Ok(words)
    }
}

/// Lays the host's disk out: everything but `/var` is an overlay on the cached tree, and `/var` is a copy, because
/// overlays of containers cannot lie on an overlay.
fn lay_out(workdir: &Workdir, host_tree: &Tree) -> Result<Cgroup> {
    let host = workdir.path().join("host");
    std::os::unix::fs::symlink(host_tree.path(), host.join("tree"))?;
    let status = Command::new("cp")
        .args(["--archive", "--no-target-directory"])
        .arg(host_tree.path().join("var"))
        .arg(host.join("var"))
        .status()?;
    if !status.success() {
        bail!("cannot copy the host's /var");
    }
    let cgroup = Cgroup::create(&format!("gha-lab-{}", workdir.name()))?;
    let groups: String = cgroup.all.iter().map(|group| format!("{}\n", group.display())).collect();
    std::fs::write(workdir.path().join("cgroups"), groups)?;
    Ok(cgroup)
}
