//! The containers of a job: GitHub's runner has no library for them, it runs the program `docker`. These are its command
//! lines in its order, as its log shows them (docs/github.md#jobs-with-containers).

use super::{End, Record, Running, wished};
use crate::{pages::uuid, root::Root, shell, worker::Wish};
use github_sim::{jit, runner_service::JobMessage, world::Container};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The oldest API that will do.
const OLDEST_API: (u32, u32) = (1, 35);
const PULLS: u32 = 3;
/// Between two pulls. The real one takes up to ten times as long.
const AFTER_PULL: Duration = Duration::from_secs(1);
/// How long a service has before it is asked the first time how it is; then twice as long each time.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const MOST_PATIENCE: Duration = Duration::from_secs(32);
/// How often a service is asked that does not get ready. The real one relies on Docker to give up.
const ASKS: u32 = 8;

/// What a job has of Docker.
pub(super) struct Containers {
    root: PathBuf,
    work: PathBuf,
    /// On everything that is made for this registration.
    label: String,
    network: Option<String>,
    made: Vec<Made>,
}

/// A container that was made.
struct Made {
    id: String,
    name: String,
    /// None for the job's own.
    service: Option<String>,
}

/// Why the containers are not there.
enum Stop {
    Failed(String),
    /// Something else is wanted.
    Ended(End),
}

impl Containers {
    pub(super) fn new(root: &Root, work: &Path) -> Self {
        let hash = Sha256::digest(std::fs::read(root.path(jit::RUNNER)).unwrap_or_default());
        Self {
            root: root.path(""),
            work: work.to_owned(),
            label: hex::encode(hash)[..6].to_owned(),
            network: None,
            made: Vec::new(),
        }
    }

    /// What of the runner a job's container sees, and where.
    fn mounts(&self) -> [(PathBuf, &'static str); 7] {
        [
            (self.work.clone(), "/__w"),
            (self.root.join("externals"), "/__e"),
            (self.work.join("_temp"), "/__w/_temp"),
            (self.work.join("_actions"), "/__w/_actions"),
            (self.work.join("_tool"), "/__w/_tool"),
            (self.work.join("_temp/_github_home"), "/github/home"),
            (self.work.join("_temp/_github_workflow"), "/github/workflow"),
        ]
    }

    /// A path of the runner as it is inside; anything else as it is.
    fn inside(&self, path: &str) -> String {
        let inside = |(from, to): &(PathBuf, &str)| {
            let rest = Path::new(path).strip_prefix(from).ok()?;
            Some(Path::new(to).join(rest).to_string_lossy().trim_end_matches('/').to_owned())
        };
        // The later, the deeper.
        self.mounts().iter().rev().find_map(inside).unwrap_or_else(|| path.to_owned())
    }
}

impl Running {
    /// The shell of a step in the job's container.
    pub(super) fn in_container(&self, script: &Path) -> Option<Command> {
        let containers = &self.containers;
        let job = containers.made.iter().find(|made| made.service.is_none())?;
        let docker = shell::find("docker", &self.environment)?;
        let mut command = shell::command(&docker, &containers.work, &self.environment);
        let inside = |path: &Path| containers.inside(&path.to_string_lossy());
        command.args(["exec", "-i", "--workdir", &inside(&self.workspace)]);
        for (name, value) in &self.variables {
            // By name, so that no value is in the list of processes.
            command.args(["-e", name]).env(name, containers.inside(value));
        }
        command.args([&job.id, "sh", "-e", &inside(script)]);
        Some(command)
    }

    pub(super) async fn start_containers(&mut self, job: &JobMessage) -> End {
        let mut record = self.begin(&uuid(), "Initialize containers").await;
        match self.start_all(&mut record, job).await {
            Ok(()) => self.end(record, End::Exit(0)).await,
            Err(Stop::Ended(end)) => self.end(record, end).await,
            Err(Stop::Failed(reason)) => {
                self.line(&mut record, &format!("##[error]{reason}")).await;
                self.end_saying(record, End::Exit(1), Some(reason)).await
            }
        }
    }

    /// What was made goes; volumes stay. Failures are only noted.
    pub(super) async fn stop_containers(&mut self) {
        let Some(network) = self.containers.network.take() else { return };
        let mut record = self.begin(&uuid(), "Stop containers").await;
        for made in std::mem::take(&mut self.containers.made) {
            if made.service.is_some() {
                self.line(&mut record, &format!("Print service container logs: {}", made.name)).await;
                self.leave(&mut record, &format!("logs --details {}", made.id)).await;
            }
            self.line(&mut record, &format!("Stop and remove container: {}", made.name)).await;
            self.leave(&mut record, &format!("rm --force {}", made.id)).await;
        }
        self.line(&mut record, &format!("Remove container network: {network}")).await;
        self.leave(&mut record, &format!("network rm {network}")).await;
        self.end(record, End::Exit(0)).await;
    }

