#![allow(clippy::unwrap_used)]
mod cdi;

use std::{fs, os::unix::fs::symlink};

use super::*;

/// A host with these files, and links with what they lead to.
fn host(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|file| put(root.path(), file, ""));
    root
}

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn found(root: &Path, names: &[&str]) -> Result<Found, String> {
    let choices: Vec<Choice> = names.iter().map(|name| name.parse().unwrap()).collect();
    find(root, "big", &choices).map_err(|problem| problem.to_string())
}

fn inside(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|one| one.inside.to_str().unwrap()).collect()
}

#[test]
fn what_a_host_has_is_found_and_nothing_else_is_passed() {
    let root = host(&[
        "dev/nvidia0",
        "dev/nvidia10",
        "dev/nvidiactl",
        "dev/nvidia-uvm",
        "dev/nvidia-uvm-tools",
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
    let nvidia = [
        "/dev/nvidia0",
        "/dev/nvidia10",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-caps/nvidia-cap1",
    ];
    let all = found(root.path(), &["all"]).unwrap().gpu;
    assert_eq!(inside(&all.devices), [&nvidia[..], &["/dev/dri/renderD128", "/dev/dri/card0"]].concat());
    assert_eq!(all.devices[0].source, root.path().join("dev/nvidia0"));
    let libraries = ["libcuda.so.1", "libnvidia-ml.so.1"].map(|name| format!("/usr/lib/x86_64-linux-gnu/{name}"));
    assert_eq!(inside(&all.mounts), libraries);
    assert_eq!(all.guest.libraries, [PathBuf::from("/usr/lib/x86_64-linux-gnu")]);
    let one = found(root.path(), &["nvidia"]).unwrap().gpu;
    assert_eq!((inside(&one.devices), one.mounts), (nvidia.to_vec(), all.mounts));
}

#[test]
fn a_vendors_processors_are_told_apart_and_amds_have_the_node_by_which_they_compute() {
    let root = host(&["dev/dri/renderD128", "dev/dri/renderD129", "dev/dri/renderD130", "dev/dri/card0", "dev/kfd"]);
    for (node, vendor) in [("128", "0x8086"), ("129", "0x1002"), ("130", "0x1002")] {
        put(root.path(), &format!("sys/class/drm/renderD{node}/device/vendor"), &format!("{vendor}\n"));
    }
    let by_path = root.path().join("dev/dri/by-path");
    fs::create_dir_all(&by_path).unwrap();
    symlink("../renderD130", by_path.join("pci-0000:03:00.0-render")).unwrap();
    let devices = |names: &[&str]| -> Vec<String> {
        inside(&found(root.path(), names).unwrap().gpu.devices).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(devices(&["intel"]), ["/dev/dri/renderD128"]);
    assert_eq!(devices(&["amd"]), ["/dev/dri/renderD129", "/dev/dri/renderD130", "/dev/kfd"]);
    // A name that stays is a link; the container sees what it leads to, and no other card.
    assert_eq!(devices(&["/dev/dri/by-path/pci-0000:03:00.0-render"]), ["/dev/kfd", "/dev/dri/renderD130"]);
    assert_eq!(devices(&["/dev/dri/renderD128", "intel"]), ["/dev/dri/renderD128"], "each once");
    let said = found(root.path(), &["/dev/dri/renderD140"]).unwrap_err();
    assert!(said.contains("/dev/dri/renderD140 does not exist") && said.contains("ls -l /dev/dri/by-path"), "{said}");
    let said = found(root.path(), &["nvidia"]).unwrap_err();
    assert!(said.contains("class.big.gpu: this host has no graphics processor of NVIDIA's"), "{said}");
}

#[test]
fn nixos_has_the_libraries_in_one_place() {
    let root = host(&["dev/dri/renderD128", "run/opengl-driver/lib/libcuda.so"]);
    let gpu = found(root.path(), &["all"]).unwrap().gpu;
    assert_eq!(inside(&gpu.mounts), ["/run/opengl-driver"]);
}

#[test]
fn a_host_without_one_is_told_what_is_missing() {
    // A screen without a processor that computes, and a driver that is loaded for no card.
    let root = host(&["dev/dri/card0", "dev/nvidiactl", "dev/null"]);
    let said = found(root.path(), &["all"]).unwrap_err();
    assert!(said.contains("class.big.gpu") && said.contains("Remedy: load its driver"), "{said}");
    assert_eq!(found(root.path(), &[]).unwrap(), Found::default());
}

#[test]
fn the_device_list_names_no_more_than_the_class_does() {
    let list = |names: &[&str]| {
        let choices: Vec<Choice> = names.iter().map(|name| name.parse().unwrap()).collect();
        device_allow(&choices).join(" ").replace("DeviceAllow=", "").replace(" rwm", "")
    };
    assert_eq!(list(&[]), "");
    assert_eq!(list(&["intel"]), "char-drm");
    // One of several: the kernel asks this list which of AMD's to show.
    let node = "/dev/dri/by-path/pci-0000:03:00.0-render";
    assert_eq!(list(&[node]), format!("{node} char-kfd"));
    assert_eq!(list(&["nvidia", "nvidia.com/gpu=0"]), "char-nvidia* char-drm char-kfd");
}
