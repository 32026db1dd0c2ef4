//! A listener of a scale set against the program, over real sockets.

use crate::{
    fakerunner::{root, run, text},
    server::Sim,
};
use github_sim::world::{Conclusion, JobSpec};
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const VERSION: &str = "?api-version=6.0-preview";

/// A listener with its set, as far as it got.
struct Listener<'a> {
    sim: &'a Sim,
    set: String,
    admin: String,
}

impl<'a> Listener<'a> {
    fn register(sim: &'a Sim) -> Self {
        let path = "/api/v3/repos/o/r/actions/runners/registration-token";
        let token = ask(sim, "POST", path, "Bearer t0k", "", "");
        let body = json!({ "url": format!("http://{}/o/r", sim.address), "runner_event": "register" }).to_string();
        let auth = format!("RemoteAuth {}", string(&token["token"]));
        let found = ask(sim, "POST", "/api/v3/actions/runner-registration", &auth, "", &body);
        let admin = format!("Bearer {}", string(&found["token"]));
        let sets = format!("{}/_apis/runtime/runnerscalesets", path_of(sim, &found["url"]));
        let set = ask(sim, "POST", &format!("{sets}{VERSION}"), &admin, "", r#"{"name":"nix","runnerGroupId":1}"#);
        Self { sim, set: format!("{sets}/{}", set["id"]), admin }
    }

    fn post(&self, rest: &str, body: &str) -> Value {
        ask(self.sim, "POST", &format!("{}{rest}{VERSION}", self.set), &self.admin, "", body)
    }

    /// Opens a session; gives its path and credential.
    fn open(&self) -> (String, String) {
        let session = self.post("/sessions", r#"{"ownerName":"host"}"#);
        let token = string(&session["messageQueueAccessToken"]);
        (path_of(self.sim, &session["messageQueueUrl"]), format!("Bearer {token}"))
    }
}

fn ask(sim: &Sim, method: &str, path: &str, auth: &str, headers: &str, body: &str) -> Value {
    let answer = sim.raw_as(auth, method, path, headers, body);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The path of an address the simulator gave.
fn path_of(sim: &Sim, address: &Value) -> String {
    string(address).strip_prefix(&format!("http://{}", sim.address)).unwrap().to_owned()
}

#[test]
fn a_poll_is_held_and_answered_as_soon_as_a_job_comes() {
    let sim = Sim::start(&[]);
    let (queue, auth) = Listener::register(&sim).open();
    let began = Instant::now();
    let message = std::thread::scope(|scope| {
        let poll = scope.spawn(|| ask(&sim, "GET", &queue, &auth, "x-scalesetmaxcapacity: 1\r\n", ""));
        std::thread::sleep(Duration::from_millis(300));
        sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[])).unwrap();
        poll.join().unwrap()
    });
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(5));
    assert_eq!(message["messageId"], 100_000_001);
    assert_eq!(sim.control.scale_sets().unwrap()[0].statistics.total_assigned_jobs, 1);
}

#[test]
fn a_runner_of_a_set_runs_its_job_like_any_other() {
    let sim = Sim::start(&[]);
    let listener = Listener::register(&sim);
    let (queue, auth) = listener.open();
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo hello"])).unwrap();
    ask(&sim, "GET", &queue, &auth, "x-scalesetmaxcapacity: 1\r\n", "");
    let minted = listener.post("/generatejitconfig", r#"{"name":"host-1","workFolder":"_work"}"#);
    let ended = run(&root(&sim, "runner"), &string(&minted["encodedJITConfig"]));
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stdout));
    let view = sim.control.job(job).unwrap();
    assert_eq!((view.conclusion, view.output.as_str()), (Some(Conclusion::Success), "hello\n"));
    assert_eq!(view.runner_name.as_deref(), Some("host-1"));
    let body = string(&ask(&sim, "GET", &format!("{queue}&lastMessageId=100000001"), &auth, "", "")["body"]);
    assert!(body.contains("JobStarted") && body.contains("JobCompleted"), "{body}");
}

#[test]
fn a_killed_listener_loses_its_session_after_its_time() {
    let sim = Sim::start(&[]);
    sim.control.change_scale_set_rules(|rules| rules.session_ttl = Duration::from_secs(1)).unwrap();
    let listener = Listener::register(&sim);
    let (queue, auth) = listener.open();
    let mut poll = TcpStream::connect(&sim.address).unwrap();
    write!(poll, "GET {queue} HTTP/1.1\r\nhost: sim\r\nauthorization: {auth}\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    let refused = listener.post("/sessions", r#"{"ownerName":"next"}"#);
    assert!(string(&refused["typeName"]).contains("Conflict"), "the poll keeps the session: {refused}");
    drop(poll);
    let deadline = Instant::now() + Duration::from_secs(10);
    while listener.post("/sessions", r#"{"ownerName":"next"}"#)["sessionId"].is_null() {
        assert!(Instant::now() < deadline, "{:?}", sim.control.scale_sets().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_back_door_sees_and_breaks_what_listeners_rely_on() {
    let sim = Sim::start(&[]);
    let listener = Listener::register(&sim);
    let (queue, auth) = listener.open();
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[])).unwrap();
    ask(&sim, "GET", &queue, &auth, "", "");
    let view = sim.control.scale_sets().unwrap().remove(0);
    assert_eq!((view.listener.as_deref(), view.assigned_jobs.as_slice()), (Some("host"), [job].as_slice()));
    assert_eq!(view.undeleted_messages, [100_000_001]);
    sim.control.drop_assignment(job).unwrap();
    assert!(sim.control.scale_sets().unwrap()[0].assigned_jobs.is_empty());
    sim.control.restore_messages(view.id).unwrap();
    sim.control.lose_session(view.id).unwrap();
    assert!(sim.raw_as(&auth, "GET", &queue, "", "").starts_with("HTTP/1.1 404"));
    sim.control.revoke_scale_set_tokens().unwrap();
    assert!(sim.raw_as(&auth, "GET", &queue, "", "").starts_with("HTTP/1.1 401"));
}
