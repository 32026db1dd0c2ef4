//! `[proxy]`: the HTTP proxy by which this host and its containers reach what is outside.

use std::net::{IpAddr, Ipv4Addr};

use contract::guest_settings::ProxySettings;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{checker::Checker, file::ProxyWritten, service::Service};

/// Most entries of `except`: they are part of a command line.
const MOST: usize = 256;
/// Where a proxy listens that names no port.
const USUAL_PORT: u16 = 80;
/// Never asked of a proxy: whoever asks means itself.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A proxy that speaks plain HTTP and asks for no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Its name or address, as written.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// The address by which containers reach it.
    pub address: Ipv4Addr,
    /// What is reached without it.
    pub except: Vec<String>,
}

impl Proxy {
    /// Its root, with the port: programs do not agree on the one that is meant where none is written.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Whether a host, by name or address, is reached through it. As programs read `no_proxy` (curl, Go and the forge's
    /// runner): a name stands for the names below it too, `.example.org` for these alone. The own machine never is.
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
        let address: Option<IpAddr> = host.parse().ok();
        let own = address.map_or(host.eq_ignore_ascii_case(OWN[0]), |address| address.is_loopback());
        let excepted = |except: &String| match (address, except.parse::<IpNetwork>()) {
            _ if except == "*" => true,
            (Some(address), Ok(network)) => network.contains(address),
            (None, Err(_)) => is_named(host, except),
            _ => false,
        };
        !own && !self.except.iter().any(excepted)
    }

    /// What a container is told of it that reaches these services, each of them directly.
    pub fn for_containers<'a>(&self, services: impl Iterator<Item = &'a Service>) -> ProxySettings {
        let direct: Vec<String> =
            services.flat_map(|service| [service.host_name(), service.reached_at().ip().to_string()]).collect();
        let all = OWN.into_iter().chain(self.except.iter().chain(&direct).map(String::as_str));
        let except = all.collect::<Vec<_>>().join(",");
        let name = self.host.parse::<Ipv4Addr>().is_err().then(|| self.host.clone());
        ProxySettings { url: self.url(), except, name, address: self.address }
    }
}

/// The host is called so, or is below it.
fn is_named(host: &str, name: &str) -> bool {
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(&name),
        None => host.strip_suffix(&name).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

/// Checks the table; none if no proxy is written.
pub(super) fn check(found: &mut Checker, written: &ProxyWritten) -> Option<Proxy> {
    const KEY: &str = "proxy.url";
    let Some(url) = &written.url else {
        found.unless(
            *written == ProxyWritten::default(),
            KEY,
            "there is no proxy, and something about it is written",
            "write url = \"http://HOST:PORT\", or remove the rest",
        );
        return None;
    };
    if url.contains('@') {
        // The value is not repeated: it has a password.
        let problem = "it has a user and a password, which everybody can read here, on command lines and in jobs";
        found.push(KEY, problem, "let the proxy know this host by its address, and write the URL without them");
        return None;
    }
    let uri = url.parse::<http::Uri>().ok().filter(|uri| {
        uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none() && !url.contains('#')
    });
    let Some(host) = uri.as_ref().and_then(http::Uri::host).filter(|host| is_plain(host)) else {
        let problem = format!("{url:?} is not the root of an HTTP proxy");
        found.push(
            KEY,
            problem,
            "write http://HOST:PORT, with the proxy's name or IPv4 address, also where it serves https",
        );
        return None;
    };
    let Some(address) = host.parse().ok().or(written.address) else {
        let problem = format!("containers do not know where {host} is: they ask other resolvers than this host does");
        found.push("proxy.address", problem, format!("write the IPv4 address of {host}"));
        return None;
    };
    found.unless(
        written.address.is_none_or(|written| written == address),
        "proxy.address",
        "proxy.url has another address",
        "remove one of them",
    );
    found.unless(
        !address.is_loopback() && !address.is_unspecified(),
        if written.address.is_some() { "proxy.address" } else { KEY },
        format!("{address} is each container's own"),
        "let a proxy on this host listen on an address of the host's as well, e.g. its one in the LAN, and write that",
    );
    found.unless(
        written.except.len() <= MOST,
        "proxy.except",
        format!("there are {} of them", written.except.len()),
        format!("name at most {MOST}; a name stands for those below it, and a network for its addresses"),
    );
    for except in &written.except {
        let name = except.strip_prefix('.').unwrap_or(except);
        found.unless(
            except == "*" || except.parse::<IpNetwork>().is_ok() || is_plain(name),
            "proxy.except",
            format!("{except:?} is no name, address or network"),
            "write example.org (also all names below it), .example.org (those alone), 10.0.0.0/8, 10.1.2.3 or *",
        );
    }
    let port = uri.as_ref().and_then(http::Uri::port_u16).unwrap_or(USUAL_PORT);
    Some(Proxy { host: host.to_owned(), port, address, except: written.except.clone() })
}

/// A name or an IPv4 address, and nothing that means more to anybody.
fn is_plain(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;

    fn proxy(except: &[&str]) -> Proxy {
        let except = except.iter().map(|except| (*except).to_owned()).collect();
        Proxy { host: "proxy.lan".into(), port: 3128, address: Ipv4Addr::new(10, 0, 0, 9), except }
    }

    #[test]
    fn what_is_excepted_is_not_asked_of_the_proxy_and_nothing_else() {
        for (except, without, through) in [
            (&[][..], &["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "[::1]"][..], &["a", "10.0.0.1"][..]),
            (
                &["corp.example"],
                &["corp.example", "ghe.Corp.Example", "corp.example."],
                &["notcorp.example", "example"],
            ),
            (&[".corp.example"], &["ghe.corp.example"], &["corp.example", "xcorp.example"]),
            (&["10.1.0.0/16", "192.0.2.7"], &["10.1.2.3", "192.0.2.7"], &["10.2.0.1", "192.0.2.8", "10.1.example"]),
            (&["fd00::/8"], &["[fd00::1]"], &["[fe80::1]", "10.0.0.1"]),
            (&["*"], &["github.com", "10.0.0.1"], &[]),
        ] {
            let proxy = proxy(except);
            for host in without {
                assert!(!proxy.is_for(host), "{host} with {except:?}");
            }
            for host in through {
                assert!(proxy.is_for(host), "{host} with {except:?}");
            }
        }
    }

    #[test]
    fn containers_are_told_where_a_name_is_and_never_ask_the_proxy_for_themselves() {
        let service = Service { name: "registry".into(), address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5000) };
        let named = proxy(&["corp.example", "10.0.0.0/8"]).for_containers([&service].into_iter());
        assert_eq!(named.name.as_deref(), Some("proxy.lan"));
        let except = "localhost,127.0.0.1,::1,corp.example,10.0.0.0/8,registry.host.internal,169.254.8.8";
        assert_eq!(named.except, except);
        let by_address = Proxy { host: "10.0.0.9".into(), ..proxy(&[]) }.for_containers(std::iter::empty());
        assert_eq!((by_address.url.as_str(), by_address.name), ("http://10.0.0.9:3128", None));
    }
}
