//! The stand-ins: where they are, and what is planted in them.

use std::{fs, net::Ipv4Addr};

use lab::Place;

/// The neighbouring job's container, and its subnet's other end.
pub const NEIGHBOUR: &str = "j0000001";
/// Its address.
pub const NEIGHBOUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 2);
/// The host's address towards it.
pub const NEIGHBOUR_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
/// A class's name, for the unit of the neighbour.
pub const NEIGHBOUR_CLASS: &str = "medium";
/// Ports the stand-ins answer at, TCP and UDP.
pub const PORTS: [u16; 6] = [53, 80, 443, 853, 5353, 8080];
/// The controller's port, on the host's loopback.
pub const CONTROLLER_PORT: u16 = 8080;
/// Text in every planted secret of the host.
pub const SECRET: &str = "stand-in-secret-7c1d";
/// What the neighbour keeps sending to the internet.
pub const HEARTBEAT: &str = "heartbeat-of-the-neighbour";
/// Name of a socket in the abstract name space of the host's network.
pub const ABSTRACT_SOCKET: &str = "gha-breakout-host";
/// Key of a shared memory segment of the host.
pub const SHARED_MEMORY: i32 = 0x6768_6131;
/// Description of a key of the host's root.
pub const KEY: &str = "gha-breakout-key";
/// Command name of a process of the host.
pub const VICTIM: &str = "gha-victim";
/// IPv6 network of the host and its neighbours.
pub const HOST_IPV6: &str = "fd50::2";
/// The neighbour in the LAN.
pub const LAN_IPV6: &str = "fd50::10";
/// `network.connections` of the suite.
pub const CONNECTIONS: usize = 64;
/// A file that only the host has.
pub const MARKER: &str = "/etc/gha-breakout-marker";

/// Files of the host with [`SECRET`] in them.
pub const SECRET_FILES: [(&str, &str); 4] = [
    ("the forge's token", "/etc/gha-runner-controller/token"),
    ("the controller's credentials", "/run/credentials/gha-runner-controller.service/token-0"),
    ("the hand-over", "/run/gha-runner-controller/containers/secret"),
    ("the sandbox's records", "/run/gha-runner-sandbox/secret"),
];

/// A place's address.
pub fn address(place: Place) -> Ipv4Addr {
    place.address()
}

/// The gateway and the link of the default route.
pub fn gateway() -> Option<(Ipv4Addr, String)> {
    let table = fs::read_to_string("/proc/net/route").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (link, destination, gateway) = (fields.next()?, fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000").then(|| (Ipv4Addr::from(gateway.swap_bytes()), link.to_owned()))
    })
}
