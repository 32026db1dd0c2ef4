//! `check` where targets are at more than one forge, over real sockets: each is asked at its own with its own
//! credential, and what is wrong with one does not hide what is known of the other.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use github_sim::{
    Config, World,
    server::{Doors, Shared},
    world::{Access, Grant, RepoSpec, TokenSpec},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command, task::JoinHandle};

/// A forge with one repository and one token.
struct Forge {
    world: Shared,
    url: String,
    token: &'static str,
    server: JoinHandle<()>,
}

impl Forge {
    /// `root` = path of its API, as the settings write it.
    async fn open(repository: &str, token: &'static str, root: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let url = format!("{base_url}{root}");
        let mut world = World::new(Config { base_url, tokens: vec![token.into()], ..Config::default() });
        world.add_repo(&RepoSpec { name: repository.into(), private: true }).unwrap();
        let world = Shared::new(world);
        let serving = world.clone();
        let server = tokio::spawn(async move { drop(serving.serve_tcp(listener, Doors::Public).await) });
        Self { world, url, token, server }
    }

    fn paths(&self) -> Vec<String> {
        self.world.lock().traffic().log.iter().map(|entry| entry.path.clone()).collect()
    }
}

/// A file for its owner alone.
fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Two forges, as github.com and a server of one's own, and a host that serves a repository of each.
struct Stage {
    forges: [Forge; 2],
    home: TempDir,
}

const REPOSITORIES: [&str; 2] = ["one/app", "two/lib"];

impl Stage {
    async fn open() -> Self {
        let forges = [
            Forge::open(REPOSITORIES[0], "token-of-one", "").await,
            Forge::open(REPOSITORIES[1], "token-of-two", "/api/v3").await,
        ];
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("tree")).unwrap();
        let mut text = format!("[template.default]\npath = {:?}\nrunner_version = \"2.336.0\"\n", at("tree"));
        for ((forge, repository), name) in forges.iter().zip(REPOSITORIES).zip(["one", "two"]) {
            secret(&at(name), forge.token);
            text.push_str(&format!(
                "[credential.{name}]\ntoken_file = {:?}\napi_url = {:?}\n[[target]]\nrepo = {repository:?}\ncredential = {name:?}\n",
                at(name),
                forge.url
            ));
        }
        fs::write(at("config.toml"), text).unwrap();
        Self { forges, home }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What `check` finds, and its exit status.
    async fn check(&self) -> (Vec<Value>, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_gha-runner-controller"))
            .args(["check", "--json", "--config"])
            .arg(self.file("config.toml"))
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(self.forges.iter().all(|forge| !text.contains(forge.token)), "a token is told");
        (report["findings"].as_array().unwrap().clone(), output.status.code().unwrap())
    }
}

/// Findings of this severity that speak of `about`.
fn count(findings: &[Value], severity: &str, about: &str) -> usize {
    findings.iter().filter(|found| found["severity"] == severity && found.to_string().contains(about)).count()
}

/// Everything there is to know of the first forge is told, and it is well.
fn first_is_well(findings: &[Value]) {
    assert_eq!(count(findings, "error", "one/app"), 0, "{findings:#?}");
    assert!(count(findings, "fine", "one/app") >= 4, "{findings:#?}");
}

