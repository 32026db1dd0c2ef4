//! Tells the runner where tools are kept that actions unpack, by the file from which it takes its environment
//! (docs/github.md#runner-environment).

use std::{fs, io, path::Path};

use anyhow::Context;

use super::network::replace;

/// In the runner's root directory: a variable a line.
const FILE: &str = ".env";
/// Before the runner's own choice, `_work/_tool`; and `setup-python` asks for it by this name.
const VARIABLE: &str = "AGENT_TOOLSDIRECTORY";

/// Adds the variable to the file, unless the template's own has it.
pub fn name(root: &Path, cache: &Path) -> anyhow::Result<()> {
    let file = root.join(FILE);
    let known = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result.with_context(|| format!("cannot read {}", file.display()))?,
    };
    if known.lines().any(|line| line.split('=').next() == Some(VARIABLE)) {
        return Ok(());
    }
    let ended = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    replace(&file, &format!("{known}{ended}{VARIABLE}={}\n", cache.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_variable_is_added_once_and_what_the_template_says_counts() {
        let root = tempfile::tempdir().unwrap();
        let read = || fs::read_to_string(root.path().join(FILE)).unwrap();
        for before in ["", "LANG=C", "LANG=C\n"] {
            fs::write(root.path().join(FILE), before).unwrap();
            for _ in 0..2 {
                name(root.path(), Path::new("/opt/hostedtoolcache")).unwrap();
                let lines: Vec<String> = read().lines().map(str::to_owned).collect();
                assert_eq!(lines.last().unwrap(), "AGENT_TOOLSDIRECTORY=/opt/hostedtoolcache", "{before:?}");
                assert_eq!(lines.len(), before.lines().count() + 1, "{before:?}");
            }
        }
        fs::write(root.path().join(FILE), "AGENT_TOOLSDIRECTORY=/tools\n").unwrap();
        name(root.path(), Path::new("/opt/hostedtoolcache")).unwrap();
        assert_eq!(read(), "AGENT_TOOLSDIRECTORY=/tools\n");
        fs::remove_file(root.path().join(FILE)).unwrap();
        name(root.path(), Path::new("/opt/hostedtoolcache")).unwrap();
        assert_eq!(read(), "AGENT_TOOLSDIRECTORY=/opt/hostedtoolcache\n");
    }
}
