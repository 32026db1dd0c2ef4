//! Whether the host has what its classes may use.

use std::thread::available_parallelism;

use settings::Settings;

use super::Finding;

/// What the host has; `None` if unknown.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Processors.
    pub cpus: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        let cpus = available_parallelism().ok().and_then(|cpus| u32::try_from(cpus.get()).ok()).map(f64::from);
        let memory = rustix::system::sysinfo();
        #[allow(clippy::useless_conversion, reason = "their types depend on the architecture")]
        let memory = u64::from(memory.totalram).checked_mul(u64::from(memory.mem_unit));
        Self { cpus, memory }
    }
}

/// One warning for each class that may use more than there is: its limit is never reached.
pub fn of_classes(host: Host, settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    for class in settings.classes.values() {
        let mut beyond = Vec::new();
        if let (Some(may), Some(has)) = (class.cpus, host.cpus)
            && may > has
        {
            beyond.push(format!("{may} CPUs of {has}"));
        }
        if let (Some(may), Some(has)) = (class.memory, host.memory)
            && may > has
        {
            beyond.push(format!("{} MiB of memory of {}", may >> 20, has >> 20));
        }
        if !beyond.is_empty() {
            found.push(Finding::warning(
                format!("class.{}", class.name),
                format!("a container may use {}: it can take all there is from the others", beyond.join(" and ")),
                "choose a smaller size, or lower cpus and memory",
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    #[test]
    fn a_class_that_is_larger_than_the_host_is_named_with_both() {
        let text = "token_file = \"/run/token\"\n[[target]]\nrepo = \"octo-org/hello\"\n\
                    [class.small]\nsize = \"small\"\n[class.large]\nsize = \"large\"\nmemory = \"8G\"\n[class.max]\nsize = \"max\"\n";
        let settings = check(toml::from_str(text).unwrap()).unwrap();
        let found = of_classes(Host { cpus: Some(8.0), memory: Some(16 << 30) }, &settings);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].to_string().contains("12 CPUs of 8:"), "{}", found[0]);
        let found = of_classes(Host { cpus: None, memory: Some(2 << 30) }, &settings);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[1].to_string().contains("4096 MiB of memory of 2048"), "{}", found[1]);
    }
}
