//! The pool of subnets: which there are, in which order, and which is free.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

/// Every container needs three addresses: network, host end, container end; a /30 is the smallest with room.
pub const LONGEST_PREFIX: u8 = 30;
/// A pool offers at most this many subnets: each comes with its own range of 65,536 user ids, and
/// systemd-nspawn's ids hold no more (docs/nspawn.md#id-ranges).
pub const MOST_SUBNETS: u32 = 20_000;

/// Equal-sized subnets in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SpanAndPrefix", into = "SpanAndPrefix")]
pub struct Pool {
    first: u32,
    count: u32,
    prefix: u8,
    /// As written, to write it back.
    span: Extent,
}

/// What makes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpanAndPrefix {
    span: String,
    prefix: u8,
}

impl From<Pool> for SpanAndPrefix {
    fn from(pool: Pool) -> Self {
        Self { span: pool.to_string(), prefix: pool.prefix }
    }
}

impl TryFrom<SpanAndPrefix> for Pool {
    type Error = InvalidPool;

    fn try_from(written: SpanAndPrefix) -> Result<Self, InvalidPool> {
        Self::parse(&written.span, written.prefix)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Network(Ipv4Network),
    Range(Ipv4Addr, Ipv4Addr),
}

/// Why a text is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// Neither form.
    #[error("{0:?} is neither ADDRESS/PREFIX nor FIRST-LAST")]
    Syntax(String),
    /// The prefix leaves no room or is no prefix.
    #[error("prefix {0} leaves no room for a host end and a container end, or is not a prefix length")]
    Prefix(u8),
    /// No subnet fits.
    #[error("no /{0} subnet lies in it")]
    Empty(u8),
    /// Not for private use, or in another block than the beginning.
    #[error("{0} is outside its block for private use (one of 10/8, 172.16/12, 192.168/16, 100.64/10)")]
    NotPrivate(Ipv4Addr),
}

impl Pool {
    /// A pool of /`prefix` subnets. `span` is `ADDRESS/PREFIX` (all subnets inside it) or `FIRST-LAST` (all subnets
    /// whose network address lies between the two, both included).
    pub fn parse(span: &str, prefix: u8) -> Result<Self, InvalidPool> {
        if !(8..=LONGEST_PREFIX).contains(&prefix) {
            return Err(InvalidPool::Prefix(prefix));
        }
        let syntax = || InvalidPool::Syntax(span.to_owned());
        let address = |text: &str| Ipv4Addr::from_str(text.trim()).map_err(|_| syntax());
        let parsed = match span.split_once('-') {
            Some((first, last)) => Extent::Range(address(first)?, address(last)?),
            None => Extent::Network(span.trim().parse::<Ipv4Network>().map_err(|_| syntax())?),
        };
        let size = 1u64 << (32 - prefix);
        // Both bounds in subnets: from the first whose start lies inside to the last whose start (and, for a network,
        // whose end) does.
        let (low, high) = match parsed {
            Extent::Range(first, last) => (u64::from(u32::from(first)), u64::from(u32::from(last))),
            Extent::Network(net) => {
                let start = u64::from(u32::from(net.network()));
                let end = u64::from(u32::from(net.broadcast()));
                (start, (end + 1).saturating_sub(size))
            }
        };
        let first = low.div_ceil(size);
        let last = high / size;
        let fits = match parsed {
            Extent::Network(net) => net.prefix() <= prefix,
            Extent::Range(..) => low <= high,
        };
        if !fits || last < first {
            return Err(InvalidPool::Empty(prefix));
        }
        let count = u32::try_from((last - first + 1).min(u64::from(MOST_SUBNETS))).unwrap_or(MOST_SUBNETS);
        // first * size < 2^32 because first <= last = high / size and high < 2^32.
        let first = u32::try_from(first * size).map_err(|_| InvalidPool::Empty(prefix))?;
        // Also what lies beyond the subnets offered must be for private use, and all of it in one block.
        let end = u32::try_from(last * size + (size - 1)).map_err(|_| InvalidPool::Empty(prefix))?;
        let (first_address, last_address) = (Ipv4Addr::from(first), Ipv4Addr::from(end));
        let block = private_block(first_address).ok_or(InvalidPool::NotPrivate(first_address))?;
        if private_block(last_address) != Some(block) {
            return Err(InvalidPool::NotPrivate(last_address));
        }
        let pool = Self { first, count, prefix, span: parsed };
        Ok(pool)
    }

    /// How many subnets there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Never true: a pool has at least one subnet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Prefix length of each subnet.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The subnet at `index`, counted from 0.
    pub fn subnet(&self, index: u32) -> Option<Ipv4Network> {
        (index < self.count)
            .then(|| self.first + (index << (32 - self.prefix)))
            .and_then(|start| Ipv4Network::new(Ipv4Addr::from(start), self.prefix).ok())
    }

