//! Links, addresses and routes of the network namespace this process is in, over rtnetlink.
//!
//! A synchronous face on an asynchronous library: the sandbox and the guest make a handful of requests one after the
//! other, each bounded by [`PATIENCE`].

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::TryStreamExt;
use ipnetwork::Ipv4Network;
use rtnetlink::{
    Handle, LinkDelRequest, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::AddressAttribute,
        link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope},
    },
};
use rustix::io::Errno;

/// Longest wait for one answer of the kernel. It normally takes well under a millisecond; a host that creates many
/// links at once makes requests queue for one lock.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A hardware address.
pub type Mac = [u8; 6];

/// A network that is in use on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The network, as the address or the route says.
    pub network: Ipv4Network,
    /// The link it is reached by.
    pub link: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket or the runtime for it.
    #[error("cannot talk to the kernel about links: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused.
    #[error("{what}: {cause}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
    /// No answer in time.
    #[error("{what}: no answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// What was asked for.
        what: String,
    },
    /// There is no such link.
    #[error("there is no link {0}")]
    Missing(String),
}

impl Error {
    /// The kernel's error number, if it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { cause, .. } => errno(cause),
            _ => None,
        }
    }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(Errno::from_raw_os_error(message.raw_code().abs())),
        _ => None,
    }
}

/// A connection to the kernel.
#[derive(Debug)]
pub struct Netlink {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
}

