//! Gives the container its address, the first thing the guest does: no DHCP, no wait, no race.

use std::{fs, io, path::Path};

use anyhow::Context;
use contract::guest_settings::GuestSettings;
use ipnetwork::Ipv4Network;
use kernel::netlink::Netlink;

/// Addresses the container's end of the link, routes everything through the host's end, and names the resolvers.
pub fn set_up(settings: &GuestSettings) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    netlink.set_up("lo")?;
    without_ipv6(Path::new("/proc/sys/net/ipv6/conf"), &settings.interface)?;
    netlink.add_address(&settings.interface, Ipv4Network::new(settings.address, settings.prefix)?)?;
    netlink.set_up(&settings.interface)?;
    netlink.add_default_route(settings.gateway)?;
    // A template's /etc/hostname says otherwise for every container made of it.
    rustix::system::sethostname(settings.name.as_str().as_bytes()).context("cannot set the host name")?;
    name_resolvers(Path::new("/etc"), settings)
}

/// The host drops IPv6 from this link; without an address of it, programs do not even try. The loopback keeps its own.
fn without_ipv6(conf: &Path, interface: &str) -> anyhow::Result<()> {
    let switch = conf.join(interface).join("disable_ipv6");
    match fs::write(&switch, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot write {}", switch.display())),
    }
}

fn name_resolvers(etc: &Path, settings: &GuestSettings) -> anyhow::Result<()> {
    if !settings.dns.is_empty() {
        let lines: String = settings.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
        // In place of the file or link that is there: a link may lead to a resolver that does not run here.
        replace(&etc.join("resolv.conf"), &lines)?;
    }
    // Programs that look up their own host name should not have to ask a resolver that cannot know it.
    let hosts = etc.join("hosts");
    let known = fs::read_to_string(&hosts).unwrap_or_default();
    let name = settings.name.as_str();
    if known.split_whitespace().any(|word| word == name) {
        return Ok(());
    }
    let loopback = if known.is_empty() { "127.0.0.1 localhost\n::1 localhost\n" } else { "" };
    let ended = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    replace(&hosts, &format!("{known}{ended}{loopback}127.0.1.1 {name}\n"))
}

pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("gha-runner");
    let write = || -> io::Result<()> {
        fs::write(&fresh, text)?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn resolvers_replace_a_link_and_the_host_knows_its_name_once() {
        let etc = tempfile::tempdir().unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", etc.path().join("resolv.conf")).unwrap();
        fs::write(etc.path().join("hosts"), "127.0.0.1 localhost").unwrap();
        let mut settings = GuestSettings {
            name: "j1234567".parse().unwrap(),
            interface: "gp-j1234567".into(),
            address: "10.0.0.2".parse().unwrap(),
            prefix: 24,
            gateway: "10.0.0.1".parse().unwrap(),
            dns: vec!["9.9.9.9".parse().unwrap(), "1.1.1.1".parse().unwrap()],
            runner: "/opt/actions-runner/bin/Runner.Listener".into(),
            user: "runner".into(),
            allow_forks: false,
            docker: None,
        };
        for _ in 0..2 {
            name_resolvers(etc.path(), &settings).unwrap();
            let read = |file| fs::read_to_string(etc.path().join(file)).unwrap();
            assert_eq!(read("resolv.conf"), "nameserver 9.9.9.9\nnameserver 1.1.1.1\n");
            assert_eq!(read("hosts"), "127.0.0.1 localhost\n127.0.1.1 j1234567\n");
            settings.dns.clear();
        }
    }
}
