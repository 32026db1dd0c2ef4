//! Deliveries over real sockets, on loopback.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use controller::status::Counts;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const SECRET: &[u8] = b"swordfish";

struct Hook {
    at: SocketAddr,
    hints: Receiver<Hint>,
    counters: Arc<Counters>,
}

impl Hook {
    async fn listen() -> Self {
        let (router, hints, counters) = router(BTreeMap::from([
            (None, Secret::new(SECRET).unwrap()),
            (Some("own".into()), Secret::new(b"another").unwrap()),
        ]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(crate::serve(listener, router));
        Self { at, hints, counters }
    }

    /// Sends bytes as they are; the status of the answer and its text.
    async fn send(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer to a body that is too large may come, and the connection end, before all of it is sent.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").unwrap_or_default().1.to_owned())
    }

    async fn deliver(&self, delivery: &Delivery<'_>) -> (u16, String) {
        self.send(&delivery.head(), delivery.body.as_bytes()).await
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }
}

struct Delivery<'a> {
    id: &'a str,
    event: &'a str,
    media_type: &'a str,
    body: String,
    signature: String,
}

impl<'a> Delivery<'a> {
    fn new(id: &'a str, event: &'a str, body: String) -> Self {
        let digest = Hmac::<Sha256>::new_from_slice(SECRET).unwrap().chain_update(&body).finalize().into_bytes();
        let signature = format!("sha256={}", hex::encode(digest));
        Self { id, event, media_type: "application/json", body, signature }
    }

    fn job(id: &'a str, action: &str, job: u64) -> Self {
        let body = format!(
            r#"{{"action":"{action}","workflow_job":{{"id":{job}}},"repository":{{"full_name":"octo-org/hello"}}}}"#
        );
        Self::new(id, "workflow_job", body)
    }

