//! Classes and the templates they boot.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    super::{
        Class, ClassSize, Device, ForgeKind, Hours, Intake, Network, Root, Service, Template, cache, class_network,
        docker,
        file::{ClassWritten, LABELS, SettingsWritten, Size, TREE, TemplateWritten},
        gpu, is_store_path, nix, service, short_form,
    },
    Checker, DEFAULT,
};

pub(super) fn templates(
    found: &mut Checker,
    written: &BTreeMap<String, TemplateWritten>,
) -> BTreeMap<String, Template> {
    let mut templates: BTreeMap<String, TemplateWritten> = written.clone();
    templates.entry(DEFAULT.to_owned()).or_default();
    templates
        .into_iter()
        .map(|(name, template)| {
            found.name(&format!("template.{name}"), &name);
            let key = |field: &str| format!("template.{name}.{field}");
            let user = template.user;
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
            let nix_store = template.nix_store.inspect(|store| found.absolute(&key("nix_store"), store));
            let root = root(found, &key, template.path, template.system, template.runner_dir);
            let kind = template.kind;
            let runner = template.runner.unwrap_or_else(|| kind.runner().into());
            found.absolute(&key("runner"), &runner);
            let runner_version = template.runner_version.inspect(|version| {
                let numbers = version.split('.').collect::<Vec<_>>();
                found.unless(
                    numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok()),
                    key("runner_version"),
                    format!("{version:?} is not the version of a runner"),
                    "write three numbers, e.g. 2.336.0, or leave it out where the template's tree shows it",
                );
            });
            (name, Template { root, nix_store, kind, runner, runner_version, user })
        })
        .collect()
}

fn root(
    found: &mut Checker,
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
        let path = path.unwrap_or_else(|| PathBuf::from(TREE));
        found.absolute(&key("path"), &path);
        return Root::Tree(path);
    };
    found.unless(
        path.is_none(),
        key("path"),
        "there is a system as well",
        "name either the path of a directory tree or a NixOS system",
    );
    found.absolute(&key("system"), &system);
    found.unless(
        is_store_path(&system),
        key("system"),
        format!("{} is not a path of the Nix store", system.display()),
        "name what config.system.build.toplevel of a NixOS configuration was built to, \
         /nix/store/HASH-nixos-system-NAME",
    );
    let runner_dir = runner_dir.inspect(|directory| found.absolute(&key("runner_dir"), directory));
    Root::System { closure: system, runner_dir }
}

pub(super) fn classes(
    found: &mut Checker,
    written: &SettingsWritten,
    network: &Network,
    services: &BTreeMap<String, Service>,
) -> BTreeMap<String, Class> {
    let mut classes: BTreeMap<String, ClassWritten> = written.classes.clone();
    short_form::add(found, written, &mut classes);
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
            let labels = labels.unwrap_or_else(|| LABELS.map(str::to_owned).to_vec());
            let forge = written.templates.get(&class.template).map(|template| template.kind).unwrap_or_default();
            let (labels, declared) = match forge {
                ForgeKind::Github => (labels, Vec::new()),
                ForgeKind::Gitea | ForgeKind::Forgejo => declared(found, &key("labels"), labels, class.docker.enable),
            };
            found.labels(&key("labels"), &labels, forge.labels_have_case());
            found.unless(
                forge == ForgeKind::Github || class.intake != Intake::ScaleSet,
                key("intake"),
                format!("{} has no scale sets, and its runner is for it", forge.name()),
                "leave it out",
            );
            let size = class.size.map(ClassSize::limits).unwrap_or_default();
            let devices = devices(found, &key("devices"), class.devices, class.privileged);
            let class = Class {
                labels,
                declared,
                forge,
                template: class.template,
                cpus: class.cpus.or(size.cpus),
                memory: class.memory.as_ref().and_then(Size::bytes).or(size.memory),
                tasks: class.tasks.or(size.tasks),
                io_weight: class.io_weight,
                disk: class.disk.as_ref().and_then(Size::bytes),
                caches: cache::check(found, &key, class.caches),
                gpu: gpu::check(found, &key("gpu"), class.gpu, class.privileged),
                devices,
                timeout: class.timeout.or(written.job_timeout).unwrap_or(super::JOB_TIMEOUT),
                max_concurrent: class.max_concurrent.unwrap_or(written.max_concurrent),
                min_idle: class.min_idle,
                min_idle_hours: hours(found, &key("min_idle_hours"), class.min_idle, &class.min_idle_hours),
                intake: if forge == ForgeKind::Github { class.intake } else { Intake::Polling },
                privileged: class.privileged,
                services: service::of_class(found, key("services"), class.services, services),
                network: class_network::class_network(found, &name, class.network, &network.shared, &network.dns),
                docker: docker::check(found, &|field| key(&format!("docker.{field}")), class.docker, &network.pool),
                nix: nix::check(found, &|field| key(&format!("nix.{field}")), class.nix),
                name: name.clone(),
            };
            (name, class)
        })
        .collect()
}

/// Labels as runners of Gitea and Forgejo have them: their names, and each with how its jobs run.
fn declared(found: &mut Checker, key: &str, labels: Vec<String>, docker: bool) -> (Vec<String>, Vec<String>) {
    let mut split = |label: String| {
        let (name, runs) = label.split_once(':').unwrap_or((&label, "host"));
        let image = runs.strip_prefix("docker://");
        found.unless(
            runs == "host" || image.is_some_and(|image| !image.is_empty() && !image.contains(char::is_whitespace)),
            key,
            format!("label {label:?} says in an unknown way how its jobs run"),
            "write NAME, NAME:host or NAME:docker://IMAGE",
        );
        found.unless(
            image.is_none() || docker,
            key,
            format!("jobs of label {label:?} need Docker, and the class has none"),
            "write docker.enable = true in the class, or NAME:host",
        );
        (name.to_owned(), format!("{name}:{runs}"))
    };
    labels.into_iter().map(&mut split).unzip()
}

fn hours(found: &mut Checker, key: &str, min_idle: usize, written: &[String]) -> Vec<Hours> {
    found.unless(
        min_idle > 0 || written.is_empty(),
        key,
        "there are hours, and min_idle keeps nothing ready in them",
        "write how many in min_idle, or remove the hours",
    );
    let remedy = "write e.g. \"Mon..Fri 07:55..18:00\", \"Sat,Sun 10:00..14:00\" or \"22:00..06:00\"";
    let read = |text: &String| {
        text.parse::<Hours>()
            .inspect_err(|problem: &String| found.push(key, format!("{text:?}: {problem}"), remedy))
            .ok()
    };
    written.iter().filter_map(read).collect()
}

fn devices(found: &mut Checker, key: &str, mut devices: Vec<Device>, privileged: bool) -> Vec<Device> {
    devices.sort_unstable();
    devices.dedup();
    found.unless(
        !(privileged && devices.contains(&Device::Loop)),
        key,
        "root in a privileged container could make nodes of all loop devices of the host",
        "remove loop, or give the class a user namespace",
    );
    devices
}

fn is_user(user: &str) -> bool {
    user != "root"
        && (1..=31).contains(&user.len())
        && user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}
