//! Starts and stops containers for the controller, which may ask for nothing else.
//!
//! systemd holds the socket and starts this program with the first connection; it ends when nobody has connected for
//! [`IDLE`], and loses nothing by that: who connects meanwhile waits in the socket. A connection carries one
//! [`Order`] and one [`Answer`]. The settings are read anew for each order, so that a class is known from the moment
//! its unit is.

use std::{
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use contract::order::{Answer, ORDER_LIMIT, Order, Verb, line, parse};
use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::net::sockopt;
use settings::{self, check::is_name};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::Mutex,
    time::timeout,
};

use super::service_manager::{self, ServiceManager};

/// How long it waits for another order before it ends.
const IDLE: Duration = Duration::from_secs(15);
/// How long a connection may take to carry its order, and to take its answer.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(2);
/// Most connections at a time; others wait in the socket.
const CONNECTIONS: usize = 32;

/// Serves the socket that systemd passed as standard input (systemd.exec(5), `StandardInput=socket`) until it is idle.
pub fn serve(settings: &Path) -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    ensure!(
        sockopt::socket_acceptconn(&socket).unwrap_or(false),
        "standard input is not a listening socket. Remedy: systemctl start gha-runner-launcher.socket, which starts this"
    );
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, settings))
}

async fn accept(listener: UnixListener, settings: &Path) -> anyhow::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let manager = Mutex::default();
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = timeout(IDLE, listener.accept()), if connections.len() < CONNECTIONS => match accepted {
                Ok(accepted) => {
                    let (stream, _) = accepted.context("cannot accept a connection")?;
                    connections.push(converse(stream, settings, &manager));
                }
                Err(_) if connections.is_empty() => return Ok(()),
                Err(_) => {}
            },
            Some(()) = connections.next() => {}
        }
    }
}

/// Reads the order, has it done, answers. What nobody waits for any more is lost with the connection.
async fn converse(mut stream: UnixStream, settings: &Path, manager: &Mutex<Option<ServiceManager>>) {
    let mut received = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(ORDER_LIMIT));
    let answer = match timeout(CONNECTION_PATIENCE, reader.read_until(b'\n', &mut received)).await {
        Ok(Ok(_)) => {
            let answer = obey(&received, settings, manager).await;
            report(&received, &answer);
            answer
        }
        _ => Answer::refused("no order came in time"),
    };
    let _ = timeout(CONNECTION_PATIENCE, stream.write_all(&line(&answer))).await;
}

/// Into the journal: who was started is known from the unit itself.
fn report(received: &[u8], answer: &Answer) {
    if let Answer::Refused { reason } | Answer::Failed { reason } = answer {
        eprintln!("order {:?}: {reason}", String::from_utf8_lossy(received.trim_ascii_end()));
    }
}

async fn obey(received: &[u8], settings: &Path, manager: &Mutex<Option<ServiceManager>>) -> Answer {
    let order = match parse::<Order>(received).and_then(|order| allowed(order, settings)) {
        Ok(order) => order,
        Err(reason) => return Answer::refused(&reason),
    };
    let Order { verb, class, name } = &order;
    match service_manager::ask(manager, async |manager| manager.order(*verb, class, name).await).await {
        Ok(()) => Answer::Done,
        Err(error) => Answer::failed(&format!("{error:#}")),
    }
}

/// A container may be started in a class of the settings alone. Of a class that was since removed from them there may
/// still be one to stop.
fn allowed(order: Order, settings: &Path) -> Result<Order, String> {
    if !is_name(&order.class) {
        return Err(format!("{:?} cannot be a class", order.class));
    }
    if order.verb == Verb::Start {
        let settings = settings::resolved::read(settings).map_err(|problems| problems.to_string())?;
        if !settings.classes.contains_key(&order.class) {
            return Err(format!("the settings have no class {}", order.class));
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings() -> tempfile::NamedTempFile {
        let written = toml::from_str("token_file = \"/t\"\n[[target]]\nrepo = \"o/h\"\n[class.small]\n").unwrap();
        let settings = settings::check::check(written).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings::resolved::text(&settings).unwrap()).unwrap();
        file
    }

    fn order(verb: Verb, class: &str) -> Order {
        Order { verb, class: class.into(), name: "j1234567".parse().unwrap() }
    }

    #[test]
    fn only_classes_of_the_settings_start_and_only_names_of_classes_stop() {
        let file = settings();
        let allowed = |verb, class| allowed(order(verb, class), file.path());
        assert!(allowed(Verb::Start, "small").is_ok());
        assert!(allowed(Verb::Start, "removed").unwrap_err().contains("no class removed"));
        assert!(allowed(Verb::Stop, "removed").is_ok());
        for odd in ["", "small@j0000001", "*", "../x", "Small", "a b", &"a".repeat(25)] {
            assert!(allowed(Verb::Stop, odd).is_err(), "{odd}");
            assert!(allowed(Verb::Start, odd).is_err(), "{odd}");
        }
    }

    /// What the launcher writes to a peer that sends these bytes and then waits.
    fn answer_to(bytes: &[u8]) -> Answer {
        let file = settings();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).await.unwrap();
            converse(theirs, file.path(), &Mutex::default()).await;
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).await.unwrap();
            parse(&answer).unwrap()
        })
    }

    #[test]
    fn what_is_no_order_is_refused_without_waiting_for_its_end() {
        for bytes in [&b""[..], b"start", b"\n", b"start small j1234567\n", &[b'{'; 256], &[0xff; 255]] {
            assert!(matches!(answer_to(bytes), Answer::Refused { .. }), "{bytes:?}");
        }
        let unknown = line(&order(Verb::Start, "other"));
        assert_eq!(answer_to(&unknown), Answer::refused("the settings have no class other"));
    }
}
