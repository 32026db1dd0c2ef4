//! Our scale set client and GitHub's own, through the same story, over real sockets, against the same simulated
//! GitHub: they have to see the same things. What both agree on is also what the simulator is worth.
//!
//! GitHub's own is a Go module; without Go, or without the module, this says so and passes.
#![allow(clippy::unwrap_used, missing_docs)]

mod runner;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contract::Grant;
use forge::{
    Deletion, ErrorKind, Https,
    github::{
        Rest, Session,
        scale_set::{JobEvent, JobMessage, ScaleSet, Scope, SetSpec, Statistics, api_root},
    },
};
use github_sim::{
    Config, World,
    server::{Doors, Shared},
    world::{Assignment, JobSpec, RepoSpec, RunnerResult, RunnerSession, ScaleSetRules},
};
use settings::token_file::Token;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
    sync::watch,
    time::timeout,
};

const TOKEN: &str = "t0k";
const RUNNER: &str = "host-1-abc";

/// A simulated GitHub on a loopback socket, and the one runner of the story.
struct Stage {
    world: Shared,
    config_url: String,
    runner: Option<RunnerSession>,
    /// The one run of the story; its id is left to chance.
    run: String,
}

impl Stage {
    async fn open(assignment: Assignment) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let scale_sets = ScaleSetRules { assignment, poll_hold: Duration::from_millis(1500), ..Default::default() };
        let config = Config { base_url: base_url.clone(), tokens: vec![TOKEN.into()], scale_sets, ..Config::default() };
        let mut world = World::new(config);
        world.add_repo(&RepoSpec { name: "o/r".into(), private: true }).unwrap();
        let world = Shared::new(world);
        tokio::spawn(world.clone().serve_tcp(listener, Doors::Public));
        Self { world, config_url: format!("{base_url}/o/r"), runner: None, run: String::new() }
    }

    /// What a client asks the world outside to do.
    fn act(&mut self, what: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut world = self.world.lock();
        match what.split_once(' ').unwrap_or((what, "")) {
            ("queue", _) => {
                let job = JobSpec::new("build (x)", &["nix", "big"], &["true"]);
                self.run = world.queue_job(now, "o/r", job).unwrap().0.to_string();
            }
            ("start", blob) => {
                let session = world.runner_connect(now, blob).unwrap();
                world.runner_poll(now, &session).unwrap().expect("a job of the set");
                self.runner = Some(session);
            }
            ("finish", _) => {
                world.runner_complete(now, self.runner.as_ref().unwrap(), RunnerResult::Succeeded).unwrap();
            }
            ("compare", _) => assert_eq!(world.scale_set_views()[0].undeleted_messages.len(), 0, "all acknowledged"),
            _ => panic!("nobody can {what}"),
        }
    }

    /// What was seen, with the run by a name that is the same in each telling.
    fn told(&self, seen: &[String]) -> String {
        seen.join("\n").replace(&format!("run {} ", self.run), "run ours ")
    }
}

/// GitHub's own client, through the story of its program.
async fn official(program: &Path, mode: &str, stage: &mut Stage) -> Vec<String> {
    let mut process = Command::new(program)
        .args([&stage.config_url, TOKEN, mode])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut answers = process.stdin.take().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.split_once(' ').unwrap() {
            ("do", what) => {
                stage.act(what);
                answers.write_all(b"done\n").await.unwrap();
            }
            (_, what) => seen.push(what.to_owned()),
        }
    }
    let mut trouble = String::new();
    process.stderr.take().unwrap().read_to_string(&mut trouble).await.unwrap();
    assert!(process.wait().await.unwrap().success(), "{trouble}\nafter {seen:#?}");
    seen
}

fn client(stage: &Stage) -> ScaleSet<Session<Https>, Https> {
    let api_url = api_root(&stage.config_url).unwrap();
    let wire = Https::new(None).unwrap();
    let transport = Session::with_token(Rest::new(wire.clone(), &api_url), Token::new(TOKEN));
    let spec = SetSpec {
        scope: Scope::of(&stage.config_url).unwrap(),
        config_url: stage.config_url.clone(),
        api_url,
        set_name: "ours".into(),
        runner_group: None,
        labels: vec!["nix".into(), "big".into()],
        owner_name: "conformance".into(),
    };
    ScaleSet::new(spec, transport, wire)
}

fn counts(n: Statistics) -> String {
    format!(
        "available {} assigned {} running {} registered {} busy {} idle {}",
        n.available_jobs, n.assigned_jobs, n.running_jobs, n.registered_runners, n.busy_runners, n.idle_runners
    )
}

