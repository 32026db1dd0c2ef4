//! Talking to Linux: the calls and files of the kernel, and nothing of ours.
//!
//! The only crate that may say `unsafe`: [`syscall`] does, for three calls that no crate wraps.

pub mod cgroup;
pub mod conntrack;
pub mod mounts;
pub mod netlink;
pub mod remove;
pub mod syscall;
