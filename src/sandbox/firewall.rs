//! The one nftables table that keeps containers away from everything but the internet.
//!
//! It matches links by the beginning of their name, so it is loaded once and knows no container. Packets of a
//! container are judged by where they come from (its link, which it cannot forge) and where they want to go:
//!
//! ```text
//! prerouting   IPv6, or a source address that is not the link's: dropped
//! input        to the host itself: dropped, replies and the configured resolvers' port 53 aside
//! forward      to another container: dropped; to a container from anywhere, if new: dropped
//!              to private, shared, link-local, loopback and multicast addresses: dropped, resolvers aside
//!              to the internet: left to the other tables
//! postrouting  leaves with the host's address
//! ```

use std::{borrow::Cow, collections::HashSet, fs, net::Ipv4Addr, path::Path};

use anyhow::{Context, ensure};
use nftables::{
    batch::Batch,
    expr::{
        CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
    },
    helper::{self, DEFAULT_NFT},
    schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Rule, Table},
    stmt::{Accept, Drop, Match, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::link::HOST_PREFIX;

/// The table's name; its family is `inet`.
pub const TABLE: &str = "gha_runner";

/// Where a container has no business: this network, private, shared, loopback, link-local (and cloud metadata),
/// multicast, reserved and broadcast addresses (IANA's IPv4 special-purpose registry).
const FORBIDDEN: [(Ipv4Addr, u32); 9] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

const PREROUTING: &str = "prerouting";
const INPUT: &str = "input";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// Priorities of the hooks (nft(8), "Standard priority names"): raw, filter, srcnat.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// Loads the table in place of an earlier one, in one transaction; then reads it back.
pub fn load(dns: &[Ipv4Addr]) -> anyhow::Result<()> {
    let objects = objects(dns);
    let mut batch = Batch::new();
    // Adding what may be there makes deleting it safe; both are part of the transaction, so there is no moment without
    // a table.
    batch.add(table());
    batch.delete(table());
    for object in &objects {
        batch.add(object.clone());
    }
    helper::apply_ruleset(&batch.to_nftables()).map_err(explain).context("cannot load the firewall's table")?;
    verify(&objects, &read()?)?;
    forward_packets(Path::new("/proc/sys/net/ipv4/ip_forward"))
}

/// Removes the table, if there is one.
pub fn remove() -> anyhow::Result<()> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    helper::apply_ruleset(&batch.to_nftables()).map_err(explain).context("cannot remove the firewall's table")
}

fn read() -> anyhow::Result<Nftables<'static>> {
    helper::get_current_ruleset_with_args(DEFAULT_NFT, ["list", "table", "inet", TABLE])
        .map_err(explain)
        .context("cannot read the firewall's table back")
}

/// The library's error leaves out what nft said.
fn explain(error: helper::NftablesError) -> anyhow::Error {
    match &error {
        helper::NftablesError::NftFailed { stderr, .. } => {
            let said = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
            anyhow::Error::new(error).context(said)
        }
        _ => error.into(),
    }
}

/// Routing between links is off by default, and containers are reached by it.
fn forward_packets(switch: &Path) -> anyhow::Result<()> {
    let shown = switch.display();
    if fs::read_to_string(switch).with_context(|| format!("cannot read {shown}"))?.trim() != "1" {
        fs::write(switch, "1").with_context(|| format!("cannot write {shown}"))?;
    }
    Ok(())
}

/// What was read must have every chain that was written, at its hook, with its rules in order. Rules are compared by
/// their comments, which are unique, because the kernel writes sets and prefixes in a form of its own.
fn verify(written: &[NfListObject<'_>], read: &Nftables<'_>) -> anyhow::Result<()> {
    let listed = read.objects.iter().filter_map(|object| match object {
        NfObject::ListObject(object) => Some(object),
        NfObject::CmdObject(_) => None,
    });
    let (expected, found) = (shape(written.iter()), shape(listed));
    ensure!(expected == found, "the firewall's table is not what was loaded: expected {expected:?}, found {found:?}");
    Ok(())
}

/// Chains and rules of a table, without what the kernel adds.
fn shape<'a, 'b: 'a>(objects: impl Iterator<Item = &'a NfListObject<'b>>) -> Vec<String> {
    let mut shape: Vec<String> = objects
        .filter_map(|object| match object {
            NfListObject::Chain(chain) => {
                Some(format!("{}: {:?} {:?} {:?}", chain.name, chain.hook, chain.prio, chain.policy))
            }
            NfListObject::Rule(rule) => Some(format!("{}: {}", rule.chain, rule.comment.as_deref().unwrap_or("?"))),
            _ => None,
        })
        .collect();
    // Chains are listed first or each before its rules, depending on nft's version; the sort keeps rules in order.
    shape.sort_by_key(|line| line.split(':').next().map(str::to_owned));
    shape
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}

