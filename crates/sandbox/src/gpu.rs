//! Graphics processors: the host's device nodes and the libraries that go with its driver, for classes that ask for them.
//!
//! The nodes a container gets are copies, made for it with its own root as the owner: the host's belong to groups that
//! do not exist inside. What may be done with them is in the unit's device list as well.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rustix::fs::FileType;
use settings::Problem;

use super::{devices, private::make_private};

/// What systemd's device list says of them (systemd.resource-control(5)); kinds that the host does not have are ignored.
/// `m` is for *prepare*, which makes the copies.
pub const DEVICE_ALLOW: &str = "DeviceAllow=char-nvidia* rwm\nDeviceAllow=char-drm rwm\nDeviceAllow=char-kfd rwm\n";
const DIRECTORY: &str = "gpu";
/// A node of one of these kinds is a processor; the others only go with one.
const PROCESSORS: [&str; 3] = ["nvidia", "dri/renderD", "kfd"];
const COMPANIONS: [&str; 6] =
    ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps/nvidia-cap", "dri/card"];
/// NixOS keeps all of them in one place.
const NIXOS_LIBRARIES: &str = "run/opengl-driver";
/// Elsewhere they lie among others.
const LIBRARY_DIRECTORIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib64"];
const LIBRARIES: [&str; 6] =
    ["libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so", "libnvoptix.so", "libEGL_nvidia.so"];

/// What a host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Device nodes.
    pub devices: Vec<PathBuf>,
    /// Libraries, or one directory of them, seen inside under the same path.
    pub libraries: Vec<PathBuf>,
}

/// Finds what the host with this root directory has; none = no processor.
pub fn find(root: &Path) -> Option<Gpu> {
    let dev = root.join("dev");
    let numbered = |prefix: &str| -> Vec<PathBuf> {
        let path = dev.join(prefix);
        let (Some(parent), Some(start)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Vec::new();
        };
        let is_numbered =
            |name: &str| name.strip_prefix(start).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        list(parent, is_numbered)
    };
    let processors: Vec<PathBuf> = PROCESSORS.into_iter().flat_map(numbered).collect();
    if processors.is_empty() {
        return None;
    }
    let devices = processors.into_iter().chain(COMPANIONS.into_iter().flat_map(numbered)).collect();
    let together = root.join(NIXOS_LIBRARIES);
    let is_ours = |name: &str| LIBRARIES.iter().any(|library| name.starts_with(library)) && name.contains(".so");
    let libraries = match together.exists() {
        true => vec![together],
        false => LIBRARY_DIRECTORIES.iter().flat_map(|directory| list(&root.join(directory), is_ours)).collect(),
    };
    Some(Gpu { devices, libraries })
}

/// Entries of a directory whose name is as wanted, sorted; none where there is no directory.
fn list(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted)).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// What to say where a class asks for one and the host has none.
pub fn missing(class: &str) -> Problem {
    Problem::new(
        format!("class.{class}.gpu"),
        "this host has no graphics processor: neither /dev/nvidia0, /dev/dri/renderD128 nor /dev/kfd, or others of their kind",
        "load its driver (nvidia, amdgpu, i915, xe), or remove the key",
    )
}

/// Makes the container's copies of the device nodes in `layers`.
pub fn make(layers: &Path, class: &str, uid_base: u32) -> anyhow::Result<()> {
    let gpu = find(Path::new("/")).with_context(|| missing(class).to_string())?;
    for device in &gpu.devices {
        let copy = copy_of(layers, device);
        copy_node(device, &copy, uid_base).with_context(|| format!("cannot copy {}", device.display()))?;
    }
    Ok(())
}

fn copy_node(device: &Path, copy: &Path, uid_base: u32) -> anyhow::Result<()> {
    let found = fs::metadata(device)?;
    ensure!(found.file_type().is_char_device(), "it is not a character device");
    let parents: Vec<&Path> = copy.ancestors().skip(1).take_while(|path| !path.exists()).collect();
    parents.into_iter().rev().try_for_each(make_private)?;
    Ok(devices::put_node(copy, FileType::CharacterDevice, found.rdev(), uid_base)?)
}

