//! A runner that others wrote runs a job of the simulated GitHub: it takes the simulator's JIT configuration and speaks
//! GitHub's protocol, without any part of ours.
//!
//! github-act-runner is a Go module; without Go, or without the module, this says so and passes.

use std::{path::Path, process::Output, time::Duration};

use github_sim::{
    Config, World,
    server::{Doors, Shared},
    world::{Conclusion, JobSpec, JobStatus, RepoSpec},
};
use http::Request;
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::TOKEN;

const MODULE: &str = "github.com/ChristopherHX/github-act-runner@v0.13.0";
/// Its faults that keep it from what GitHub speaks today: file, what is there, what should be. A flag has another type
/// than its reader expects, and it wants a stream of lines that a server need not have.
const FAULTS: [[&str; 3]; 2] = [
    ["runnerconfiguration/compat/actions_runner_compat.go", "Value: agent.UseV2Flow,", "Value: bool(agent.UseV2Flow),"],
    [
        "protocol/logger/job_logger.go",
        "\t\tlogger.Initialize()\n\t}\n\terr :=",
        "\t\tlogger.Initialize()\n\t}\n\tif logger.currentLogger == nil {\n\t\treturn nil\n\t}\n\terr :=",
    ],
];
/// To build it takes a minute of a processor, the first time.
const PATIENCE: Duration = Duration::from_secs(900);

async fn run(command: &mut Command) -> Result<Output, String> {
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.map_err(|_| "not in time".to_owned())?;
    output.map_err(|error| error.to_string())
}

async fn go(directory: &Path, arguments: &[&str]) -> Result<Output, String> {
    let mut go = Command::new("go");
    go.args(arguments).current_dir(directory);
    run(go.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOTOOLCHAIN", "local")).await
}

/// Builds it in `into`, with its fault mended; why not, where that cannot be.
async fn build(into: &Path) -> Result<std::path::PathBuf, String> {
    let had = go(into, &["mod", "download", "-json", MODULE]).await.map_err(|error| format!("no Go here: {error}"))?;
    let answer: serde_json::Value = serde_json::from_slice(&had.stdout).unwrap_or_default();
    let Some(original) = answer["Dir"].as_str() else {
        return Err(format!("the module cannot be had: {}", answer["Error"].as_str().unwrap_or("no answer")));
    };
    let source = into.join("source");
    let copied = run(Command::new("cp").args(["-r", "--no-preserve=mode", original]).arg(&source)).await?;
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    for [file, wrong, right] in FAULTS {
        let text = std::fs::read_to_string(source.join(file)).unwrap();
        assert_eq!(text.matches(wrong).count(), 1, "the fault of {file} is not there any more");
        std::fs::write(source.join(file), text.replace(wrong, right)).unwrap();
    }
    let fetched = go(&source, &["mod", "download"]).await?;
    if !fetched.status.success() {
        return Err(format!("its modules cannot be had: {}", String::from_utf8_lossy(&fetched.stderr)));
    }
    let program = into.join("github-act-runner");
    let built = go(&source, &["build", "-o", program.to_str().unwrap(), "."]).await?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(program)
}

#[tokio::test]
async fn a_runner_of_others_runs_a_job_of_the_simulated_github() {
    let directory = tempfile::tempdir().unwrap();
    let program = match build(directory.path()).await {
        Ok(program) => program,
        Err(why) => {
            eprintln!("skipped: a runner of others: {why}");
            return;
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let config = Config { base_url, tokens: vec![TOKEN.into()], ..Config::default() };
    let mut world = World::new(config);
    world.add_repo(&RepoSpec { name: "o/r".into(), private: true }).unwrap();
    let now = github_sim::server::now();
    let script = "echo hello from $GITHUB_REPOSITORY; test $GITHUB_EVENT_NAME = push";
    let (_, job) = world.queue_job(now, "o/r", JobSpec::new("build", &["nix"], &[script, "exit 3"])).unwrap();
    let mint = Request::post("/repos/o/r/actions/runners/generate-jitconfig")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("user-agent", "conformance")
        .body(br#"{"name":"theirs","runner_group_id":1,"labels":["nix"]}"#.to_vec())
        .unwrap();
    let minted = world.handle(now, &mint).answer().unwrap();
    let minted: serde_json::Value = serde_json::from_slice(minted.body()).unwrap();
    let world = Shared::new(world);
    tokio::spawn(world.clone().serve_tcp(listener, Doors::Public));

    let home = directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let mut command = Command::new(program);
    command
        .args(["run", "--once", "--jitconfig", minted["encoded_jit_config"].as_str().unwrap()])
        .current_dir(&home)
        .env_clear()
        .env("HOME", &home)
        .env("PATH", std::env::var("PATH").unwrap());
    let ended = run(&mut command).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    let view = world.lock().job_view(job).unwrap();
    assert_eq!(view.status, JobStatus::Completed, "{said}");
    assert_eq!(view.conclusion, Some(Conclusion::Failure), "{view:#?}\n{said}");
    assert_eq!(view.runner_name.as_deref(), Some("theirs"));
    assert!(view.steps.iter().all(|step| step.started_at.is_some()), "{view:#?}");
    assert!(view.output.contains("hello from o/r"), "{view:#?}\n{said}");
}