    async fn leave(&mut self, record: &mut Record, arguments: &str) {
        if let Ok((code @ 1.., _)) = self.docker(record, arguments).await {
            self.line(record, &format!("##[warning]Docker {arguments} fail with exit code {code}")).await;
        }
    }

    async fn start_all(&mut self, record: &mut Record, job: &JobMessage) -> Result<(), Stop> {
        self.line(record, "##[group]Checking docker version").await;
        for side in ["Server", "Client"] {
            // The apostrophes reach docker, which prints them.
            let printed = self.docker_well(record, &format!("version --format '{{{{.{side}.APIVersion}}}}'")).await?;
            let version = printed.iter().find_map(|line| api_version(line));
            if version.is_none_or(|version| version < OLDEST_API) {
                return Err(Stop::Failed(format!("Min required docker engine API {side} version is '1.35'")));
            }
        }
        self.line(record, "##[endgroup]").await;
        let label = self.containers.label.clone();
        self.line(record, "##[group]Clean up resources from previous jobs").await;
        let stale = format!("ps --all --quiet --no-trunc --filter \"label={label}\"");
        for id in self.docker_well(record, &stale).await? {
            self.docker(record, &format!("rm --force {id}")).await?;
        }
        self.docker(record, &format!("network prune --force --filter \"label={label}\"")).await?;
        self.line(record, "##[endgroup]").await;
        self.line(record, "##[group]Create local container network").await;
        let network = format!("github_network_{}", uuid().replace('-', ""));
        match self.docker(record, &format!("network create --label {label} {network}")).await? {
            (0, _) => self.containers.network = Some(network.clone()),
            (code, _) => return Err(Stop::Failed(format!("Docker network create failed with exit code {code}"))),
        }
        self.line(record, "##[endgroup]").await;
        let services = job.services.iter().map(|(name, container)| (Some(name.as_str()), container));
        for (service, container) in job.container.iter().map(|container| (None, container)).chain(services) {
            self.start(record, service, container, &network).await?;
        }
        self.line(record, "##[group]Waiting for all services to be ready").await;
        let services: Vec<(String, String)> =
            self.containers.made.iter().filter_map(|made| Some((made.service.clone()?, made.id.clone()))).collect();
        for (service, id) in services {
            self.wait_until_healthy(record, &service, &id).await?;
        }
        self.line(record, "##[endgroup]").await;
        Ok(())
    }

    async fn start(
        &mut self,
        record: &mut Record,
        service: Option<&str>,
        container: &Container,
        network: &str,
    ) -> Result<(), Stop> {
        let what = service.map_or("job container".to_owned(), |name| format!("{name} service container"));
        self.line(record, &format!("##[group]Starting {what}")).await;
        self.pull(record, &container.image).await?;
        for (directory, _) in self.containers.mounts() {
            // Docker would make them for root.
            let _ = std::fs::create_dir_all(directory);
        }
        let image: String = container.image.chars().filter(char::is_ascii_alphanumeric).collect();
        let name = format!("{}_{image}_{}", uuid().replace('-', ""), &uuid()[..6]);
        let create = self.create(service, container, &name, network);
        // Docker's warnings come along.
        let printed = self.docker_well(record, &create).await?;
        let is_id = |line: &&String| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id =
            printed.iter().find(is_id).ok_or_else(|| Stop::Failed("docker create gives no id".to_owned()))?.clone();
        self.containers.made.push(Made { id: id.clone(), name, service: service.map(ToOwned::to_owned) });
        if let (code @ 1.., _) = self.docker(record, &format!("start {id}")).await? {
            return Err(Stop::Failed(format!("Docker start fail with exit code {code}")));
        }
        let (of, format) = (format!("ps --all --filter id={id}"), "--no-trunc --format \"{{.ID}} {{.Status}}\"");
        let runs = self.docker_well(record, &format!("{of} --filter status=running {format}")).await?;
        if !runs.iter().any(|line| line.starts_with(&id)) {
            self.docker(record, &format!("{of} {format}")).await?;
            self.docker(record, &format!("logs --details {id}")).await?;
            self.line(record, &format!("##[warning]Docker container {id} is not in running state.")).await;
        }
        let ask = match service {
            Some(_) => format!("port {id}"),
            None => format!("inspect --format \"{{{{range .Config.Env}}}}{{{{println .}}}}{{{{end}}}}\" {id}"),
        };
        self.docker_well(record, &ask).await?;
        self.line(record, "##[endgroup]").await;
        Ok(())
    }

    /// Also of an image that is there.
    async fn pull(&mut self, record: &mut Record, image: &str) -> Result<(), Stop> {
        for pull in 1.. {
            let (code, _) = self.docker(record, &format!("pull {image}")).await?;
            if code == 0 {
                break;
            }
            let failed = format!("Docker pull failed with exit code {code}");
            if pull == PULLS {
                return Err(Stop::Failed(failed));
            }
            let pause = format!("##[warning]{failed}, back off {} seconds before retry.", AFTER_PULL.as_secs());
            self.line(record, &pause).await;
            self.pause(AFTER_PULL).await?;
        }
        Ok(())
    }

