//! The pair of links that connects a container to the host.
//!
//! Measured (docs/nspawn.md#links): a pair made by *prepare* and moved in by `--network-interface=` works on every
//! systemd that matters as long as the container's end keeps its name; it comes back to the host on a normal stop and
//! is deleted by *teardown*.

use std::{fs, io, net::Ipv4Addr, path::Path};

use contract::ContainerName;
use ipnetwork::Ipv4Network;
use kernel::netlink::{Error, Mac, Netlink, Taken};
use settings::pool::{container_address, host_address};

/// What names of host ends begin with, and names of nothing else on the host; the firewall matches it.
pub const HOST_PREFIX: &str = "gj-";
/// What names of container ends begin with.
pub const GUEST_PREFIX: &str = "gp-";

/// A public address, the way to which is the way out; nothing is sent there.
const FAR: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
/// Sizes of packets, in bytes: what everybody takes (RFC 791), and what everybody uses.
const SMALLEST: u32 = 576;
const LARGEST: u32 = 1500;

/// The host's end.
pub fn host_end(name: &ContainerName) -> String {
    format!("{HOST_PREFIX}{name}")
}

/// The container's end, on the host and inside.
pub fn guest_end(name: &ContainerName) -> String {
    format!("{GUEST_PREFIX}{name}")
}

/// The container a link belongs to, judged by its name.
pub fn owner(link: &str) -> Option<ContainerName> {
    link.strip_prefix(HOST_PREFIX).or_else(|| link.strip_prefix(GUEST_PREFIX))?.parse().ok()
}

/// Makes the pair, both ends down. It takes packets as large as the host's way out does: where that is less than usual, a
/// tunnel perhaps, larger ones may be lost on it without a word.
pub fn make(netlink: &Netlink, name: &ContainerName, subnet: Ipv4Network) -> Result<(), Error> {
    let (host, guest) = (mac(host_address(subnet)), mac(container_address(subnet)));
    let mtu = netlink.mtu_towards(FAR)?.map_or(LARGEST, |mtu| mtu.clamp(SMALLEST, LARGEST));
    netlink.add_pair(&host_end(name), host, &guest_end(name), guest, mtu)
}

/// Gives the host's end its address and sets it up. Only the container's one address is routed to it: whatever else
/// comes from there has no way back, so the kernel's own check of source addresses and its table of neighbours know
/// nothing but that address.
///
/// With `loopback` the kernel takes what the fence translates for services on the loopback.
pub fn address(netlink: &Netlink, name: &ContainerName, subnet: Ipv4Network, loopback: bool) -> anyhow::Result<()> {
    let host = host_end(name);
    harden(Path::new("/proc/sys/net"), &host, loopback)?;
    netlink.add_address(&host, Ipv4Network::from(host_address(subnet)))?;
    netlink.set_up(&host)?;
    netlink.add_route(&host, Ipv4Network::from(container_address(subnet)))?;
    Ok(())
}

/// Deletes whatever of the pair is on the host.
pub fn delete(netlink: &Netlink, name: &ContainerName) -> Result<(), Error> {
    // Deleting one end deletes the other; asking for both also finds an end whose peer is elsewhere.
    netlink.delete(&host_end(name))?;
    netlink.delete(&guest_end(name))?;
    Ok(())
}

/// The first of `taken` that shares an address with `subnet`.
pub fn collision(subnet: Ipv4Network, taken: &[Taken]) -> Option<&Taken> {
    // A prefix of 0 is the default route: it covers everything and forbids nothing.
    taken.iter().find(|other| other.network.prefix() > 0 && subnet.overlaps(other.network))
}

/// A locally administered address that is unique on the host because the IP address in it is.
fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x67, a, b, c, d]
}

/// What the kernel does by itself on the link is reduced to plain IPv4 between two addresses.
fn harden(net: &Path, link: &str, loopback: bool) -> anyhow::Result<()> {
    // Before the link goes up: it never gets an IPv6 address, so nothing on the host listens to the container by one.
    let v6 = net.join("ipv6/conf").join(link).join("disable_ipv6");
    match fs::write(&v6, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(|error| anyhow::anyhow!("cannot write {}: {error}", v6.display()))?,
    }
    let v4 = net.join("ipv4/conf").join(link);
    let values = [
        // A source address must be one that answers through this link.
        ("rp_filter", "1"),
        // Answer ARP for the link's own address only, and ask with that address only.
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
        ("accept_redirects", "0"),
        ("send_redirects", "0"),
        ("accept_source_route", "0"),
        // What comes from the link and goes to the loopback is taken; what says so itself the fence drops before.
        ("route_localnet", if loopback { "1" } else { "0" }),
    ];
    for (key, value) in values {
        let file = v4.join(key);
        fs::write(&file, value).map_err(|error| anyhow::anyhow!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_link_name_fits_the_kernel_and_names_its_container() {
        let name: ContainerName = "j1234567abc".parse().unwrap();
        for link in [host_end(&name), guest_end(&name)] {
            assert!(link.len() <= 15, "{link}");
            assert_eq!(owner(&link), Some(name.clone()));
        }
        for foreign in ["eth0", "gj-", "gj-eth0", "j1234567abc", "gj-j1234567abcd"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_subnet_collides_with_what_it_overlaps_either_way_but_not_with_the_default_route() {
        let subnet = "192.168.100.0/24".parse().unwrap();
        for (other, collides) in [
            ("192.168.100.7/32", true),
            ("192.168.0.0/16", true),
            ("192.168.101.1/24", false),
            ("0.0.0.0/0", false),
            ("10.0.0.0/8", false),
        ] {
            let taken = Taken { network: other.parse().unwrap(), link: "eth0".into() };
            assert_eq!(collision(subnet, &[taken]).is_some(), collides, "{other}");
        }
    }
}
