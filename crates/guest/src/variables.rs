//! The variables that the settings decide: those of the proxy, which sudo is to keep, and where tools are kept. GitHub's
//! runner takes them from a file of its own, a variable a line (docs/github.md#runner-environment).

use std::{fs, io, path::Path};

use anyhow::Context;
use contract::guest_settings::{GuestSettings, ProxySettings};

use super::network::replace;

/// In the runner's root directory.
const OF_RUNNER: &str = ".env";
/// What sudo reads besides its own file, where there is one (sudoers(5)), and the file in it.
const OF_SUDO: (&str, &str) = ("/etc/sudoers.d", "gha-runner-proxy");
/// Where tools are kept that actions unpack. Before the runner's own choice, `_work/_tool`; and `setup-python` asks for
/// it by this name.
const TOOLS: &str = "AGENT_TOOLSDIRECTORY";

/// All that the settings decide.
pub fn of(settings: &GuestSettings) -> Vec<(&str, String)> {
    let tools = settings.tool_cache.as_ref().map(|cache| (TOOLS, cache.to_string_lossy().into_owned()));
    let proxy = settings.proxy.iter().flat_map(ProxySettings::variables);
    let mut variables: Vec<(&str, String)> = tools.into_iter().chain(proxy).collect();
    let gpu = settings.gpu.iter().flat_map(|gpu| &gpu.environment);
    variables.extend(gpu.map(|(name, value)| (name.as_str(), value.clone())));
    variables
}

/// Adds them for GitHub's runner; `root` is its root directory.
pub fn add_to_runner(root: &Path, variables: &[(&str, String)]) -> anyhow::Result<()> {
    add(&root.join(OF_RUNNER), variables)
}

/// Has sudo keep those of the proxy, if there is one.
pub fn keep_with_sudo(settings: &GuestSettings) -> anyhow::Result<()> {
    let (directory, file) = OF_SUDO;
    match &settings.proxy {
        Some(proxy) if Path::new(directory).is_dir() => replace(&Path::new(directory).join(file), &kept(proxy)),
        _ => Ok(()),
    }
}

/// sudo forgets the variables of who calls it, but for these.
fn kept(proxy: &ProxySettings) -> String {
    let names: Vec<&str> = proxy.variables().map(|(name, _)| name).collect();
    format!("Defaults env_keep += \"{}\"\n", names.join(" "))
}

/// Adds the variables to the file, but for those that the template's own has.
fn add(file: &Path, variables: &[(&str, String)]) -> anyhow::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let is_new = |name: &str| text.lines().all(|line| line.split('=').next() != Some(name));
    let new: String =
        variables.iter().filter(|(name, _)| is_new(name)).map(|(name, value)| format!("{name}={value}\n")).collect();
    if new.is_empty() {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    replace(file, &(text + &new))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_variable_is_added_once_and_what_the_template_says_counts() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(OF_RUNNER);
        let read = || fs::read_to_string(&file).unwrap();
        let tools = [(TOOLS, "/opt/hostedtoolcache".to_owned())];
        for before in ["", "LANG=C", "LANG=C\n"] {
            fs::write(&file, before).unwrap();
            for _ in 0..2 {
                add(&file, &tools).unwrap();
                let lines: Vec<String> = read().lines().map(str::to_owned).collect();
                assert_eq!(lines.last().unwrap(), "AGENT_TOOLSDIRECTORY=/opt/hostedtoolcache", "{before:?}");
                assert_eq!(lines.len(), before.lines().count() + 1, "{before:?}");
            }
        }
        fs::write(&file, "AGENT_TOOLSDIRECTORY=/tools\n").unwrap();
        add(&file, &tools).unwrap();
        assert_eq!(read(), "AGENT_TOOLSDIRECTORY=/tools\n");
        fs::remove_file(&file).unwrap();
        add(&file, &[]).unwrap();
        assert!(!file.exists(), "nothing to add");
        add(&file, &tools).unwrap();
        assert_eq!(read(), "AGENT_TOOLSDIRECTORY=/opt/hostedtoolcache\n");
    }
}
