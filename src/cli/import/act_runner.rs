//! config.yaml of act_runner and of Forgejo's runner, which began as the same program.

use settings::{Problem, check::is_name};

use super::{
    draft::{Draft, Gone, IMAGE, Place, SOCKET, Table},
    keys::Keys,
};

/// Whose runner it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forge {
    Gitea,
    Forgejo,
}

const GONE: &[Gone] = &[
    (
        &["runner.file"],
        "The registration is made anew for each job. Remove the old runner at the forge, and its file here.",
    ),
    (
        &["runner.envs", "runner.env_file"],
        "Variables of every job stand in the template, in the file .env beside the runner program; secrets belong to \
         the forge (Settings, Actions, Secrets).",
    ),
    (
        &["runner.insecure"],
        "Certificates are always verified. Add the forge's authority to those that host and template trust: \
         docs/configuration.md#credentials.",
    ),
    (&["runner.shutdown_timeout"], "A restart or upgrade of the controller touches no running job."),
    (
        &[
            "log",
            "runner.fetch_timeout",
            "runner.fetch_interval_max",
            "runner.report_interval",
            "runner.report_retry",
            "runner.log_report_interval",
            "runner.log_report_max_latency",
            "runner.log_report_batch_size",
            "runner.state_report_interval",
            "runner.report_close_timeout",
            "runner.allocate_pty",
        ],
        "This is between the runner in the container and the forge, or has no use here. Logs: docs/operating.md.",
    ),
    (
        &[
            "runner.workdir_cleanup_age",
            "runner.idle_cleanup_interval",
            "runner.post_task_script",
            "runner.post_task_script_timeout",
            "container.workdir_parent",
            "container.bind_workdir",
            "host",
        ],
        "There is nothing to clean up: what a job writes goes with its container.",
    ),
    (&["runner.github_mirror"], "Have workflows name the mirror, or a [proxy]."),
    (
        &["cache"],
        "There is no server for actions/cache. A cache of a class, [class.NAME.cache.NAME], is a directory that \
         outlives containers (docs/configuration.md#caches). An external server goes on: its address belongs into the \
         template's .env, and into class.NAME.network.allow if it is in the LAN.",
    ),
    (
        &["container.network", "container.network_mode", "container.network_create_options", "container.enable_ipv6"],
        "Each container has a network of its own, and never the host's. What it reaches beyond the internet is named in \
         class.NAME.network.allow.",
    ),
    (
        &["container.privileged"],
        "Nobody is privileged on the host for the sake of Docker: with docker.enable, `docker run --privileged` works \
         inside, and its root is nobody outside.",
    ),
    (
        &["container.valid_volumes"],
        "Jobs do not mount directories of the host. What they shared is a cache of a class, [class.NAME.cache.NAME]; what \
         they only read belongs into the template.",
    ),
    (
        &["container.force_pull", "container.force_rebuild", "container.require_docker", "container.docker_timeout"],
        "Docker is inside the container and begins empty; docker.keep keeps images of a class.",
    ),
    (
        &["metrics"],
        "The controller has metrics at http://127.0.0.1:8080/metrics; [http] has address, port and a token for readers.",
    ),
    (&["server"], "Connections are written as [credential.NAME] and [[target]]; tokens go into files."),
];