    /// The index of `subnet`, if it is exactly one of the pool's.
    pub fn index_of(&self, subnet: Ipv4Network) -> Option<u32> {
        let start = u32::from(subnet.ip());
        let index = start.checked_sub(self.first)? >> (32 - self.prefix);
        (self.subnet(index) == Some(subnet)).then_some(index)
    }

    /// Whether any subnet of the pool and `network` have an address in common.
    pub fn touches(&self, network: Ipv4Network) -> bool {
        let end = u64::from(self.first) + (u64::from(self.count) << (32 - self.prefix));
        u64::from(u32::from(network.network())) < end && u32::from(network.broadcast()) >= self.first
    }

    /// The first free subnet at or after `start` (going round), so that a subnet just given back rests a while.
    pub fn free(&self, start: u32, taken: impl Fn(Ipv4Network) -> bool) -> Option<Ipv4Network> {
        (0..self.count)
            .filter_map(|step| self.subnet((start % self.count + step) % self.count))
            .find(|subnet| !taken(*subnet))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Extent::Network(net) => write!(f, "{net}"),
            Extent::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// The block for private use (RFC 1918) or shared address space (RFC 6598) that an address lies in.
fn private_block(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, ..] = address.octets();
    match a {
        10 => Some("10/8"),
        172 if (16..32).contains(&b) => Some("172.16/12"),
        192 if b == 168 => Some("192.168/16"),
        100 if (64..128).contains(&b) => Some("100.64/10"),
        _ => None,
    }
}

/// The host's end of a container's link: the first address after the network's.
pub fn host_address(subnet: Ipv4Network) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// The container's end: the second.
pub fn container_address(subnet: Ipv4Network) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_pool_has_a_hundred_subnets() {
        let pool = Pool::parse("192.168.100.0-192.168.199.0", 24).unwrap();
        assert_eq!(pool.len(), 100);
        assert_eq!(pool.subnet(0).unwrap().to_string(), "192.168.100.0/24");
        assert_eq!(pool.subnet(99).unwrap().to_string(), "192.168.199.0/24");
        assert_eq!(pool.subnet(100), None);
        assert_eq!(pool.to_string(), "192.168.100.0-192.168.199.0");
    }

    #[test]
    fn what_is_no_pool_is_refused() {
        for (span, prefix) in [
            ("192.168.0.0/24", 31),
            ("192.168.0.0/24", 7),
            ("192.168.0.0/24", 16),
            ("192.168.2.0-192.168.1.0", 24),
            ("8.8.8.0/24", 30),
            ("10.0.0.0-11.0.0.0", 24),
            ("10.0.0.0-192.168.0.0", 24),
            ("lan", 24),
            ("10.0.0.0/33", 24),
        ] {
            assert!(Pool::parse(span, prefix).is_err(), "{span} /{prefix}");
        }
    }

    #[test]
    fn only_a_subnet_of_the_pool_has_an_index() {
        let pool = Pool::parse("10.1.0.0/16", 28).unwrap();
        for foreign in ["10.1.0.1/28", "10.2.0.0/28", "10.1.0.0/24", "10.1.0.0/29", "0.0.0.0/0"] {
            assert_eq!(pool.index_of(foreign.parse().unwrap()), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn subnets_are_distinct_inside_the_pool_and_found_again(
            net in 0u32..0x00ff_ffff, net_prefix in 9u8..=30, more in 0u8..=12,
        ) {
            let prefix = (net_prefix + more).min(LONGEST_PREFIX);
            let around = Ipv4Network::new(Ipv4Addr::from(0x0a00_0000 | net), net_prefix).unwrap();
            let pool = Pool::parse(&around.to_string(), prefix).unwrap();
            let mut seen = BTreeSet::new();
            for index in (0..pool.len()).take(300) {
                let subnet = pool.subnet(index).unwrap();
                prop_assert!(around.contains(subnet.network()) && around.contains(subnet.broadcast()));
                prop_assert!(subnet.contains(host_address(subnet)) && subnet.contains(container_address(subnet)));
                prop_assert_ne!(container_address(subnet), subnet.broadcast());
                prop_assert_eq!(pool.index_of(subnet), Some(index));
                prop_assert!(seen.insert(subnet));
            }
        }

        #[test]
        fn a_free_subnet_is_free_and_none_means_none(start: u32, taken in proptest::collection::btree_set(0u32..16, 0..=16)) {
            let pool = Pool::parse("10.0.0.0/24", 28).unwrap();
            let is_taken = |subnet| taken.contains(&pool.index_of(subnet).unwrap());
            match pool.free(start, is_taken) {
                Some(subnet) => prop_assert!(!is_taken(subnet)),
                None => prop_assert_eq!(taken.len(), 16),
            }
        }
    }
}
