//! Following guests: one Unix socket for each container, in a directory that *prepare* made.
//!
//! The other side may be hostile. The socket is opened without following links, and nothing is ever written to it. A
//! connection has a budget: the story from its beginning, each event once, in lines of limited length. Whoever is cut off
//! waits longer each time.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use contract::{
    ContainerName,
    event::{EVENT_LIMIT, EVENTS_DIR, Event, LINE_LIMIT, SOCKET_FILE},
};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::{io::AsyncReadExt, net::UnixStream, time::sleep};

use super::{
    ports::{Feed, Guests},
    time::Backoff,
};

/// Pause between tries to connect while a container boots, …
const RETRY: Duration = Duration::from_millis(20);
/// … and how many there are before the pauses become longer: half a minute's.
const EAGER_TRIES: u32 = 1500;
/// Pauses after being cut off, and of tries after the eager ones.
const RECONNECT: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };

/// The real guests.
#[derive(Debug, Clone)]
pub struct GuestSockets {
    dir: PathBuf,
}

impl Default for GuestSockets {
    fn default() -> Self {
        Self { dir: PathBuf::from(EVENTS_DIR) }
    }
}

impl GuestSockets {
    /// Sockets below another directory.
    pub fn below(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl Guests for GuestSockets {
    type Feed = GuestFeed;

    fn follow(&self, name: &ContainerName) -> GuestFeed {
        GuestFeed {
            dir: self.dir.join(name.as_str()),
            stream: None,
            partial: Vec::new(),
            ready: VecDeque::new(),
            next_seq: 0,
            connection_seq: 0,
            tries: 0,
            cuts: 0,
            broken: false,
        }
    }
}

/// One guest's events.
#[derive(Debug)]
pub struct GuestFeed {
    dir: PathBuf,
    stream: Option<UnixStream>,
    /// The beginning of a line.
    partial: Vec<u8>,
    ready: VecDeque<Event>,
    /// Events before this were received on an earlier connection.
    next_seq: u32,
    /// The next event of this connection, which begins anew.
    connection_seq: u32,
    /// Tries to connect since the last connection.
    tries: u32,
    /// Connections that ended.
    cuts: u32,
    broken: bool,
}

impl Feed for GuestFeed {
    // Cancel safe: whatever was read is kept in `self`.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.broken {
                return None;
            }
            let Some(stream) = &mut self.stream else {
                match connect(&self.dir).await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        (self.connection_seq, self.tries) = (0, 0);
                    }
                    Err(_) => {
                        self.tries = self.tries.saturating_add(1);
                        let late = self.tries.saturating_sub(EAGER_TRIES);
                        sleep(if late > 0 { RECONNECT.after(late) } else { RETRY }).await;
                    }
                }
                continue;
            };
            let mut buffer = [0u8; LINE_LIMIT];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => {
                    self.stream = None;
                    self.partial.clear();
                    self.cuts = self.cuts.saturating_add(1);
                    sleep(RECONNECT.after(self.cuts)).await;
                }
                Ok(length) => self.take_in(&buffer[..length]),
            }
        }
    }
}

impl GuestFeed {
    fn take_in(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
                if self.partial.len() >= LINE_LIMIT {
                    self.broken = true;
                    return;
                }
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                self.broken = true;
                return;
            };
            if event.seq != self.connection_seq || event.seq as usize >= EVENT_LIMIT {
                self.broken = true;
                return;
            }
            self.connection_seq += 1;
            if event.seq < self.next_seq {
                continue;
            }
            self.next_seq += 1;
            self.ready.push_back(event);
        }
    }
}

/// Connects to the guest's socket without following a link anywhere below the directory that *prepare* made.
async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let dir =
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // One name, so NOFOLLOW says it all. (openat2 is not to be had under RestrictSUIDSGID=.)
    let socket: OwnedFd =
        rustix::fs::openat(&dir, SOCKET_FILE, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&socket)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
    }
    // Not blocking: a guest that never accepts must not hold us up.
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use tokio::{io::AsyncWriteExt, net::UnixListener, time::timeout};

    use super::*;
    use contract::event::What;

    const NAME: &str = "j0000001";

    fn line(seq: u32, what: What) -> String {
        serde_json::to_string(&Event { seq, at_ms: 1, what }).unwrap() + "\n"
    }

    fn feed(dir: &Path) -> (GuestFeed, PathBuf) {
        let own = dir.join(NAME);
        std::fs::create_dir_all(&own).unwrap();
        (GuestSockets::below(dir).follow(&NAME.parse().unwrap()), own.join(SOCKET_FILE))
    }

    #[tokio::test]
    async fn each_event_is_heard_once_also_over_a_second_connection() {
        let dir = tempfile::tempdir().unwrap();
        let (mut feed, socket) = feed(dir.path());
        let listener = UnixListener::bind(socket).unwrap();
        let story = [line(0, What::Booted), line(1, What::NetworkReady)];
        tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            first.write_all(story[0].as_bytes()).await.unwrap();
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            second.write_all(story.concat().as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(feed.next().await.unwrap().what, What::Booted);
        assert_eq!(feed.next().await.unwrap().what, What::NetworkReady);
        assert!(timeout(Duration::from_millis(50), feed.next()).await.is_err(), "heard twice");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_cuts_the_connection_again_and_again_is_asked_ever_more_rarely() {
        let dir = tempfile::tempdir().unwrap();
        let (mut feed, socket) = feed(dir.path());
        let listener = UnixListener::bind(socket).unwrap();
        let connections = std::rc::Rc::new(std::cell::Cell::new(0));
        let flood = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.set(connections.get() + 1);
                let _ = stream.write_all(line(0, What::Booted).as_bytes()).await;
            }
        };
        let listening = async {
            assert_eq!(feed.next().await.unwrap().what, What::Booted);
            assert!(timeout(Duration::from_secs(600), feed.next()).await.is_err());
        };
        tokio::select! {
            () = flood => unreachable!(),
            () = listening => {}
        }
        assert!((10..=30).contains(&connections.get()), "{} connections in ten minutes", connections.get());
    }

    #[tokio::test]
    async fn what_is_no_event_ends_the_listening() {
        let long = "x".repeat(LINE_LIMIT + 1);
        // The third: the same event again, which could go on for ever.
        let again = line(0, What::Booted).repeat(2);
        for hostile in ["{}\n".to_owned(), line(7, What::Booted), again, long] {
            let dir = tempfile::tempdir().unwrap();
            let (mut feed, socket) = feed(dir.path());
            let listener = UnixListener::bind(socket).unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(hostile.as_bytes()).await;
                std::future::pending::<()>().await;
            });
            let end = async { while feed.next().await.is_some() {} };
            timeout(Duration::from_secs(5), end).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_link_to_another_socket_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere.sock");
        let _listener = UnixListener::bind(&elsewhere).unwrap();
        let (_, socket) = feed(dir.path());
        symlink(&elsewhere, &socket).unwrap();
        assert!(connect(socket.parent().unwrap()).await.is_err());
    }
}