    fn head(&self) -> String {
        format!(
            "POST /webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-GitHub-Event: {}\r\nX-GitHub-Delivery: {}\r\n\
             Content-Type: {}\r\nX-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n",
            self.event,
            self.id,
            self.media_type,
            self.signature,
            self.body.len()
        )
    }
}

#[tokio::test]
async fn a_signed_delivery_becomes_a_hint_and_a_ping_is_answered() {
    let mut hook = Hook::listen().await;
    assert_eq!(hook.deliver(&Delivery::new("p", "ping", "{}".into())).await, (200, "pong".into()));
    assert_eq!(hook.deliver(&Delivery::job("a", "queued", 7)).await.0, 202);
    let hint = hook.hints.try_recv().unwrap();
    assert_eq!(hint, Hint { repository: "octo-org/hello".into(), job_id: 7 });
    assert_eq!(hook.counts(), Counts { accepted: 1, ..Counts::default() });
}

#[tokio::test]
async fn what_is_not_signed_with_the_secret_is_refused_without_a_word_and_not_understood() {
    let mut hook = Hook::listen().await;
    let signature = Delivery::job("a", "queued", 7).signature;
    for (body, signature) in [
        (Delivery::job("a", "queued", 8).body, signature.clone()),
        (Delivery::job("a", "queued", 7).body, signature.replace("sha256", "sha512")),
        (Delivery::job("a", "queued", 7).body, String::new()),
        ("not json".to_owned(), signature),
    ] {
        let delivery = Delivery { body, signature, ..Delivery::job("a", "queued", 7) };
        assert_eq!(hook.deliver(&delivery).await, (401, String::new()));
    }
    let head = "POST /webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(hook.send(head, b"{}").await, (401, String::new()), "no signature at all");
    assert!(hook.hints.try_recv().is_err());
    assert_eq!(hook.counts(), Counts { refused: 5, ..Counts::default() });
    // None of it took the place of the real one.
    assert_eq!(hook.deliver(&Delivery::job("a", "queued", 7)).await.0, 202);
}

#[tokio::test]
async fn a_delivery_that_comes_twice_or_too_late_is_no_hint() {
    let mut hook = Hook::listen().await;
    for (id, action) in [("a", "in_progress"), ("a", "in_progress"), ("b", "queued"), ("c", "completed")] {
        let (status, _) = hook.deliver(&Delivery::job(id, action, 7)).await;
        assert!((200..300).contains(&status), "{status}");
    }
    assert!(hook.hints.try_recv().is_err(), "a runner has it: there is nothing to look for");
    assert_eq!(hook.counts(), Counts { ignored: 2, duplicate: 2, ..Counts::default() });
}

#[tokio::test]
async fn other_events_and_other_forms_are_answered_clearly() {
    let mut hook = Hook::listen().await;
    let (status, text) = hook.deliver(&Delivery::new("a", "push", "{}".into())).await;
    assert!(status == 200 && text.contains("only workflow_job"), "{status} {text}");
    for delivery in [Delivery::new("p", "ping", "payload=%7B%7D".into()), Delivery::job("b", "queued", 7)] {
        let form = Delivery { media_type: "application/x-www-form-urlencoded", ..delivery };
        let (status, text) = hook.deliver(&form).await;
        assert!(status == 415 && text.contains("application/json"), "{status} {text}");
    }
    let (status, _) = hook.deliver(&Delivery::new("c", "workflow_job", "{}".into())).await;
    assert_eq!(status, 400);
    let get = "GET /webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(hook.send(get, b"").await.0, 405);
    assert!(hook.hints.try_recv().is_err());
    assert_eq!(hook.counts(), Counts { ignored: 1, refused: 3, ..Counts::default() });
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let hook = Hook::listen().await;
    let large = Delivery::new("a", "workflow_job", " ".repeat(BODY_LIMIT + 1));
    assert_eq!(hook.deliver(&large).await.0, 413);
    let limit = Delivery::new("a", "ping", " ".repeat(BODY_LIMIT));
    assert_eq!(hook.deliver(&limit).await.0, 200);
}

#[tokio::test]
async fn an_event_that_nobody_needs_is_ignored_whatever_its_size_and_only_if_it_is_signed() {
    let mut hook = Hook::listen().await;
    let large = Delivery::new("a", "push", " ".repeat(2 * BODY_LIMIT));
    let (status, text) = hook.deliver(&large).await;
    assert!(status == 200 && text.contains("only workflow_job"), "{status} {text}");
    let forged = Delivery { signature: Delivery::new("a", "push", "{}".into()).signature, ..large };
    assert_eq!(hook.deliver(&forged).await, (401, String::new()));
    let endless = Delivery::new("b", "push", " ".repeat(IGNORED_LIMIT + 1));
    assert_eq!(hook.deliver(&endless).await.0, 413);
    assert!(hook.hints.try_recv().is_err());
    assert_eq!(hook.counts(), Counts { ignored: 1, refused: 2, ..Counts::default() });
}

/// A body of chunks whose number the head does not say.
#[tokio::test]
async fn a_body_whose_length_nobody_said_is_bounded_as_well() {
    let hook = Hook::listen().await;
    let chunk = " ".repeat(BODY_LIMIT / 4);
    let chunks = |count: usize| format!("{:x}\r\n{chunk}\r\n", chunk.len()).repeat(count) + "0\r\n\r\n";
    let head = |delivery: &Delivery<'_>| {
        let length = format!("Content-Length: {}", delivery.body.len());
        delivery.head().replace(&length, "Transfer-Encoding: chunked")
    };
    let whole = Delivery::new("a", "ping", chunk.repeat(4));
    assert_eq!(hook.send(&head(&whole), chunks(4).as_bytes()).await.0, 200);
    let more = Delivery::new("b", "ping", chunk.repeat(5));
    assert_eq!(hook.send(&head(&more), chunks(5).as_bytes()).await.0, 413);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_slowly_is_cut_off_and_keeps_nobody_waiting() {
    let hook = Hook::listen().await;
    let mut slow = TcpStream::connect(hook.at).await.unwrap();
    slow.write_all(Delivery::job("a", "queued", 7).head().as_bytes()).await.unwrap();
    assert_eq!(hook.deliver(&Delivery::job("b", "queued", 8)).await.0, 202, "others are served meanwhile");
    let began = tokio::time::Instant::now();
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() <= BODY_PATIENCE + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_controller_that_is_busy_loses_hints_and_holds_nobody_up() {
    let hook = Hook::listen().await;
    for job in 0..HINTS as u64 + 3 {
        assert_eq!(hook.deliver(&Delivery::job(&job.to_string(), "queued", job)).await.0, 202);
    }
    assert_eq!(hook.counts(), Counts { accepted: HINTS as u64, dropped: 3, ..Counts::default() });
}
