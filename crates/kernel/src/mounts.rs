//! Which mounts there are below a directory, and getting rid of them.

use std::{
    ffi::OsString,
    fs, io,
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    mount::UnmountFlags,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// How often a busy mount is tried before it is detached.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Moves this process, which must have one thread, into the mount namespace of process 1, if it has another. systemd gives
/// each command of a unit with a journal namespace one of its own, in which nothing can be mounted for the next command.
pub fn join_host() -> io::Result<()> {
    if fs::read_link("/proc/self/ns/mnt")? == fs::read_link("/proc/1/ns/mnt")? {
        return Ok(());
    }
    let host = fs::File::open("/proc/1/ns/mnt")?;
    Ok(move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Mount))?)
}

/// The mount points at and below `directory`, in the order they were mounted (proc_pid_mountinfo(5)).
pub fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    Ok(parse(&table).filter(|point| point.starts_with(directory)).collect())
}

fn parse(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
}

/// The kernel writes white space and backslashes as three octal digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                bytes.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// Unmounts everything at and below `directory`, last mounted first. What stays busy is detached, so that it goes
/// away with its last user; what not even that removes is returned.
pub fn clear(directory: &Path) -> Vec<String> {
    let points = match below(directory) {
        Ok(points) => points,
        Err(error) => return vec![format!("mounts below {}: {error}", directory.display())],
    };
    points.iter().rev().filter_map(|point| unmount(point).err().map(|e| format!("{}: {e}", point.display()))).collect()
}

fn unmount(point: &Path) -> Result<(), Errno> {
    for _ in 0..TRIES {
        match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
            // Invalid: it is no mount point any more; somebody else unmounted it.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    rustix::mount::unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_the_fifth_field_with_its_escapes_undone() {
        let table = b"36 35 98:0 / /var/lib/x rw - ext4 /dev/sda rw\n37 36 0:1 / /a\\040b\\134 rw - tmpfs t rw\n";
        let points: Vec<PathBuf> = parse(table).collect();
        assert_eq!(points, [PathBuf::from("/var/lib/x"), PathBuf::from("/a b\\")]);
    }
}
