//! Where everything of a container lies on the host.

use std::path::PathBuf;

use contract::{ContainerName, ENDINGS_DIR, HANDOVER_DIR, event::EVENTS_DIR};

use crate::{gc_root, guest};

/// Root-owned copies and records: one directory a container, readable by root alone, on a tmpfs.
pub const RECORDS_DIR: &str = "/run/gha-runner-sandbox";
/// Root file systems: one directory a container, readable by root alone.
pub const ROOTS_DIR: &str = "/var/lib/gha-runner-sandbox";
/// What outlives containers: image stores of classes that keep them, readable by root alone.
pub const STORES_DIR: &str = "/var/lib/gha-runner-stores";
/// Backing files of root file systems that are limited in size, one a container, readable by root alone.
pub const DISKS_DIR: &str = "/var/lib/gha-runner-disks";
/// Where systemd-nspawn keeps a directory for each machine and a lock file for each root directory; it leaves both
/// behind when it is killed.
const NSPAWN_DIR: &str = "/run/systemd/nspawn";

/// The base directories; the default is what production uses, tests put them elsewhere.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Written by the controller: [`HANDOVER_DIR`].
    pub handover: PathBuf,
    /// [`RECORDS_DIR`].
    pub records: PathBuf,
    /// [`ROOTS_DIR`].
    pub roots: PathBuf,
    /// [`DISKS_DIR`].
    pub disks: PathBuf,
    /// [`STORES_DIR`].
    pub stores: PathBuf,
    /// [`EVENTS_DIR`].
    pub events: PathBuf,
    /// [`ENDINGS_DIR`].
    pub endings: PathBuf,
    /// [`gc_root::ROOTS_DIR`].
    pub gc_roots: PathBuf,
    /// systemd-nspawn's own.
    pub nspawn: PathBuf,
    /// The guest's program, for a container that boots a tree ([`super::guest`]): beside this one.
    pub guest: PathBuf,
    /// The program that holds a user namespace open ([`super::user_namespace`]): this one.
    pub helper: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            handover: HANDOVER_DIR.into(),
            records: RECORDS_DIR.into(),
            roots: ROOTS_DIR.into(),
            disks: DISKS_DIR.into(),
            stores: STORES_DIR.into(),
            events: EVENTS_DIR.into(),
            endings: ENDINGS_DIR.into(),
            gc_roots: gc_root::ROOTS_DIR.into(),
            nspawn: NSPAWN_DIR.into(),
            // Where this program cannot be found, *prepare* says that the guest is missing.
            guest: guest::beside(&std::env::current_exe().unwrap_or_default()),
            helper: "/proc/self/exe".into(),
        }
    }
}

impl Paths {
    /// Root-owned copies and records of one container.
    pub fn record(&self, name: &ContainerName) -> PathBuf {
        self.records.join(name.as_str())
    }

    /// The directory that holds the container's root file system and its layers.
    pub fn layers(&self, name: &ContainerName) -> PathBuf {
        self.roots.join(name.as_str())
    }

    /// The file with the container's file system, if that is limited in size.
    pub fn disk(&self, name: &ContainerName) -> PathBuf {
        self.disks.join(name.as_str())
    }

    /// The container's root file system.
    pub fn root(&self, name: &ContainerName) -> PathBuf {
        self.layers(name).join("root")
    }

    /// The directory of the container's event socket.
    pub fn event(&self, name: &ContainerName) -> PathBuf {
        self.events.join(name.as_str())
    }
}
