//! Gives the container its address, the first thing the guest does: no DHCP, no wait, no race.

use std::{fs, io, net::Ipv4Addr, path::Path};

use anyhow::Context;
use contract::guest_settings::GuestSettings;
use ipnetwork::Ipv4Network;
use kernel::netlink::Netlink;

/// Addresses the container's end of the link, routes everything through the host's end, and names the resolvers. Gives
/// the largest packet that the link takes, in bytes.
pub fn set_up(settings: &GuestSettings) -> anyhow::Result<Option<u32>> {
    let netlink = Netlink::open()?;
    netlink.set_up("lo")?;
    without_ipv6(Path::new("/proc/sys/net/ipv6/conf"), &settings.interface)?;
    netlink.add_address(&settings.interface, Ipv4Network::new(settings.address, settings.prefix)?)?;
    netlink.set_up(&settings.interface)?;
    netlink.add_default_route(settings.gateway)?;
    // A template's /etc/hostname says otherwise for every container made of it.
    rustix::system::sethostname(settings.name.as_str().as_bytes()).context("cannot set the host name")?;
    name_resolvers(Path::new("/etc"), settings)?;
    Ok(netlink.mtu(&settings.interface)?)
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
    let file = etc.join("hosts");
    let template = fs::read_to_string(&file).unwrap_or_default();
    let proxy = settings.proxy.iter().filter_map(|proxy| Some((proxy.name.as_deref()?, proxy.address)));
    let services = settings.hosts.iter().map(|host| (host.name.as_str(), host.address));
    let known: Vec<(&str, Ipv4Addr)> = proxy.chain(services).collect();
    replace(&file, &hosts(&template, settings.name.as_str(), &known))
}

/// The names of the loopback, as Ubuntu has them, then what else the template's own file says, then the container's and
/// those of the proxy and of services.
///
/// `localhost` is an IPv4 address and nothing else: the link has no IPv6, so one program would listen at the one address
/// and another ask at the other, whatever the template thinks of it. And programs that look up their own host name
/// should not have to ask a resolver that cannot know it.
fn hosts(template: &str, container: &str, known: &[(&str, Ipv4Addr)]) -> String {
    let (mut loopback, mut rest) = (vec!["localhost"], String::new());
    for line in template.lines() {
        let (entry, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
        let mut words = entry.split_whitespace();
        let Some(address) = words.next() else {
            // Nothing but a comment, or nothing.
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let written = |name: &&str| {
            *name != "localhost"
                && !IPV6_LOOPBACK.contains(name)
                && *name != container
                && known.iter().all(|(known, _)| name != known)
        };
        let names: Vec<&str> = words.filter(written).collect();
        match address {
            // Names that only IPv6 had are found as well.
            "127.0.0.1" | "::1" => names.iter().for_each(|name| {
                if !loopback.contains(name) {
                    loopback.push(name);
                }
            }),
            _ if names.is_empty() => {}
            _ => rest.push_str(format!("{address} {} {comment}", names.join(" ")).trim_end()),
        }
        if !rest.is_empty() && !rest.ends_with('\n') {
            rest.push('\n');
        }
    }
    let (loopback, ipv6) = (loopback.join(" "), IPV6_LOOPBACK.join(" "));
    let known: String = known.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    format!("127.0.0.1 {loopback}\n::1 {ipv6}\n{rest}127.0.1.1 {container}\n{known}")
}

/// What the loopback's IPv6 address is called.
const IPV6_LOOPBACK: [&str; 2] = ["ip6-localhost", "ip6-loopback"];

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
            job_limit: None,
            tool_cache: None,
            docker: None,
            nix: None,
            proxy: None,
            hosts: Vec::new(),
            gpu: None,
        };
        for _ in 0..2 {
            name_resolvers(etc.path(), &settings).unwrap();
            let read = |file| fs::read_to_string(etc.path().join(file)).unwrap();
            assert_eq!(read("resolv.conf"), "nameserver 9.9.9.9\nnameserver 1.1.1.1\n");
            let names = "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n127.0.1.1 j1234567\n";
            assert_eq!(read("hosts"), names);
            settings.dns.clear();
        }
    }

    #[test]
    fn localhost_is_an_ipv4_address_alone_whatever_the_template_says_and_its_other_names_stay() {
        let own = "127.0.1.1 j1234567\n";
        for (template, first, rest) in [
            ("", "localhost", ""),
            // NixOS' own.
            ("127.0.0.1 localhost\n::1 localhost\n127.0.0.2 job\n", "localhost", "127.0.0.2 job\n"),
            // Debian's own.
            (
                "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\n",
                "localhost",
                "ff02::1 ip6-allnodes\n",
            ),
            (
                "# here\n\n127.0.0.1 localhost job # we\n::1 six\n10.0.0.1 localhost db # it\n10.0.0.2 localhost\n",
                "localhost job six",
                "# here\n\n10.0.0.1 db # it\n",
            ),
            ("127.0.1.1 j1234567", "localhost", ""),
        ] {
            let expected = format!("127.0.0.1 {first}\n::1 ip6-localhost ip6-loopback\n{rest}{own}");
            let once = hosts(template, "j1234567", &[]);
            assert_eq!(once, expected, "{template:?}");
            assert_eq!(hosts(&once, "j1234567", &[]), expected, "{template:?}");
        }
    }

    #[test]
    fn what_is_known_by_name_is_found_by_it_whatever_the_template_says() {
        let known = [("proxy.lan", [10, 0, 0, 9].into()), ("registry.host.internal", [169, 254, 8, 8].into())];
        let said = hosts("10.7.7.7 proxy.lan other\n", "j1234567", &known);
        let expected = "10.7.7.7 other\n127.0.1.1 j1234567\n10.0.0.9 proxy.lan\n169.254.8.8 registry.host.internal\n";
        assert!(said.ends_with(expected), "{said}");
    }
}