/// The table and all that is in it.
fn objects(dns: &[Ipv4Addr]) -> Vec<NfListObject<'static>> {
    let mut objects = vec![
        table(),
        chain(PREROUTING, NfChainType::Filter, NfHook::Prerouting, RAW),
        chain(INPUT, NfChainType::Filter, NfHook::Input, FILTER),
        chain(FORWARD, NfChainType::Filter, NfHook::Forward, FILTER),
        chain(POSTROUTING, NfChainType::NAT, NfHook::Postrouting, SRCNAT),
    ];
    let from = || matches(meta(MetaKey::Iifname), Operator::EQ, wildcard());
    let to = || matches(meta(MetaKey::Oifname), Operator::EQ, wildcard());
    let resolver = |chain, comment| {
        (!dns.is_empty()).then(|| {
            let servers = dns.iter().map(|server| text(server.to_string())).collect();
            let protocols = vec![text("tcp"), text("udp")];
            let port = matches(field("th", "dport"), Operator::EQ, Expression::Number(53));
            let expression = vec![
                from(),
                matches(field("ip", "daddr"), Operator::EQ, set(servers)),
                matches(meta(MetaKey::L4proto), Operator::EQ, set(protocols)),
                port,
                accept(),
            ];
            rule(chain, comment, expression)
        })
    };
    let forbidden = FORBIDDEN.iter().map(|(address, length)| prefix(*address, *length)).collect();
    let rules = [
        Some(rule(PREROUTING, "no IPv6", vec![from(), ipv6(), drop()])),
        Some(rule(PREROUTING, "no forged source", vec![from(), unroutable_source(), drop()])),
        Some(rule(INPUT, "replies to the host", vec![from(), established(), accept()])),
        resolver(INPUT, "resolvers on the host"),
        Some(rule(INPUT, "not the host", vec![from(), drop()])),
        Some(rule(FORWARD, "replies to containers", vec![to(), established(), accept()])),
        Some(rule(FORWARD, "not to containers", vec![to(), drop()])),
        Some(rule(FORWARD, "replies of containers", vec![from(), established(), accept()])),
        Some(rule(FORWARD, "no strays", vec![from(), state(&["invalid"]), drop()])),
        resolver(FORWARD, "resolvers elsewhere"),
        Some(rule(
            FORWARD,
            "not the neighbourhood",
            vec![from(), matches(field("ip", "daddr"), Operator::EQ, set(forbidden)), drop()],
        )),
        Some(rule(POSTROUTING, "as the host", vec![from(), Statement::Masquerade(None)])),
    ];
    objects.extend(rules.into_iter().flatten());
    objects
}

fn chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn rule(chain: &'static str, comment: &'static str, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        comment: Some(comment.into()),
        ..Rule::default()
    })
}

fn matches(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn accept() -> Statement<'static> {
    Statement::Accept(Some(Accept {}))
}

fn drop() -> Statement<'static> {
    Statement::Drop(Some(Drop {}))
}

fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

/// Every link whose name begins as our host ends do.
fn wildcard() -> Expression<'static> {
    text(format!("{HOST_PREFIX}*"))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn set(items: Vec<Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
}

fn prefix(address: Ipv4Addr, len: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(text(address.to_string())), len }))
}

fn ipv6() -> Statement<'static> {
    matches(meta(MetaKey::Nfproto), Operator::EQ, text("ipv6"))
}

fn established() -> Statement<'static> {
    state(&["established", "related"])
}

fn state(states: &[&'static str]) -> Statement<'static> {
    let key = Expression::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None }));
    matches(key, Operator::IN, Expression::List(states.iter().map(|state| text(*state)).collect()))
}

/// The source address is not one that answers to it would leave for by the link the packet came by.
fn unroutable_source() -> Statement<'static> {
    let flags = HashSet::from([FibFlag::Saddr, FibFlag::Iif]);
    let lookup = Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Oif, flags }));
    matches(lookup, Operator::EQ, Expression::Boolean(false))
}

/// The transaction as text, for documentation and tests.
pub fn transaction(dns: &[Ipv4Addr]) -> anyhow::Result<String> {
    let commands: Vec<NfObject<'_>> =
        objects(dns).into_iter().map(|object| NfObject::CmdObject(NfCmd::Add(object))).collect();
    Ok(serde_json::to_string_pretty(&Nftables { objects: commands.into() })?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;
    use crate::sandbox::{
        fence,
        syscall::{Namespace, unshare},
    };

    #[test]
    fn the_kernel_takes_the_table_and_a_second_load_replaces_it() {
        let nft = Command::new("nft").arg("--version").output().is_ok();
        if !rustix::process::geteuid().is_root() || !nft {
            println!("skipped: needs root and nft");
            return;
        }
        // A thread of its own, because it moves into a network namespace and stays there.
        std::thread::spawn(|| {
            unshare(Namespace::Network).unwrap();
            assert!(fence::check().unwrap_err().to_string().contains("not loaded"));
            let dns = [Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(9, 9, 9, 9)];
            load(&dns).unwrap();
            fence::check().unwrap();
            load(&[]).unwrap();
            assert_eq!(
                read()
                    .unwrap()
                    .objects
                    .iter()
                    .filter(|o| matches!(o, NfObject::ListObject(NfListObject::Rule(_))))
                    .count(),
                10
            );
            remove().unwrap();
            remove().unwrap();
            assert!(fence::check().is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_table_with_a_rule_less_is_not_what_was_loaded() {
        let all = objects(&[]);
        let read = |objects: &[NfListObject<'static>]| Nftables {
            objects: objects.iter().cloned().map(NfObject::ListObject).collect(),
        };
        assert!(verify(&all, &read(&all)).is_ok());
        for missing in 1..all.len() {
            let mut fewer = all.clone();
            fewer.remove(missing);
            assert!(verify(&all, &read(&fewer)).is_err(), "{missing}");
        }
    }
}
