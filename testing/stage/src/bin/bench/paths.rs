//! The ways a job comes here: polling, a webhook and a scale set side by side in one run, beside an organisation of 200
//! repositories that is polled; at the default intervals.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use controller::status::{Finished, Status};
use github_sim::{
    rest::Call,
    world::{HookSpec, JobId, JobSpec, JobStatus, JobView, LogEntry, RunSpec, Scope, TrafficReport},
};
use lab::Place;
use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN, show};

use crate::{
    burst,
    report::{Report, TIMES, times},
    stats::{Sample, between, ms},
};

/// How much is measured.
#[derive(Debug)]
pub struct Amount {
    /// How long the organisation is watched while nothing happens: at least one look at each repository is worth most.
    pub idle: Duration,
    /// Jobs by each path, one every [`APART`].
    pub jobs: usize,
    /// Jobs in quiet repositories.
    pub quiet: usize,
}

const PATIENCE: Duration = Duration::from_secs(150);
const ORGANISATION: &str = "acme";
const REPOSITORIES: u32 = 200;
/// Its repositories in which something happens, and how often.
const ACTIVE: [&str; 3] = ["acme/service-001", "acme/service-002", "acme/service-003"];
const ACTIVE_EVERY: usize = 7;
/// Time between two jobs of a path: no divisor of the poll interval, so that polls are met at all their moments.
const APART: Duration = Duration::from_millis(3100);
const BURST: usize = 20;
/// The simulator's name of the App's installation in the organisation.
const INSTALLATION: &str = "installation of acme";
/// Of an App in an organisation of this size: 5,000, and 50 for each repository above 20, 12,500 at most
/// (docs/github.md#rate-limits).
const RATE_LIMIT: u32 = 12_500;
const SECRET: &str = "bench-webhook-secret";
/// In these nothing ever happens: polled, and with a scale set.
const QUIET: [(&str, &str); 2] =
    [("octo-org/quiet", "bench-quiet-token"), ("octo-org/quiet-set", "bench-quiet-set-token")];

/// A way jobs come.
#[derive(Debug)]
struct Path {
    name: &'static str,
    repo: &'static str,
    label: &'static str,
    /// Whose calls are its.
    token: &'static str,
    /// When the jobs of its burst end, counted from when they are queued: after the last has begun.
    end_after: Duration,
}

const PATHS: [Path; 3] = [
    Path { name: "polling", repo: REPO, label: "linux", token: TOKEN, end_after: Duration::from_secs(18) },
    Path {
        name: "webhook",
        repo: "octo-org/hooked",
        label: "linux",
        token: "bench-hooked-token",
        end_after: Duration::from_secs(11),
    },
    Path {
        name: "scale set",
        repo: "octo-org/set",
        label: "set",
        token: "bench-set-token",
        end_after: Duration::from_secs(11),
    },
];

impl Path {
    /// The Actions service of scale sets has credentials of its own: all its calls are this set's but the polls of the
    /// quiet one.
    fn is_its(&self, entry: &LogEntry, quiet_session: &str) -> bool {
        entry.credential == self.token
            || self.label == "set" && !is_rest(entry) && session(entry) != Some(quiet_session)
    }

    fn queue(&self, stage: &Stage, number: usize) -> Result<JobId> {
        let job = JobSpec::new(&format!("{} {number}", self.name), &[self.label], &["true"]);
        Ok(stage.hub.queue_job(self.repo, job)?.1)
    }
}

