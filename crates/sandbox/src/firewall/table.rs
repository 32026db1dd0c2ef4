//! What is in the table, as the objects of nft's own JSON (libnftables-json(5)): a pure function of the settings.
//!
//! Built as plain JSON, in the form nft lists it again, so that what was loaded can be compared whole.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde_json::{Value, json};
use settings::{Class, Destination, Network, Service, Settings, service::LOOPBACK_SERVICES};

use super::{CLASSES, FLOWS, SOURCES, TABLE};
use crate::link::HOST_PREFIX;

/// Where a container has no business: this network, private, shared, loopback, link-local (and cloud metadata),
/// protocol assignments, benchmarking, multicast, reserved and broadcast addresses (IANA's IPv4 special-purpose
/// registry).
const FORBIDDEN: [(Ipv4Addr, u8); 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
const DENIED: &str = "forbidden";
/// What names of chains of classes begin with.
pub const CLASS_CHAIN: &str = "class_";
/// Plain DNS, and DNS over TLS.
const DNS_PORTS: [(u16, u16); 2] = [(53, 53), (853, 853)];
/// Those that have ports.
const WITH_PORTS: [&str; 2] = ["tcp", "udp"];
/// Most elements of the set the kernel keeps by itself: more links than a pool has subnets.
const MOST_LINKS: u32 = 32_768;

/// Priorities of the hooks (nft(8), "Standard priority names"): raw, filter, dstnat, srcnat.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

/// The table and all that is in it but the elements of containers.
pub fn objects(settings: &Settings) -> Vec<Value> {
    let Network { connections, deny, .. } = &settings.network;
    let mut objects = vec![
        table(),
        json!({"set": {"family": "inet", "table": TABLE, "name": SOURCES, "type": ["ifname", "ipv4_addr"]}}),
        json!({"map": {"family": "inet", "table": TABLE, "name": CLASSES, "type": "ifname", "map": "verdict"}}),
        json!({"set": {"family": "inet", "table": TABLE, "name": FLOWS, "type": "ifname",
                       "size": MOST_LINKS}}),
        json!({"set": {"family": "inet", "table": TABLE, "name": DENIED, "type": "ipv4_addr", "flags": ["interval"],
                       "elem": forbidden(deny)}}),
        chain("prerouting", "filter", "prerouting", RAW),
        chain("input", "filter", "input", FILTER),
        chain("forward", "filter", "forward", FILTER),
        chain("counting", "filter", "postrouting", FILTER),
        chain("postrouting", "nat", "postrouting", SRCNAT),
    ];
    objects.extend(settings.classes.values().flat_map(|class| class_objects(class, settings)));
    let known = json!({"concat": [meta("iifname"), payload("ip", "saddr")]});
    let by_class = || json!({"vmap": {"key": meta("iifname"), "data": format!("@{CLASSES}")}});
    let few = || {
        let count = json!([{"ct count": {"val": connections, "inv": true}}]);
        json!({"set": {"op": "add", "elem": meta("iifname"), "set": format!("@{FLOWS}"), "stmt": count}})
    };
    let denied = format!("@{DENIED}");
    objects.extend([
        rule("prerouting", "no IPv6", &[from(), is(meta("nfproto"), "ipv6"), drop()]),
        rule("prerouting", "no forged source", &[from(), is_not(known, &format!("@{SOURCES}")), drop()]),
        rule("prerouting", "no loopback", &[from(), is(payload("ip", "daddr"), loopback()), drop()]),
        rule("input", "replies to the host", &[from(), state(&["established", "related"]), accept()]),
        rule("input", "few connections", &[from(), state(&["new"]), few(), drop()]),
        rule("input", "what the class allows", &[by_class()]),
        rule("input", "not the host", &[from(), drop()]),
        rule("forward", "as large as the way takes", &[from(), begins(), fits()]),
        rule("forward", "as large as the way back takes", &[to(), begins(), fits()]),
        rule("forward", "replies to containers", &[to(), state(&["established", "related"]), accept()]),
        rule("forward", "not to containers", &[to(), drop()]),
        rule("forward", "replies of containers", &[from(), state(&["established", "related"]), accept()]),
        rule("forward", "no strays", &[from(), state(&["invalid"]), drop()]),
        rule("forward", "what the class says", &[by_class()]),
        rule("forward", "not the neighbourhood", &[from(), is(payload("ip", "daddr"), denied.as_str()), drop()]),
        rule("counting", "few connections", &[from(), state(&["new"]), few(), drop()]),
        rule("postrouting", "as the host", &[from(), json!({"masquerade": null})]),
    ]);
    objects.extend(translations(settings));
    objects
}

/// What leads to the services on the host's loopback; which class may follow it, its chain says, by the address that the
/// container asked for.
fn translations(settings: &Settings) -> Vec<Value> {
    let local: Vec<&Service> = settings.services.values().filter(|service| service.is_on_loopback()).collect();
    if local.is_empty() {
        return Vec::new();
    }
    let to = |service: &&Service| {
        let (ip, port) = (service.address.ip().to_string(), service.address.port());
        let asked = is(payload("ip", "daddr"), LOOPBACK_SERVICES.to_string());
        let there = json!({"dnat": {"family": "ip", "addr": ip, "port": port}});
        rule("services", "a service of the host", &[from(), asked, is(payload("tcp", "dport"), port), there])
    };
    std::iter::once(chain("services", "nat", "prerouting", DSTNAT)).chain(local.iter().map(to)).collect()
}

/// The table itself.
pub fn table() -> Value {
    json!({"table": {"family": "inet", "name": TABLE}})
}

/// The chain of a class. A class's name has no underscore, so no two classes share one.
pub fn class_chain(class: &str) -> String {
    format!("{CLASS_CHAIN}{}", class.replace('-', "_"))
}

/// The chain of a class with what it allows beyond the common rules, and refuses beyond them. Reached from *input* as
/// well, where nothing that is not accepted here gets any further.
pub fn class_objects(class: &Class, settings: &Settings) -> Vec<Value> {
    let reach = &class.network;
    let chain = class_chain(&class.name);
    let mut rules = vec![json!({"chain": {"family": "inet", "table": TABLE, "name": chain}})];
    if !reach.dns.is_empty() {
        let mut servers = reach.dns.clone();
        servers.sort_unstable();
        servers.dedup();
        let servers = one_or_set(servers.iter().map(|server| json!(server.to_string())).collect());
        rules.extend(
            addressed_to(servers, &DNS_PORTS)
                .into_iter()
                .map(|to| rule(&chain, "resolvers", &[to, vec![accept()]].concat())),
        );
    }
    if let Some(proxy) = settings.proxy.as_ref().filter(|_| reach.internet) {
        let to = port_of(&json!(proxy.address.to_string()), "tcp", &(proxy.port, proxy.port));
        rules.push(rule(&chain, "the proxy", &[to, vec![accept()]].concat()));
    }
    for at in settings.services_of(class).map(Service::reached_at) {
        let to = port_of(&json!(at.ip().to_string()), "tcp", &(at.port(), at.port()));
        rules.push(rule(&chain, "a service", &[to, vec![accept()]].concat()));
    }
    for destination in &reach.allow {
        rules
            .extend(reached(destination).into_iter().map(|to| rule(&chain, "allowed", &[to, vec![accept()]].concat())));
    }
    for shared in reach.shared.iter().filter_map(|name| settings.network.shared.get(name)) {
        let link: Vec<Value> = shared.interface.iter().map(|link| is(meta("oifname"), link.as_str())).collect();
        let rule = |to| rule(&chain, "shared", &[link.clone(), to, vec![accept()]].concat());
        rules.extend(reached(&shared.destination).into_iter().map(rule));
    }
    if !reach.dns.is_empty() {
        let dns = [
            is(meta("l4proto"), json!({"set": WITH_PORTS})),
            is(payload("th", "dport"), one_or_set(DNS_PORTS.iter().map(range).collect())),
            drop(),
        ];
        rules.push(rule(&chain, "no other resolvers", &dns));
    }
    if !reach.internet {
        rules.push(rule(&chain, "nothing else", &[drop()]));
    }
    rules
}

/// Containers whose class does not name this address are kept from it.
pub fn denies(network: &Network, address: Ipv4Addr) -> bool {
    let common = FORBIDDEN.iter().filter_map(|(address, prefix)| Ipv4Network::new(*address, *prefix).ok());
    common.chain(network.deny.iter().copied()).any(|denied| denied.contains(address))
}

fn forbidden(more: &[Ipv4Network]) -> Vec<Value> {
    let common = FORBIDDEN.iter().filter_map(|(address, prefix)| Ipv4Network::new(*address, *prefix).ok());
    let mut networks: Vec<Ipv4Network> = common.collect();
    // Elements of an interval set must not overlap.
    let mut more: Vec<Ipv4Network> = more.to_vec();
    more.sort_by_key(|network| network.prefix());
    for network in more {
        let network = Ipv4Network::new(network.network(), network.prefix()).unwrap_or(network);
        if !networks.iter().any(|known| network.is_subnet_of(*known)) {
            networks.retain(|known| !known.is_subnet_of(network));
            networks.push(network);
        }
    }
    networks.sort_by_key(|network| network.network());
    networks.into_iter().map(address).collect()
}

/// What the container addressed, whatever the host makes of it: Docker publishes a port by giving such packets another
/// address before they are judged, and the settings name the one that jobs are told. One expression for each protocol and
/// range of ports: some versions of nft cannot list a set of ports that were asked for.
fn addressed_to(address: Value, ports: &[(u16, u16)]) -> Vec<Vec<Value>> {
    if ports.is_empty() {
        return vec![vec![is(original("ip daddr"), address)]];
    }
    let each = WITH_PORTS.iter().flat_map(|protocol| ports.iter().map(move |ports| (*protocol, ports)));
    each.map(|(protocol, ports)| port_of(&address, protocol, ports)).collect()
}

fn port_of(address: &Value, protocol: &str, ports: &(u16, u16)) -> Vec<Value> {
    vec![
        is(original("ip daddr"), address.clone()),
        is(meta("l4proto"), protocol),
        is(original("proto-dst"), range(ports)),
    ]
}

fn reached(destination: &Destination) -> Vec<Vec<Value>> {
    addressed_to(address(destination.network), &destination.ports)
}

fn range((first, last): &(u16, u16)) -> Value {
    if first == last { json!(first) } else { json!({"range": [first, last]}) }
}

/// nft lists a set of one as that one, and a network of one address as that address.
fn one_or_set(mut items: Vec<Value>) -> Value {
    if items.len() == 1 { items.swap_remove(0) } else { json!({"set": items}) }
}

fn address(network: Ipv4Network) -> Value {
    match network.prefix() {
        32 => json!(network.network().to_string()),
        prefix => json!({"prefix": {"addr": network.network().to_string(), "len": prefix}}),
    }
}

/// What only the host itself may address on its loopback.
fn loopback() -> Value {
    json!({"prefix": {"addr": "127.0.0.0", "len": 8}})
}

fn chain(name: &str, kind: &str, hook: &str, priority: i32) -> Value {
    json!({"chain": {"family": "inet", "table": TABLE, "name": name, "type": kind, "hook": hook, "prio": priority,
                     "policy": "accept"}})
}

fn rule(chain: &str, comment: &str, expression: &[Value]) -> Value {
    json!({"rule": {"family": "inet", "table": TABLE, "chain": chain, "comment": comment, "expr": expression}})
}

fn is(left: Value, right: impl Into<Value>) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right.into()}})
}

fn is_not(left: Value, right: &str) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": right}})
}

fn from() -> Value {
    is(meta("iifname"), format!("{HOST_PREFIX}*"))
}

fn to() -> Value {
    is(meta("oifname"), format!("{HOST_PREFIX}*"))
}

fn state(states: &[&str]) -> Value {
    let states = if let [one] = states { json!(one) } else { json!(states) };
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}})
}

/// The first packet of a TCP connection, or of its other direction.
fn begins() -> Value {
    json!({"match": {"op": "in", "left": payload("tcp", "flags"), "right": "syn"}})
}

/// Lowers the size of segments that it asks for to what the route takes: not every way reports what it does not take.
fn fits() -> Value {
    json!({"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"rt": {"key": "mtu"}}}})
}

/// Of the connection as the one who began it addressed it.
fn original(key: &str) -> Value {
    json!({"ct": {"key": key, "dir": "original"}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn drop() -> Value {
    json!({"drop": null})
}
