//! Webhooks: what is sent, how it is signed, and what goes wrong on the way.

use crate::{hub::Hub, server::Sim};
use github_sim::world::{Gate, HookDelivery, HookFault, HookSpec, HookWhat, JobSpec, RunSpec, RunnerResult, Scope};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const SECRET: &str = "hush";

/// A world with a hook on its organisation, whose ping is out already.
fn hub() -> Hub {
    let mut hub = Hub::new();
    let spec = HookSpec {
        scope: Scope::Org("o".to_owned()),
        url: "http://192.0.2.1:9000/hook?x=1".to_owned(),
        secret: SECRET.to_owned(),
    };
    hub.world.set_hook(hub.now, spec).unwrap();
    let ping = hub.world.take_deliveries(hub.now);
    assert_eq!(header(&ping[0], "x-github-event"), "ping");
    hub
}

fn header<'a>(delivery: &'a HookDelivery, name: &str) -> &'a str {
    &delivery.headers.iter().find(|(own, _)| own == name).unwrap().1
}

fn body(delivery: &HookDelivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

fn actions(hub: &mut Hub) -> Vec<String> {
    let due = hub.world.take_deliveries(hub.now);
    due.iter().map(|delivery| body(delivery)["action"].as_str().unwrap().to_owned()).collect()
}

fn is_signed(delivery: &HookDelivery) -> bool {
    let signature = header(delivery, "x-hub-signature-256").strip_prefix("sha256=").unwrap();
    let bytes: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&delivery.body);
    mac.verify_slice(&bytes).is_ok()
}

#[test]
fn a_job_is_told_of_when_it_is_queued_taken_and_over() {
    let mut hub = hub();
    let (_, job) = hub.queue("a", &["nix"]);
    let queued = hub.world.take_deliveries(hub.now);
    assert_eq!(queued.len(), 1);
    assert_eq!(header(&queued[0], "x-github-event"), "workflow_job");
    assert_eq!(header(&queued[0], "x-github-delivery").len(), 36);
    assert_eq!(queued[0].url, "http://192.0.2.1:9000/hook?x=1");
    assert!(is_signed(&queued[0]));
    let told = body(&queued[0]);
    assert_eq!((told["action"].as_str(), told["workflow_job"]["id"].as_u64()), (Some("queued"), Some(job.0)));
    assert_eq!(told["workflow_job"]["runner_id"], Value::Null);
    assert_eq!(told["repository"]["full_name"], "o/r");
    assert_eq!(told["organization"]["login"], "o");
    let runner = hub.runner("x", &["nix"]);
    hub.world.runner_poll(hub.now, &runner).unwrap();
    hub.world.runner_complete(hub.now, &runner, RunnerResult::Succeeded).unwrap();
    let rest = hub.world.take_deliveries(hub.now);
    assert_eq!(body(&rest[0])["workflow_job"]["runner_name"], "x");
    assert_eq!(body(&rest[0])["action"], "in_progress");
    assert_eq!(body(&rest[1])["workflow_job"]["conclusion"], "success");
    assert!(hub.world.take_deliveries(hub.now).is_empty(), "only once");
}

#[test]
fn other_repositories_are_not_told_of() {
    let mut hub = hub();
    hub.world.queue_job(hub.now, "p/q", JobSpec::new("a", &["nix"], &[])).unwrap();
    assert!(hub.world.take_deliveries(hub.now).is_empty());
}

#[test]
fn a_job_behind_an_environment_is_waiting_and_queued_later() {
    let mut hub = hub();
    let job = JobSpec { gate: Some(Gate::Waiting), ..JobSpec::new("a", &["nix"], &[]) };
    let queued = hub.world.queue_run(hub.now, "o/r", RunSpec::push(vec![job])).unwrap();
    assert_eq!(actions(&mut hub), ["waiting"]);
    hub.world.release_job(hub.now, queued.job_ids[0]).unwrap();
    assert_eq!(actions(&mut hub), ["queued"]);
}

#[test]
fn a_job_cancelled_before_pickup_shows_no_runner() {
    let mut hub = hub();
    let (run, _) = hub.queue("a", &["nix"]);
    hub.world.cancel_run(hub.now, run, false).unwrap();
    let told = body(&hub.world.take_deliveries(hub.now)[1]);
    assert_eq!(told["workflow_job"]["runner_id"], 0);
    assert_eq!(told["workflow_job"]["runner_name"], "");
}

#[test]
fn a_delivery_comes_twice_with_one_id() {
    let mut hub = hub();
    hub.world.inject_hook(HookFault::once(HookWhat::Duplicate));
    hub.queue("a", &["nix"]);
    let twice = hub.world.take_deliveries(hub.now);
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn deliveries_overtake_each_other() {
    let mut hub = hub();
    hub.world.inject_hook(HookFault::once(HookWhat::OutOfOrder).of("queued"));
    let (run, _) = hub.queue("a", &["nix"]);
    assert!(actions(&mut hub).is_empty());
    hub.world.cancel_run(hub.now, run, false).unwrap();
    assert_eq!(actions(&mut hub), ["completed", "queued"]);
}

#[test]
fn a_delivery_is_signed_with_another_secret() {
    let mut hub = hub();
    hub.world.inject_hook(HookFault::once(HookWhat::BadSignature));
    hub.queue("a", &["nix"]);
    hub.queue("b", &["nix"]);
    let both = hub.world.take_deliveries(hub.now);
    assert_eq!((is_signed(&both[0]), is_signed(&both[1])), (false, true));
}

#[test]
fn a_delivery_is_late_or_lost() {
    let mut hub = hub();
    hub.world.inject_hook(HookFault::once(HookWhat::Delayed { ms: 5_000 }));
    hub.world.inject_hook(HookFault::once(HookWhat::Lost));
    hub.queue("late", &["nix"]);
    hub.queue("lost", &["nix"]);
    assert!(actions(&mut hub).is_empty());
    hub.pass(Duration::from_secs(5));
    assert_eq!(actions(&mut hub), ["queued"]);
    let lost: Vec<bool> = hub.world.deliveries().iter().map(|delivery| delivery.lost).collect();
    assert_eq!(lost, [false, false, true], "ping, late, lost");
}

#[test]
fn the_program_sends_deliveries_and_notes_what_was_answered() {
    let sim = Sim::start(&[]);
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let scope = Scope::Repo(sim.control.add_repo("o/r").unwrap());
    sim.control.set_hook(HookSpec { scope, url, secret: SECRET.to_owned() }).unwrap();
    sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[])).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = receiver.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        let mut part = [0; 4_096];
        while text.split_once("\r\n\r\n").is_none_or(|(_, body)| serde_json::from_str::<Value>(body).is_err()) {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
        seen.push(text);
    }
    assert!(seen[0].contains("x-github-event: ping"), "{}", seen[0]);
    assert!(seen[1].starts_with("POST /hook HTTP/1.1"), "{}", seen[1]);
    assert!(seen[1].contains("\"action\":\"queued\""), "{}", seen[1]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while sim.control.deliveries().unwrap().iter().any(|delivery| delivery.status != Some(202)) {
        assert!(Instant::now() < deadline, "{:?}", sim.control.deliveries().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
}