pub(super) fn import(keys: &mut Keys, forge: Forge) -> Result<Draft, Problem> {
    let (tool, kind) = match forge {
        Forge::Gitea => ("act_runner", "gitea"),
        Forge::Forgejo => ("Forgejo's runner", "forgejo"),
    };
    let mut draft = Draft::new(tool, GONE);
    draft.token("The runner's own token, from its registration, opens no API.", "to register runners of the target");
    let top = draft.top();
    top.set_some("max_concurrent", keys.parsed::<i64>("runner.capacity", "a whole number")?);
    top.set_some("poll_interval", keys.duration("runner.fetch_interval")?);
    top.set_some("job_timeout", keys.duration("runner.timeout")?);

    let target = draft.table(Place::Target);
    let comment = "Its address and owner are in the runner's registration, and not in its configuration. Until the lines \
                   below are completed, this stands for a repository at GitHub.";
    target.set_because("repo", "OWNER/REPOSITORY", comment);
    let credential = draft.table(Place::Named("credential.forge".to_owned()));
    credential.off = true;
    credential.set("kind", kind);
    credential.set("url", "https://FORGE");
    credential.set("token_file", "/etc/gha-runner-controller/token");
    let target = draft.table(Place::Target);
    target.off = true;
    target.set("org", "OWNER");
    target.set("credential", "forge");

    let options = keys.text("container.options")?.unwrap_or_default();
    let docker = match (keys.text("container.docker_host")?.as_deref(), forge) {
        (Some("-"), _) | (None, Forge::Forgejo) => false,
        (None, Forge::Gitea) | (Some("automount"), _) => {
            draft.note("container.docker_host", SOCKET);
            true
        }
        (Some(_), _) => {
            let text = format!("Jobs are not given another Docker. {SOCKET}");
            draft.note("container.docker_host", text);
            true
        }
    };
    let labels = keys.list("runner.labels")?;
    if labels.is_empty() {
        let text = "They are in the registration (.runner): write them into [class.default], labels = [\"...\"].";
        draft.note("runner.labels", text);
    }
    let mut kinds = kinds(&labels);
    if kinds.is_empty() {
        kinds.push(Kind { name: "default".to_owned(), image: None, labels: Vec::new() });
    }
    let mut left = Vec::new();
    for kind in &kinds {
        let class = draft.table(Place::Named(format!("class.{}", kind.name)));
        if !kind.labels.is_empty() {
            let comment = match kind.image.as_deref() {
                Some("host") => "These jobs ran on the host itself, and get a container now.".to_owned(),
                Some(image) => format!("Image: {image}. {IMAGE}"),
                None => String::new(),
            };
            class.set_because("labels", kind.labels.clone(), comment);
        }
        left = take_options(class, &options)?;
        if docker {
            class.set("docker.enable", true);
        }
    }
    if !left.is_empty() {
        let text = "These options of Docker have no counterpart. Limits, devices and graphics processors are keys of a \
                    class; names of hosts, variables and files belong into the template.";
        draft.note(format!("container.options ({})", left.join(", ")), text);
    }
    Ok(draft)
}

/// Labels with one image.
struct Kind {
    name: String,
    /// `host` = on the host itself; none = not said.
    image: Option<String>,
    labels: Vec<String>,
}

fn kinds(written: &[String]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for label in written {
        let (label, image) = match label.split_once(':') {
            Some((label, image)) => (label, Some(image.strip_prefix("docker://").unwrap_or(image).to_owned())),
            None => (label.as_str(), None),
        };
        let kind = match kinds.iter().position(|kind| kind.image == image) {
            Some(index) => &mut kinds[index],
            None => {
                let name = name(label, &kinds);
                kinds.push(Kind { name, image, labels: Vec::new() });
                let last = kinds.len() - 1;
                &mut kinds[last]
            }
        };
        if !kind.labels.iter().any(|known| known.eq_ignore_ascii_case(label)) {
            kind.labels.push(label.to_owned());
        }
    }
    kinds
}

/// A class's name, after its first label.
fn name(label: &str, kinds: &[Kind]) -> String {
    let plain = label.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let short: String = plain.trim_matches('-').chars().take(20).collect();
    let short = short.trim_matches('-');
    if is_name(short) && !kinds.iter().any(|kind| kind.name == short) {
        short.to_owned()
    } else {
        format!("class-{}", kinds.len() + 1)
    }
}

/// Takes what an option of `docker run` says of limits and devices; the names of the others come back.
fn take_options(class: &mut Table, options: &str) -> Result<Vec<String>, Problem> {
    const KEY: &str = "container.options";
    let mut left = Vec::new();
    let mut devices = Vec::new();
    let mut words = options.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            // The next word, unless it is an option.
            None => (word, words.next_if(|next| word.starts_with('-') && !next.starts_with('-'))),
        };
        let value = value.map(|value| value.trim_matches(['"', '\'']));
        let number = |what: &str| Problem::new(KEY, format!("{option} is not {what}"), "correct it in the file");
        match (option, value) {
            ("--cpus", Some(value)) => class.set("cpus", value.parse::<f64>().map_err(|_| number("a number"))?),
            ("--memory" | "-m", Some(value)) => class.set("memory", value),
            ("--pids-limit", Some(value)) => {
                class.set("tasks", value.parse::<i64>().map_err(|_| number("a whole number"))?);
            }
            ("--gpus", _) => class.set("gpu", true),
            ("--device", Some(value)) => match value.split(':').next() {
                Some("/dev/kvm") => devices.push("kvm"),
                Some("/dev/fuse") => devices.push("fuse"),
                Some("/dev/net/tun") => devices.push("tun"),
                _ => left.push(option.to_owned()),
            },
            (option, _) if option.starts_with('-') => left.push(option.to_owned()),
            _ => {}
        }
    }
    if !devices.is_empty() {
        class.set("devices", devices.into_iter().map(str::to_owned).collect::<Vec<_>>());
    }
    left.sort();
    left.dedup();
    Ok(left)
}
