//! A server of its own for one lab, and what a person would do at it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{ActFlavour, ActRunner};
use lab::{Kept, Lab, Network, Place, Running};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{build, http};

/// Where it listens, at the forge's address.
pub const PORT: u16 = 3000;
/// How long it may take to begin to answer.
const START: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Its administrator, who owns what has no organisation.
const ADMIN: &str = "root1";
const PASSWORD: &str = "swordfish-2c4f";

/// A running Gitea. Dropping it ends it.
#[derive(Debug)]
pub struct Gitea {
    /// Its root, as programs in the lab reach it.
    pub url: String,
    /// A token of its administrator, with every scope.
    pub token: String,
    network: Network,
    directory: PathBuf,
    program: Kept,
    server: Option<Running>,
}

/// A job as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Job {
    /// Its number, the same for every attempt.
    pub id: u64,
    /// Its run.
    pub run_id: u64,
    /// Its name.
    pub name: String,
    /// `queued`, `waiting`, `in_progress`, `completed`.
    pub status: String,
    /// `success`, `failure`, `cancelled`, `skipped`.
    #[serde(default)]
    pub conclusion: Option<String>,
    /// Which of its attempts it is, from 1; 0 = no runner took it yet.
    #[serde(default)]
    pub run_attempt: u32,
    /// The name of the runner that has or had it.
    #[serde(default)]
    pub runner_name: Option<String>,
    /// Its steps, once a runner has told of them.
    #[serde(default)]
    pub steps: Vec<Value>,
}

impl Gitea {
    /// Starts one in the lab. `None`, and a line that says why, where there is none to start.
    pub fn start(lab: &Lab) -> Result<Option<Self>> {
        let program = match build::ensure() {
            Ok(program) => program,
            Err(error) => {
                println!("skipped: no Gitea server: {error:#}");
                return Ok(None);
            }
        };
        let directory = lab.shared().join("gitea");
        fs::create_dir(&directory)?;
        let url = format!("http://{}:{PORT}", Place::Forge.address());
        let network = lab.network(Place::Forge)?;
        let mut gitea = Self { url, token: String::new(), network, directory, program, server: None };
        fs::write(gitea.config(), gitea.settings())?;
        gitea.command(lab, &["migrate"])?;
        let who = ["--username", ADMIN];
        let email = ["--email", "root1@example.org", "--admin", "--must-change-password=false"];
        let create = ["admin", "user", "create", "--password", PASSWORD];
        gitea.command(lab, &[&create[..], &who, &email].concat())?;
        let token = ["admin", "user", "generate-access-token", "--token-name", "lab", "--scopes", "all", "--raw"];
        let said = gitea.command(lab, &[&token[..], &who].concat())?;
        let is_token = |line: &&str| line.len() == 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        gitea.token = said.lines().find(is_token).context("no token")?.to_owned();
        gitea.switch_on(lab)?;
        Ok(Some(gitea))
    }

