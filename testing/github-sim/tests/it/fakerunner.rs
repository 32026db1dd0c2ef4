//! The runner stand-in, for real: a process that connects over loopback and runs shell steps.

use crate::server::Sim;
use github_sim::ControlCommand;
use github_sim::world::{Conclusion, Container, JobSpec, JobStatus, RunSpec, RunnerFault, RunnerWhat};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// A runner root.
pub fn root(sim: &Sim, name: &str) -> PathBuf {
    let root = sim.directory.path().join(name);
    fs::create_dir(&root).unwrap();
    root
}

fn command(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fakerunner"));
    command.arg("run").env("RUNNER_ROOT", root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, with the blob in the environment.
pub fn run(root: &Path, blob: &str) -> Output {
    command(root).env("ACTIONS_RUNNER_INPUT_JITCONFIG", blob).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Running {
    process: Child,
    out: BufReader<ChildStdout>,
    said: String,
}

impl Running {
    fn start(root: &Path, blob: &str) -> Self {
        let mut process = command(root).arg("--jitconfig").arg(blob).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Self { process, out, said: String::new() }
    }

    fn wait_for(&mut self, what: &str) {
        while !self.said.contains(what) {
            let read = self.out.read_line(&mut self.said).unwrap();
            assert!(read > 0, "it ended without saying {what:?}: {}", self.said);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        self.out.read_to_string(&mut self.said).unwrap();
        (self.process.wait().unwrap().code(), self.said)
    }
}

#[test]
fn it_runs_exactly_one_job_and_says_what_the_real_one_says() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    let script = "echo \"in $GITHUB_REPOSITORY on $RUNNER_NAME, CI=$CI\"; pwd; echo err >&2; \
                  test -z \"$ACTIONS_RUNNER_INPUT_JITCONFIG\"";
    let (run_id, job) =
        sim.control.queue_job("o/r", JobSpec::new("build (x)", &["nix"], &[script, "echo two"])).unwrap();
    let ended = run(&root, &sim.mint("mine"));
    assert_eq!(ended.status.code(), Some(0));
    let out = text(&ended.stdout);
    assert!(out.starts_with("\n√ Connected to GitHub\n\nCurrent runner version: '2.338.2'\n2"), "{out}");
    let lines: Vec<&str> = out.lines().skip(4).collect();
    assert!(lines[0].ends_with("Z: Listening for Jobs"), "{out}");
    assert!(lines[1].ends_with("Z: Running job: build (x)"), "{out}");
    assert!(lines[2].ends_with("Z: Job build (x) completed with result: Succeeded"), "{out}");
    assert_eq!(lines[3..], ["√ Removed .credentials", "√ Removed .runner"], "{out}");
    assert_eq!(lines[2].find(": "), Some("2026-11-01 10:00:00Z".len()));
    assert_eq!(text(&ended.stderr), "");
    let view = sim.control.job(job).unwrap();
    assert_eq!(view.run_id, run_id);
    assert_eq!(view.conclusion, Some(Conclusion::Success));
    assert_eq!(view.runner_name.as_deref(), Some("mine"));
    assert_eq!(view.exit_code, Some(0));
    let workspace = root.join("_work/r/r");
    assert_eq!(view.output, format!("in o/r on mine, CI=true\n{}\nerr\ntwo\n", workspace.display()));
    assert!(!root.join(".runner").exists(), "a used registration is not left behind");
}

#[test]
fn the_first_failing_step_ends_the_job_and_the_rest_is_skipped() {
    let sim = Sim::start(&[]);
    let steps = ["echo one", "false; echo not reached", "echo never"];
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &steps)).unwrap();
    let ended = run(&root(&sim, "r"), &sim.mint("mine"));
    assert_eq!(ended.status.code(), Some(0), "the job's result is not the runner's");
    assert!(text(&ended.stdout).contains("Job a completed with result: Failed"));
    let view = sim.control.job(job).unwrap();
    assert_eq!((view.conclusion, view.exit_code), (Some(Conclusion::Failure), Some(1)));
    assert_eq!(view.output, "one\n##[error]Process completed with exit code 1.\n");
    let ends: Vec<_> = view.steps.iter().map(|step| step.conclusion).collect();
    assert_eq!(ends, [Conclusion::Success, Conclusion::Failure, Conclusion::Skipped].map(Some));
}

/// A `docker` that notes its arguments, without what is different each time, and answers.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" | sed -E 's/[0-9a-f]{64}/ID/; s/[0-9a-f]{32}/HEX/g; s/_[0-9a-f]{6} /_NAME /
    s/(label[ =])[0-9a-f]{6}/\1LABEL/; s/( -e [A-Z_]+)+ ID/ -e NAMES ID/; s/[0-9a-f]{8}-[0-9a-f-]{27}/UUID/' >> "$PLACE/noted"
id=$(printf '%64s' | tr ' ' a)
case "$*" in
version*) echo "'1.41'" ;;
pull\ gone:1) echo 'manifest unknown' >&2; exit 1 ;;
create*) echo 'WARNING: anything'; echo "$id" ;;
ps*status=running*) echo "$id Up 1 second" ;;
inspect*Health*) cat "$PLACE/health"; echo healthy > "$PLACE/health" ;;
exec*) echo "in a container: $GITHUB_WORKSPACE" ;;
esac
"#;

