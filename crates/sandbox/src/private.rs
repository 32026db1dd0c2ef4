//! Directories that only root can enter.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::Path};

use anyhow::Context;

/// Makes a directory that is root's alone, if it does not exist.
pub fn make_private(directory: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.with_context(|| format!("cannot make {}", directory.display())),
    }
}
