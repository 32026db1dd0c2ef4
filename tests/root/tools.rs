//! The operations as tools, asked for by somebody else's client: the Model Context Protocol's own, for Python.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{process::Command, time::Duration};

use controller::{cause::Cause, phase::Phase};
use serde_json::Value;
use stage::{SERVICE, Stage, StageConfig, python};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/root/tools");

#[test]
fn somebody_elses_client_reads_over_http_and_operates_over_the_local_socket() {
    let client = match python::package("mcp", "2.3.0") {
        Ok(client) => client,
        Err(why) => return println!("skipped: {why}"),
    };
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, done) = stage.queue_small("before", "true").unwrap();
    stage.wait_finished(done, Duration::from_secs(60)).unwrap();
    let (_, running) = stage.queue_small("long", "exec sleep 300").unwrap();
    let container = stage.wait_phase(running, Phase::Running, Duration::from_secs(60)).unwrap();

    let host = stage.lab.host_pid().unwrap().to_string();
    let script = std::fs::read_to_string(format!("{HERE}/client.py")).unwrap().replace("j0000000", &container.name);
    let mut python = Command::new("timeout");
    python.args(["90", "nsenter"]).arg(format!("--net=/proc/{host}/ns/net")).args([
        "--",
        "python3",
        "-c",
        &script,
        "http://127.0.0.1:8080/mcp",
    ]);
    python.args(["nsenter", "--target", &host, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
    python.args(["/usr/local/bin/gha-runner-controller", "mcp"]).env("PYTHONPATH", client);
    let output = python.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));

    // Over HTTP: what reads is there, what changes something is refused and changed nothing.
    let calls = told["http"]["calls"].as_array().unwrap();
    assert_eq!(calls[0]["document"]["host"], "lab", "{calls:#?}");
    assert_eq!(calls[1]["document"]["running"][0]["job_name"], "long", "{calls:#?}");
    assert!(calls[2]["refused"] == true && calls[2]["said"].as_str().unwrap().contains("socket"), "{calls:#?}");
    assert!(told["http"]["tools"].get("check").is_none());

    // Over the local socket, as root: everything.
    let tools = told["stdio"]["tools"].as_object().unwrap();
    assert!(tools.values().all(|tool| tool["described"] == true), "{tools:#?}");
    let changing: Vec<&String> =
        tools.iter().filter(|(_, tool)| tool["reads"] == false).map(|(name, _)| name).collect();
    assert_eq!(changing, ["provision", "start_intake", "stop_container", "stop_intake"]);
    let calls = told["stdio"]["calls"].as_array().unwrap();
    assert_eq!(calls[0]["document"]["intake"], true, "over HTTP nothing was stopped: {calls:#?}");
    for (index, call) in calls.iter().enumerate() {
        assert_eq!(call["refused"], index == 7, "{index}: {call:#?}");
    }
    assert_eq!(calls[5]["document"]["containers"].as_array().unwrap().len(), 2, "{calls:#?}");
    assert_eq!(calls[8]["document"]["entries"][0]["job_name"], "before", "{calls:#?}");
    let ended = stage.wait_finished(running, Duration::from_secs(60)).unwrap();
    assert_eq!(ended.cause, Cause::StoppedByOperator);
    let journal = stage.lab.shell(&format!("journalctl --unit={SERVICE} --output=json")).unwrap();
    assert!(journal.contains("uid 0"), "who asked is in the journal");
}
