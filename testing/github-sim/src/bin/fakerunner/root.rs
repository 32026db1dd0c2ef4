//! The directory a runner lives in, and its configuration there.

use crate::console;
use github_sim::jit::{self, CREDENTIALS, Files, JitConfig, JitError, RSA_PARAMS, RUNNER};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Larger than any real configuration file by far.
const MAX_FILE: u64 = 64 * 1024;

/// Arguments may come as variables, which the real runner keeps from the steps.
const INPUT_PREFIX: &str = "ACTIONS_RUNNER_INPUT_";

/// An argument given as a variable.
pub(crate) fn input(name: &str) -> Option<String> {
    std::env::var(format!("{INPUT_PREFIX}{}", name.to_uppercase())).ok()
}

/// Whether a variable says yes, in the way the real runner reads it.
pub(crate) fn is_truthy(name: &str) -> bool {
    std::env::var(name)
        .is_ok_and(|value| matches!(value.trim().to_lowercase().as_str(), "1" | "true" | "$true" | "yes" | "y" | "on"))
}

#[derive(Debug, Error)]
pub(crate) enum RootError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error(transparent)]
    Jit(#[from] JitError),
}

#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// `RUNNER_ROOT`, else the parent of the directory the program is in.
    pub(crate) fn find() -> io::Result<Self> {
        if let Some(root) = std::env::var_os("RUNNER_ROOT").filter(|root| !root.is_empty()) {
            return Ok(Self(root.into()));
        }
        let program = std::env::current_exe()?;
        program
            .parent()
            .and_then(Path::parent)
            .map(|root| Self(root.to_owned()))
            .ok_or_else(|| io::Error::other("the program is in no directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the files of a blob, over whatever is there.
    pub(crate) fn unpack(&self, blob: &str) -> Result<(), RootError> {
        for (name, bytes) in jit::unpack(blob)? {
            let path = self.path(name);
            fs::write(&path, bytes).map_err(|error| RootError::Io(path, error))?;
        }
        Ok(())
    }

    pub(crate) fn is_configured(&self) -> bool {
        [RUNNER, CREDENTIALS].iter().all(|name| self.path(name).exists())
    }

    pub(crate) fn load(&self) -> Result<JitConfig, RootError> {
        let mut files = Files::new();
        for name in [RUNNER, CREDENTIALS, RSA_PARAMS] {
            let path = self.path(name);
            let mut bytes = Vec::new();
            fs::File::open(&path)
                .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
                .map_err(|error| RootError::Io(path, error))?;
            files.insert(name, bytes);
        }
        Ok(JitConfig::from_files(&files)?)
    }

    /// A runner for one job does not leave its registration behind.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(self.path(RSA_PARAMS));
        for name in [CREDENTIALS, RUNNER] {
            if fs::remove_file(self.path(name)).is_ok() {
                console::line(&format!("√ Removed {name}"));
            }
        }
    }

    /// The environment of steps and hooks: the runner's own, changed by `.env` and `.path`, without its arguments.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let mut environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| !key.starts_with(INPUT_PREFIX))
            .collect();
        if let Ok(text) = fs::read_to_string(self.path(".env")) {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            environment.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        if let Ok(path) = fs::read_to_string(self.path(".path")) {
            environment.insert("PATH".to_owned(), path.trim().to_owned());
        }
        environment
    }
}