#[test]
fn the_containers_of_a_job_are_made_used_and_removed_by_the_commands_of_the_real_one() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    let (docker, noted) = (root.join("docker"), root.join("noted"));
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("health"), "starting\n").unwrap();
    fs::write(root.join(".env"), format!("PLACE={}\n", root.display())).unwrap();
    fs::write(root.join(".path"), format!("{}:/usr/bin:/bin", root.display())).unwrap();
    let of = |image: &str| Container { image: image.to_owned(), ..Container::default() };
    let container = Container {
        options: "--init --health-cmd \"a  b\"".to_owned(),
        env: [("A".to_owned(), "b c".to_owned())].into(),
        volumes: vec!["/a:/b".to_owned()],
        ..of("box:1")
    };
    let web = Container { ports: vec!["8080:80".to_owned()], ..of("web:1") };
    let services = [("web".to_owned(), web)].into();
    let spec = JobSpec { container: Some(container), services, ..JobSpec::new("a", &["nix"], &["never here"]) };
    let (_, job) = sim.control.queue_job("o/r", spec).unwrap();
    assert_eq!(run(&root, &sim.mint("mine")).status.code(), Some(0));
    let view = sim.control.job(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Success), "{view:#?}");
    assert!(view.output.contains("in a container: /__w/r/r\n"), "{}", view.output);
    let commands = fs::read_to_string(&noted).unwrap().replace(root.to_str().unwrap(), "ROOT");
    let expected = [
        "version --format '{{.Server.APIVersion}}'",
        "version --format '{{.Client.APIVersion}}'",
        "ps --all --quiet --no-trunc --filter label=LABEL",
        "network prune --force --filter label=LABEL",
        "network create --label LABEL github_network_HEX",
        "pull box:1",
        "create --name HEX_box1_NAME --label LABEL --workdir /__w/r/r --network github_network_HEX --init --health-cmd a  b \
         -e A=b c -e HOME=/github/home -e GITHUB_ACTIONS=true -e CI=true \
         -v /var/run/docker.sock:/var/run/docker.sock -v /a:/b -v ROOT/_work:/__w -v ROOT/externals:/__e:ro \
         -v ROOT/_work/_temp:/__w/_temp -v ROOT/_work/_actions:/__w/_actions -v ROOT/_work/_tool:/__w/_tool \
         -v ROOT/_work/_temp/_github_home:/github/home -v ROOT/_work/_temp/_github_workflow:/github/workflow \
         --entrypoint tail box:1 -f /dev/null",
        "start ID",
        "ps --all --filter id=ID --filter status=running --no-trunc --format {{.ID}} {{.Status}}",
        "inspect --format {{range .Config.Env}}{{println .}}{{end}} ID",
        "pull web:1",
        "create --name HEX_web1_NAME --label LABEL --network github_network_HEX --network-alias web -p 8080:80 \
         -e GITHUB_ACTIONS=true -e CI=true web:1",
        "start ID",
        "ps --all --filter id=ID --filter status=running --no-trunc --format {{.ID}} {{.Status}}",
        "port ID",
        "inspect --format={{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}} ID",
        "inspect --format={{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}} ID",
        "exec -i --workdir /__w/r/r -e NAMES ID sh -e /__w/_temp/UUID.sh",
        "rm --force ID",
        "logs --details ID",
        "rm --force ID",
        "network rm github_network_HEX",
    ];
    assert_eq!(commands.lines().collect::<Vec<_>>(), expected);

    // An image that cannot be had is tried three times.
    fs::remove_file(&noted).unwrap();
    let spec = JobSpec { container: Some(of("gone:1")), ..JobSpec::new("a", &["nix"], &["true"]) };
    let (_, job) = sim.control.queue_job("o/r", spec).unwrap();
    run(&root, &sim.mint("other"));
    let view = sim.control.job(job).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Failure), "{view:#?}");
    let why = "manifest unknown\n##[error]Docker pull failed with exit code 1\n";
    assert!(view.output.contains(why), "{}", view.output);
    assert_eq!(fs::read_to_string(&noted).unwrap().matches("pull gone:1").count(), 3);
}

