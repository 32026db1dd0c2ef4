//! The resolved settings: what `units` writes as root when a configuration was checked, for every process to read.
//!
//! Whoever reads them does not check again what root's own program wrote. So only root's file counts, and it is read
//! strictly: a field that this program does not know, or another version, is refused.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Problem, Problems, Settings};

/// Of this form of the file.
const VERSION: u32 = 1;
const REMEDY: &str = "write it anew, as root: gha-runner-controller units";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved<S> {
    version: u32,
    settings: S,
}

/// What such a file has whatever its version; a file that people write has no `version`.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The text of the file.
pub fn text(settings: &Settings) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&Resolved { version: VERSION, settings })? + "\n")
}

/// Whether a file is of this kind, and not one that people write.
pub(super) fn is_resolved(path: &Path) -> bool {
    // Of what cannot be read twice, such as standard input, nothing is taken.
    path.extension().is_some_and(|extension| extension == "json")
        && std::fs::read(path).is_ok_and(|text| serde_json::from_slice::<Versioned>(&text).is_ok())
}

/// Reads settings that [`text`] made: a file of root's (or of the user who reads it), which nobody else may write.
pub fn read(path: &Path) -> Result<Settings, Problems> {
    let refused = |problem: String, remedy: &str| Problem::new(path.display().to_string(), problem, remedy).into();
    let unreadable = |error: std::io::Error| refused(format!("cannot be read: {error}"), REMEDY);
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let (owner, mode) = (metadata.uid(), metadata.permissions().mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(refused(format!("belongs to user {owner}, not to root"), REMEDY));
    }
    if mode & 0o022 != 0 {
        return Err(refused(format!("can be written by others (mode {mode:04o})"), "chmod 0644, and see who wrote it"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(unreadable)?;
    let Versioned { version } = serde_json::from_slice(&text)
        .map_err(|error| refused(format!("is not a file of resolved settings: {error}"), REMEDY))?;
    if version != VERSION {
        return Err(refused(format!("has version {version}; this program knows version {VERSION}"), REMEDY));
    }
    let resolved: Resolved<Settings> =
        serde_json::from_slice(&text).map_err(|error| refused(format!("is not valid: {error}"), REMEDY))?;
    Ok(resolved.settings)
}
