//! Makes the kernel forget the connections of a container that is gone.
//!
//! An established connection is remembered for days. Without this, what a server still sends to one container would
//! reach the next one that gets the subnet, and the table would fill up with connections nobody has.
//!
//! Spoken as netfilter netlink (linux/netfilter/nfnetlink_conntrack.h): no crate and no program on every host does it.

use std::{io, net::Ipv4Addr};

use anyhow::{Context, bail};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const CTNETLINK: u16 = 1 << 8;
const CT_GET: u16 = 1;
const CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE: u16 = 0x3fff;
/// Netlink header, then netfilter header.
const HEADERS: usize = 16 + 4;
/// More than any table holds: the end of a dump that does not end.
const MOST_MESSAGES: usize = 4_000_000;

/// Deletes every connection that `source` began; how many there were.
pub fn forget(source: Ipv4Addr) -> anyhow::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER).context("cannot open a netfilter socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let found = list(&socket, source).context("cannot list connections")?;
    for attributes in &found {
        socket.send(&message(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, attributes), 0)?;
        match error(&receive(&socket)?) {
            // Ended by itself meanwhile.
            Some(0 | libc::ENOENT) => {}
            Some(code) => return Err(io::Error::from_raw_os_error(code)).context("cannot delete a connection"),
            None => bail!("no answer to the deletion of a connection"),
        }
    }
    Ok(found.len())
}

/// What names each of the connections: the attributes a deletion needs.
fn list(socket: &Socket, source: Ipv4Addr) -> anyhow::Result<Vec<Vec<u8>>> {
    let address = attribute(CTA_IP_V4_SRC, &source.octets());
    let tuple = attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &attribute(CTA_TUPLE_IP | NLA_F_NESTED, &address));
    // Bit 0: compare the source address and nothing else.
    let flags =
        [attribute(CTA_FILTER_ORIG_FLAGS, &1u32.to_ne_bytes()), attribute(CTA_FILTER_REPLY_FLAGS, &0u32.to_ne_bytes())];
    let filter = attribute(CTA_FILTER | NLA_F_NESTED, &flags.concat());
    socket.send(&message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[tuple, filter].concat()), 0)?;
    let mut found = Vec::new();
    for _ in 0..MOST_MESSAGES {
        let answer = receive(socket)?;
        let mut rest = &answer[..];
        while let Some((kind, body, after)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    let code = error(rest).unwrap_or(libc::EBADMSG);
                    return Err(io::Error::from_raw_os_error(code).into());
                }
                _ => found.extend(name_of(body, source)),
            }
            rest = after;
        }
    }
    bail!("the list does not end")
}

/// The attributes that name a connection, if `source` began it.
fn name_of(body: &[u8], source: Ipv4Addr) -> Option<Vec<u8>> {
    let all = attributes(body.get(4..)?);
    let tuple = all.iter().find(|(kind, _)| *kind == CTA_TUPLE_ORIG)?.1;
    let ip = attributes(tuple).into_iter().find(|(kind, _)| *kind == CTA_TUPLE_IP)?.1;
    let from = attributes(ip).into_iter().find(|(kind, _)| *kind == CTA_IP_V4_SRC)?.1;
    // A kernel that does not know the filter lists everything.
    if from != source.octets() {
        return None;
    }
    let zone = all.iter().find(|(kind, _)| *kind == CTA_ZONE).map(|(_, zone)| attribute(CTA_ZONE, zone));
    Some([attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple), zone.unwrap_or_default()].concat())
}

fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(64 * 1024);
    // The kernel has answered by the time send() returns, and goes on with a list as it is read.
    socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
    Ok(answer)
}

/// The error number of an answer that is one; 0 = it went well.
fn error(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(-code)
}

/// Kind and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, bytes.get(16..length)?, after))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let short = |at: usize, bytes: &[u8]| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    while let (Some(length), Some(kind)) = (short(0, bytes), short(2, bytes)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind & NLA_TYPE, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// nlmsghdr, nfgenmsg, attributes.
fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = HEADERS + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend((CTNETLINK | kind).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::UdpSocket, process::Command};

    use super::*;
    use crate::{
        netlink::Netlink,
        syscall::{Namespace, unshare},
    };

    #[test]
    fn the_connections_of_one_address_are_forgotten_and_no_others() {
        if !rustix::process::geteuid().is_root() || Command::new("nft").arg("--version").output().is_err() {
            println!("skipped: needs root and nft");
            return;
        }
        let in_thread = || {
            unshare(Namespace::Network).unwrap();
            let netlink = Netlink::open().unwrap();
            netlink.set_up("lo").unwrap();
            // Connections are followed once a rule asks about them.
            let rule = "add table ip t; add chain ip t c { type filter hook output priority 0; }; \
                        add rule ip t c ct state new accept";
            assert!(Command::new("nft").arg(rule).status().unwrap().success());
            let server = UdpSocket::bind("127.0.0.1:4000").unwrap();
            for source in ["127.0.0.2:1", "127.0.0.2:2", "127.0.0.3:1"] {
                let client = UdpSocket::bind(source).unwrap();
                client.send_to(b"x", server.local_addr().unwrap()).unwrap();
            }
            assert_eq!(forget("127.0.0.2".parse().unwrap()).unwrap(), 2);
            assert_eq!(forget("127.0.0.2".parse().unwrap()).unwrap(), 0);
            assert_eq!(forget("127.0.0.3".parse().unwrap()).unwrap(), 1);
        };
        std::thread::spawn(in_thread).join().unwrap();
    }
}