#[test]
fn it_runs_from_unpacked_files_too_and_finds_its_root_by_its_own_place() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    fs::create_dir(root.join("bin")).unwrap();
    let program = root.join("bin/Runner.Listener");
    fs::copy(env!("CARGO_BIN_EXE_fakerunner"), &program).unwrap();
    for (name, bytes) in github_sim::jit::unpack(&sim.mint("mine")).unwrap() {
        fs::write(root.join(name), bytes).unwrap();
    }
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo $FROM_FILE"])).unwrap();
    fs::write(root.join(".env"), "FROM_FILE=yes\n").unwrap();
    let ended = Command::new(&program).arg("run").env_remove("RUNNER_ROOT").output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(sim.control.job(job).unwrap().output, "yes\n");
    let version = Command::new(&program).arg("--version").output().unwrap();
    assert_eq!(text(&version.stdout), "2.338.2\n");
}

#[test]
fn without_a_usable_configuration_it_ends_with_one() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    let bare = command(&root).output().unwrap();
    assert_eq!(bare.status.code(), Some(1));
    assert!(text(&bare.stderr).contains("Not configured"), "{}", text(&bare.stderr));
    let blob = sim.mint("mine");
    assert_eq!(run(&root, &blob[..blob.len() / 2]).status.code(), Some(1));
    for (name, bytes) in github_sim::jit::unpack(&blob).unwrap() {
        let bytes = match name {
            ".credentials_rsaparams" => &bytes[..bytes.len() / 2],
            _ => &bytes,
        };
        fs::write(root.join(name), bytes).unwrap();
    }
    let damaged = command(&root).output().unwrap();
    assert_eq!(damaged.status.code(), Some(1));
}

#[test]
fn a_registration_that_is_gone_ends_it() {
    let sim = Sim::start(&[]);
    let blob = sim.mint("mine");
    let id = sim.control.runners().unwrap()[0].id;
    let path = format!("/repos/o/r/actions/runners/{id}");
    assert!(sim.raw("DELETE", &path, "").starts_with("HTTP/1.1 204"));
    let ended = run(&root(&sim, "r"), &blob);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("registration has been deleted from the server"));
    let blob = sim.mint("second");
    let mut running = Running::start(&root(&sim, "s"), &blob);
    running.wait_for("Listening for Jobs");
    let id = sim.control.runners().unwrap()[0].id;
    let path = format!("/repos/o/r/actions/runners/{id}");
    assert!(sim.raw("DELETE", &path, "").starts_with("HTTP/1.1 204"));
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("The runner no longer exists on the server."), "{said}");
}

#[test]
fn refusals_have_the_real_codes() {
    let sim = Sim::start(&[]);
    let inject = |what| sim.control.inject_runner(RunnerFault::once(what)).unwrap();
    inject(RunnerWhat::SessionConflict);
    let conflict = run(&root(&sim, "a"), &sim.mint("a"));
    assert_eq!(conflict.status.code(), Some(5));
    for (what, name, last) in [
        (RunnerWhat::SessionForbidden, "b", "Failed to create session. Error: Forbidden\n"),
        (
            RunnerWhat::ClockSkew,
            "c",
            "Stopped retrying OAuth token request exception after 1800 seconds.\nFailed to create session. The assertion \
             is not valid at this time. Current server time is 20",
        ),
    ] {
        inject(what);
        let refused = run(&root(&sim, name), &sim.mint(name));
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(last), "{}", text(&refused.stderr));
        assert!(!text(&refused.stdout).contains("Listening"), "{}", text(&refused.stdout));
    }
    inject(RunnerWhat::SessionInvalid);
    let refused = run(&root(&sim, "d"), &sim.mint("d"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).ends_with("Z: Listening for Jobs\n"), "{}", text(&refused.stdout));
    let last = "An error occurred: Get next message failed with non-retryable error.\n";
    assert_eq!(text(&refused.stderr), last);
}

