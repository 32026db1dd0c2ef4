//! config.yaml of act_runner and of Forgejo's runner, which began as the same program.

use settings::Problem;

use super::{
    draft::{Draft, Gone, Place, SOCKET, TOKEN_FILE, Table},
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
        "Certificates are always verified. Name the forge's authority in credential.forge.ca_file, and add it to those \
         that the template trusts.",
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
    let (tool, kind, program) = match forge {
        Forge::Gitea => ("act_runner", "gitea", "/usr/local/bin/gitea-runner"),
        Forge::Forgejo => ("Forgejo's runner", "forgejo", "/usr/local/bin/forgejo-runner"),
    };
    let mut draft = Draft::new(tool, GONE);
    let top = draft.top();
    top.set_some("max_concurrent", keys.parsed::<i64>("runner.capacity", "a whole number")?);
    top.set_some("poll_interval", keys.duration("runner.fetch_interval")?);
    top.set_some("job_timeout", keys.duration("runner.timeout")?);

    let target = draft.table(Place::Target);
    let comment = "Whom the runner serves is in its registration, and not in its configuration: write an org, a repo, a \
                   user, or instance = true.";
    target.set_because("org", "OWNER", comment);
    target.set("credential", "forge");
    let credential = draft.table(Place::Named("credential.forge".to_owned()));
    credential.set("kind", kind);
    credential.set_because("url", "https://FORGE", "As in the registration.");
    let comment = "The runner's own token, from its registration, opens no API. Write one of an owner into this file, \
                   which belongs to root and has mode 0600: docs/forges.md#what-the-token-may-do.";
    credential.set_because("token_file", TOKEN_FILE, comment);
    let template = draft.table(Place::Named("template.default".to_owned()));
    template.set("kind", kind);
    template.set_because(
        "path",
        "/var/lib/machines/gha-runner",
        "A tree with the runner program in it: docs/templates.md.",
    );
    template.set("runner", program);

    let options = keys.text("container.options")?.unwrap_or_default();
    let shares_docker = match (keys.text("container.docker_host")?.as_deref(), forge) {
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
    let class = draft.table(Place::Named("class.default".to_owned()));
    if !labels.is_empty() {
        let comment = "Those of an image run in it, by the container's own Docker; those of the host in the container.";
        class.set_because("labels", labels.clone(), comment);
    }
    let left = take_options(class, &options)?;
    if shares_docker || labels.iter().any(|label| label.contains(":docker:")) {
        class.set("docker.enable", true);
    }
    if labels.is_empty() {
        let text = "They are in the registration (.runner): write them into [class.default], labels = [\"...\"].";
        draft.note("runner.labels", text);
    }
    if !left.is_empty() {
        let text = "These options of Docker have no counterpart. Limits, devices and graphics processors are keys of a \
                    class; names of hosts, variables and files belong into the template.";
        draft.note(format!("container.options ({})", left.join(", ")), text);
    }
    Ok(draft)
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
