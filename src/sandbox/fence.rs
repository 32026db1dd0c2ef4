//! Whether the firewall's table is in the kernel: no container boots without it.
//!
//! Another program may flush the whole rule set at any time (`nft flush ruleset` is what many distributions' firewall
//! services begin with), and systemd would still call our firewall unit active. One netfilter netlink request asks
//! the kernel itself.

use anyhow::{Context, bail, ensure};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::firewall::TABLE;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFPROTO_INET: u8 = 1;
const NFTA_TABLE_NAME: u16 = 1;
/// Netlink header, then netfilter header.
const HEADERS: usize = 16 + 4;

/// Fails unless the table is there.
pub fn check() -> anyhow::Result<()> {
    ensure!(
        present(TABLE).context("cannot ask the kernel for the firewall's table")?,
        "the firewall's table `inet {TABLE}` is not loaded; systemctl restart gha-runner-firewall.service"
    );
    Ok(())
}

fn present(table: &str) -> anyhow::Result<bool> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(table), 0)?;
    let mut answer = Vec::with_capacity(4096);
    // The kernel has answered by the time send() returns, so there is nothing to wait for.
    socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
    let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    match kind {
        Some(kind) if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE => Ok(true),
        Some(NLMSG_ERROR) => {
            let code = answer.get(16..20).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
            match code {
                Some(code) if code == -libc::ENOENT => Ok(false),
                Some(code) => Err(std::io::Error::from_raw_os_error(-code).into()),
                None => bail!("a short answer"),
            }
        }
        other => bail!("an unexpected answer: {other:?}"),
    }
}

/// nlmsghdr, nfgenmsg, one attribute: the table's name with its NUL.
fn request(table: &str) -> Vec<u8> {
    let attribute = 4 + table.len() + 1;
    let padded = attribute.next_multiple_of(4);
    let mut message = Vec::with_capacity(HEADERS + padded);
    let length = u32::try_from(HEADERS + padded).unwrap_or(u32::MAX);
    message.extend(length.to_ne_bytes());
    message.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE).to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([NFPROTO_INET, 0, 0, 0]);
    message.extend(u16::try_from(attribute).unwrap_or(u16::MAX).to_ne_bytes());
    message.extend(NFTA_TABLE_NAME.to_ne_bytes());
    message.extend(table.as_bytes());
    message.resize(HEADERS + padded, 0);
    message
}
