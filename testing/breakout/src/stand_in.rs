//! Servers that answer whoever asks, remember every word, and never stop by themselves.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lab::Place;

use crate::{raw, targets};

/// What a stand-in answers.
pub const ANSWER: &[u8] = b"at your service";

/// Answers at every port, and at the group of multicast DNS; writes what it hears to `log`.
pub fn serve(log: &Path) -> io::Result<()> {
    let log = Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(log)?));
    for port in targets::PORTS {
        // IPv6, and IPv4 with it.
        let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                std::thread::spawn(move || -> io::Result<()> {
                    let mut stream = stream;
                    stream.write_all(ANSWER)
                });
            }
        });
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        if port == 5353 {
            // Fails where there is no way to a group.
            let _ = udp.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::UNSPECIFIED);
        }
        let log = Arc::clone(&log);
        std::thread::spawn(move || hear(&udp, &log));
    }
    println!("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn hear(udp: &UdpSocket, log: &Mutex<File>) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = udp.recv_from(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{from} {text}")?;
        let _ = udp.send_to(ANSWER, from);
    }
}

/// What the neighbouring job does: serves, and tells the internet that it lives.
pub fn neighbour() -> io::Result<()> {
    std::thread::spawn(|| serve(Path::new("/var/heard")));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    loop {
        let _ = socket.send_to(targets::HEARTBEAT.as_bytes(), (targets::address(Place::Internet), 80));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the host has besides: a key, shared memory, a socket without a file, a process to be found by its name.
pub fn host(log: &Path) -> io::Result<()> {
    raw::plant_key(targets::KEY)?;
    raw::shared_memory(targets::SHARED_MEMORY, true)?;
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(targets::ABSTRACT_SOCKET)?)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 16]);
        }
    });
    serve(log)
}
