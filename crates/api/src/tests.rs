//! What a scraper sees, over a real socket.
#![allow(clippy::unwrap_used)]

mod monitoring;
mod slow;

use std::collections::BTreeMap;

use controller::{
    phase::Phase,
    record::Timeline,
    status::{
        ActiveContainer, BreakerKind, BreakerState, BreakerStatus, ClassStatus, CredentialStatus, Finished, PausedBy,
        RateLimitStatus, TargetKindStatus, TargetStatus,
    },
};
use forge::Calls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Everything empty but the status.
fn sources(status: watch::Receiver<Status>) -> Sources {
    Sources {
        status,
        webhook: None,
        events: Events::default(),
        measures: Measures::default(),
        history: Reader::new("/nonexistent".as_ref()),
        state_dir: "/".into(),
        commands: None,
        written: Written::default(),
    }
}

/// The answer's head, and its body.
async fn get(status: Status, webhook: Option<Arc<Counters>>, path: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (_sender, status) = watch::channel(status);
    tokio::spawn(serve(listener, public(Sources { webhook, ..sources(status) }, None)));
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn class(name: &str, version: Option<&str>, days: Option<i64>, outdated: bool) -> ClassStatus {
    ClassStatus {
        labels_have_case: false,
        name: name.to_owned(),
        labels: vec![],
        active: 0,
        max_concurrent: 1,
        boot_failures: 0,
        runner_version: version.map(str::to_owned),
        runner_deprecated_in_days: days,
        outdated,
        privileged: false,
        held_until_ms: None,
        drained: false,
        cpus: None,
        memory: None,
        timeout_seconds: 3600,
    }
}

fn status() -> Status {
    let now = now_ms();
    let container = |name: &str, phase| ActiveContainer {
        name: name.to_owned(),
        job_id: None,
        job_name: String::new(),
        running_seconds: 0,
        phase,
        class: "small".to_owned(),
        repo: "o/r".to_owned(),
        scope: "o/r".to_owned(),
        target: "o/r".to_owned(),
        set: false,
        subnet: "10.0.0.0/24".to_owned(),
        runner_name: String::new(),
        runner_id: None,
        memory: None,
        cpu_us: None,
        timeline: Timeline::default(),
    };
    let target = |repo: &str, looked: Option<u64>, rate_limit| TargetStatus {
        repo: repo.to_owned(),
        kind: TargetKindStatus::Repository,
        credential: "main".to_owned(),
        repositories: 1,
        quarantined: 0,
        discovered_ms: None,
        priority: 0,
        weight: 1,
        max_concurrent: 1,
        active: 0,
        queued: 0,
        last_poll_ms: looked,
        last_poll_age_seconds: None,
        failures: 0,
        last_error: None,
        rate_limit,
        intake: vec![],
    };
    let breaker = |(name, state): (&str, BreakerState)| BreakerStatus {
        kind: BreakerKind::Class,
        name: name.to_owned(),
        state,
        failures: 5,
        cause: "broken".to_owned(),
        next_try_ms: Some(now + 1000),
    };
    let limit = RateLimitStatus { limit: 5000, remaining: 4321, reset: 0 };
    Status {
        version: "1.2.3".to_owned(),
        updated_ms: now,
        pruned_bytes: 7_000_000,
        active_containers: vec![
            container("j0000001", Phase::Running),
            container("j0000002", Phase::Running),
            container("j0000003", Phase::Idle),
        ],
        targets: vec![target("o/r", Some(now - 42_500), Some(limit)), target("o/new", None, None)],
        credentials: vec![CredentialStatus {
            name: "main".to_owned(),
            share: 0.5,
            rate_limit: Some(limit),
            paused_until_ms: Some(now + 1000),
            paused_by: Some(PausedBy::Share),
            repositories: 2,
            calls_per_look: 1.0,
            calls: Calls { succeeded: 7, limited: 1, ..Calls::default() },
            clock_offset_ms: Some(-2_500),
            ends_ms: Some(now + 5 * 86_400_000),
            ends_in_days: Some(5),
            refused: None,
            lacks: vec![],
        }],
        breakers: [("old", BreakerState::Open), ("small", BreakerState::Closed)].map(breaker).to_vec(),
        classes: vec![class("small", Some("2.336.0"), Some(9), false), class("old", Some("2.300.0"), Some(-3), true)],
        ..Status::default()
    }
}

#[tokio::test]
async fn a_scrape_tells_versions_limits_polls_and_containers() {
    let (head, text) = get(status(), None, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = samples(&text);
    for (name, value) in [
        (r#"gha_runner_build_info{version="1.2.3"}"#, 1.0),
        (r#"gha_runner_healthy"#, 1.0),
        (r#"gha_runner_runner_version_left_seconds{class="small",version="2.336.0"}"#, 777_600.0),
        (r#"gha_runner_runner_version_left_seconds{class="old",version="2.300.0"}"#, -259_200.0),
        (r#"gha_runner_class_outdated{class="small",version="2.336.0"}"#, 0.0),
        (r#"gha_runner_class_outdated{class="old",version="2.300.0"}"#, 1.0),
        (r#"gha_runner_rate_limit_remaining{credential="main"}"#, 4321.0),
        (r#"gha_runner_rate_limit{credential="main"}"#, 5000.0),
        (r#"gha_runner_forge_calls_total{credential="main",outcome="succeeded"}"#, 7.0),
        (r#"gha_runner_forge_calls_total{credential="main",outcome="limited"}"#, 1.0),
        (r#"gha_runner_forge_calls_total{credential="main",outcome="unanswered"}"#, 0.0),
        (r#"gha_runner_clock_offset_seconds{credential="main"}"#, -2.5),
        (r#"gha_runner_credential_left_seconds{credential="main"}"#, 432_000.0),
        (r#"gha_runner_credential_refused{credential="main"}"#, 0.0),
        (r#"gha_runner_incidents{incident="clock"}"#, 0.0),
        (r#"gha_runner_pruned_bytes_total"#, 7e6),
        (r#"gha_runner_credential_paused{credential="main",by="share"}"#, 1.0),
        (r#"gha_runner_credential_paused{credential="main",by="forge"}"#, 0.0),
        (r#"gha_runner_breaker_open{kind="class",name="old"}"#, 1.0),
        (r#"gha_runner_breaker_open{kind="class",name="small"}"#, 0.0),
        (r#"gha_runner_breaker_open{kind="target",name="o/r"}"#, 0.0),
        (r#"gha_runner_breaker_open{kind="credential",name="main"}"#, 0.0),
        (r#"gha_runner_containers{class="small",phase="running"}"#, 2.0),
        (r#"gha_runner_containers{class="small",phase="idle"}"#, 1.0),
        (r#"gha_runner_containers{class="old",phase="running"}"#, 0.0),
        (r#"gha_runner_queued_jobs"#, 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {text}");
    }
    let age = samples[r#"gha_runner_poll_age_seconds{target="o/r"}"#];
    assert!((42.0..60.0).contains(&age), "{age}");
    assert!(!text.contains(r#"{target="o/new""#), "nothing is made up for what is not known: {text}");
    assert!(!text.contains("webhook"), "nothing listens: {text}");
}

#[tokio::test]
async fn who_asks_for_openmetrics_gets_it_with_the_same_samples() {
    let (_sender, status) = watch::channel(status());
    let at = served(sources(status), None, false).await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2\r\n";
    let (head, text) = ask(at, &read("/metrics", accept)).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE gha_runner_forge_calls counter\n"), "{text}");
    let (_, older) = ask(at, &read("/metrics", "Accept: text/plain\r\n")).await;
    assert!(older.contains("# TYPE gha_runner_forge_calls_total counter\n") && !older.contains("# EOF"), "{older}");
    assert_eq!(samples(&text).keys().collect::<Vec<_>>(), samples(&older).keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn deliveries_show_in_status_and_metrics_where_they_are_listened_for() {
    let counters = Some(Arc::<Counters>::default());
    let (_, text) = get(status(), counters.clone(), "/metrics").await;
    assert_eq!(samples(&text)[r#"gha_runner_webhook_deliveries_total{outcome="refused"}"#], 0.0, "{text}");
    let (_, text) = get(status(), counters, "/status").await;
    let told: Status = serde_json::from_str(&text).unwrap();
    assert_eq!(told.webhook, Some(controller::status::Counts::default()));
    assert_eq!(told.classes, status().classes);
}

#[tokio::test]
async fn a_problem_shows_as_not_healthy() {
    let sick = Status { problems: vec!["class old: refused".to_owned()], ..status() };
    let (_, text) = get(sick.clone(), None, "/metrics").await;
    assert_eq!(samples(&text)["gha_runner_healthy"], 0.0);
    let (head, text) = get(sick, None, "/health").await;
    assert!(head.starts_with("HTTP/1.1 503") && text.contains("class old: refused"), "{head} {text}");
}

/// Serves these sources at a port, as readers see them or, with `operator`, as those at the local socket do.
async fn served(sources: Sources, token: Option<Token>, operator: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = if operator { local(sources) } else { public(sources, token) };
    tokio::spawn(serve(listener, router));
    at
}

async fn ask(at: std::net::SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn read(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn over_http_nothing_can_be_changed() {
    let (commands, mut inbox) = mpsc::channel(8);
    let (_sender, status) = watch::channel(status());
    let sources = Sources { commands: Some(commands), ..sources(status) };
    let at = served(sources, None, false).await;
    for (path, body) in [
        ("/api/v1/drain", "{}"),
        ("/api/v1/resume", "{}"),
        ("/api/v1/provision", r#"{"repo":"o/r"}"#),
        ("/api/v1/containers/j0000001/stop", "null"),
    ] {
        let (head, body) = ask(at, &post(path, body)).await;
        assert!(head.starts_with("HTTP/1.1 403") && body.contains("local socket"), "{path}: {head} {body}");
    }
    assert!(inbox.try_recv().is_err(), "an order was passed on");
}

#[tokio::test]
async fn an_operators_order_reaches_the_controller_with_who_gave_it() {
    let (commands, mut inbox) = mpsc::channel(8);
    let (_sender, status) = watch::channel(status());
    let at = served(Sources { commands: Some(commands), ..sources(status) }, None, true).await;
    let controller = tokio::spawn(async move {
        let Some(LoopCommand::Operate(order)) = inbox.recv().await else { panic!("no order") };
        let done = controller::operation::Done { message: "drained".into(), container: None };
        order.answer.send(Ok(done)).unwrap();
        (order.operation, order.by)
    });
    let (head, body) = ask(at, &post("/api/v1/drain", r#"{"class":"small"}"#)).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("drained"), "{head} {body}");
    let (operation, by) = controller.await.unwrap();
    assert_eq!(operation, controller::operation::Operation::Drain { class: Some("small".into()) });
    assert_eq!(by, "127.0.0.1");
    let (head, _) = ask(at, &post("/api/v1/drain", r#"{"clas":"small"}"#)).await;
    assert!(head.starts_with("HTTP/1.1 400"), "a misspelt key drains the host: {head}");
    let (head, _) = ask(at, &post("/api/v1/drain", &" ".repeat(20 << 10))).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
}

#[tokio::test]
async fn with_a_token_readers_must_show_it() {
    let (_sender, status) = watch::channel(status());
    let at = served(sources(status), Some(Token::new("s3cret")), false).await;
    for path in ["/health", "/status", "/metrics", "/api/v1/jobs", "/api/v1/openapi.json", "/nothing"] {
        for header in ["", "Authorization: Bearer s3cre\r\n", "Authorization: Basic s3cret\r\n"] {
            let (head, body) = ask(at, &read(path, header)).await;
            assert!(head.starts_with("HTTP/1.1 401") && !body.contains("s3cret"), "{path} {header}: {head}");
        }
    }
    let (head, _) = ask(at, &read("/status", "Authorization: bearer s3cret\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn without_a_token_this_host_is_asked_by_its_own_names_alone() {
    let (_sender, status) = watch::channel(status());
    let open = served(sources(status.clone()), None, false).await;
    let with_token = served(sources(status.clone()), Some(Token::new("s3cret")), false).await;
    let socket = served(sources(status), None, true).await;
    let code = async |at, path: &str, host: &str, more: &str| {
        let (head, _) = ask(at, &format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n")).await;
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let paths = ["/status", "/metrics", "/health", "/api/v1/jobs", "/api/v1/events", "/", "/dashboard.js", "/nothing"];
    let foreign =
        ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "a b"];
    for path in paths.into_iter().chain(["/mcp"]) {
        for host in foreign {
            let host = format!("Host: {host}\r\n");
            let code = code(open, path, &host, "").await;
            // What is no host at all may be refused before it comes so far.
            assert!(code == 403 || (code == 400 && host.contains("a b")), "{path} {host}: {code}");
        }
    }
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:9", "127.3.2.1", "[::1]", "[::1]:8080"] {
        assert_eq!(code(open, "/status", &format!("Host: {host}\r\n"), "").await, 200, "{host}");
    }
    // Who shows the token, or comes by the socket, may call this host what it likes.
    let evil = "Host: evil.example\r\n";
    assert_eq!(code(with_token, "/status", evil, "Authorization: Bearer s3cret\r\n").await, 200);
    assert_eq!(code(socket, "/status", evil, "").await, 200);
    let (head, _) = ask(open, "GET /health HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200"), "a probe that names nobody: {head}");
    let (head, _) = ask(open, "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[tokio::test]
async fn what_happens_is_heard_by_whoever_listens_and_nobody_is_waited_for() {
    let (_sender, status) = watch::channel(status());
    let sources = sources(status.clone());
    let at = served(sources.clone(), None, false).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(read("/api/v1/events", "").as_bytes()).await.unwrap();
        let mut heard = [0; 512];
        let mut text = String::new();
        while !text.contains("event: ready") {
            let count = stream.read(&mut heard).await.unwrap();
            text.push_str(std::str::from_utf8(&heard[..count]).unwrap());
        }
        assert!(text.contains("text/event-stream"), "{text}");
        streams.push(stream);
    }
    // Two read, one does not. More than is kept for one that is behind, and than a socket buffers.
    let slow = streams.pop().unwrap();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let mut text = String::new();
                let mut heard = vec![0; 64 << 10];
                while !text.contains("last one") {
                    let count = stream.read(&mut heard).await.unwrap();
                    assert!(count > 0, "cut off though it reads");
                    text = String::from_utf8_lossy(&heard[..count]).into_owned();
                }
            })
        })
        .collect();
    let before = status.borrow().clone();
    let long = "x".repeat(20_000);
    for index in 0..3000 {
        let problems = vec![if index == 2999 { "last one".to_owned() } else { format!("{index}{long}") }];
        sources.observe(&before, &Status { problems, ..before.clone() });
        tokio::task::yield_now().await;
        if index % 100 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    for reader in readers {
        tokio::time::timeout(std::time::Duration::from_secs(20), reader).await.unwrap().unwrap();
    }
    drop(slow);
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let document = serde_json::to_value(v1::document()).unwrap();
    let (_sender, status) = watch::channel(Status { finished: vec![], problems: vec!["something".into()], ..status() });
    let home = tempfile::tempdir().unwrap();
    let sources = Sources { history: Reader::new(home.path()), ..sources(status) };
    let at = served(sources, None, false).await;
    for (path, asked) in [
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/health", "/api/v1/health"),
        ("/api/v1/jobs", "/api/v1/jobs"),
        ("/api/v1/containers", "/api/v1/containers"),
        ("/api/v1/containers/{name}", "/api/v1/containers/j0000001"),
        ("/api/v1/containers/{name}", "/api/v1/containers/none"),
        ("/api/v1/history", "/api/v1/history?limit=5&cause=job-failed"),
        ("/api/v1/history", "/api/v1/history?limit=x"),
        ("/api/v1/history", "/api/v1/history?limit=1001"),
        ("/api/v1/history", "/api/v1/history?what=x"),
        ("/api/v1/history/summary", "/api/v1/history/summary?hours=2"),
        ("/api/v1/history/summary", "/api/v1/history/summary?hours=0"),
    ] {
        let (head, body) = ask(at, &read(asked, "")).await;
        let code = head.split(' ').nth(1).unwrap();
        let pointer =
            format!("/paths/{}/get/responses/{code}/content/application~1json/schema", path.replace('/', "~1"));
        let schema = document.pointer(&pointer).unwrap_or_else(|| panic!("{asked}: {code} is not documented"));
        let schema = serde_json::json!({"allOf": [schema], "components": document["components"]});
        let validator = jsonschema::validator_for(&schema).unwrap();
        let answer = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{asked}: {error}: {body}"));
        let wrong: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{asked}: {wrong:?}");
    }
}

#[test]
fn the_document_describes_everything_it_names() {
    fn names<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(map) => {
                found.extend(map.get("$ref").and_then(serde_json::Value::as_str));
                map.values().for_each(|value| names(value, found));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| names(value, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(v1::document()).unwrap();
    let mut found = Vec::new();
    names(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for name in found {
        assert!(document.pointer(name.trim_start_matches('#')).is_some(), "{name} is not described");
    }
}

#[tokio::test]
async fn a_number_is_taken_where_the_document_allows_it_and_nowhere_else() {
    let document = serde_json::to_value(v1::document()).unwrap();
    let parameters = document.pointer("/paths/~1api~1v1~1history/get/parameters").unwrap().as_array().unwrap();
    let (_sender, status) = watch::channel(status());
    let at = served(sources(status), None, false).await;
    for name in ["limit", "job_id", "since_ms", "before_ms"] {
        let schema = &parameters.iter().find(|parameter| parameter["name"] == name).unwrap()["schema"];
        let least = schema["minimum"].as_u64().unwrap();
        let most = schema["maximum"].as_u64().unwrap_or(i64::MAX.unsigned_abs());
        for (number, code) in [(least.wrapping_sub(1), 400), (least, 200), (most, 200), (most + 1, 400)] {
            let (head, _) = ask(at, &read(&format!("/api/v1/history?{name}={number}"), "")).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {code}")), "{name}={number}: {head}");
        }
    }
}

/// A container that had a job.
fn ended() -> Arc<Finished> {
    let timeline = Timeline {
        queued_ms: Some(1_000),
        unit_started_ms: Some(1_200),
        listening_ms: Some(2_000),
        job_started_ms: Some(2_500),
        job_ended_ms: Some(9_000),
        teardown_us: Some(12_000),
        ..Timeline::default()
    };
    let ended = serde_json::json!({
        "name": "j0000001", "class": "small", "repo": "o/r", "job_id": 1, "job_name": "build", "conclusion": "success",
        "cause": "succeeded", "runner_name": "r", "subnet": "10.0.0.0/24", "timeline": timeline, "concluded_ms": 9_500,
        "cpu_us": 2_500_000,
    });
    Arc::new(serde_json::from_value(ended).unwrap())
}

#[tokio::test]
async fn what_ended_is_counted_with_its_times() {
    let (_sender, status) = watch::channel(status());
    let sources = sources(status);
    let before = sources.status();
    sources.observe(&before, &Status { finished: vec![ended()], ..before.clone() });
    let at = served(sources, None, false).await;
    let (_, text) = ask(at, &read("/metrics", "")).await;
    let samples = samples(&text);
    for (name, value) in [
        (r#"gha_runner_queue_to_start_seconds_sum{class="small"}"#, 1.5),
        (r#"gha_runner_queue_to_start_seconds_bucket{le="2.0",class="small"}"#, 1.0),
        (r#"gha_runner_queue_to_start_seconds_bucket{le="1.0",class="small"}"#, 0.0),
        (r#"gha_runner_boot_seconds_sum{class="small"}"#, 0.8),
        (r#"gha_runner_run_seconds_sum{class="small"}"#, 6.5),
        (r#"gha_runner_teardown_seconds_sum{class="small"}"#, 0.012),
        (r#"gha_runner_container_cpu_seconds_total{class="small"}"#, 2.5),
        (r#"gha_runner_endings_total{class="small",cause="succeeded"}"#, 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {text}");
    }
}