fn copy_of(layers: &Path, device: &Path) -> PathBuf {
    layers.join(DIRECTORY).join(device.strip_prefix("/").unwrap_or(device))
}

/// What is bound into the container: writable nodes, and libraries that are not.
pub fn binds(layers: &Path, gpu: &Gpu) -> (Vec<(PathBuf, PathBuf)>, Vec<PathBuf>) {
    (gpu.devices.iter().map(|device| (copy_of(layers, device), device.clone())).collect(), gpu.libraries.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host(files: &[&str]) -> (tempfile::TempDir, Option<Gpu>) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = find(root.path());
        (root, found)
    }

    #[test]
    fn what_a_host_has_is_found_and_nothing_else_is_passed() {
        let (root, gpu) = host(&[
            "dev/nvidia0",
            "dev/nvidia10",
            "dev/nvidiactl",
            "dev/nvidia-uvm",
            "dev/nvidia-caps/nvidia-cap1",
            "dev/nvram",
            "dev/sda",
            "dev/mem",
            "dev/dri/renderD128",
            "dev/dri/card0",
            "dev/dri/by-path/pci-0000:01:00.0-card",
            "usr/lib/x86_64-linux-gnu/libcuda.so.1",
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
            "usr/lib/x86_64-linux-gnu/libnvidia-container-tools.txt",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
        ]);
        let gpu = gpu.unwrap();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(
            names(&gpu.devices),
            [
                "dev/nvidia0",
                "dev/nvidia10",
                "dev/dri/renderD128",
                "dev/nvidiactl",
                "dev/nvidia-uvm",
                "dev/nvidia-caps/nvidia-cap1",
                "dev/dri/card0",
            ]
        );
        let libraries = ["libcuda.so.1", "libnvidia-ml.so.1"].map(|name| format!("usr/lib/x86_64-linux-gnu/{name}"));
        assert_eq!(names(&gpu.libraries), libraries);
    }

    #[test]
    fn nixos_has_the_libraries_in_one_place() {
        let (root, gpu) = host(&["dev/dri/renderD128", "run/opengl-driver/lib/libcuda.so"]);
        assert_eq!(gpu.unwrap().libraries, [root.path().join("run/opengl-driver")]);
    }

    #[test]
    fn a_host_without_one_is_told_what_is_missing() {
        // A screen without a processor that computes, and a driver that is loaded for no card.
        let (_root, gpu) = host(&["dev/dri/card0", "dev/nvidiactl", "dev/null"]);
        assert_eq!(gpu, None);
        let said = missing("big").to_string();
        assert!(said.contains("class.big.gpu") && said.contains("Remedy: load its driver"), "{said}");
    }

    #[test]
    fn a_container_sees_its_copies_where_the_hosts_nodes_are_and_libraries_as_they_are() {
        let gpu = Gpu {
            devices: vec!["/dev/nvidia0".into(), "/dev/dri/renderD128".into()],
            libraries: vec!["/usr/lib64/libcuda.so.1".into()],
        };
        let (devices, libraries) = binds(Path::new("/layers"), &gpu);
        let at = |copy: &str, node: &str| (PathBuf::from(copy), PathBuf::from(node));
        assert_eq!(
            devices,
            [
                at("/layers/gpu/dev/nvidia0", "/dev/nvidia0"),
                at("/layers/gpu/dev/dri/renderD128", "/dev/dri/renderD128")
            ]
        );
        assert_eq!(libraries, gpu.libraries);
    }

    #[test]
    fn the_containers_node_is_a_copy_of_its_own() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can make device nodes");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let copy = copy_of(home.path(), Path::new("/dev/dri/renderD128"));
        copy_node(Path::new("/dev/null"), &copy, 70_000).unwrap();
        let (made, null) = (fs::metadata(&copy).unwrap(), fs::metadata("/dev/null").unwrap());
        assert_eq!((made.rdev(), made.uid(), made.mode() & 0o777), (null.rdev(), 70_000, 0o666));
        assert!(copy_node(home.path(), &copy, 1).is_err());
    }
}
