//! The two system calls that no crate wraps safely, and nothing else: the only unsafe code there is.
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

/// Gives the detached mount `tree` the id mapping of `user_namespace` and this access, and makes it private and
/// without device files (mount_setattr(2); kernel 5.12 or newer).
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    let read_only = if access == Access::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_NODEV | read_only,
        attr_clr: 0,
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
