//! System calls that no safe crate has, and sockets below TCP and UDP.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; a descriptor that is returned is ours.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn send(socket: &OwnedFd, packet: &[u8], address: *const libc::sockaddr, length: usize) -> io::Result<()> {
    // SAFETY: both callers pass a live address of this length.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, address, length as libc::socklen_t)
    };
    check(sent as i64).map(drop)
}

/// Waits for a packet that `wanted` recognises.
fn wait(socket: &OwnedFd, patience: Duration, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let deadline = std::time::Instant::now() + patience;
    let mut buffer = [0; 65_536];
    while std::time::Instant::now() < deadline {
        // SAFETY: the buffer is alive and of this length.
        let read =
            unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(read) {
            Ok(length) if wanted(&buffer[..length]) => return Ok(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

fn sum(bytes: &[u8]) -> u16 {
    let mut total: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// Sends a UDP packet that says it comes from `source`.
pub fn send_forged(source: Ipv4Addr, target: Ipv4Addr, port: u16, text: &[u8]) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let length = 28 + text.len();
    let mut packet = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0, 0, 64, libc::IPPROTO_UDP as u8, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend([0x9c, 0x40, (port >> 8) as u8, port as u8]);
    let udp = 8 + text.len();
    packet.extend([(udp >> 8) as u8, udp as u8, 0, 0]);
    packet.extend(text);
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(target).to_be() },
        sin_zero: [0; 8],
    };
    send(&socket, &packet, (&raw const to).cast(), size_of_val(&to))
}

/// An ICMP echo request, and its answer.
pub fn ping(target: Ipv4Addr) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    let mut packet = vec![8, 0, 0, 0, 0x67, 0x68, 0, 1];
    let total = sum(&packet);
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(target).to_be() },
        sin_zero: [0; 8],
    };
    send(&socket, &packet, (&raw const to).cast(), size_of_val(&to))?;
    let answer = |bytes: &[u8]| bytes.len() >= 28 && bytes[12..16] == target.octets() && bytes[20] == 0;
    wait(&socket, Duration::from_millis(800), answer).map(drop)
}

/// An ICMPv6 echo request to all nodes of the link, and any answer of somebody else.
pub fn ping_all_nodes(link: &str) -> io::Result<()> {
    let socket = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
    let mut address = [0; 16];
    (address[0], address[1], address[15]) = (0xff, 0x02, 1);
    let to = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as u16,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address },
        sin6_scope_id: index(link)?,
    };
    // Kind, code and checksum, which the kernel fills in; identifier and number.
    let off: i32 = 0;
    // Not to be answered by this machine itself. SAFETY: the number is alive and of this size.
    check(i64::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_LOOP,
            (&raw const off).cast(),
            size_of_val(&off) as libc::socklen_t,
        )
    }))?;
    let packet = [128, 0, 0, 0, 0x67, 0x68, 0, 1];
    send(&socket, &packet, (&raw const to).cast(), size_of_val(&to))?;
    wait(&socket, Duration::from_millis(800), |bytes| bytes.first() == Some(&129)).map(drop)
}

fn index(link: &str) -> io::Result<u32> {
    let name = CString::new(link)?;
    // SAFETY: a NUL-terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn packet_address(link: &str) -> io::Result<libc::sockaddr_ll> {
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
        sll_ifindex: index(link)? as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    })
}

/// Asks for `target`'s hardware address in the name of `claimed`, who is said to be at `mac`.
pub fn claim_by_arp(link: &str, claimed: Ipv4Addr, mac: [u8; 6], target: Ipv4Addr) -> io::Result<()> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(claimed.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    let to = packet_address(link)?;
    send(&socket, &frame, (&raw const to).cast(), size_of_val(&to))
}

/// Listens to every packet there is, on every link, for one with `text` in it.
pub fn overhear(text: &[u8]) -> io::Result<()> {
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, all)?;
    wait(&socket, Duration::from_millis(1500), |bytes| bytes.windows(text.len()).any(|part| part == text)).map(drop)
}

/// Looks for a key in the user's keyring.
pub fn find_key(description: &str) -> io::Result<i64> {
    let (kind, description) = (c"user", CString::new(description)?);
    // KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING. SAFETY: both are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_keyctl, 10, -4, kind.as_ptr(), description.as_ptr(), 0) })
}

