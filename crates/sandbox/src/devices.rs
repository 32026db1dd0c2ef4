//! Devices of the host that a class asks for by name; what each costs: docs/security.md#devices.
//!
//! ```text
//! <roots>/<name>/devices/kvm         /dev/kvm
//! <roots>/<name>/devices/fuse        /dev/fuse
//! <roots>/<name>/devices/tun         /dev/net/tun
//! <roots>/<name>/devices/loop4096    /dev/loop4096, and so on: numbers that no other container has
//! ```
//!
//! The nodes a container gets are made for it, with its own root as the owner: the host's belong to groups that do not
//! exist inside. What may be done with them is in the unit's device list as well. Loop devices are the kernel's, not a
//! container's: *teardown* detaches what the job left attached, and removes them.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, chown},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use kernel::syscall;
use rustix::{
    fs::{CWD, FileType, Mode, makedev},
    mount::MountFlags,
};
use settings::{Device, IDS, Problem};

use super::{ContainerPlan, private::make_private};

const DIRECTORY: &str = "devices";
/// Loop devices have this number, and one of their own.
const LOOP_MAJOR: u32 = 7;
/// How many a container has, and the first one's number: so high that the kernel, which gives out the lowest that is
/// free, gives none of them to anybody else.
const LOOPS: u32 = 8;
const FIRST_LOOP: u32 = 4096;
/// How often the removal of one is tried.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// A device's node on the host.
fn node(device: Device) -> &'static str {
    match device {
        Device::Kvm => "/dev/kvm",
        Device::Fuse => "/dev/fuse",
        Device::Tun => "/dev/net/tun",
        Device::Loop => "/dev/loop-control",
    }
}

/// What systemd's device list says of them (systemd.resource-control(5)). `m` is for *prepare*, which makes the nodes.
pub fn device_allow(devices: &[Device]) -> String {
    let line = |device: &Device| match device {
        // The control node is for *teardown*; the container has none.
        Device::Loop => format!("DeviceAllow={} rw\nDeviceAllow=block-loop rwm\n", node(Device::Loop)),
        other => format!("DeviceAllow={} rwm\n", node(*other)),
    };
    devices.iter().map(line).collect()
}

/// What to say of those that a class asks for and the host with this root directory does not have.
pub fn missing(root: &Path, class: &str, devices: &[Device]) -> Vec<Problem> {
    let absent = |device: &&Device| !root.join(node(**device).trim_start_matches('/')).exists();
    let remedy = |device: Device| match device {
        Device::Kvm => {
            "load the module kvm_intel or kvm_amd and switch virtualisation on in the machine's firmware, or in its own host \
             if it is a virtual machine; or remove kvm"
        }
        Device::Fuse => "load the module fuse, or remove fuse",
        Device::Tun => "load the module tun, or remove tun",
        Device::Loop => "load the module loop, or remove loop",
    };
    let problem = |device: &Device| {
        let said = format!("this host has no {}", node(*device));
        Problem::new(format!("class.{class}.devices"), said, remedy(*device))
    };
    devices.iter().filter(absent).map(problem).collect()
}

/// Makes the container's nodes in `layers`.
pub fn make(layers: &Path, plan: &ContainerPlan) -> anyhow::Result<()> {
    if plan.devices.is_empty() {
        return Ok(());
    }
    if let Some(problem) = missing(Path::new("/"), &plan.class, &plan.devices).first() {
        anyhow::bail!("{problem}");
    }
    let directory = layers.join(DIRECTORY);
    make_private(&directory)?;
    // Nodes on the host's own file system might not be opened: it may be mounted so.
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("gha-runner-devices", &directory, "tmpfs", flags, c"mode=0700,size=64k,nr_inodes=64")
        .with_context(|| format!("cannot mount {}", directory.display()))?;
    for (place, inside) in binds(layers, plan) {
        let (kind, number) = match loop_number(&inside) {
            Some(number) => (FileType::BlockDevice, makedev(LOOP_MAJOR, number)),
            None => {
                let found = fs::metadata(&inside).with_context(|| format!("cannot find {}", inside.display()))?;
                ensure!(found.file_type().is_char_device(), "{} is not a character device", inside.display());
                (FileType::CharacterDevice, found.rdev())
            }
        };
        put_node(&place, kind, number, plan.uid_base).with_context(|| format!("cannot make {}", place.display()))?;
    }
    Ok(())
}