fn job(job: &JobMessage) -> String {
    let (kind, rest) = match &job.event {
        JobEvent::Available => ("JobAvailable", String::new()),
        JobEvent::Assigned => ("JobAssigned", String::new()),
        JobEvent::Started { runner_name } => ("JobStarted", format!(" on {runner_name}")),
        JobEvent::Completed { result, runner_name } => ("JobCompleted", format!(" on {runner_name}: {result}")),
    };
    let labels = job.labels.join(",");
    format!("{kind} {} run {} {:?} {} {labels}{rest}", job.repository, job.run_id, job.job_name, job.event_name)
}

/// Our client, through the story of `scaleset-go/main.go`.
async fn ours(mode: &str, stage: &mut Stage) -> Vec<String> {
    let mut seen = Vec::new();
    let set = client(stage);
    let opened = set.open().await.unwrap();
    seen.push(format!("set {} labels {} self-update {}", opened.id, opened.labels.join(","), opened.self_update));
    let second = client(stage);
    seen.push(format!("found {}", second.open().await.unwrap().id));
    let (capacity, mut receiver) = watch::channel(0);
    let begun = set.listen(&mut receiver).await.unwrap();
    seen.push(format!("session {}", counts(begun.statistics)));
    assert_eq!(second.listen(&mut receiver).await.unwrap_err().kind, ErrorKind::Conflict);
    seen.push("a second session is refused".into());

    stage.act("queue");
    hear(&set, &mut receiver, &mut seen).await;
    capacity.send(2).unwrap();
    hear(&set, &mut receiver, &mut seen).await;
    if mode == "acquire" {
        hear(&set, &mut receiver, &mut seen).await;
    }
    let minted = set.mint(RUNNER).await.unwrap();
    seen.push(format!("minted {}", minted.runner_id));
    let Grant::GithubJit { encoded_jit_config } = minted.grant else { unreachable!("GitHub's") };
    stage.act(&format!("start {encoded_jit_config}"));
    hear(&set, &mut receiver, &mut seen).await;
    let agent = set.find_runner(RUNNER).await.unwrap().unwrap();
    seen.push(format!("runner {} of set {}", agent.id, agent.set_id.unwrap()));
    assert_eq!(set.delete_runner(agent.id).await.unwrap(), Deletion::Busy);
    seen.push("a busy runner is kept".into());
    assert_eq!(set.mint(RUNNER).await.unwrap_err().kind, ErrorKind::Conflict);
    seen.push("a name is taken".into());
    stage.act("finish");
    hear(&set, &mut receiver, &mut seen).await;
    hear(&set, &mut receiver, &mut seen).await;
    set.release().await.unwrap();
    seen.push("closed".into());
    stage.act("compare");
    seen
}

async fn hear(set: &ScaleSet<Session<Https>, Https>, capacity: &mut watch::Receiver<u32>, seen: &mut Vec<String>) {
    let tidings = set.listen(capacity).await.unwrap();
    match tidings.message_id {
        None => seen.push("nothing".into()),
        Some(id) => {
            seen.push(format!("message {id} {}", counts(tidings.statistics)));
            seen.extend(tidings.messages.iter().map(job));
            set.acknowledge(id).await;
        }
    }
}

/// The official client's program, or why it cannot be had.
async fn build(into: &Path) -> Result<std::path::PathBuf, String> {
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unprivileged/conformance/scaleset-go"));
        go.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOTOOLCHAIN", "local");
        go
    };
    let fetched = go(&["mod", "download"]).output().await.map_err(|error| format!("no Go here: {error}"))?;
    if !fetched.status.success() {
        return Err(format!("its modules cannot be had: {}", String::from_utf8_lossy(&fetched.stderr)));
    }
    let program = into.join("scaleset-go");
    let built = go(&["build", "-o", program.to_str().unwrap(), "."]).output().await.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(program)
}

#[tokio::test]
async fn our_client_and_githubs_own_see_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path()).await;
    if let Err(why) = &program {
        eprintln!("skipped: the official client: {why}");
    }
    for (mode, assignment) in [("automatic", Assignment::Automatic), ("acquire", Assignment::Acquire)] {
        let mut stage = Stage::open(assignment).await;
        let ours = timeout(Duration::from_secs(60), ours(mode, &mut stage)).await.unwrap();
        let ours = stage.told(&ours);
        println!("{mode}:\n{ours}\n");
        assert!(ours.contains("JobCompleted o/r run ours") && ours.ends_with("closed"));
        if let Ok(program) = &program {
            let mut stage = Stage::open(assignment).await;
            let theirs = timeout(Duration::from_secs(60), official(program, mode, &mut stage)).await.unwrap();
            assert_eq!(ours, stage.told(&theirs), "{mode}");
        }
    }
}
