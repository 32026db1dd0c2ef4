//! Classes and the templates they boot.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    super::{
        Class, Network, Root, Template, cache, docker,
        file::{ClassWritten, LimitsWritten, TemplateWritten, Written},
        is_store_path, limits, reach,
    },
    DEFAULT, DEFAULT_LABELS, LEAST_DISK,
    found::Found,
};

pub(super) fn templates(found: &mut Found, written: &BTreeMap<String, TemplateWritten>) -> BTreeMap<String, Template> {
    let mut templates: BTreeMap<String, TemplateWritten> = written.clone();
    templates.entry(DEFAULT.to_owned()).or_default();
    templates
        .into_iter()
        .map(|(name, template)| {
            found.name(&format!("template.{name}"), &name);
            let key = |field: &str| format!("template.{name}.{field}");
            let user = template.user.unwrap_or_else(|| "runner".to_owned());
            found.unless(
                is_user(&user),
                key("user"),
                format!("{user:?} is not the name of an unprivileged user"),
                "name the user inside the container who runs jobs, e.g. runner; not root",
            );
            found.unless(
                template.nix_store.is_none() || template.system.is_none(),
                key("nix_store"),
                "there is a system, which brings the host's store with it",
                "remove it",
            );
            let nix_store = template.nix_store.map(|store| found.absolute(&key("nix_store"), Some(store), ""));
            let root = root(found, &key, template.path, template.system, template.runner_dir);
            let runner = found.absolute(&key("runner"), template.runner, "/opt/actions-runner/bin/Runner.Listener");
            let runner_version = template.runner_version.inspect(|version| {
                let numbers = version.split('.').collect::<Vec<_>>();
                found.unless(
                    numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok()),
                    key("runner_version"),
                    format!("{version:?} is not the version of a runner"),
                    "write three numbers, e.g. 2.336.0, or leave it out where the template's tree tells it",
                );
            });
            (name, Template { root, nix_store, runner, runner_version, user })
        })
        .collect()
}

fn root(
    found: &mut Found,
    key: &impl Fn(&str) -> String,
    path: Option<PathBuf>,
    system: Option<PathBuf>,
    runner_dir: Option<PathBuf>,
) -> Root {
    let Some(system) = system else {
        found.unless(
            runner_dir.is_none(),
            key("runner_dir"),
            "only a system has it",
            "put the runner into the tree, or name a system instead of a path",
        );
        return Root::Tree(found.absolute(&key("path"), path, "/var/lib/machines/gha-runner"));
    };
    found.unless(
        path.is_none(),
        key("path"),
        "there is a system as well",
        "name either the path of a directory tree or a NixOS system",
    );
    let closure = found.absolute(&key("system"), Some(system), "");
    found.unless(
        is_store_path(&closure),
        key("system"),
        format!("{} is not a path of the Nix store", closure.display()),
        "name what config.system.build.toplevel of a NixOS configuration was built to, \
         /nix/store/HASH-nixos-system-NAME",
    );
    let runner_dir = runner_dir.map(|directory| found.absolute(&key("runner_dir"), Some(directory), ""));
    Root::System { closure, runner_dir }
}

pub(super) fn classes(
    found: &mut Found,
    written: &Written,
    network: &Network,
    job_timeout: Duration,
    max_concurrent: usize,
) -> BTreeMap<String, Class> {
    let mut classes: BTreeMap<String, ClassWritten> = written.classes.clone();
    if classes.is_empty() {
        classes.insert(DEFAULT.to_owned(), ClassWritten::default());
    } else if written.runner_labels.is_some() && !classes.contains_key(DEFAULT) {
        found.push(
            "runner_labels",
            "there are classes, but none named default that it could apply to",
            "give each class its own labels, or name one class default",
        );
    }
    classes
        .into_iter()
        .map(|(name, class)| {
            found.name(&format!("class.{name}"), &name);
            let key = |field: &str| format!("class.{name}.{field}");
            let labels = if name == DEFAULT {
                // The environment's RUNNER_LABELS arrives as runner_labels and wins over the file.
                written.runner_labels.clone().or(class.labels)
            } else {
                class.labels
            };
            let labels = labels.unwrap_or_else(|| DEFAULT_LABELS.map(str::to_owned).to_vec());
            found.labels(&key("labels"), &labels);
            let limits = LimitsWritten {
                cpus: class.cpus,
                memory: class.memory,
                tasks: class.tasks,
                io_weight: class.io_weight,
            };
            let limits = limits::check(found, &key, limits);
            let caches = cache::check(found, &key, class.caches);
            let disk = limits::size(found, &key("disk"), class.disk, LEAST_DISK);
            let class = Class {
                labels,
                template: class.template.unwrap_or_else(|| DEFAULT.to_owned()),
                cpus: limits.cpus,
                memory: limits.memory,
                tasks: limits.tasks,
                io_weight: limits.io_weight,
                disk,
                caches,
                gpu: class.gpu.unwrap_or(false),
                timeout: match class.timeout {
                    Some(timeout) => found.duration(&key("timeout"), Some(timeout), 0, 10..=5 * 86_400),
                    None => job_timeout,
                },
                max_concurrent: found.count(&key("max_concurrent"), class.max_concurrent, max_concurrent, 1..=1000),
                min_idle: found.count(&key("min_idle"), class.min_idle, 0, 0..=100),
                intake: class.intake.unwrap_or_default(),
                privileged: class.privileged.unwrap_or(false),
                network: reach::reach(found, &name, class.network, &network.shared, &network.dns),
                docker: docker::check(found, &|field| key(&format!("docker.{field}")), class.docker, &network.pool),
                name: name.clone(),
            };
            (name, class)
        })
        .collect()
}

fn is_user(user: &str) -> bool {
    user != "root"
        && (1..=31).contains(&user.len())
        && user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}
