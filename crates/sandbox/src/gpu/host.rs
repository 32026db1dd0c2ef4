//! What a host has where no specification says it: device nodes, and the libraries that go with NVIDIA's driver.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Found, Refused, Seen, cdi::below};

/// NVIDIA's: first the processors, then what goes with them.
const NVIDIA: &str = "nvidia";
const NVIDIA_COMPANIONS: [&str; 5] =
    ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps/nvidia-cap"];
const RENDER_NODE: &str = "dri/renderD";
const CARD: &str = "dri/card";
/// The one node by which all of AMD's compute. The kernel shows through it those processors whose render nodes the unit's
/// device list allows (`kfd_devcgroup_check_permission`).
const KFD: &str = "kfd";
/// NixOS keeps all libraries in one place.
const NIXOS_LIBRARIES: &str = "run/opengl-driver";
/// Elsewhere they lie among others.
const LIBRARY_DIRECTORIES: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64"];
const LIBRARIES: [&str; 6] =
    ["libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so", "libnvoptix.so", "libEGL_nvidia.so"];

/// Whose a processor is, as `/sys/class/drm/renderD128/device/vendor` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Amd,
    Intel,
}

impl Vendor {
    fn id(self) -> &'static str {
        match self {
            Self::Amd => "0x1002",
            Self::Intel => "0x8086",
        }
    }
}

/// Adds NVIDIA's nodes and libraries; true if there is a processor.
pub(super) fn add_nvidia(root: &Path, found: &mut Found) -> bool {
    let processors = numbered(root, NVIDIA);
    if processors.is_empty() {
        return false;
    }
    let companions = NVIDIA_COMPANIONS.into_iter().flat_map(|prefix| numbered(root, prefix));
    found.gpu.devices.extend(processors.into_iter().chain(companions));
    // Where NixOS keeps them the whole directory is added, for whatever processor.
    if !root.join(NIXOS_LIBRARIES).exists() {
        let is_ours = |name: &str| LIBRARIES.iter().any(|library| name.starts_with(library)) && name.contains(".so");
        for directory in LIBRARY_DIRECTORIES {
            let libraries = list(root, Path::new(directory), is_ours);
            if !libraries.is_empty() {
                found.gpu.guest.libraries.push(Path::new("/").join(directory));
            }
            found.gpu.mounts.extend(libraries);
        }
    }
    true
}

/// Adds the render nodes of a vendor's processors and, for AMD's, what computes; true if there is a processor.
pub(super) fn add_vendor(root: &Path, vendor: Vendor, found: &mut Found) -> bool {
    let nodes: Vec<Seen> =
        numbered(root, RENDER_NODE).into_iter().filter(|node| is_of(root, &node.inside, vendor)).collect();
    let there = !nodes.is_empty();
    found.gpu.devices.extend(nodes);
    if there && vendor == Vendor::Amd {
        found.gpu.devices.extend(numbered(root, KFD));
    }
    there
}

/// Adds every node that is not NVIDIA's own; true if there is a processor.
pub(super) fn add_others(root: &Path, found: &mut Found) -> bool {
    let processors = [RENDER_NODE, KFD].into_iter().flat_map(|prefix| numbered(root, prefix));
    let before = found.gpu.devices.len();
    found.gpu.devices.extend(processors);
    let there = found.gpu.devices.len() > before;
    if there {
        found.gpu.devices.extend(numbered(root, CARD));
    }
    there
}

/// Adds one processor by its render node, or by a link to that.
pub(super) fn add_render_node(root: &Path, path: &Path, found: &mut Found) -> Result<(), Refused> {
    let missing = || {
        Refused::new(
            format!("render node {} does not exist", path.display()),
            "write one that does: ls -l /dev/dri/by-path; or load its driver (amdgpu, i915, xe)",
        )
    };
    let source = fs::canonicalize(below(root, path)).map_err(|_| missing())?;
    let node = numbered(root, RENDER_NODE)
        .into_iter()
        .find(|node| fs::canonicalize(&node.source).is_ok_and(|real| real == source))
        .ok_or_else(missing)?;
    if is_of(root, &node.inside, Vendor::Amd) {
        found.gpu.devices.extend(numbered(root, KFD));
    }
    found.gpu.devices.push(node);
    Ok(())
}

/// Adds the libraries of a NixOS host.
pub(super) fn add_nixos_libraries(root: &Path, found: &mut Found) {
    let inside = Path::new("/").join(NIXOS_LIBRARIES);
    let source = root.join(NIXOS_LIBRARIES);
    if source.exists() && !found.gpu.mounts.iter().any(|mount| mount.inside == inside) {
        found.gpu.mounts.push(Seen { source, inside });
    }
}

fn is_of(root: &Path, node: &Path, vendor: Vendor) -> bool {
    let name = node.file_name().unwrap_or_default();
    let file = root.join("sys/class/drm").join(name).join("device/vendor");
    fs::read_to_string(file).is_ok_and(|id| id.trim() == vendor.id())
}

/// Nodes below `/dev` that begin so and go on with a number, or with nothing; in their order.
fn numbered(root: &Path, prefix: &str) -> Vec<Seen> {
    let path = Path::new("dev").join(prefix);
    let (Some(parent), Some(start)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let alone = [KFD].contains(&prefix) || NVIDIA_COMPANIONS[..4].contains(&prefix);
    list(root, parent, |name| {
        name.strip_prefix(start).is_some_and(|rest| match alone {
            true => rest.is_empty(),
            false => !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()),
        })
    })
}

/// Entries of a directory of the host whose name is as wanted, sorted; none where there is no directory.
fn list(root: &Path, directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Seen> {
    let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| wanted(name)).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    let seen = |name: String| {
        let inside: PathBuf = Path::new("/").join(directory).join(name);
        Seen { source: below(root, &inside), inside }
    };
    names.into_iter().map(seen).collect()
}
