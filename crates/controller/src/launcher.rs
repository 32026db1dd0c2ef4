//! Orders to the launcher: the one way in which the controller starts and stops containers.

use std::{io, path::Path, time::Duration};

use contract::order::{ANSWER_LIMIT, Answer, LAUNCHER_SOCKET, Order, line, parse};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::ports::PortError;

/// Longest wait for an answer: the launcher's own for systemd, and time for it to start.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a socket that is not there is tried again: it is for a moment when its unit is restarted.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(100));

/// Has the launcher do it.
pub async fn send(order: &Order) -> Result<(), PortError> {
    let answer = match timeout(TIMEOUT, converse(Path::new(LAUNCHER_SOCKET), order)).await {
        Ok(answer) => answer.map_err(|error| PortError(format!("launcher: {LAUNCHER_SOCKET}: {error}")))?,
        Err(_) => return Err(PortError(format!("launcher: no answer within {} s", TIMEOUT.as_secs()))),
    };
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused { reason } => Err(PortError(format!("launcher: refused: {reason}"))),
        Answer::Failed { reason } => Err(PortError(format!("launcher: {reason}"))),
    }
}

async fn converse(socket: &Path, order: &Order) -> io::Result<Answer> {
    let mut stream = connect(socket).await?;
    stream.write_all(&line(order)).await?;
    let mut received = Vec::new();
    BufReader::new(stream.take(ANSWER_LIMIT)).read_until(b'\n', &mut received).await?;
    parse(&received).map_err(io::Error::other)
}

/// Nothing was asked for yet, so trying again is safe.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (patience, pause) = RECONNECT;
    let begun = tokio::time::Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if begun.elapsed() >= patience => {
                let remedy = "Remedy: systemctl start gha-runner-launcher.socket";
                return Err(io::Error::new(error.kind(), format!("{error}. {remedy}")));
            }
            Err(_) => sleep(pause).await,
            Ok(stream) => return Ok(stream),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::UnixListener;

    use super::*;
    use contract::order::Verb;

    fn order() -> Order {
        Order { verb: Verb::Stop, class: "small".into(), name: "j1234567".parse().unwrap() }
    }

    fn within<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
    }

    #[test]
    fn a_socket_that_is_not_there_is_waited_for_and_then_named_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let error = within(converse(&home.path().join("none"), &order())).unwrap_err();
        assert!(error.to_string().contains("systemctl start gha-runner-launcher.socket"), "{error}");
    }

    #[test]
    fn an_answer_that_is_cut_off_or_endless_is_an_error_and_no_success() {
        let home = tempfile::tempdir().unwrap();
        for (index, answer) in [&b""[..], b"{\"result\":\"done\"}", &[b' '; 10_000], b"ok\n"].into_iter().enumerate() {
            let path = home.path().join(index.to_string());
            within(async {
                let listener = UnixListener::bind(&path).unwrap();
                let serve = async {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    // Who stopped reading closed the connection.
                    let _ = stream.write_all(answer).await;
                };
                let order = order();
                let (result, ()) = tokio::join!(converse(&path, &order), serve);
                assert!(result.is_err(), "{result:?}");
            });
        }
    }
}
