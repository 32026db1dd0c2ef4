//! The network: every range and port that is out of bounds, forged packets, other protocols.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use lab::Place;

use super::shell;
use crate::{Found, Probe, raw, stand_in::ANSWER, targets};

const PATIENCE: Duration = Duration::from_millis(800);

/// All of them.
pub const PROBES: &[Probe] = &[
    Probe { name: "host-tcp", tried: "TCP to the host's address, port 80", run: |_| tcp(host(), 80) },
    Probe { name: "host-udp", tried: "UDP to the host's address, port 80", run: |word| udp(host(), 80, word) },
    Probe {
        name: "host-dns",
        tried: "DNS of the host, which is not the class's resolver",
        run: |word| udp(host(), 53, word),
    },
    Probe { name: "host-ping", tried: "ICMP echo to the host", run: |_| ping(host()) },
    Probe {
        name: "gateway-tcp",
        tried: "TCP to the host's end of the link, or the router, port 443",
        run: |_| gateway(443),
    },
    Probe {
        name: "gateway-controller",
        tried: "the controller's port by the gateway",
        run: |_| gateway(targets::CONTROLLER_PORT),
    },
    Probe {
        name: "controller-port",
        tried: "the controller's port by the host's address",
        run: |_| tcp(host(), targets::CONTROLLER_PORT),
    },
    Probe {
        name: "controller-loopback",
        tried: "the controller's port on the loopback, routed to the host",
        run: controller_loopback,
    },
    Probe { name: "lan-tcp", tried: "TCP to a neighbour in the LAN", run: |_| tcp(at(Place::Lan), 80) },
    Probe { name: "lan-udp", tried: "UDP to a neighbour in the LAN", run: |word| udp(at(Place::Lan), 80, word) },
    Probe { name: "lan-ping", tried: "ICMP echo to a neighbour in the LAN", run: |_| ping(at(Place::Lan)) },
    Probe { name: "lan-https", tried: "TCP port 443 of a neighbour in the LAN", run: |_| tcp(at(Place::Lan), 443) },
    Probe { name: "router", tried: "TCP to the LAN's router", run: |_| tcp(at(Place::Router), 80) },
    Probe { name: "metadata", tried: "the cloud's metadata service", run: |_| tcp(at(Place::Metadata), 80) },
    Probe {
        name: "metadata-udp",
        tried: "the metadata address by UDP",
        run: |word| udp(at(Place::Metadata), 80, word),
    },
    Probe {
        name: "denied-range",
        tried: "a public network that network.deny names",
        run: |_| tcp(at(Place::Forge), 443),
    },
    Probe {
        name: "sibling-tcp",
        tried: "TCP to another job's container",
        run: |_| tcp(targets::NEIGHBOUR_ADDRESS, 80),
    },
    Probe {
        name: "sibling-udp",
        tried: "UDP to another job's container",
        run: |word| udp(targets::NEIGHBOUR_ADDRESS, 80, word),
    },
    Probe {
        name: "sibling-ping",
        tried: "ICMP echo to another job's container",
        run: |_| ping(targets::NEIGHBOUR_ADDRESS),
    },
    Probe {
        name: "sibling-gateway",
        tried: "the host's end of another container's link",
        run: |_| tcp(targets::NEIGHBOUR_GATEWAY, 80),
    },
    Probe {
        name: "other-resolver-udp",
        tried: "DNS of a resolver the class does not name",
        run: |word| udp(at(Place::Internet), 53, word),
    },
    Probe {
        name: "other-resolver-tcp",
        tried: "DNS over TCP of such a resolver",
        run: |_| tcp(at(Place::Internet), 53),
    },
    Probe {
        name: "other-resolver-tls",
        tried: "DNS over TLS of such a resolver",
        run: |_| tcp(at(Place::Internet), 853),
    },
    Probe { name: "multicast", tried: "multicast DNS to the LAN", run: multicast },
    Probe { name: "broadcast", tried: "the LAN's broadcast address", run: broadcast },
    Probe {
        name: "forged-sibling",
        tried: "UDP to the internet from another container's address",
        run: |word| forged(targets::NEIGHBOUR_ADDRESS, word),
    },
    Probe {
        name: "forged-lan",
        tried: "UDP to the internet from an address of the LAN",
        run: |word| forged(at(Place::Lan), word),
    },
    Probe {
        name: "forged-public",
        tried: "UDP to the internet from a public address",
        run: |word| forged(Ipv4Addr::new(192, 0, 2, 99), word),
    },
    Probe {
        name: "forged-own-subnet",
        tried: "UDP to the internet from another address of the own subnet",
        run: forged_own_subnet,
    },
    Probe {
        name: "arp-claim",
        tried: "ARP: claim an address of the LAN for a hardware address of one's own",
        run: arp_claim,
    },
    Probe {
        name: "overhear",
        tried: "a packet socket that hears the neighbour's packets",
        run: |_| Found::of(raw::overhear(targets::HEARTBEAT.as_bytes()), "heard its heartbeat"),
    },
    Probe {
        name: "ipv6-lan",
        tried: "TCP over IPv6 to the LAN, with IPv6 switched on and a route made",
        run: |_| ipv6(targets::LAN_IPV6),
    },
    Probe { name: "ipv6-host", tried: "TCP over IPv6 to the host, likewise", run: |_| ipv6(targets::HOST_IPV6) },
    Probe { name: "ipv6-neighbours", tried: "ICMPv6 to all nodes of the link", run: all_nodes },
    Probe {
        name: "abstract-socket",
        tried: "a socket of the host without a file",
        run: |_| Found::of(raw::connect_abstract(targets::ABSTRACT_SOCKET), "connected"),
    },
];