    /// Starts the server and waits until it answers.
    pub fn switch_on(&mut self, lab: &Lab) -> Result<()> {
        let (program, config) = (self.program(), self.config());
        let line = [&program, Path::new("--config"), &config, Path::new("web")];
        self.server = Some(lab.spawn_in(Place::Forge, &line)?);
        let deadline = Instant::now() + START;
        while !self.send("GET", "/api/healthz", &[], "").is_ok_and(|answer| answer.status == 200) {
            ensure!(Instant::now() < deadline, "Gitea does not answer; see {}", self.directory.display());
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Ends the server; what it has stays.
    pub fn switch_off(&mut self) {
        self.server = None;
    }

    fn program(&self) -> PathBuf {
        self.program.path().join("gitea")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("app.ini")
    }

    fn command(&self, lab: &Lab, arguments: &[&str]) -> Result<String> {
        let (program, config) = (self.program().display().to_string(), self.config().display().to_string());
        let line: Vec<&str> = [&*program, "--config", &config].into_iter().chain(arguments.iter().copied()).collect();
        Ok(lab.exec(Place::Forge, &line)?.check()?.text())
    }

    /// Minutes at the forge are seconds here.
    fn settings(&self) -> String {
        let (work, url, kept) = (self.directory.display(), &self.url, self.program.path().display());
        let address = Place::Forge.address();
        let secret = "0123456789abcdef".repeat(4);
        let jwt = "A".repeat(43);
        format!(
            "RUN_MODE = prod\nI_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\nWORK_PATH = {work}\n\
             [server]\nHTTP_ADDR = {address}\nHTTP_PORT = {PORT}\nROOT_URL = {url}/\nDISABLE_SSH = true\n\
             OFFLINE_MODE = true\nSTATIC_ROOT_PATH = {kept}/static\nAPP_DATA_PATH = {work}/data\n\
             [database]\nDB_TYPE = sqlite3\nPATH = {work}/gitea.db\nSQLITE_JOURNAL_MODE = WAL\n\
             [security]\nINSTALL_LOCK = true\nSECRET_KEY = {secret}\nINTERNAL_TOKEN = {secret}\n\
             [oauth2]\nENABLED = false\nJWT_SECRET = {jwt}\n[service]\nDISABLE_REGISTRATION = true\n\
             [log]\nMODE = console\nLEVEL = Info\n[webhook]\nALLOWED_HOST_LIST = *\n\
             [cron.update_checker]\nENABLED = false\n[cron.stop_zombie_tasks]\nSCHEDULE = @every 5s\n\
             [actions]\nENABLED = true\nZOMBIE_TASK_TIMEOUT = 60s\n[repository]\nROOT = {work}/repos\n\
             [indexer]\nISSUE_INDEXER_TYPE = db\n"
        )
    }

    /// Any request, from the forge's own place.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<http::Answer> {
        let url = Url::parse(&format!("{}{path}", self.url))?;
        self.network.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(http::send(method, &url, headers, body))
        })?
    }

    /// A call below `/api/v1` as the administrator; the answer's JSON, null if it has none. A refusal is an error.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let authorization = format!("token {}", self.token);
        let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(method, &format!("/api/v1{path}"), &headers, &text)?;
        ensure!((200..300).contains(&answer.status), "{method} {path}: {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body).unwrap_or_default())
    }

    /// A new repository of an organisation, which is made if there is none of that name.
    pub fn create_repo(&self, org: &str, name: &str) -> Result<()> {
        if self.api("GET", &format!("/orgs/{org}"), &Value::Null).is_err() {
            self.create_org(org, ADMIN)?;
        }
        let repo = json!({ "name": name, "auto_init": true, "default_branch": "main" });
        self.api("POST", &format!("/orgs/{org}/repos"), &repo)?;
        Ok(())
    }

    /// A new organisation that belongs to this account.
    pub fn create_org(&self, org: &str, owner: &str) -> Result<()> {
        self.api("POST", &format!("/admin/users/{owner}/orgs"), &json!({ "username": org }))?;
        Ok(())
    }

    /// A new account without any rights but its own.
    pub fn create_user(&self, name: &str) -> Result<()> {
        let email = format!("{name}@example.org");
        let user = json!({ "username": name, "password": PASSWORD, "email": email, "must_change_password": false });
        self.api("POST", "/admin/users", &user)?;
        Ok(())
    }

    /// A token of an account with these scopes alone.
    pub fn token_of(&self, user: &str, scopes: &[&str]) -> Result<String> {
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{PASSWORD}")));
        let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
        let body = json!({ "name": scopes.join(" "), "scopes": scopes }).to_string();
        let answer = self.send("POST", &format!("/api/v1/users/{user}/tokens"), &headers, &body)?;
        let told: Value = serde_json::from_str(&answer.body)?;
        told["sha1"].as_str().map(str::to_owned).with_context(|| format!("no token: {}", answer.body))
    }

    /// Pushes a file to a repository's main branch by git, from the forge's own place.
    pub fn push(&self, lab: &Lab, repo: &str, path: &str, text: &str) -> Result<()> {
        const PUSH: &str = "at=$(mktemp -d); cd \"$at\"; git clone --quiet \"$1\" .; mkdir -p \"$(dirname \"$2\")\"; \
                            cat > \"$2\"; git add .; git -c user.name=ann -c user.email=ann@example.org commit \
                            --quiet --message \"$2\"; git push --quiet; rm -r \"$at\"";
        let url = self.url.replace("://", &format!("://{ADMIN}:{}@", self.token));
        let line = ["sh", "-euc", PUSH, "push", &format!("{url}/{repo}.git"), path];
        lab.exec_with_input(Place::Forge, &line, text.as_bytes())?.check()?;
        Ok(())
    }

    /// Has the server send the deliveries of a place (`/orgs/ORG`, `/repos/OWNER/REPO`) to this address.
    pub fn hook(&self, scope: &str, url: &str, secret: &str) -> Result<()> {
        let config = json!({ "url": url, "content_type": "json", "secret": secret });
        let hook = json!({ "type": "gitea", "active": true, "events": ["workflow_job"], "config": config });
        self.api("POST", &format!("{scope}/hooks"), &hook)?;
        Ok(())
    }

    /// Waits for a repository's newest run, if that is not `before`, and gives it.
    pub fn newest_run(&self, repo: &str, before: u64, limit: Duration) -> Result<u64> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.api("GET", &format!("/repos/{repo}/actions/runs"), &Value::Null)?;
            let runs = answer["workflow_runs"].as_array().cloned().unwrap_or_default();
            let newest = runs.iter().filter_map(|run| run["id"].as_u64()).max().unwrap_or_default();
            if newest > before {
                return Ok(newest);
            }
            ensure!(Instant::now() < deadline, "no run of {repo} within {limit:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Asks for a job as a runner does: the job's number for runners, if there is one.
    pub fn fetch(&self, runner: &ActRunner) -> Result<Option<u64>> {
        let headers = [
            ("Content-Type", "application/json"),
            ("x-runner-uuid", &*runner.uuid),
            ("x-runner-token", &*runner.token),
        ];
        let path = "/api/actions/runner.v1.RunnerService/FetchTask";
        let answer = self.send("POST", path, &headers, &json!({ "tasksVersion": "0" }).to_string())?;
        ensure!(answer.status == 200, "FetchTask: {}: {}", answer.status, answer.body);
        let answer: Value = serde_json::from_str(&answer.body)?;
        Ok(answer["task"]["id"].as_str().and_then(|id| id.parse().ok()))
    }

    /// Runs the failed jobs of a run, and those that needed them, again.
    pub fn rerun_failed(&self, repo: &str, run: u64) -> Result<()> {
        self.api("POST", &format!("/repos/{repo}/actions/runs/{run}/rerun-failed-jobs"), &Value::Null)?;
        Ok(())
    }

    /// Writes a file of a repository's main branch, as one push.
    pub fn write(&self, repo: &str, path: &str, text: &str) -> Result<()> {
        let body = json!({ "content": BASE64_STANDARD.encode(text), "message": path, "branch": "main" });
        self.api("POST", &format!("/repos/{repo}/contents/{path}"), &body)?;
        Ok(())
    }

    /// Starts a workflow that can be started by hand; gives its run.
    pub fn dispatch(&self, repo: &str, workflow: &str) -> Result<u64> {
        let path = format!("/repos/{repo}/actions/workflows/{workflow}/dispatches?return_run_details=true");
        let answer = self.api("POST", &path, &json!({ "ref": "main" }))?;
        answer["workflow_run_id"].as_u64().with_context(|| format!("no run in {answer}"))
    }

    /// The jobs of a run.
    pub fn jobs(&self, repo: &str, run: u64) -> Result<Vec<Job>> {
        let mut answer = self.api("GET", &format!("/repos/{repo}/actions/runs/{run}/jobs"), &Value::Null)?;
        let mut jobs: Vec<Job> = serde_json::from_value(answer["jobs"].take())?;
        jobs.sort_by_key(|job| job.id);
        Ok(jobs)
    }

    /// Waits until the jobs of a run are as wanted.
    pub fn wait_jobs(
        &self,
        repo: &str,
        run: u64,
        limit: Duration,
        wanted: impl Fn(&[Job]) -> bool,
    ) -> Result<Vec<Job>> {
        let deadline = Instant::now() + limit;
        loop {
            let jobs = self.jobs(repo, run)?;
            if wanted(&jobs) {
                return Ok(jobs);
            }
            ensure!(Instant::now() < deadline, "not within {limit:?}: {jobs:#?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until a run's only job is as wanted.
    pub fn wait_job(&self, repo: &str, run: u64, limit: Duration, wanted: impl Fn(&Job) -> bool) -> Result<Job> {
        let mut jobs = self.wait_jobs(repo, run, limit, |jobs| matches!(jobs, [job] if wanted(job)))?;
        jobs.pop().context("a run without a job")
    }

    /// Waits for the end of a run's only job.
    pub fn wait_completed(&self, repo: &str, run: u64, limit: Duration) -> Result<Job> {
        self.wait_job(repo, run, limit, |job| job.status == "completed")
    }

    /// The log of a job.
    pub fn log(&self, repo: &str, job: u64) -> Result<String> {
        let authorization = format!("token {}", self.token);
        let path = format!("/api/v1/repos/{repo}/actions/jobs/{job}/logs");
        let answer = self.send("GET", &path, &[("Authorization", &authorization)], "")?;
        ensure!(answer.status == 200, "the log of job {job}: {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Cancels a run, as its page does: there is no call for it.
    pub fn cancel(&self, repo: &str, run: u64) -> Result<()> {
        let form =
            |fields: &[(&str, &str)]| form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let login = form(&[("user_name", ADMIN), ("password", PASSWORD)]);
        let answer = self.send("POST", "/user/login", &[kind], &login)?;
        // It begins a session to sign in and another one then.
        let is_session = |header: &&(String, String)| header.0 == "set-cookie" && header.1.starts_with("i_like");
        let session = answer.headers.iter().rfind(is_session).and_then(|(_, cookie)| cookie.split(';').next());
        let session = session.context("not signed in")?;
        let path = format!("/{repo}/actions/runs/{run}/cancel");
        let answer = self.send("POST", &path, &[kind, ("Cookie", session)], "")?;
        if answer.status != 200 {
            bail!("cannot cancel run {run}: {}: {}", answer.status, answer.body.chars().take(300).collect::<String>());
        }
        Ok(())
    }

    /// The registered runners of a scope, `/repos/OWNER/REPO`, `/orgs/ORG` or `/admin`, by name.
    pub fn runners(&self, scope: &str) -> Result<Vec<String>> {
        let answer = self.api("GET", &format!("{scope}/actions/runners"), &Value::Null)?;
        let runners = answer["runners"].as_array().cloned().unwrap_or_default();
        Ok(runners.iter().filter_map(|runner| runner["name"].as_str()).map(str::to_owned).collect())
    }

    /// Registers an ephemeral runner for a repository; the labels have their schemas.
    pub fn register(&self, repo: &str, name: &str, labels: &[&str]) -> Result<ActRunner> {
        let token = self.api("POST", &format!("/repos/{repo}/actions/runners/registration-token"), &Value::Null)?;
        let plain: Vec<&str> = labels.iter().map(|label| label.split(':').next().unwrap_or(label)).collect();
        let body = json!({
            "name": name, "token": token["token"], "version": "lab", "labels": plain, "ephemeral": true
        });
        let path = "/api/actions/runner.v1.RunnerService/Register";
        let answer = self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string())?;
        ensure!(answer.status == 200, "Register: {}: {}", answer.status, answer.body);
        let answer: Value = serde_json::from_str(&answer.body)?;
        let text = |key: &str| answer["runner"][key].as_str().map(str::to_owned).context("an incomplete runner");
        Ok(ActRunner {
            flavour: ActFlavour::Gitea,
            url: self.url.clone(),
            id: text("id")?.parse()?,
            uuid: text("uuid")?,
            token: text("token")?,
            name: name.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            handle: None,
        })
    }
}
