//! Where a program can run.

use std::net::Ipv4Addr;

use strum::{Display, VariantArray};

/// A place in the lab's world. All but the host are network namespaces only: programs there see this machine's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Display, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Place {
    /// The systemd host under test; its own files, processes and network.
    Host,
    /// The router between all other places. It knows no route to any container.
    Router,
    /// A neighbour of the host on its private network.
    Lan,
    /// Where the forge's stand-in listens.
    Forge,
    /// Any other machine on the internet.
    Internet,
    /// The metadata service of a cloud.
    Metadata,
}

impl Place {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The address that others reach it by.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Host => Ipv4Addr::new(192, 168, 50, 2),
            Self::Router => Ipv4Addr::new(192, 168, 50, 1),
            Self::Lan => Ipv4Addr::new(192, 168, 50, 10),
            Self::Forge => Ipv4Addr::new(203, 0, 113, 10),
            Self::Internet => Ipv4Addr::new(198, 51, 100, 7),
            Self::Metadata => Ipv4Addr::new(169, 254, 169, 254),
        }
    }

    /// The network namespace it is, if it is a named one.
    pub(crate) const fn namespace(self) -> Option<&'static str> {
        match self {
            Self::Host | Self::Router => None,
            Self::Lan => Some("lan"),
            Self::Forge => Some("forge"),
            Self::Internet => Some("internet"),
            Self::Metadata => Some("metadata"),
        }
    }
}
