//! Classes and the templates they boot.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        Class, Template,
        file::{ClassWritten, TemplateWritten, Written},
    },
    DEFAULT, DEFAULT_LABELS,
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
            let path = found.absolute(&key("path"), template.path, "/var/lib/machines/gha-runner");
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
            (name, Template { path, runner, runner_version, user })
        })
        .collect()
}

pub(super) fn classes(
    found: &mut Found,
    written: &Written,
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
            if let Some(cpus) = class.cpus {
                found.unless(
                    cpus.is_finite() && (0.01..=4096.0).contains(&cpus),
                    key("cpus"),
                    format!("{cpus} is not a number of CPUs"),
                    "write how many CPUs a container may use, e.g. 2 or 0.5",
                );
            }
            let memory = class.memory.and_then(|size| {
                let bytes = size.bytes().filter(|bytes| (16 << 20..=1 << 50).contains(bytes));
                found.unless(
                    bytes.is_some(),
                    key("memory"),
                    format!("{size:?} is not a size of at least 16M"),
                    "write bytes or a size such as 512M or 4G",
                );
                bytes
            });
            let tasks = class.tasks.inspect(|tasks| {
                let tasks = usize::try_from(*tasks).unwrap_or(usize::MAX);
                found.count(&key("tasks"), Some(tasks), 0, 32..=4_194_304);
            });
            let class = Class {
                labels,
                template: class.template.unwrap_or_else(|| DEFAULT.to_owned()),
                cpus: class.cpus,
                memory,
                tasks,
                timeout: match class.timeout {
                    Some(timeout) => found.duration(&key("timeout"), Some(timeout), 0, 10..=5 * 86_400),
                    None => job_timeout,
                },
                max_concurrent: found.count(&key("max_concurrent"), class.max_concurrent, max_concurrent, 1..=1000),
                min_idle: found.count(&key("min_idle"), class.min_idle, 0, 0..=100),
                intake: class.intake.unwrap_or_default(),
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
