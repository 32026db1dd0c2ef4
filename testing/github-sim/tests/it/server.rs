//! The program: sockets, back door, signals.

use github_sim::{
    Call, ControlClient, ControlCommand,
    world::{Fault, JobSpec, JobStatus, What},
};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

/// A running simulator with one repository, `o/r`, in a directory of its own.
pub struct Sim {
    process: Child,
    pub address: String,
    pub control: ControlClient,
    pub directory: tempfile::TempDir,
}

impl Sim {
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let mut process = Process::new(env!("CARGO_BIN_EXE_github-sim"))
            .args(["--listen", "127.0.0.1:0", "--token", "t0k", "--repo", "o/r"])
            .arg("--control-socket")
            .arg(&socket)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready
            .strip_prefix("github-sim: listening on ")
            .and_then(|rest| rest.split(", ").next())
            .unwrap_or_else(|| panic!("{ready:?}"))
            .to_owned();
        Self { process, address, control: ControlClient::connect(&socket).unwrap(), directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// Sends one request and reads until the server closes.
    pub fn raw(&self, method: &str, path: &str, body: &str) -> String {
        self.raw_as("Bearer t0k", method, path, "", body)
    }

    /// The same with another credential and more header lines, each with its line end.
    pub fn raw_as(&self, authorization: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: sim\r\nuser-agent: test\r\nauthorization: {authorization}\r\n\
             {headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Mints a runner and gives its blob.
    pub fn mint(&self, name: &str) -> String {
        let body = format!(r#"{{"name":"{name}","runner_group_id":1,"labels":["nix"]}}"#);
        let answer = self.raw("POST", "/api/v3/repos/o/r/actions/runners/generate-jitconfig", &body);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["encoded_jit_config"].as_str().unwrap().to_owned()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn it_listens_answers_and_goes_when_told() {
    let mut sim = Sim::start(&[]);
    let answer = sim.raw("GET", "/repos/o/r/actions/runs", "");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(r#"{"total_count":0,"workflow_runs":[]}"#), "{answer}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(sim.process.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(sim.process.wait().unwrap().success());
    assert!(!sim.socket().exists());
}

#[test]
fn the_back_door_is_not_on_the_front() {
    let closed = Sim::start(&[]);
    let answer = closed.raw("POST", "/_control/", r#"{"do":"jobs"}"#);
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let open = Sim::start(&["--control-on-tcp"]);
    let answer = open.raw("POST", "/_control/", r#"{"do":"jobs"}"#);
    assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
}

#[test]
fn the_back_door_says_what_is_wrong() {
    let sim = Sim::start(&[]);
    let job = JobSpec::new("a", &["nix"], &[]);
    let error = sim.control.queue_job("o/nothing", job).unwrap_err();
    assert!(error.to_string().contains("no repository"), "{error}");
    let error = sim.control.call_raw(b"{}".to_vec()).unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
fn commands_reach_the_world() {
    let sim = Sim::start(&[]);
    sim.control.add_repo("a/b").unwrap();
    let (run, job) = sim.control.queue_job("a/b", JobSpec::new("a", &["nix"], &["true"])).unwrap();
    assert_eq!(sim.control.job(job).unwrap().status, JobStatus::Queued);
    sim.control.cancel_run(run).unwrap();
    let view = sim.control.wait_completed(job, Duration::from_secs(5)).unwrap();
    assert_eq!(view.runner_id, None);
    let blob = sim.mint("x");
    assert!(!blob.is_empty());
    assert_eq!(sim.control.leaked_runners().unwrap().len(), 1);
    assert_eq!(sim.control.traffic().unwrap().of(Call::Mint).requests, 1);
    sim.control.reset_traffic().unwrap();
    assert_eq!(sim.control.traffic().unwrap().total.requests, 0);
    let printed = Process::new(env!("CARGO_BIN_EXE_github-sim"))
        .args(["ctl", "--control-socket"])
        .arg(sim.socket())
        .arg(r#"{"do":"runners"}"#)
        .output()
        .unwrap();
    assert!(printed.status.success());
    assert!(String::from_utf8_lossy(&printed.stdout).contains("\"minted\""));
}

#[test]
fn a_lost_answer_is_a_closed_connection() {
    let sim = Sim::start(&[]);
    sim.control.inject(Fault::once(Call::ListRuns, What::LostAnswer)).unwrap();
    assert_eq!(sim.raw("GET", "/repos/o/r/actions/runs", ""), "");
}

#[test]
fn a_slow_answer_takes_its_time() {
    let sim = Sim::start(&[]);
    sim.control.inject(Fault::once(Call::ListRuns, What::Slow { ms: 300 })).unwrap();
    let began = Instant::now();
    let answer = sim.raw("GET", "/repos/o/r/actions/runs", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn the_client_works_inside_a_runtime_too() {
    let sim = Sim::start(&[]);
    let now: Duration = sim.control.call(&ControlCommand::Now).unwrap();
    assert!(now > Duration::from_secs(1_700_000_000));
}