impl Netlink {
    /// Opens a connection in the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = {
            let _inside = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            runtime.spawn(connection);
            handle
        };
        Ok(Self { runtime, handle })
    }

    fn ask<T>(
        &self,
        what: impl Into<String>,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Error> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, request).await });
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(cause)) => Err(Error::Refused { what: what.into(), cause }),
            Err(_) => Err(Error::Silent { what: what.into() }),
        }
    }

    /// The index of the link `name`, if there is one.
    pub fn link(&self, name: &str) -> Result<Option<u32>, Error> {
        let request = self.handle.link().get().match_name(name).execute();
        let found = self.ask(format!("look for link {name}"), async move {
            let mut links = std::pin::pin!(request);
            links.try_next().await
        });
        match found {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of all links.
    pub fn links(&self) -> Result<Vec<String>, Error> {
        Ok(self.named_links()?.into_values().collect())
    }

    fn named_links(&self) -> Result<BTreeMap<u32, String>, Error> {
        let links: Vec<_> = self.ask("list links", self.handle.link().get().execute().try_collect())?;
        let name = |attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        };
        Ok(links
            .into_iter()
            .filter_map(|link| Some((link.header.index, link.attributes.into_iter().find_map(name)?)))
            .collect())
    }

    /// The networks that are in use: of every IPv4 address, and of every route of the main table.
    pub fn taken(&self) -> Result<Vec<Taken>, Error> {
        let links = self.named_links()?;
        let name = |index: Option<u32>| {
            index.and_then(|index| links.get(&index)).cloned().unwrap_or_else(|| "no link".to_owned())
        };
        let addresses: Vec<_> = self.ask("list addresses", self.handle.address().get().execute().try_collect())?;
        let of_address =
            addresses.iter().filter(|message| message.header.family == AddressFamily::Inet).filter_map(|message| {
                let local = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                })?;
                let network = Ipv4Network::new(local, message.header.prefix_len).ok()?;
                Some(Taken { network, link: name(Some(message.header.index)) })
            });
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<RouteMessage> =
            self.ask("list routes", self.handle.route().get(all).execute().try_collect())?;
        let of_route =
            routes.iter().filter(|route| route.header.table == RouteHeader::RT_TABLE_MAIN).filter_map(|route| {
                let destination = route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                    _ => None,
                })?;
                let link = route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
                let network = Ipv4Network::new(destination, route.header.destination_prefix_length).ok()?;
                Some(Taken { network, link: name(link) })
            });
        Ok(of_address.chain(of_route).collect())
    }

    /// The largest packet that the way to `address` takes, in bytes: its link's word, or the route's where that is less.
    /// `None` if no way leads there. Nothing is sent.
    pub fn mtu_towards(&self, address: Ipv4Addr) -> Result<Option<u32>, Error> {
        let to = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let request = self.handle.route().get(to).execute();
        let found = self.ask(format!("look for the way to {address}"), async move {
            let mut routes = std::pin::pin!(request);
            routes.try_next().await
        });
        let route = match found {
            Ok(Some(route)) => route,
            Ok(None) => return Ok(None),
            Err(error) => match error.errno() {
                // No route, or one of the kinds that refuse: unreachable, prohibit, blackhole.
                Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => return Ok(None),
                _ => return Err(error),
            },
        };
        let (mut links, mut sizes) = (Vec::new(), Vec::new());
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => links.push(index),
                RouteAttribute::Metrics(metrics) => sizes.extend(metrics.iter().filter_map(|metric| match metric {
                    RouteMetric::Mtu(size) if *size > 0 => Some(*size),
                    _ => None,
                })),
                _ => {}
            }
        }
        for index in links {
            sizes.extend(self.mtu_of(index)?);
        }
        Ok(sizes.into_iter().min())
    }

    /// The largest packet that the link `name` takes, in bytes.
    pub fn mtu(&self, name: &str) -> Result<Option<u32>, Error> {
        self.mtu_of(self.index(name)?)
    }

    fn mtu_of(&self, index: u32) -> Result<Option<u32>, Error> {
        let request = self.handle.link().get().match_index(index).execute();
        let found = self.ask(format!("look at link {index}"), async move {
            let mut links = std::pin::pin!(request);
            links.try_next().await
        })?;
        Ok(found.and_then(|link| {
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(size) => Some(size),
                _ => None,
            })
        }))
    }

    /// Makes a pair of connected links, both down, for packets of at most `mtu` bytes. The hardware addresses are given,
    /// not left to chance, because udev replaces a random one moments after the link appears (systemd.link(5),
    /// `MACAddressPolicy=`).
    pub fn add_pair(&self, name: &str, mac: Mac, peer: &str, peer_mac: Mac, mtu: u32) -> Result<(), Error> {
        let peer_end = LinkMessageBuilder::<LinkUnspec>::new().name(peer).address(peer_mac.to_vec()).mtu(mtu).build();
        let pair = LinkVeth::new(name, peer)
            .address(mac.to_vec())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_end)))
            .build();
        self.ask(format!("add links {name} and {peer}"), self.handle.link().add(pair).execute())
    }

    /// Sets the link `name` up.
    pub fn set_up(&self, name: &str) -> Result<(), Error> {
        let up = LinkUnspec::new_with_index(self.index(name)?).up().build();
        self.ask(format!("set link {name} up"), self.handle.link().set(up).execute())
    }

    /// Gives the link `name` an address.
    pub fn add_address(&self, name: &str, address: Ipv4Network) -> Result<(), Error> {
        let request = self.handle.address().add(self.index(name)?, address.ip().into(), address.prefix());
        self.ask(format!("give link {name} the address {address}"), request.execute())
    }

    /// Routes what is for `network` to the link `name`.
    pub fn add_route(&self, name: &str, network: Ipv4Network) -> Result<(), Error> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.network(), network.prefix())
            .output_interface(self.index(name)?)
            .scope(RouteScope::Link)
            .build();
        self.ask(format!("route {network} to link {name}"), self.handle.route().add(route).execute())
    }

    /// Routes everything through `gateway`.
    pub fn add_default_route(&self, gateway: Ipv4Addr) -> Result<(), Error> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        self.ask(format!("route through {gateway}"), self.handle.route().add(route).execute())
    }

    /// Deletes the link `name`; false if there was none.
    pub fn delete(&self, name: &str) -> Result<bool, Error> {
        // By its name, not by its number, which would have to be asked for: of a burst, every request waits for the
        // kernel's one lock of all links.
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let request = LinkDelRequest::new_with_message(self.handle.clone(), message);
        match self.ask(format!("delete link {name}"), request.execute()) {
            Ok(()) => Ok(true),
            // There was none, or somebody was faster: its peer went, or its namespace did.
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn index(&self, name: &str) -> Result<u32, Error> {
        self.link(name)?.ok_or_else(|| Error::Missing(name.to_owned()))
    }
}