/// Makes a device node that everybody in the container may use. One that is there stays.
pub(super) fn put_node(at: &Path, kind: FileType, number: u64, uid_base: u32) -> io::Result<()> {
    match rustix::fs::mknodat(CWD, at, kind, Mode::from_raw_mode(0o666), number) {
        Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    chown(at, Some(uid_base), Some(uid_base))
}

/// What is bound into the container, and where.
pub fn binds(layers: &Path, plan: &ContainerPlan) -> Vec<(PathBuf, PathBuf)> {
    let inside = |device: &Device| -> Vec<PathBuf> {
        match device {
            Device::Loop => loops(plan.uid_base).map(|number| format!("/dev/loop{number}").into()).collect(),
            other => vec![node(*other).into()],
        }
    };
    let place = |inside: PathBuf| {
        let name = inside.file_name().map(PathBuf::from).unwrap_or_default();
        (layers.join(DIRECTORY).join(name), inside)
    };
    plan.devices.iter().flat_map(inside).map(place).collect()
}

/// The numbers of a container's loop devices, by its range of ids, which no other live container has.
fn loops(uid_base: u32) -> impl Iterator<Item = u32> {
    let first = FIRST_LOOP + uid_base / IDS * LOOPS;
    first..first + LOOPS
}

fn loop_number(inside: &Path) -> Option<u32> {
    inside.file_name()?.to_str()?.strip_prefix("loop")?.parse().ok()
}

/// Detaches what is still attached to the loop devices of the container with these layers, and removes the devices, so that
/// the kernel gives them to nobody else; what could not be done, one line each.
pub fn release(layers: &Path) -> Vec<String> {
    let nodes = fs::read_dir(layers.join(DIRECTORY)).into_iter().flatten().flatten().map(|entry| entry.path());
    let there = |number: &u32| Path::new(&format!("/sys/block/loop{number}")).exists();
    let loops: Vec<(PathBuf, u32)> =
        nodes.filter_map(|node| loop_number(&node).filter(there).map(|number| (node, number))).collect();
    if loops.is_empty() {
        return Vec::new();
    }
    let control = match File::options().read(true).write(true).open(node(Device::Loop)) {
        Ok(control) => control,
        Err(error) => return vec![format!("{}: {error}", node(Device::Loop))],
    };
    let released = |(node, number): (PathBuf, u32)| {
        release_one(&control, &node, number).err().map(|error| format!("loop device {number}: {error:#}"))
    };
    loops.into_iter().filter_map(released).collect()
}

fn release_one(control: &File, node: &Path, number: u32) -> anyhow::Result<()> {
    let attached = format!("/sys/block/loop{number}/loop");
    let mut last = None;
    for _ in 0..TRIES {
        if Path::new(&attached).exists() {
            let output = Command::new("losetup").arg("--detach").arg(node).stdin(Stdio::null()).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        match syscall::remove_loop(control.as_fd(), number) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Somebody is looking at it, udev perhaps.
            Err(error) => last = Some(error),
        }
        std::thread::sleep(PAUSE);
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no try was made"), Into::into))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_host_does_not_have_is_named_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev/net")).unwrap();
        fs::write(root.path().join("dev/net/tun"), "").unwrap();
        let all = [Device::Kvm, Device::Fuse, Device::Tun, Device::Loop];
        let said: Vec<String> = missing(root.path(), "vm", &all).iter().map(ToString::to_string).collect();
        for (line, device) in said.iter().zip(["/dev/kvm", "/dev/fuse", "/dev/loop-control"]) {
            assert!(line.contains("class.vm.devices") && line.contains(device) && line.contains("load"), "{line}");
        }
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn no_two_containers_have_the_same_loop_devices_and_the_kernel_has_numbers_for_all() {
        let first: Vec<u32> = loops(536_870_912).collect();
        let next: Vec<u32> = loops(536_870_912 + IDS).collect();
        assert!(first.iter().all(|number| !next.contains(number)));
        // Minor numbers have twenty bits.
        assert!(loops(1_879_048_191).all(|number| number < 1 << 20));
    }
}
