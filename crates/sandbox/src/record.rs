//! The root-owned record of one container: the copies that are believed, and how far *prepare* came.
//!
//! The directory is made before anything else of the container and removed after everything else: as long as it
//! exists, the subnet and the user ids in it are taken.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use contract::{ContainerName, Grant, guest_settings::GuestSettings};
use serde::Serialize;

use super::ContainerPlan;

/// The step that is noted once *prepare* is done; before that it is one of [`super::prepare::Step`].
pub const PREPARED: &str = "prepared";
/// The step noted when this process becomes systemd-nspawn.
pub const RUN: &str = "run";
/// The step noted when *teardown* begins.
pub const TEARDOWN: &str = "teardown";

const PLAN_FILE: &str = "plan.json";
const GUEST_FILE: &str = "guest.json";
const GRANT_FILE: &str = "grant.json";
const STEP_FILE: &str = "step";
const ERROR_FILE: &str = "error";
/// Longest error kept, in characters.
const ERROR_LIMIT: usize = 1000;

/// A container's record directory.
#[derive(Debug, Clone)]
pub struct RecordDirectory(PathBuf);

impl RecordDirectory {
    /// The record at `directory`, whether it exists or not.
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Makes the directory, empty.
    pub fn create(&self) -> anyhow::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0).with_context(|| format!("cannot make {}", self.0.display()))
    }

    /// Whether the directory exists.
    pub fn exists(&self) -> bool {
        self.0.symlink_metadata().is_ok()
    }

    /// Writes the plan.
    pub fn put_plan(&self, plan: &ContainerPlan) -> anyhow::Result<()> {
        self.put(PLAN_FILE, plan)
    }

    /// Reads the plan back.
    pub fn plan(&self) -> anyhow::Result<ContainerPlan> {
        let file = self.0.join(PLAN_FILE);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid", file.display()))
    }

    /// Writes what the guest gets.
    pub fn put_credentials(&self, settings: &GuestSettings, grant: &Grant) -> anyhow::Result<()> {
        self.put(GUEST_FILE, settings)?;
        self.put(GRANT_FILE, grant)
    }

    /// The file with the guest's settings.
    pub fn guest_file(&self) -> PathBuf {
        self.0.join(GUEST_FILE)
    }

    /// The file with the grant.
    pub fn grant_file(&self) -> PathBuf {
        self.0.join(GRANT_FILE)
    }

    /// Notes the step that comes next.
    pub fn put_step(&self, step: &str) -> anyhow::Result<()> {
        self.write(STEP_FILE, step.as_bytes())
    }

    /// The step begun last.
    pub fn step(&self) -> Option<String> {
        fs::read_to_string(self.0.join(STEP_FILE)).ok()
    }

    /// Keeps an error for the ending; the first one is the cause, so a later one does not replace it.
    pub fn put_error(&self, error: &str) {
        if !self.0.join(ERROR_FILE).exists() {
            let short: String = error.chars().take(ERROR_LIMIT).collect();
            // Best effort: the error is on the journal anyway.
            let _ = self.write(ERROR_FILE, short.as_bytes());
        }
    }

    /// The error kept.
    pub fn error(&self) -> Option<String> {
        fs::read_to_string(self.0.join(ERROR_FILE)).ok()
    }

    fn put(&self, file: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.write(file, &serde_json::to_vec(value)?)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(file);
        let write = || -> io::Result<()> {
            let mut open = OpenOptions::new();
            let mut file: File = open.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What the containers with a record in `records` have; those that have no plan yet are left out.
pub fn plans(records: &Path) -> io::Result<Vec<ContainerPlan>> {
    let plan = |name: ContainerName| RecordDirectory::at(records.join(name.as_str())).plan().ok();
    Ok(names(records)?.into_iter().filter_map(plan).collect())
}

/// The containers that have an entry in `directory`; none when it does not exist.
pub fn names(directory: &Path) -> io::Result<Vec<ContainerName>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(names)
}
