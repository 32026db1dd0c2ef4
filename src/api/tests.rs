//! What a scraper sees, over a real socket.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::controller::{
    phase::Phase,
    record::Timeline,
    status::{ActiveContainer, ClassStatus, RateLimitStatus, TargetKindStatus, TargetStatus},
};

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
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn class(name: &str, version: Option<&str>, days: Option<i64>, outdated: bool) -> ClassStatus {
    ClassStatus {
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
        memory: None,
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
    };
    let limit = RateLimitStatus { limit: 5000, remaining: 4321, reset: 0 };
    Status {
        version: "1.2.3".to_owned(),
        updated_ms: now,
        active_containers: vec![
            container("j0000001", Phase::Running),
            container("j0000002", Phase::Running),
            container("j0000003", Phase::Idle),
        ],
        targets: vec![target("o/r", Some(now - 42_500), Some(limit)), target("o/new", None, None)],
        classes: vec![class("small", Some("2.336.0"), Some(9), false), class("old", Some("2.300.0"), Some(-3), true)],
        ..Status::default()
    }
}

#[tokio::test]
async fn a_scrape_tells_versions_limits_polls_and_containers() {
    let (head, text) = get(status(), None, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    let samples = samples(&text);
    for (name, value) in [
        (r#"gha_runner_build_info{version="1.2.3"}"#, 1.0),
        (r#"gha_runner_healthy"#, 1.0),
        (r#"gha_runner_runner_version_days_left{class="small",version="2.336.0"}"#, 9.0),
        (r#"gha_runner_runner_version_days_left{class="old",version="2.300.0"}"#, -3.0),
        (r#"gha_runner_class_outdated{class="small",version="2.336.0"}"#, 0.0),
        (r#"gha_runner_class_outdated{class="old",version="2.300.0"}"#, 1.0),
        (r#"gha_runner_rate_limit_remaining{target="o/r"}"#, 4321.0),
        (r#"gha_runner_rate_limit{target="o/r"}"#, 5000.0),
        (r#"gha_runner_containers{class="small",phase="running"}"#, 2.0),
        (r#"gha_runner_containers{class="small",phase="idle"}"#, 1.0),
        (r#"gha_runner_containers{class="old",phase="running"}"#, 0.0),
        (r#"gha_runner_queued_jobs"#, 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {text}");
    }
    let age = samples[r#"gha_runner_poll_age_seconds{target="o/r"}"#];
    assert!((42.0..60.0).contains(&age), "{age}");
    assert!(!text.contains("o/new"), "nothing is made up for what is not known: {text}");
    assert!(!text.contains("webhook"), "nothing listens: {text}");
}

#[tokio::test]
async fn deliveries_show_in_status_and_metrics_where_they_are_listened_for() {
    let counters = Some(Arc::<Counters>::default());
    let (_, text) = get(status(), counters.clone(), "/metrics").await;
    assert_eq!(samples(&text)[r#"gha_runner_webhook_deliveries_total{outcome="refused"}"#], 0.0, "{text}");
    let (_, text) = get(status(), counters, "/status").await;
    let told: Status = serde_json::from_str(&text).unwrap();
    assert_eq!(told.webhook, Some(crate::webhook::Counts::default()));
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