fn host() -> Ipv4Addr {
    at(Place::Host)
}

fn at(place: Place) -> Ipv4Addr {
    targets::address(place)
}

fn tcp(address: impl Into<IpAddr>, port: u16) -> Found {
    let hear = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = [0; ANSWER.len()];
        io::Read::read_exact(&mut stream, &mut answer)
    };
    Found::of(hear(), "answered")
}

fn udp(address: Ipv4Addr, port: u16, word: &str) -> Found {
    let hear = || -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(word.as_bytes(), (address, port))?;
        socket.recv(&mut [0; 64]).map(drop)
    };
    match hear() {
        Ok(()) => Found::succeeded("answered"),
        // It may have arrived without the answer's coming back.
        Err(error) => Found::witness(word, error),
    }
}

fn ping(address: Ipv4Addr) -> Found {
    Found::of(raw::ping(address), "answered")
}

fn gateway(port: u16) -> Found {
    match targets::gateway() {
        Some((gateway, _)) => tcp(gateway, port),
        None => Found::skipped("there is no default route"),
    }
}

fn controller_loopback(_: &str) -> Found {
    let direct = tcp(Ipv4Addr::LOCALHOST, targets::CONTROLLER_PORT);
    if direct.outcome == crate::Outcome::Succeeded {
        return direct;
    }
    let Some((gateway, link)) = targets::gateway() else { return direct };
    let _ = shell(&format!(
        "echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
         ip route add 127.77.0.1/32 via {gateway} dev {link}"
    ));
    tcp(Ipv4Addr::new(127, 77, 0, 1), targets::CONTROLLER_PORT)
}

fn multicast(word: &str) -> Found {
    let send = || -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_multicast_ttl_v4(8)?;
        socket.send_to(word.as_bytes(), ("224.0.0.251", 5353)).map(drop)
    };
    match send() {
        Ok(()) => Found::witness(word, "sent"),
        Err(error) => Found::refused(error),
    }
}

fn broadcast(word: &str) -> Found {
    let send = || -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_broadcast(true)?;
        socket.send_to(word.as_bytes(), ("192.168.50.255", 80)).map(drop)
    };
    match send() {
        Ok(()) => Found::witness(word, "sent"),
        Err(error) => Found::refused(error),
    }
}

fn forged(source: Ipv4Addr, word: &str) -> Found {
    match raw::send_forged(source, at(Place::Internet), 80, word.as_bytes()) {
        Ok(()) => Found::witness(word, "sent"),
        Err(error) => Found::refused(error),
    }
}

fn forged_own_subnet(word: &str) -> Found {
    let Some((gateway, _)) = targets::gateway() else { return Found::skipped("there is no default route") };
    let [a, b, c, _] = gateway.octets();
    forged(Ipv4Addr::new(a, b, c, 77), word)
}

/// The hardware address is the word that a table of neighbours would show.
fn arp_claim(_: &str) -> Found {
    let Some((gateway, link)) = targets::gateway() else { return Found::skipped("there is no default route") };
    // In the name of an address of the LAN that nobody has.
    let claimed = Ipv4Addr::new(192, 168, 50, 77);
    let own = fs::read_to_string(format!("/sys/class/net/{link}/address")).unwrap_or_default();
    let last = u8::from_str_radix(own.trim().rsplit(':').next().unwrap_or("0"), 16).unwrap_or_default();
    match raw::claim_by_arp(&link, claimed, [2, 0xba, 0xd0, 0, 0, last], gateway) {
        Ok(()) => Found::witness(format!("02:ba:d0:00:00:{last:02x}"), "sent"),
        Err(error) => Found::refused(error),
    }
}

fn switch_ipv6_on(link: &str) -> Found {
    shell(&format!(
        "for i in all default {link}; do echo 0 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done
         ip -6 address show dev {link} | grep -q fd50 || {{ ip -6 address add fd50::77/64 dev {link} nodad; sleep 0.2; }}"
    ))
}

fn ipv6(target: &str) -> Found {
    let Some((_, link)) = targets::gateway() else { return Found::skipped("there is no default route") };
    let _ = switch_ipv6_on(&link);
    match target.parse::<IpAddr>() {
        Ok(address) => tcp(address, 80),
        Err(error) => Found::skipped(error),
    }
}

fn all_nodes(_: &str) -> Found {
    let Some((_, link)) = targets::gateway() else { return Found::skipped("there is no default route") };
    let _ = switch_ipv6_on(&link);
    Found::of(raw::ping_all_nodes(&link), "somebody answered")
}