#[tokio::test]
async fn each_target_is_asked_at_its_own_forge_with_its_own_credential() {
    let stage = Stage::open().await;
    let (findings, status) = stage.check().await;
    assert_eq!(status, 0, "{findings:#?}");
    for repository in REPOSITORIES {
        assert!(count(&findings, "fine", repository) >= 4, "{findings:#?}");
    }
    for (forge, (own, other)) in stage.forges.iter().zip([("one", "two"), ("two", "one")]) {
        let paths = forge.paths();
        assert!(paths.iter().any(|path| path.contains(&format!("/repos/{own}/"))), "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains(other)), "{paths:?}");
        // The version of the runner is asked about at each of them.
        assert!(paths.iter().any(|path| path.contains("/deprecations/")), "{paths:?}");
    }
}

#[tokio::test]
async fn what_a_credential_lacks_to_run_jobs_again_is_named_where_that_is_wanted() {
    let stage = Stage::open().await;
    let permissions = [("metadata", Access::Read), ("actions", Access::Read), ("administration", Access::Write)];
    let permissions = permissions.map(|(name, access)| (name.to_owned(), access)).into();
    let grant = Grant::FineGrained { owner: None, permissions, repositories: None };
    let token = TokenSpec { token: "token-of-two".into(), grant, ..TokenSpec::default() };
    stage.forges[1].world.lock().set_token(std::time::Duration::ZERO, token);
    let (findings, status) = stage.check().await;
    assert_eq!((status, count(&findings, "fine", "run again")), (0, 0), "{findings:#?}");
    let text = fs::read_to_string(stage.file("config.toml")).unwrap();
    fs::write(stage.file("config.toml"), format!("{text}[retry]\nper_job = 1\n")).unwrap();
    let (findings, status) = stage.check().await;
    assert_eq!((status, count(&findings, "fine", "jobs can be run again")), (1, 1), "{findings:#?}");
    assert_eq!(count(&findings, "error", "not so: jobs can be run again"), 1, "{findings:#?}");
    assert_eq!(count(&findings, "error", "Actions: read and write"), 1, "{findings:#?}");
}

#[tokio::test]
async fn a_forge_that_refuses_its_credential_does_not_hide_the_other() {
    let stage = Stage::open().await;
    secret(&stage.file("two"), "token-of-nobody");
    let (findings, status) = stage.check().await;
    assert_eq!(status, 1);
    first_is_well(&findings);
    assert!(findings.iter().any(|found| found["about"] == "two/lib" && found.to_string().contains("401")));
}

#[tokio::test]
async fn a_forge_that_does_not_answer_does_not_hide_the_other() {
    let stage = Stage::open().await;
    stage.forges[1].server.abort();
    let (findings, status) = stage.check().await;
    assert_eq!(status, 1);
    first_is_well(&findings);
    assert!(count(&findings, "error", "Connection refused") >= 1, "{findings:#?}");
    assert!(findings.iter().any(|found| found["about"] == "two/lib" && found["severity"] == "error"));
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_does_not_hide_what_the_others_open() {
    let stage = Stage::open().await;
    fs::remove_file(stage.file("two")).unwrap();
    let (findings, status) = stage.check().await;
    assert_eq!(status, 1);
    first_is_well(&findings);
    assert_eq!(count(&findings, "error", "credential.two.token_file"), 1, "{findings:#?}");
    assert_eq!(stage.forges[1].paths(), [""; 0], "nothing can be asked without it");
}

#[tokio::test]
async fn a_limit_of_the_hosts_kernel_that_is_too_low_is_a_warning_and_no_more() {
    let stage = Stage::open().await;
    let text = fs::read_to_string(stage.file("config.toml")).unwrap();
    fs::write(stage.file("config.toml"), format!("max_concurrent = 100\n{text}")).unwrap();
    let (findings, status) = stage.check().await;
    assert_eq!(status, 0, "{findings:#?}");
    let granted: u64 = fs::read_to_string("/proc/sys/kernel/pty/max").unwrap().trim().parse().unwrap();
    let warned: Vec<_> = findings.iter().filter(|found| found["about"] == "kernel.pty.max").collect();
    // 4,096 for each, and for the host.
    if granted < 101 * 4096 {
        assert_eq!(warned.len(), 1, "{findings:#?}");
        assert_eq!(warned[0]["severity"], "warning");
        let said = warned[0].to_string();
        assert!(said.contains(&format!("is {granted}, and 100 containers at once may need 413696")), "{said}");
    } else {
        assert_eq!(warned.len(), 0, "{findings:#?}");
    }
}