#[test]
fn one_that_is_too_old_listens_and_is_refused_when_it_asks_for_a_message() {
    let sim = Sim::start(&[]);
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo served"])).unwrap();
    for (name, version, wants_code, code) in
        [("a", "2.336.0", true, 7), ("b", "2.336.0", false, 1), ("c", "2.333.0", true, 7), ("d", "2.332.9", true, 1)]
    {
        sim.control.inject_runner(RunnerFault::once(RunnerWhat::VersionTooOld)).unwrap();
        let old = command(&root(&sim, name))
            .env("ACTIONS_RUNNER_INPUT_JITCONFIG", sim.mint(name))
            .env("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", if wants_code { "1" } else { "" })
            .env("FAKERUNNER_VERSION", version)
            .output()
            .unwrap();
        assert_eq!(old.status.code(), Some(code), "{version} {wants_code}");
        assert!(text(&old.stdout).ends_with("Z: Listening for Jobs\n"), "{}", text(&old.stdout));
        let last = format!(
            "An error occurred: Error: Forbidden Runner version v{version} is deprecated and cannot receive messages.\n"
        );
        assert_eq!(text(&old.stderr), last);
    }
    assert_eq!(sim.control.job(job).unwrap().offered_at, None, "it was offered a job");
}

#[test]
fn one_whose_job_ends_before_it_begins_prints_no_result() {
    let sim = Sim::start(&["--hurry", "500"]);
    for (what, name) in [(RunnerWhat::CancelledAtOnce, "a"), (RunnerWhat::RenewalFails, "b")] {
        sim.control.inject_runner(RunnerFault::once(what)).unwrap();
        let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo a step"])).unwrap();
        let ended = run(&root(&sim, name), &sim.mint(name));
        assert_eq!(ended.status.code(), Some(0), "{what:?}");
        let out = text(&ended.stdout);
        assert!(out.ends_with("Z: Running job: a\n√ Removed .credentials\n√ Removed .runner\n"), "{what:?}: {out}");
        assert_eq!(text(&ended.stderr), "", "{what:?}");
        let view = sim.control.wait_completed(job, LIMIT).unwrap();
        assert_eq!((view.conclusion, view.output.as_str()), (Some(Conclusion::Cancelled), ""), "{what:?}");
    }
}

#[test]
fn one_that_never_listens_can_still_be_stopped() {
    let sim = Sim::start(&[]);
    sim.control.inject_runner(RunnerFault::once(RunnerWhat::NeverListening)).unwrap();
    let mut running = Running::start(&root(&sim, "r"), &sim.mint("a"));
    running.wait_for("Connected to GitHub");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sim.control.leaked_runners().unwrap().len(), 1);
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("Exiting..."), "{said}");
    assert!(!said.contains("Listening"), "{said}");
}

#[test]
fn an_idle_one_leaves_when_told() {
    let sim = Sim::start(&[]);
    let mut running = Running::start(&root(&sim, "r"), &sim.mint("a"));
    running.wait_for("Listening for Jobs");
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    assert_eq!(sim.control.leaked_runners().unwrap().len(), 1);
}

#[test]
fn one_that_was_killed_is_offered_nothing() {
    let sim = Sim::start(&["--hurry", "100"]);
    let mut running = Running::start(&root(&sim, "r"), &sim.mint("a"));
    running.wait_for("Listening for Jobs");
    running.signal(Signal::KILL);
    assert_eq!(running.end().0, None);
    std::thread::sleep(Duration::from_millis(200));
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[])).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(sim.control.job(job).unwrap().offered_at, None);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sim.control.leaked_runners().unwrap().len(), 1);
}