/// The session of a scale set's poll.
fn session(entry: &LogEntry) -> Option<&str> {
    entry.path.split_once("sessionId=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest))
}

/// The session that was never told anything.
fn quiet_session(log: &[LogEntry]) -> Result<String> {
    let polls = || log.iter().filter(|entry| entry.call == Call::GetMessage);
    let told: BTreeSet<&str> = polls().filter(|entry| entry.status == 200).filter_map(session).collect();
    let quiet = polls().filter_map(session).find(|session| !told.contains(session));
    quiet.map(str::to_owned).context("no scale set was left in peace")
}

/// Calls of the REST API, which its rate limit is about.
fn is_rest(entry: &LogEntry) -> bool {
    !entry.credential.starts_with("scale set") && entry.credential != "registration token"
}

/// Measures all of it, on a stage of its own.
pub fn measure(amount: &Amount, report: Report) -> Result<()> {
    let stage = boot()?;
    // The repositories of the organisation are looked at for the first time meanwhile, one after the other.
    let mut bursts = Vec::new();
    for path in &PATHS {
        bursts.push(show::doing(&format!("{BURST} jobs at once by {}", path.name), || one_burst(&stage, path))?);
    }
    let unchanged = now_ms()?;
    show::doing("Looking at 200 repositories for the first time", || first_looks(&stage))?;
    let settled = now_ms()?;
    show::doing("Watching while nothing happens", || std::thread::sleep(amount.idle));
    let busy = now_ms()?;
    let jobs = show::doing("Jobs one after the other by each path, and in 3 of the 200", || sequence(&stage, amount))?;
    let over = now_ms()?;
    let sleepers = queue_quiet(&stage, amount.quiet)?;
    let heard = show::doing("Jobs in quiet repositories", || heard_of(&stage, &sleepers))?;
    let end = now_ms()?;
    let log = stage.hub.traffic()?.log;

    latencies(&stage, &jobs, busy, &sleepers, &heard, report)?;
    from_message_to_start(&stage.status()?, report);
    print_bursts(&bursts, report);
    let quiet_session = quiet_session(&log)?;
    let hours = [
        Hour::of("197 quiet repositories of 200, idle", &log, settled, busy, |entry| {
            entry.credential == INSTALLATION && !ACTIVE.iter().any(|repo| entry.path.contains(repo))
        }),
        Hour::of("all 200, a job every 22 s in each of 3", &log, busy, over, |entry| entry.credential == INSTALLATION),
        Hour::between_first_and_last("one repository by polling or webhook, idle", &log, settled, end, |entry| {
            entry.credential == QUIET[0].1
        }),
        // While nothing is booted anywhere: a change of the capacity begins each set's poll anew.
        Hour::between_first_and_last("one repository by scale set, idle", &log, unchanged, busy, |entry| {
            session(entry) == Some(&quiet_session) || entry.credential == QUIET[1].1 && ms(entry.at) >= settled
        }),
    ];
    let head = ["calls an hour", "measured s", "REST", "304 (free)", "counted", "of 12500", "Actions service"];
    let title = "Calls, scaled to an hour, at the default intervals (10 s, idle 60 s)";
    report.table(title, &head, &hours.map(|hour| hour.row()), 1);
    let rows: Vec<Vec<String>> = bursts
        .iter()
        .map(|burst| (format!("{}, {BURST} at once", burst.path.name), burst.begun, burst.settled, burst.path, BURST))
        .chain(PATHS.iter().map(|path| (format!("{}, one every 3.1 s", path.name), busy, over, path, amount.jobs)))
        .map(|(what, from, to, path, jobs)| {
            Calls::of(&log, from, to, |entry| path.is_its(entry, &quiet_session)).row(what, jobs)
        })
        .collect();
    let head = ["calls a job, looks included", "REST", "of them counted", "Actions service"];
    report.table("What a job costs", &head, &rows, 1);
    Ok(())
}

fn boot() -> Result<Stage> {
    let files = [
        ("app.pem", include_str!("../../../../../crates/forge/src/github/tests/app-key.pem")),
        ("hook", SECRET),
        ("hooked", PATHS[1].token),
        ("set", PATHS[2].token),
        ("quiet", QUIET[0].1),
        ("quiet-set", QUIET[1].1),
    ];
    let directory = "/etc/gha-runner-controller";
    let mut simulator: Vec<String> = vec!["--hurry".into(), "20".into(), "--rate-limit".into(), RATE_LIMIT.to_string()];
    let more = || PATHS[1..].iter().map(|path| (path.repo, path.token)).chain(QUIET);
    simulator.extend(more().flat_map(|(_, token)| ["--token".to_owned(), token.to_owned()]));
    let config = StageConfig {
        more_repos: more().map(|(repo, _)| repo.to_owned()).collect(),
        targets: format!(
            "[webhook]\naddress = \"0.0.0.0\"\nsecret_file = \"{directory}/hook\"\n\
             [credential.app]\napp_id = 7\nprivate_key_file = \"{directory}/app.pem\"\n\
             [[target]]\norg = \"{ORGANISATION}\"\ncredential = \"app\"\nclasses = [\"small\"]\n\
             [[target]]\nrepo = \"{REPO}\"\nclasses = [\"small\"]\n\
             [[target]]\nrepo = \"{}\"\ntoken_file = \"{directory}/hooked\"\nclasses = [\"small\"]\n\
             [[target]]\nrepo = \"{}\"\ntoken_file = \"{directory}/set\"\nclasses = [\"set\"]\n\
             [[target]]\nrepo = \"{}\"\ntoken_file = \"{directory}/quiet\"\nclasses = [\"small\"]\n\
             [[target]]\nrepo = \"{}\"\ntoken_file = \"{directory}/quiet-set\"\nclasses = [\"set\"]\n",
            PATHS[1].repo, PATHS[2].repo, QUIET[0].0, QUIET[1].0
        ),
        files: files.map(|(name, text)| (format!("{directory}/{name}"), text.into(), 0o400)).into(),
        top: format!(
            "max_concurrent = {BURST}\nidle_grace = \"5s\"\nboot_timeout = \"60s\"\nregistration_linger = \"3s\"\n"
        ),
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n\
                  [class.set]\nlabels = [\"set\"]\nintake = \"scale-set\"\n"
            .into(),
        simulator,
        start: false,
        ..StageConfig::default()
    };
    let stage = show::doing("Booting a host with the controller on it", || Stage::boot(&config))?;
    let stage = stage.context("the host cannot be booted here")?;
    stage.hub.add_repos(ORGANISATION, "service", REPOSITORIES, true)?;
    // Only the endings are to be hurried: an idle set costs a call for each poll that is held.
    stage.hub.change_scale_set_rules(|rules| {
        rules.poll_hold = Duration::from_secs(50);
        rules.session_ttl = Duration::from_secs(120);
    })?;
    // Seen by the first look: from then on these are active ones, polled each 10 s.
    let first = PATHS[0].queue(&stage, 0)?;
    queue_active(&stage, 0)?;
    stage.systemctl(&["start", SERVICE])?;
    stage.hub.wait_completed(first, PATIENCE)?;
    let hooked = stage.hub.set_hook(HookSpec {
        scope: Scope::Repo(repo_id(&stage, PATHS[1].repo)?),
        url: format!("http://{}:8081/webhook", Place::Host.address()),
        secret: SECRET.into(),
    });
    hooked.context("the webhook")?;
    Ok(stage)
}

/// Until each repository has been looked at once: what is not known to be unchanged costs more than later looks.
fn first_looks(stage: &Stage) -> Result<()> {
    let found = |status: &Status| status.targets.iter().any(|target| target.repositories == REPOSITORIES as usize);
    stage.wait_for("the organisation's repositories are found", PATIENCE, found)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let looks = listings(&stage.hub.traffic()?);
        if looks.len() >= REPOSITORIES as usize {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {} repositories were looked at", looks.len());
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Repositories of the organisation whose runs were listed.
fn listings(traffic: &TrafficReport) -> BTreeSet<String> {
    let listed = traffic.log.iter().filter(|entry| entry.call == Call::ListRuns && entry.credential == INSTALLATION);
    listed.filter_map(|entry| entry.path.split("/repos/").nth(1)?.split("/actions").next().map(str::to_owned)).collect()
}

/// Jobs by path, in the order they were queued.
type Jobs = BTreeMap<&'static str, Vec<JobId>>;

fn sequence(stage: &Stage, amount: &Amount) -> Result<Jobs> {
    let mut jobs = Jobs::new();
    let mut all = Vec::new();
    for number in 0..amount.jobs {
        let next = Instant::now() + APART;
        for path in &PATHS {
            let job = path.queue(stage, number)?;
            jobs.entry(path.name).or_default().push(job);
            all.push(job);
        }
        if number % ACTIVE_EVERY == 0 {
            all.extend(queue_active(stage, number)?);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    for job in all {
        stage.hub.wait_completed(job, PATIENCE)?;
    }
    Ok(jobs)
}

/// A job in each active repository of the organisation.
fn queue_active(stage: &Stage, number: usize) -> Result<Vec<JobId>> {
    let job = || JobSpec::new(&format!("job {number}"), &["linux"], &["true"]);
    ACTIVE.iter().map(|repo| Ok(stage.hub.queue_job(repo, job())?.1)).collect()
}

/// Calls of somebody in some time, to be scaled to an hour.
struct Hour {
    what: &'static str,
    calls: Calls,
    /// Milliseconds.
    measured: u64,
}

impl Hour {
    fn of(what: &'static str, log: &[LogEntry], from: u64, to: u64, wanted: impl Fn(&LogEntry) -> bool) -> Self {
        Self { what, calls: Calls::of(log, from, to, wanted), measured: to - from }
    }

    /// From the first of rare calls to the last, which is not counted: whole intervals, whenever the watch began.
    fn between_first_and_last(
        what: &'static str,
        log: &[LogEntry],
        from: u64,
        to: u64,
        wanted: impl Fn(&LogEntry) -> bool,
    ) -> Self {
        let times =
            || log.iter().filter(|entry| wanted(entry)).map(|entry| ms(entry.at)).filter(|at| (from..to).contains(at));
        let (first, last) = times().min().zip(times().max()).unwrap_or_default();
        // A look is more than one call.
        let calls = Calls::of(log, first, last.saturating_sub(1000).max(first), wanted);
        Self { what, calls, measured: last - first }
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn row(&self) -> Vec<String> {
        if self.measured < 1000 {
            return vec![self.what.to_owned(), "too short".to_owned()];
        }
        let hour = |count: usize| count as f64 * 3_600_000.0 / self.measured as f64;
        let share = hour(self.calls.counted()) * 100.0 / f64::from(RATE_LIMIT);
        vec![
            self.what.to_owned(),
            format!("{}", self.measured / 1000),
            format!("{:.0}", hour(self.calls.rest)),
            format!("{:.0}", hour(self.calls.unchanged)),
            format!("{:.0}", hour(self.calls.counted())),
            format!("{share:.1} %"),
            format!("{:.0}", hour(self.calls.service)),
        ]
    }
}

/// Calls of somebody in some time.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    rest: usize,
    /// Of these, answered 304: not counted by the rate limit.
    unchanged: usize,
    /// Of the Actions service.
    service: usize,
}

impl Calls {
    fn of(log: &[LogEntry], from: u64, to: u64, wanted: impl Fn(&LogEntry) -> bool) -> Self {
        let mut calls = Self::default();
        for entry in log.iter().filter(|entry| (from..to).contains(&ms(entry.at)) && wanted(entry)) {
            if is_rest(entry) {
                calls.rest += 1;
                calls.unchanged += usize::from(entry.status == 304);
            } else {
                calls.service += 1;
            }
        }
        calls
    }

    fn counted(self) -> usize {
        self.rest - self.unchanged
    }

    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    fn row(self, what: String, jobs: usize) -> Vec<String> {
        let a_job = |count: usize| format!("{:.1}", count as f64 / jobs.max(1) as f64);
        vec![what, a_job(self.rest), a_job(self.counted()), a_job(self.service)]
    }
}

/// Jobs for nobody, in repositories in which nothing ever happened: only the look that sees them is of interest.
fn queue_quiet(stage: &Stage, count: usize) -> Result<Vec<JobId>> {
    (0..count)
        .map(|number| {
            let repo = format!("{ORGANISATION}/service-{:03}", 101 + number * 9);
            Ok(stage.hub.queue_job(&repo, JobSpec::new("for nobody", &["nobody"], &["true"]))?.1)
        })
        .collect()
}

/// When the controller first knew of jobs, in milliseconds: by their id, and of a scale set's one after the other.
#[derive(Debug, Default)]
struct Heard {
    by_id: BTreeMap<u64, f64>,
    assigned: Vec<f64>,
}

/// Reads it from the controller's journal, once these are in it.
fn heard_of(stage: &Stage, jobs: &[JobId]) -> Result<Heard> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let heard = journal(stage)?;
        if jobs.iter().all(|job| heard.by_id.contains_key(&job.0)) {
            return Ok(heard);
        }
        ensure!(Instant::now() < deadline, "quiet repositories are not looked at");
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn journal(stage: &Stage) -> Result<Heard> {
    let mut heard = Heard::default();
    let lines = stage.lab.shell(&format!("journalctl --unit {SERVICE} --output json --no-pager"))?;
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let message = entry["MESSAGE"].as_str().unwrap_or_default();
        let at = || -> Result<f64> {
            let stamp =
                ["_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"].iter().find_map(|key| entry[key].as_str());
            Ok(stamp.context("an entry of the journal without a time")?.parse::<f64>()? / 1000.0)
        };
        if message.ends_with(": a job is assigned") {
            heard.assigned.push(at()?);
        } else if let Some(id) = message.strip_suffix(" is queued").and_then(|text| text.rsplit(' ').next()) {
            heard.by_id.entry(id.parse().context(message.to_owned())?).or_insert(at()?);
        }
    }
    Ok(heard)
}

fn latencies(stage: &Stage, jobs: &Jobs, since: u64, quiet: &[JobId], heard: &Heard, report: Report) -> Result<()> {
    let queued: BTreeMap<JobId, f64> =
        stage.hub.jobs()?.iter().filter_map(|job| Some((job.id, job.queued_at?.as_secs_f64() * 1000.0))).collect();
    let by_id = |jobs: &[JobId]| -> Sample {
        jobs.iter().filter_map(|job| Some(heard.by_id.get(&job.0)? - queued.get(job)?)).collect()
    };
    let of = |path: &Path| jobs.get(path.name).map(Vec::as_slice).unwrap_or_default();
    // One at a time, so messages come in the order of the jobs.
    let assigned: Sample = heard
        .assigned
        .iter()
        .filter(|at| **at >= between(0, since))
        .zip(of(&PATHS[2]))
        .filter_map(|(at, job)| Some(at - queued.get(job)?))
        .collect();
    let samples = [
        ("polling, active repository (10 s)", by_id(of(&PATHS[0]))),
        ("polling, quiet one of 200", by_id(quiet)),
        ("webhook", by_id(of(&PATHS[1]))),
        ("scale set", assigned),
    ];
    let fastest = samples[3].1.percentile(50).max(0.001);
    let rows: Vec<Vec<String>> = samples
        .iter()
        .map(|(what, sample)| {
            let mut row = times(what, sample, &format!("{:.0}", sample.percentile(50) / fastest));
            row.insert(1, sample.len().to_string());
            row
        })
        .collect();
    let head = ["queued → the controller knows", "jobs", "p50 ms", "p95 ms", "max ms", "p50, scale set = 1"];
    report.table("How soon a queued job is known, by each path in one run", &head, &rows, 1);
    Ok(())
}

/// From the message to the start that systemd accepted, for all the jobs of the scale set.
fn from_message_to_start(status: &Status, report: Report) {
    let of_set = |ended: &&std::sync::Arc<Finished>| ended.class == "set";
    let step = |from: fn(&Finished) -> Option<u64>, to: fn(&Finished) -> Option<u64>, alone: bool| -> Sample {
        let ended = status.finished.iter().filter(of_set).filter(|ended| ended.job_name.starts_with("burst") != alone);
        ended.filter_map(|ended| Some(between(from(ended)?, to(ended)?))).collect()
    };
    let (heard, started) = (|e: &Finished| e.timeline.visible_ms, |e: &Finished| e.timeline.unit_started_ms);
    let rows = [
        times("message received → unit start accepted", &step(heard, started, true), "≤ 150"),
        times("… of it until the runner is registered", &step(heard, |e| e.timeline.minted_ms, true), ""),
        times("message received → unit start accepted, 20 at once", &step(heard, started, false), ""),
    ];
    report.table("A scale set's job", &TIMES, &rows, 1);
}

/// What a burst came to.
#[derive(Debug)]
struct Burst {
    path: &'static Path,
    begun: u64,
    settled: u64,
    known: f64,
    run: f64,
    together: bool,
    gone: f64,
}

fn one_burst(stage: &Stage, path: &'static Path) -> Result<Burst> {
    let begun = now_ms()?;
    let end = begun + ms(path.end_after);
    let script = burst::until(end);
    let specs = (0..BURST).map(|n| JobSpec::new(&format!("burst {n}"), &[path.label], &[&script])).collect();
    let ids = stage.hub.queue_run(path.repo, RunSpec::push(specs))?.job_ids;
    let deadline = Instant::now() + PATIENCE;
    let views: Vec<JobView> = loop {
        std::thread::sleep(Duration::from_millis(250));
        let mut views = stage.hub.jobs()?;
        views.retain(|job| ids.contains(&job.id));
        if views.iter().all(|job| job.status == JobStatus::Completed) {
            break views;
        }
        ensure!(Instant::now() < deadline, "the jobs do not end");
    };
    let names: Vec<&str> = views.iter().filter_map(|job| job.runner_name.as_deref()).collect();
    if names.len() != BURST {
        bail!("{} of {BURST} jobs ran", names.len());
    }
    let status = stage.wait_for("everything of the burst is settled", PATIENCE, |status| {
        names.iter().all(|name| status.finished.iter().any(|ended| ended.runner_name == *name))
            && status.active_containers.is_empty()
            && status.settling.is_empty()
    })?;
    let ended: Vec<_> = status.finished.iter().filter(|ended| names.contains(&ended.runner_name.as_str())).collect();
    let known = ended.iter().filter_map(|ended| ended.timeline.visible_ms).min().context("nobody saw it")?;
    let gone = ended.iter().filter_map(|ended| ended.timeline.ended_ms).max().context("nothing ended")?;
    let last = views.iter().filter_map(|job| job.started_at).map(ms).max().context("nothing started")?;
    let queued = views.iter().filter_map(|job| job.queued_at).map(ms).min().context("nothing was queued")?;
    Ok(Burst {
        path,
        begun,
        settled: now_ms()?,
        known: between(queued, known) / 1000.0,
        run: between(known, last) / 1000.0,
        together: last < end,
        gone: between(end.max(last), gone) / 1000.0,
    })
}

fn print_bursts(bursts: &[Burst], report: Report) {
    let row = |burst: &Burst| {
        vec![
            burst.path.name.to_owned(),
            format!("{:.2}", burst.known),
            format!("{:.2}", burst.run),
            format!("{:.2}", burst.known + burst.run),
            if burst.together { "yes" } else { "no" }.to_owned(),
            format!("{:.2}", burst.gone),
        ]
    };
    let head = ["by", "queued → known s", "known → all run s", "queued → all run s", "together", "end → all gone s"];
    let rows: Vec<Vec<String>> = bursts.iter().map(row).collect();
    report.table(&format!("The same {BURST} jobs at once by each path"), &head, &rows, 1);
}

fn repo_id(stage: &Stage, name: &str) -> Result<github_sim::world::RepoId> {
    // Adding what is there is refused, and nothing else tells ids.
    stage.hub.add_repo(name).with_context(|| format!("the id of {name}"))
}

fn now_ms() -> Result<u64> {
    Ok(ms(SystemTime::now().duration_since(UNIX_EPOCH)?))
}
