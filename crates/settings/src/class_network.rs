//! What containers of a class may reach: `[class.NAME.network]` and the networks it may share, `[network.shared.NAME]`.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::{
    checker::Checker,
    file::{ClassNetworkWritten, SharedNetworkWritten},
};

/// Most entries of an allow-list.
const MOST_DESTINATIONS: usize = 256;

/// What containers of a class may reach: the keys of [`ClassNetworkWritten`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ClassNetwork {
    pub internet: bool,
    pub allow: Vec<Destination>,
    pub shared: Vec<String>,
    pub dns: Vec<Ipv4Addr>,
}

/// A network of services that jobs share: the keys of [`SharedNetworkWritten`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SharedNetwork {
    pub destination: Destination,
    pub interface: Option<String>,
}

/// Addresses, and ports of them: `ADDRESS[/PREFIX][:PORT[-PORT][,…]]`, TCP and UDP; without ports, every protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// The addresses.
    pub network: Ipv4Network,
    /// First and last port of each range, ascending and apart; empty = everything.
    pub ports: Vec<(u16, u16)>,
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (network, ports) = match text.split_once(':') {
            Some((network, ports)) => (network, Some(ports)),
            None => (text, None),
        };
        let network: Ipv4Network =
            network.parse().map_err(|_| format!("{network:?} is not an IPv4 address or network"))?;
        if network.ip() != network.network() {
            return Err(format!("{network} has bits set beyond its prefix"));
        }
        if network.prefix() == 0 {
            return Err("that is everything; internet = true allows every public address".to_owned());
        }
        let ports = ports.map_or(Ok(Vec::new()), parse_ports)?;
        Ok(Self { network, ports })
    }
}

fn parse_ports(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("invalid port {text:?}")),
    };
    let mut ports = text
        .split(',')
        .map(|range| match range.split_once('-') {
            Some((first, last)) => Ok((port(first)?, port(last)?)),
            None => port(range).map(|port| (port, port)),
        })
        .collect::<Result<Vec<_>, String>>()?;
    ports.sort_unstable();
    let backwards = ports.iter().find(|(first, last)| first > last);
    let touching = ports.windows(2).find(|pair| pair[1].0 <= pair[0].1.saturating_add(1)).map(|pair| &pair[1]);
    match backwards.or(touching) {
        Some((first, last)) => Err(format!("{first}-{last} runs backwards, or belongs to the range before it")),
        None => Ok(ports),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        for (index, (first, last)) in self.ports.iter().enumerate() {
            f.write_str(if index == 0 { ":" } else { "," })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

const REMEDY: &str =
    "write ADDRESS, ADDRESS/PREFIX, or one of them with ports, e.g. 192.168.1.20:5432 or 10.8.0.0/16:80,8000-8010";

/// Checks the shared networks.
pub(super) fn shared_networks(
    found: &mut Checker,
    written: &BTreeMap<String, SharedNetworkWritten>,
) -> BTreeMap<String, SharedNetwork> {
    written
        .iter()
        .filter_map(|(name, shared)| {
            let key = format!("network.shared.{name}");
            found.name(&key, name);
            if let Some(interface) = &shared.interface {
                let plain = (1..=15).contains(&interface.len())
                    && interface.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                let problem = format!("invalid link name {interface:?}");
                found.unless(plain, format!("{key}.interface"), problem, "name a link of the host, e.g. br-services");
            }
            let destination = destination(found, &format!("{key}.destination"), &shared.destination)?;
            Some((name.clone(), SharedNetwork { destination, interface: shared.interface.clone() }))
        })
        .collect()
}

/// Checks what a class may reach.
pub(super) fn class_network(
    found: &mut Checker,
    class: &str,
    written: ClassNetworkWritten,
    shared: &BTreeMap<String, SharedNetwork>,
    dns: &[Ipv4Addr],
) -> ClassNetwork {
    let key = |field: &str| format!("class.{class}.network.{field}");
    found.unless(
        written.allow.len() <= MOST_DESTINATIONS,
        key("allow"),
        format!("{} destinations", written.allow.len()),
        format!("name at most {MOST_DESTINATIONS}; networks and ranges of ports count once"),
    );
    let allow = written.allow.iter().filter_map(|text| destination(found, &key("allow"), text)).collect();
    for name in &written.shared {
        let problem = format!("there is no shared network {name:?}");
        let remedy = format!("define [network.shared.{name}]");
        found.unless(shared.contains_key(name), key("shared"), problem, remedy);
    }
    let dns = written.dns.unwrap_or_else(|| dns.to_vec());
    ClassNetwork { internet: written.internet, allow, shared: written.shared, dns }
}

fn destination(found: &mut Checker, key: &str, text: &str) -> Option<Destination> {
    text.parse().inspect_err(|problem: &String| found.push(key, format!("{text:?}: {problem}"), REMEDY)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_destination_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "192.168.1.20/32:5432", "10.8.0.0/16:80,443,8000-8010"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        assert_eq!("192.168.1.20".parse::<Destination>().unwrap().to_string(), "192.168.1.20/32");
        assert_eq!("10.0.0.1:90,80".parse::<Destination>().unwrap().ports, [(80, 80), (90, 90)]);
    }

    #[test]
    fn what_is_no_destination_says_why() {
        for (text, why) in [
            ("db.example", "not an IPv4 address"),
            ("::1", "not an IPv4 address"),
            ("10.0.0.1/8", "beyond its prefix"),
            ("0.0.0.0/0", "everything"),
            ("10.0.0.1:0", "invalid port"),
            ("10.0.0.1:http", "invalid port"),
            ("10.0.0.1:", "invalid port"),
            ("10.0.0.1:90-80", "backwards"),
            ("10.0.0.1:80-90,85", "the range before"),
            ("10.0.0.1:80,81", "the range before"),
        ] {
            let said = text.parse::<Destination>().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