#[test]
fn stopped_in_its_job_it_reports_and_kills_what_it_started() {
    let sim = Sim::start(&["--hurry", "30"]);
    let root = root(&sim, "r");
    let script = "setsid sleep 1000 & sleep 1001";
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[script])).unwrap();
    let mut running = Running::start(&root, &sim.mint("a"));
    running.wait_for("Running job: a");
    sim.control.wait_for_job(job, LIMIT, |job| job.started_at.is_some()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    // Its shell waits for a command that heard nothing of the interrupt.
    assert!(began.elapsed() > Duration::from_secs(12), "{:?}", began.elapsed());
    // To the forge it says another thing.
    assert!(said.contains("Exiting...\n") && said.contains("Job a completed with result: Canceled"), "{said}");
    let view = sim.control.wait_completed(job, LIMIT).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Failure));
    assert!(view.output.contains("shutdown signal"), "{}", view.output);
    assert!(view.note.unwrap().contains("shutdown signal"));
    assert!(!somebody_carries(&root), "a process of the job is left");
}

/// Whether a process has this runner's workspace in its environment.
fn somebody_carries(root: &Path) -> bool {
    let wanted = format!("GITHUB_WORKSPACE={}", root.display());
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("environ")).is_ok_and(|environment| text(&environment).contains(&wanted))
    })
}

#[test]
fn a_job_cancelled_at_the_forge_is_stopped() {
    let sim = Sim::start(&[]);
    let (run_id, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["exec sleep 1000"])).unwrap();
    let mut running = Running::start(&root(&sim, "r"), &sim.mint("a"));
    running.wait_for("Running job: a");
    sim.control.wait_for_job(job, LIMIT, |job| job.started_at.is_some()).unwrap();
    sim.control.cancel_run(run_id).unwrap();
    let view = sim.control.wait_completed(job, LIMIT).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Cancelled));
    let (code, said) = running.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("completed with result: Canceled"), "{said}");
}

#[test]
fn one_that_its_job_kills_dies_without_a_word_and_the_job_is_given_up() {
    let sim = Sim::start(&["--hurry", "500"]);
    // The parent of its shell is the worker, whose parent is the listener.
    let script = "sleep 0.5; set -- $(cat /proc/$PPID/stat); kill -9 $4; exec sleep 1000";
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[script])).unwrap();
    let (code, said) = Running::start(&root(&sim, "r"), &sim.mint("a")).end();
    assert_eq!(code, None, "killed");
    assert!(!said.contains("completed"), "{said}");
    assert_eq!(sim.control.job(job).unwrap().status, JobStatus::InProgress);
    let view = sim.control.wait_completed(job, LIMIT).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Failure));
    assert!(view.note.unwrap().contains("lost communication"));
}

#[test]
fn a_job_that_never_stops_printing_can_be_cancelled_and_its_last_hook_still_runs() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    fs::write(root.join("completed"), "echo the end").unwrap();
    let script = "while :; do printf 'noise \\x01\\x02\\xff\\n'; done";
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[script])).unwrap();
    let process = command(&root)
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", sim.mint("a"))
        .env("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", root.join("completed"))
        .spawn()
        .unwrap();
    sim.control.wait_for_job(job, LIMIT, |job| job.output.len() > 100_000).unwrap();
    sim.control.cancel_job(job).unwrap();
    let view = sim.control.wait_completed(job, LIMIT).unwrap();
    assert_eq!(view.conclusion, Some(Conclusion::Cancelled));
    assert!(view.output.ends_with("the end\n"));
    assert_eq!(process.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn output_arrives_while_the_job_runs() {
    let sim = Sim::start(&[]);
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo early; exec sleep 1000"])).unwrap();
    let mut running = Running::start(&root(&sim, "r"), &sim.mint("a"));
    sim.control.wait_for_job(job, LIMIT, |job| job.output == "early\n").unwrap();
    sim.control.cancel_job(job).unwrap();
    running.wait_for("completed");
    running.end();
}

#[test]
fn the_log_of_a_step_lies_on_disk_as_long_as_the_step_runs() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    // Enough lines to fill the buffer of the writer.
    let script = "for n in $(seq 200); do echo \"line $n of many\"; done; exec sleep 1000";
    let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[script])).unwrap();
    let running = Running::start(&root, &sim.mint("a"));
    sim.control.wait_for_job(job, LIMIT, |job| job.output.contains("line 200")).unwrap();
    let pages = root.join("_diag/pages");
    let found: Vec<(String, Vec<u8>)> = fs::read_dir(&pages)
        .unwrap()
        .map(|page| {
            let page = page.unwrap();
            (page.file_name().into_string().unwrap(), fs::read(page.path()).unwrap())
        })
        .collect();
    assert_eq!(found.len(), 2, "the step's and the job's");
    let mut firsts = Vec::new();
    for (name, bytes) in &found {
        assert_eq!(name.len(), 36 + 1 + 36 + "_1.log".len(), "{name}");
        assert!(bytes.starts_with(b"\xef\xbb\xbf2"));
        assert_eq!(bytes.len() % 4_096, 0, "the writer holds the rest back");
        let first = text(&bytes[3..]).lines().next().unwrap().to_owned();
        let (stamp, line) = first.split_once(' ').unwrap();
        assert_eq!(stamp.len(), "2026-11-01T10:00:00.1234567Z".len());
        firsts.push(line.to_owned());
        assert!(text(bytes).contains("Z line 100 of many\n"));
    }
    firsts.sort();
    assert!(firsts[0].starts_with("##[group]Run for n in"), "{firsts:?}");
    assert_eq!(firsts[1], "Current runner version: '2.338.2'", "the job's repeats what its steps have");
    sim.control.cancel_job(job).unwrap();
    running.end();
    assert_eq!(fs::read_dir(&pages).unwrap().count(), 0, "deleted after the upload");
}

