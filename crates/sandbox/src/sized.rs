//! File systems of a limited size, each in a sparse file, on whatever file system there is.
//!
//! Quotas would need a file system that was made and mounted for them. A file with a file system in it needs nothing
//! but loop devices, takes only the space that is used, limits inodes as well, and goes in one step however much was
//! written.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::mount::UnmountFlags;

use super::{private::make_private, stores};

/// How often a mount is tried.
const TRIES: u32 = 4;
const KEPT_OPTIONS: &str = "loop,nodev,noatime";
const PAUSE: Duration = Duration::from_millis(50);

/// Mounts the file system in `file` at `at`, making it first if it is not there. One that cannot be mounted, after a
/// crash perhaps, is made anew: nothing in it is worth more than the time to fetch it again.
pub fn mount_kept(file: &Path, size: u64, at: &Path) -> anyhow::Result<()> {
    if file.exists() {
        match mount(file, at, KEPT_OPTIONS) {
            Err(error) => eprintln!("{error:#}; it is made anew"),
            Ok(()) => return stores::touch(file).with_context(|| format!("cannot touch {}", file.display())),
        }
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    make_kept(file, size, at)
}

/// Puts an empty file system in place of the one in `file`, which is mounted at `at` and nowhere else.
pub fn mount_anew(file: &Path, size: u64, at: &Path) -> anyhow::Result<()> {
    rustix::mount::unmount(at, UnmountFlags::NOFOLLOW).with_context(|| format!("cannot unmount {}", at.display()))?;
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    make_kept(file, size, at)
}

fn make_kept(file: &Path, size: u64, at: &Path) -> anyhow::Result<()> {
    let fresh = unfinished(file);
    make(&fresh, size, &[])?;
    fs::rename(&fresh, file).with_context(|| format!("cannot make {}", file.display()))?;
    mount(file, at, KEPT_OPTIONS)
}

/// Its name until it is whole. No target, class or cache has a tilde in its name, so it is nobody else's.
pub fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("~");
    name.into()
}

/// Makes `at` a directory with a file system of `size` bytes in it, backed by `file`, which *teardown* removes.
pub fn make_room(file: &Path, size: u64, at: &Path) -> anyhow::Result<()> {
    make_private(file.parent().context("the file has no directory")?)?;
    // Nothing in it is to survive anything, so it keeps no journal.
    make(file, size, &["-O", "^has_journal"])?;
    make_private(at)?;
    // Device nodes in it are the sandbox's own; the container gets none of it but by binds, and its root by an overlay.
    mount(file, at, "loop,noatime")
}

/// Makes a file with an empty file system of `size` bytes in it, in place of one that is there.
fn make(file: &Path, size: u64, options: &[&str]) -> anyhow::Result<()> {
    let allot = || -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?.set_len(size)
    };
    allot().with_context(|| format!("cannot make {}", file.display()))?;
    // What is not written when it is made is written when it is first needed, or by the kernel at leisure.
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
    run(command.args(options).arg(file)).context("cannot make a file system; mkfs.ext4 is in Debian's e2fsprogs")
}

/// Mounts it. The loop device goes with the last mount of it; while that is under way, another mount can fail.
fn mount(file: &Path, at: &Path, options: &str) -> anyhow::Result<()> {
    let mount = || run(Command::new("mount").args(["-t", "ext4", "-o", options].map(OsStr::new)).args([file, at]));
    for _ in 1..TRIES {
        if mount().is_ok() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    mount()
}

/// Runs a program of the host's to its end. How long that may take is the unit's business (`TimeoutStartSec=`).
fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}: {}", output.status, said.trim());
    }
    Ok(())
}