    /// The arguments that make a container.
    fn create(&self, service: Option<&str>, container: &Container, name: &str, network: &str) -> String {
        let containers = &self.containers;
        let mut arguments = format!("create --name {name} --label {}", containers.label);
        if service.is_none() {
            let workspace = containers.inside(&self.workspace.to_string_lossy());
            arguments += &format!(" --workdir {workspace}");
        }
        arguments += &format!(" --network {network}");
        if let Some(alias) = service {
            arguments += &format!(" --network-alias {alias}");
        }
        arguments.extend(container.ports.iter().map(|port| format!(" -p {port}")));
        arguments += &format!(" {}", container.options);
        let mut env: BTreeMap<&str, &str> = container.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        if service.is_none() {
            env.insert("HOME", "/github/home");
        }
        arguments.extend(env.iter().map(|(name, value)| format!(" -e \"{name}={}\"", value.replace('"', "\\\""))));
        arguments += " -e GITHUB_ACTIONS=true";
        if !env.contains_key("CI") {
            arguments += " -e CI=true";
        }
        if service.is_none() {
            arguments += " -v \"/var/run/docker.sock\":\"/var/run/docker.sock\"";
        }
        arguments.extend(container.volumes.iter().map(|volume| format!(" -v \"{volume}\"")));
        if service.is_none() {
            for (from, to) in containers.mounts() {
                let mode = if to == "/__e" { ":ro" } else { "" };
                arguments += &format!(" -v \"{}\":\"{to}\"{mode}", from.display());
            }
            arguments += " --entrypoint \"tail\"";
        }
        arguments += &format!(" {}", container.image);
        if service.is_none() {
            arguments += " \"-f\" \"/dev/null\"";
        }
        arguments
    }

    async fn wait_until_healthy(&mut self, record: &mut Record, service: &str, id: &str) -> Result<(), Stop> {
        let ask = format!(
            "inspect --format=\"{{{{if .Config.Healthcheck}}}}{{{{print .State.Health.Status}}}}{{{{end}}}}\" {id}"
        );
        let mut patience = FIRST_PATIENCE;
        for _ in 0..ASKS {
            let health = self.docker_well(record, &ask).await?.into_iter().find(|line| !line.is_empty());
            match health.as_deref() {
                // It has no check.
                None => return Ok(()),
                Some("healthy") => {
                    self.line(record, &format!("{service} service is healthy.")).await;
                    return Ok(());
                }
                Some("starting") => {}
                Some(other) => {
                    return Err(Stop::Failed(format!("Failed to initialize, {service} service is {other}.")));
                }
            }
            let seconds = patience.as_secs();
            let waiting = format!("{service} service is starting, waiting {seconds} seconds before checking again.");
            self.line(record, &waiting).await;
            self.pause(patience).await?;
            patience = (patience * 2).min(MOST_PATIENCE);
        }
        Err(Stop::Failed(format!("Failed to initialize, {service} service is starting.")))
    }

    /// Waits, unless something else is wanted.
    async fn pause(&mut self, pause: Duration) -> Result<(), Stop> {
        let mut wish = self.wish.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            wish = wished(&mut wish), if !self.cancelled => {
                self.cancelled = true;
                Err(Stop::Ended(if wish == Wish::Shutdown { End::Shutdown } else { End::Cancelled }))
            }
        }
    }

    /// Runs `docker` with these arguments, which must succeed, and gives its lines.
    async fn docker_well(&mut self, record: &mut Record, arguments: &str) -> Result<Vec<String>, Stop> {
        match self.docker(record, arguments).await? {
            (0, lines) => Ok(lines),
            (code, _) => Err(Stop::Failed(format!(
                "Exit code {code} returned from process: file name 'docker', arguments '{arguments}'."
            ))),
        }
    }

    /// Runs `docker` with these arguments, and gives its exit code and its lines.
    async fn docker(&mut self, record: &mut Record, arguments: &str) -> Result<(i32, Vec<String>), Stop> {
        let docker = shell::find("docker", &self.environment)
            .ok_or_else(|| Stop::Failed("File not found: 'docker'".to_owned()))?;
        self.line(record, &format!("##[command]{} {arguments}", docker.display())).await;
        let mut command = shell::command(&docker, &self.workspace, &self.environment);
        command.args(words(arguments));
        let mut lines = Vec::new();
        match self.follow(command, record, |line| lines.push(line.to_owned())).await {
            Ok(End::Exit(code)) => Ok((code, lines)),
            Ok(end) => Err(Stop::Ended(end)),
            Err(error) => Err(Stop::Failed(format!("cannot run docker: {error}"))),
        }
    }
}

/// `'1.41'`
fn api_version(printed: &str) -> Option<(u32, u32)> {
    let (major, minor) = printed.trim_matches('\'').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The arguments of a command line as .NET splits it: only double quotes keep words together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if characters.peek() == Some(&'"') => word.get_or_insert_default().extend(characters.next()),
            ' ' if !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}
