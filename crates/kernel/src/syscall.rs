//! The three system calls that no crate wraps safely, and nothing else: the only unsafe code there is.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::thread::UnshareFlags;

/// Whether what is mounted can be changed through that mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It cannot.
    ReadOnly,
    /// It can.
    ReadWrite,
}

/// Whether device files on a mount can be opened through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFiles {
    /// They cannot.
    Refused,
    /// The mount does not stand in their way.
    Allowed,
}

/// Gives the detached mount `tree` the id mapping of `user_namespace`, this access and this word on device files, and
/// makes it private (mount_setattr(2); kernel 5.12 or newer).
pub fn map_ids(
    tree: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    access: Access,
    device_files: DeviceFiles,
) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    let read_only = if access == Access::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let (set, cleared) = match device_files {
        DeviceFiles::Refused => (libc::MOUNT_ATTR_NODEV, 0),
        DeviceFiles::Allowed => (0, libc::MOUNT_ATTR_NODEV),
    };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | set | read_only,
        attr_clr: cleared,
        propagation: libc::MS_PRIVATE,
        userns_fd,
    };
    // SAFETY: the path is a NUL-terminated string and the structure is alive, initialised and of the size passed; the
    // kernel only reads both. The descriptors are borrowed, so they are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes a loop device that is attached to nothing; `control` is `/dev/loop-control` (loop(4), `LOOP_CTL_REMOVE`).
pub fn remove_loop(control: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    const LOOP_CTL_REMOVE: libc::Ioctl = 0x4C81;
    // SAFETY: the request takes a number and no pointer; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_REMOVE, libc::c_ulong::from(number)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A namespace to leave for a new one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// User and group ids; only for a process with one thread.
    User,
    /// Mounts, for the calling thread.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests mount in a namespace of their own"))]
    Mount,
    /// Network, for the calling thread.
    Network,
}

/// Moves the calling thread into a new namespace (unshare(2)).
pub fn unshare(namespace: Namespace) -> io::Result<()> {
    let flags = match namespace {
        Namespace::User => UnshareFlags::NEWUSER,
        Namespace::Mount => UnshareFlags::NEWNS,
        Namespace::Network => UnshareFlags::NEWNET,
    };
    // SAFETY: the call is unsafe for the sake of UnshareFlags::FILES alone, which is never passed.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