/// Puts a key into the user's keyring, for ten minutes.
pub fn plant_key(description: &str) -> io::Result<()> {
    let (kind, description) = (c"user", CString::new(description)?);
    // SAFETY: NUL-terminated strings, and a payload of this length.
    let key =
        check(unsafe { libc::syscall(libc::SYS_add_key, kind.as_ptr(), description.as_ptr(), c"x".as_ptr(), 1, -4) })?;
    // KEYCTL_SET_TIMEOUT. SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, 15, key, 600) }).map(drop)
}

/// Finds a shared memory segment, or makes it.
pub fn shared_memory(key: i32, create: bool) -> io::Result<()> {
    let (size, flags) = if create { (4096, libc::IPC_CREAT | 0o600) } else { (0, 0) };
    // SAFETY: numbers only.
    check(unsafe { libc::shmget(key, size, flags) }.into()).map(drop)
}

/// Asks for the size of the kernel's log: a question that shows whether it may be read.
pub fn kernel_log() -> io::Result<()> {
    // SAFETY: this action takes no buffer.
    check(unsafe { libc::klogctl(10, std::ptr::null_mut(), 0) }.into()).map(drop)
}

/// Loads a module that is none. The kernel looks at it, and says so, only if the caller may load one.
pub fn load_module() -> io::Result<()> {
    // SAFETY: a buffer of this length, and an empty string.
    let result = check(unsafe { libc::syscall(libc::SYS_init_module, c"no module".as_ptr(), 9, c"".as_ptr()) });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok(()),
        result => result.map(drop),
    }
}

/// Sets the length of the clock's tick to what it is.
pub fn set_clock() -> io::Result<()> {
    // SAFETY: zeroes are a valid timex, and the kernel fills it in.
    unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        check(libc::adjtimex(&mut clock).into())?;
        clock.modes = libc::ADJ_TICK;
        check(libc::adjtimex(&mut clock).into()).map(drop)
    }
}

/// Makes a BPF map, the beginning of every BPF program.
pub fn bpf() -> io::Result<()> {
    // BPF_MAP_CREATE of an array: kind, key size, value size, entries.
    let attributes: [u32; 32] = {
        let mut attributes = [0; 32];
        attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
        attributes
    };
    // SAFETY: the attributes are alive and of this size.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), 128) })?;
    // SAFETY: the descriptor is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}

/// Opens a file by its handle, past every directory's permissions.
pub fn open_by_handle(path: &str) -> io::Result<()> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; 128],
    }
    let mut handle = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount = 0;
    // A handle is one of a file system, which any open file of it stands for.
    let parent = std::fs::File::open(std::path::Path::new(path).parent().unwrap_or("/".as_ref()))?;
    let path = CString::new(path)?;
    // SAFETY: the handle says how much room it has; the string is NUL-terminated.
    unsafe {
        check(libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        ))?;
        let fd =
            check(libc::syscall(libc::SYS_open_by_handle_at, parent.as_raw_fd(), &raw mut handle, libc::O_RDONLY))?;
        drop(OwnedFd::from_raw_fd(fd as i32));
    }
    Ok(())
}

/// Connects to a socket in the abstract name space.
pub fn connect_abstract(name: &str) -> io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    };
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop)
}

/// Raises this process's own limit of open files beyond what it was given.
pub fn more_files() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let given = getrlimit(Resource::Nofile);
    let more = given.maximum.unwrap_or(1 << 19) + 1024;
    setrlimit(Resource::Nofile, Rlimit { current: given.current, maximum: Some(more) }).map_err(Into::into)
}

/// Opens a socket of this family, of whichever kind it has.
pub fn open_family(family: i32) -> io::Result<()> {
    let kinds = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET, libc::SOCK_DGRAM, libc::SOCK_RAW];
    // PF_KEY wants its own protocol (PF_KEY_V2), RXRPC the family that carries it.
    let protocols = [0, 2];
    let mut last = Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
    for (kind, protocol) in kinds.into_iter().flat_map(|kind| protocols.map(|protocol| (kind, protocol))) {
        last = socket(family, kind, protocol).map(drop);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Makes the queues of an io_uring.
pub fn io_uring() -> io::Result<()> {
    // struct io_uring_params has 120 bytes.
    let mut parameters = [0_u64; 15];
    // SAFETY: the parameters are alive and of this size.
    let fd = check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })?;
    // SAFETY: the descriptor is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}