#[test]
fn hooks_run_around_the_job() {
    let sim = Sim::start(&[]);
    let root = root(&sim, "r");
    for name in ["started", "completed"] {
        fs::write(root.join(name), format!("echo hook {name} $GITHUB_RUN_ID")).unwrap();
    }
    let (run_id, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["exit 4"])).unwrap();
    let ended = command(&root)
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", sim.mint("a"))
        .env("ACTIONS_RUNNER_HOOK_JOB_STARTED", root.join("started"))
        .env("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", root.join("completed"))
        .env("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED", "true")
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(102));
    assert_eq!(
        sim.control.job(job).unwrap().output,
        format!("hook started {run_id}\n##[error]Process completed with exit code 4.\nhook completed {run_id}\n")
    );
}

#[test]
fn a_hook_learns_where_the_job_comes_from_and_may_refuse_it() {
    let sim = Sim::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let hook = directory.path().join("started.sh");
    fs::write(&hook, "echo $GITHUB_EVENT_NAME; cat $GITHUB_EVENT_PATH; exit 3").unwrap();
    let job = JobSpec::new("a", &["nix"], &["echo a step"]);
    let run = RunSpec { event: "pull_request".to_owned(), from_fork: true, ..RunSpec::push(vec![job]) };
    let job = sim.control.queue_run("o/r", run).unwrap().job_ids[0];
    let ended = command(directory.path())
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", sim.mint("a"))
        .env("ACTIONS_RUNNER_HOOK_JOB_STARTED", hook)
        .output()
        .unwrap();
    assert!(ended.status.success());
    let job = sim.control.job(job).unwrap();
    assert_eq!(job.conclusion, Some(Conclusion::Failure));
    let (event, rest) = job.output.split_once('\n').unwrap();
    assert_eq!(event, "pull_request");
    let payload: serde_json::Value = serde_json::from_str(rest.split("##[error]").next().unwrap()).unwrap();
    assert_ne!(payload["repository"]["id"], payload["pull_request"]["head"]["repo"]["id"]);
    assert_eq!(payload["repository"]["private"], false);
    assert!(!job.output.contains("a step"), "{}", job.output);
}

#[test]
fn what_goes_wrong_between_listening_and_a_job_looks_as_with_the_real_one() {
    let sim = Sim::start(&["--hurry", "100"]);
    let inject = |what| sim.control.inject_runner(RunnerFault::once(what)).unwrap();
    for (what, name) in [(RunnerWhat::Deprovisioned, "a"), (RunnerWhat::AcknowledgeRefused, "b")] {
        inject(what);
        let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[])).unwrap();
        let ended = run(&root(&sim, name), &sim.mint(name));
        assert_eq!((ended.status.code(), text(&ended.stderr).as_str()), (Some(0), ""), "{what:?}");
        assert!(text(&ended.stdout).ends_with("Z: Listening for Jobs\n"), "{what:?}: {}", text(&ended.stdout));
        sim.control.cancel_job(job).unwrap();
    }
    for (what, name, times) in
        [(RunnerWhat::RefreshConfig, "c", 2), (RunnerWhat::AcquireRefused, "d", 1), (RunnerWhat::SessionBroken, "e", 1)]
    {
        inject(what);
        let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &["echo served"])).unwrap();
        let ended = run(&root(&sim, name), &sim.mint(name));
        assert_eq!(ended.status.code(), Some(0), "{what:?}");
        let out = text(&ended.stdout);
        assert_eq!(out.matches("Z: Listening for Jobs\n").count(), times, "{what:?}: {out}");
        let job = sim.control.job(job).unwrap();
        assert_eq!((job.conclusion, job.runner_name.as_deref()), (Some(Conclusion::Success), Some(name)), "{what:?}");
        if what == RunnerWhat::SessionBroken {
            assert!(out.contains("Z: Runner reconnected.\n"), "{out}");
            let error = text(&ended.stderr);
            assert!(error.contains("Z: Runner connect error: Failed to create broker session: 500. "), "{error}");
        }
    }
}

