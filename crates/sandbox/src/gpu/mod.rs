//! Graphics processors: what of the host's a class's containers get, and how they get it.
//!
//! What a vendor's tool wrote down counts first: CDI specifications ([`cdi`]). Without one, the host's nodes and libraries
//! are looked for ([`host`]). *prepare* decides once, and writes it into the plan; what it makes of that is in
//! [`graphics`](super::graphics).

mod cdi;
mod host;
mod trusted;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use contract::guest_settings::GpuSettings;
use serde::{Deserialize, Serialize};
use settings::{Gpu as Choice, Problem};

use self::{cdi::Specifications, host::Vendor};

const NVIDIA_KIND: &str = "nvidia.com/gpu";
/// The device that `nvidia-ctk` writes for all of a host.
const ALL: &str = "all";

/// What a container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Device nodes, of which it gets copies.
    pub devices: Vec<Seen>,
    /// Files and directories, which it cannot write.
    pub mounts: Vec<Seen>,
    /// What is done inside.
    pub guest: GpuSettings,
}

/// Something of the host's, and where a container sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seen {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub inside: PathBuf,
}

/// What was found for a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What containers get.
    pub gpu: Gpu,
    /// What specifications say and containers do not get, each with the reason.
    pub left_out: Vec<String>,
}

impl Found {
    fn leave_out(&mut self, what: impl fmt::Display, why: &str) {
        let line = format!("{what}: {why}");
        if !self.left_out.contains(&line) {
            self.left_out.push(line);
        }
    }
}

/// Why a class cannot have what it names.
#[derive(Debug)]
struct Refused {
    what: String,
    remedy: String,
}

impl Refused {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// What a class gets on the host with this root directory.
pub fn find(root: &Path, class: &str, choices: &[Choice]) -> Result<Found, Problem> {
    let problem = |Refused { what, remedy }| Problem::new(format!("class.{class}.gpu"), what, remedy);
    let specifications = Specifications::read(root);
    let mut found = Found::default();
    for choice in choices {
        add(root, choice, &specifications, &mut found).map_err(problem)?;
    }
    for refused in &specifications.refused {
        found.leave_out(refused, "root acts by what is root's alone");
    }
    if !choices.is_empty() {
        host::add_nixos_libraries(root, &mut found);
    }
    let gpu = &mut found.gpu;
    for seen in [&mut gpu.devices, &mut gpu.mounts] {
        let mut places = BTreeSet::new();
        seen.retain(|one| places.insert(one.inside.clone()));
    }
    // A file in a directory that is mounted as well is there already, and systemd-nspawn could make no mount point in it.
    let directories = gpu.mounts.clone();
    let is_in = |one: &Seen, outer: &Seen| one.inside != outer.inside && one.inside.starts_with(&outer.inside);
    gpu.mounts.retain(|one| !directories.iter().any(|outer| is_in(one, outer)));
    gpu.guest.links.sort_unstable();
    gpu.guest.links.dedup();
    gpu.guest.libraries.sort_unstable();
    gpu.guest.libraries.dedup();
    Ok(found)
}

fn add(root: &Path, choice: &Choice, specifications: &Specifications, found: &mut Found) -> Result<(), Refused> {
    let there = match choice {
        Choice::All => {
            let nvidia = add_nvidia(root, specifications, found)?;
            host::add_others(root, found) || nvidia
        }
        Choice::Nvidia => add_nvidia(root, specifications, found)?,
        Choice::Amd => host::add_vendor(root, Vendor::Amd, found),
        Choice::Intel => host::add_vendor(root, Vendor::Intel, found),
        Choice::Cdi { kind, name } => return specifications.add(root, kind, name, found),
        Choice::RenderNode(path) => return host::add_render_node(root, path, found),
    };
    if there { Ok(()) } else { Err(missing(choice)) }
}

/// By the specification if there is one; true if there is a processor.
fn add_nvidia(root: &Path, specifications: &Specifications, found: &mut Found) -> Result<bool, Refused> {
    let names = specifications.names(NVIDIA_KIND);
    if names.is_empty() {
        return Ok(host::add_nvidia(root, found));
    }
    // A specification that somebody wrote may not have it.
    let names = if names.contains(&ALL) { vec![ALL] } else { names };
    names.into_iter().try_for_each(|name| specifications.add(root, NVIDIA_KIND, name, found))?;
    Ok(true)
}

fn missing(choice: &Choice) -> Refused {
    let (what, driver) = match choice {
        Choice::Nvidia => ("of NVIDIA's: neither /dev/nvidia0 nor a CDI specification of nvidia.com/gpu", "nvidia"),
        Choice::Amd => ("of AMD's: no /dev/dri/renderD128, or another, of vendor 0x1002", "amdgpu"),
        Choice::Intel => ("of Intel's: no /dev/dri/renderD128, or another, of vendor 0x8086", "i915, xe"),
        _ => (
            "of any kind: neither /dev/nvidia0, /dev/dri/renderD128 nor /dev/kfd, or others of their kind",
            "nvidia, amdgpu, i915, xe",
        ),
    };
    Refused::new(
        format!("this host has no graphics processor {what}"),
        format!("load its driver ({driver}), or remove the key"),
    )
}

/// What systemd's device list says of them (systemd.resource-control(5)); kinds that the host does not have are ignored.
/// `m` is for *prepare*, which makes the copies. A render node is named itself, because the kernel goes by this list where
/// it shows AMD's processors through `/dev/kfd`.
pub fn device_allow(choices: &[Choice]) -> Vec<String> {
    let (nvidia, drm, kfd) = ("char-nvidia*", "char-drm", "char-kfd");
    let kinds = |choice: &Choice| match choice {
        Choice::Nvidia => vec![nvidia.to_owned(), drm.to_owned()],
        Choice::Intel => vec![drm.to_owned()],
        Choice::Amd => vec![drm.to_owned(), kfd.to_owned()],
        Choice::All | Choice::Cdi { .. } => [nvidia, drm, kfd].map(str::to_owned).to_vec(),
        Choice::RenderNode(path) => vec![path.display().to_string(), kfd.to_owned()],
    };
    let mut allowed: Vec<String> = Vec::new();
    for kind in choices.iter().flat_map(kinds) {
        if !allowed.contains(&kind) {
            allowed.push(kind);
        }
    }
    allowed.into_iter().map(|kind| format!("DeviceAllow={kind} rwm")).collect()
}

#[cfg(test)]
mod tests;
