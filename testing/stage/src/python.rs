//! Somebody else's programs in Python, installed once and kept.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A package of this version with what it needs, in a directory for `PYTHONPATH` in the tools' cache
/// (`GHA_TOOLS_CACHE`); or why it cannot be had.
pub fn package(name: &str, version: &str) -> Result<PathBuf, String> {
    let cache = std::env::var_os("GHA_TOOLS_CACHE").unwrap_or("/var/cache/gha-runner-controller-tools".into());
    let place = Path::new(&cache).join(format!("{name}-{version}"));
    if place.join(name).exists() {
        return Ok(place);
    }
    let new = place.with_extension("new");
    let mut pip = Command::new("timeout");
    pip.args(["300", "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]);
    pip.arg("--target").arg(&new).arg(format!("{name}=={version}"));
    let output = pip.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("Python's {name} cannot be installed: {}", said.lines().last().unwrap_or_default()));
    }
    std::fs::rename(&new, &place).map_err(|error| error.to_string())?;
    Ok(place)
}
