//! Clients that take their time, or too much, over real sockets. ClientLimits are shorter here than in life.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpSocket, time::Instant};

use super::{
    super::server::{ClientLimits, serve_within},
    *,
};

const LIMITS: ClientLimits = ClientLimits {
    clients: 2,
    connection: Duration::from_millis(1500),
    stream: Duration::from_secs(60),
    head: Duration::from_millis(400),
    write: Duration::from_millis(400),
};
/// Far longer than any of these limits, and far shorter than those that count in life.
const PATIENCE: Duration = Duration::from_secs(4);

/// Serves within these limits, also orders, to which nobody answers.
async fn served_within(limits: ClientLimits, sources: Sources) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(serve_within(limits, listener, local(sources)));
    at
}

fn something() -> (watch::Sender<Status>, Sources) {
    let (sender, status) = watch::channel(status());
    (sender, sources(status))
}

/// A client that takes as little as a client can.
async fn reluctant(at: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(at).await.unwrap()
}

/// Everybody else is served, now or soon.
async fn assert_others_are_served(at: SocketAddr) {
    let (head, _) = tokio::time::timeout(PATIENCE, ask(at, &read("/api/v1/jobs", ""))).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// Sends a byte at a time; how long until it is cut off.
async fn drip(at: SocketAddr, first: &str, rest: &str) -> Duration {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let began = Instant::now();
    for byte in rest.bytes().cycle() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut answer = [0; 4096];
        let cut_off = stream.write_all(&[byte]).await.is_err()
            // An answer that the time is over is one as well.
            || stream.try_read(&mut answer).is_ok();
        if cut_off {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is still listened to after {PATIENCE:?}");
    }
    began.elapsed()
}

#[tokio::test]
async fn a_request_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let (_sender, sources) = something();
    let at = served_within(LIMITS, sources).await;
    drip(at, "", "GET /status HTTP/1.1\r\nHost: localhost\r\nX-Long: ").await;
    let body = "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 16000\r\n\r\n{";
    drip(at, body, " ").await;
    // The first request is whole, the next one never comes.
    let mut idle = TcpStream::connect(at).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, idle.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1"), "{answer:?}");
    assert_others_are_served(at).await;
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out_for_long() {
    let (_sender, sources) = something();
    let at = served_within(LIMITS, sources).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    assert_others_are_served(at).await;
    assert_eq!(silent.len(), 10);
}

#[tokio::test]
async fn who_does_not_take_its_answers_is_cut_off_and_its_place_is_free() {
    let (sender, sources) = something();
    sender.send_modify(|status| status.problems = vec!["x".repeat(100_000)]);
    // One that goes on for a minute: it is not the connection's own limit that ends it.
    let at = served_within(ClientLimits { clients: 1, connection: Duration::from_secs(60), ..LIMITS }, sources).await;
    let mut greedy = reluctant(at).await;
    let questions = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    greedy.write_all(questions.as_bytes()).await.unwrap();
    assert_others_are_served(at).await;
}

#[tokio::test]
async fn a_listener_that_takes_nothing_is_cut_off_and_what_it_was_owed_is_forgotten() {
    let (sender, sources) = something();
    let at = served_within(ClientLimits { clients: 1, ..LIMITS }, sources.clone()).await;
    let mut deaf = reluctant(at).await;
    deaf.write_all(read("/api/v1/events", "").as_bytes()).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while sources.events.listeners() == 0 {
        assert!(Instant::now() < deadline, "it is not listened to");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = sender.borrow().clone();
    let mut index = 0;
    while sources.events.listeners() > 0 {
        assert!(Instant::now() < deadline, "it is kept though it takes nothing");
        index += 1;
        let problems = vec![format!("{index}{}", "x".repeat(20_000))];
        sources.observe(&before, &Status { problems, ..before.clone() });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_others_are_served(at).await;
    drop(deaf);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_is_read() {
    let (_sender, sources) = something();
    let (commands, mut inbox) = mpsc::channel(8);
    let sources = Sources { commands: Some(commands), ..sources };
    let at = served_within(ClientLimits { clients: 1, ..LIMITS }, sources).await;
    let head =
        |more: &str| format!("POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    let json = "Content-Type: application/json\r\n";
    // Promised, or coming without a word on how much.
    let promised = head(&format!("{json}Content-Length: 1000000000\r\n"));
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    let coming = head(&format!("{json}Transfer-Encoding: chunked\r\n")) + &chunk + &chunk;
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(20 << 10));
    for (what, request, code) in [
        ("a body of a gigabyte", promised, 413),
        ("a body in pieces", coming, 413),
        ("many headers", read("/status", &many), 431),
        ("a long header", read("/status", &long), 431),
        ("a long path", read(&format!("/{}", "x".repeat(20 << 10)), ""), 431),
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // What was sent and not read makes the end of the connection an error.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{what}: {answer}");
    }
    assert!(inbox.try_recv().is_err(), "an order was passed on");
    assert_others_are_served(at).await;
}