#[test]
fn what_goes_wrong_in_a_job_looks_as_with_the_real_one() {
    let sim = Sim::start(&["--hurry", "200"]);
    let killed = "sleep 0.3; kill -9 $PPID; exec sleep 1000";
    for (what, name, script, result, conclusion) in [
        (None, "a", killed, "Failed", Conclusion::Failure),
        (Some(RunnerWhat::RenewalBroken), "b", "sleep 1", "Succeeded", Conclusion::Success),
        (Some(RunnerWhat::JobForgotten), "c", "exec sleep 1000", "Abandoned", Conclusion::Failure),
        (Some(RunnerWhat::TooOldInJob), "d", "exec sleep 1000", "Canceled", Conclusion::Cancelled),
    ] {
        what.into_iter().for_each(|what| sim.control.inject_runner(RunnerFault::once(what)).unwrap());
        let (_, job) = sim.control.queue_job("o/r", JobSpec::new("a", &["nix"], &[script])).unwrap();
        let ended = command(&root(&sim, name))
            .env("ACTIONS_RUNNER_INPUT_JITCONFIG", sim.mint(name))
            .env("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1")
            .output()
            .unwrap();
        let out = text(&ended.stdout);
        assert!(out.contains(&format!("Z: Job a completed with result: {result}\n")), "{what:?}: {out}");
        let is_too_old = what == Some(RunnerWhat::TooOldInJob);
        assert_eq!(ended.status.code(), Some(if is_too_old { 7 } else { 0 }), "{what:?}");
        assert_eq!(text(&ended.stderr).contains("is deprecated and cannot receive messages."), is_too_old, "{what:?}");
        assert_eq!(sim.control.wait_completed(job, LIMIT).unwrap().conclusion, Some(conclusion), "{what:?}");
        let faults: serde_json::Value = sim.control.call(&ControlCommand::PendingFaults).unwrap();
        assert_eq!(faults["runner"], serde_json::json!([]), "{what:?} did not happen");
    }
}

#[test]
fn nobody_gets_a_token_without_the_key_or_a_job_without_a_token() {
    let sim = Sim::start(&[]);
    sim.mint("a");
    let form = "grant_type=client_credentials&client_assertion=a.b.c&client_assertion_type=\
                urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    let refused = sim.raw_as("", "POST", "/_apis/oauth2/token", "", form);
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("invalid_client"), "{refused}");
    for (method, path) in [
        ("POST", "/_broker/session"),
        ("GET", "/_broker/message"),
        ("POST", "/_run/acquirejob"),
        ("POST", "/_run/completejob"),
        ("POST", "/twirp/results.services.receiver.Receiver/GetStepLogsSignedBlobURL"),
    ] {
        let refused = sim.raw(method, path, "{}");
        assert!(refused.starts_with("HTTP/1.1 401"), "{path}: {refused}");
    }
    assert!(sim.raw("PUT", "/_results/41000000001/job", "").starts_with("HTTP/1.1 403"));
}

#[test]
fn it_keeps_trying_while_the_forge_is_away() {
    let sim = Sim::start(&[]);
    let blob = sim.mint("a");
    drop(sim);
    let directory = tempfile::tempdir().unwrap();
    let mut process = command(directory.path()).env("ACTIONS_RUNNER_INPUT_JITCONFIG", blob).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(process.stderr.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("Z: Runner connect error: "), "{first}");
    assert!(first.ends_with(". Retrying until reconnected.\n"), "{first}");
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let began = Instant::now();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2));
}
