//! Our client against the real server, over TLS by an authority of one's own: every call it makes, with tokens of no more
//! than the documented scopes; what it understands of forks; and what it says of what is refused.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use contract::ActRunner;
use forge::{ErrorKind, Forge, Https, JobStatus, gitea::Gitea as Client};
use gitea::{Gitea, walk};
use lab::{Lab, LabConfig, Place};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use settings::token_file::Token;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{MINUTE, REPO, workflow};

const PORT: u16 = 3443;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What ends TLS in front of the server, as where people run one.
struct Front {
    ca_file: PathBuf,
    end: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Front {
    fn start(lab: &Lab) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca_file = lab.shared().join("ca.pem");
        fs::write(&ca_file, authority.pem()).unwrap();
        let address = Place::Forge.address();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([address.to_string()]).unwrap().signed_by(&key, &authority).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let (end, ended) = oneshot::channel();
        let network = lab.network(Place::Forge).unwrap();
        let serve = move || {
            let serve = async move {
                let listener = TcpListener::bind((address, PORT)).await.unwrap();
                let acceptor = TlsAcceptor::from(Arc::new(tls));
                tokio::select! {
                    () = accept(listener, acceptor, (address, gitea::PORT).into()) => {}
                    _ = ended => {}
                }
            };
            network.within(|| runtime().block_on(serve)).unwrap();
        };
        Self { ca_file, end: Some(end), serving: Some(thread::spawn(serve)) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (Ok(mut client), Ok(mut server)) = (acceptor.accept(client).await, TcpStream::connect(to).await) else {
                return;
            };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// A client for one target, inside a runtime and the forge's network.
fn open(target: &str, ca_file: &Path, token: &str) -> Client<Https> {
    let (url, file) = (format!("https://{}:{PORT}", Place::Forge.address()), ca_file.display());
    let text = format!(
        "[credential.own]\nkind = \"gitea\"\nurl = \"{url}\"\ntoken_file = \"/t\"\nca_file = \"{file}\"\n[[target]]\n\
         {target}\ncredential = \"own\"\n[template.default]\nkind = \"gitea\"\n"
    );
    let settings = settings::check::check(toml::from_str(&text).unwrap()).unwrap();
    let https = Https::trusting(settings.credentials["own"].ca_file.as_deref(), None).unwrap();
    Client::open(&settings, "own", https, Token::new(token)).unwrap()
}

struct Others<'a>(&'a Gitea, &'static str);

impl walk::Others for Others<'_> {
    fn queue(&self) -> u64 {
        let run = self.0.dispatch(self.1, "hand.yml").unwrap();
        self.0.wait_job(self.1, run, MINUTE, |job| job.status == "queued").unwrap().id
    }

    fn take(&self, runner: &ActRunner) -> u64 {
        self.0.fetch(runner).unwrap().expect("a task")
    }

    fn cancel(&self, job: u64) {
        let job = self.0.api("GET", &format!("/repos/{}/actions/jobs/{job}", self.1), &Value::Null).unwrap();
        self.0.cancel(self.1, job["run_id"].as_u64().unwrap()).unwrap();
    }

    fn log(&self, job: u64) -> String {
        self.0.log(self.1, job).unwrap()
    }
}

/// Opens a pull request of a change to one file, on a branch of the repository itself or of a fork of this account.
fn pull_request(gitea: &Gitea, branch: &str, fork_of: Option<&str>) {
    let (repo, by) = match fork_of {
        None => (REPO.to_owned(), String::new()),
        Some(account) => {
            let by = format!("?sudo={account}");
            gitea.api("POST", &format!("/repos/{REPO}/forks{by}"), &json!({})).unwrap();
            (format!("{account}/app"), by)
        }
    };
    let change = json!({ "content": "aGVsbG8K", "message": "change", "branch": "main", "new_branch": branch });
    gitea.api("POST", &format!("/repos/{repo}/contents/{branch}.txt{by}"), &change).unwrap();
    let head = fork_of.map_or_else(|| branch.to_owned(), |account| format!("{account}:{branch}"));
    let request = json!({ "head": head, "base": "main", "title": branch });
    gitea.api("POST", &format!("/repos/{REPO}/pulls{by}"), &request).unwrap();
}

#[test]
fn every_call_of_the_client_is_answered_as_it_expects_by_a_real_server_behind_tls() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let lab = Lab::boot(LabConfig::default()).unwrap();
    let Some(gitea) = Gitea::start(&lab).unwrap() else { return };
    let front = Front::start(&lab);
    for user in ["ann", "bob"] {
        gitea.create_user(user).unwrap();
    }
    gitea.create_org("acme", "ann").unwrap();
    gitea.create_org("beta", "ann").unwrap();
    gitea.create_repo("acme", "app").unwrap();
    gitea.create_repo("beta", "tool").unwrap();
    let own = json!({ "name": "own", "auto_init": true, "default_branch": "main" });
    gitea.api("POST", "/admin/users/ann/repos", &own).unwrap();
    for repo in [REPO, "beta/tool", "ann/own"] {
        gitea.write(repo, ".gitea/workflows/hand.yml", &workflow("nix", &["true"])).unwrap();
    }
    let targets = [
        ("repo = \"acme/app\"", "own:acme/app", "ann", &["write:repository"][..], REPO),
        ("org = \"beta\"", "own:beta", "ann", &["write:organization", "read:repository"], "beta/tool"),
        ("user = \"ann\"", "own:ann", "ann", &["write:user", "read:repository"], "ann/own"),
        ("instance = true\ninclude = [\"tool\"]", "own:*", "root1", &["write:admin", "read:repository"], "beta/tool"),
    ];
    let network = lab.network(Place::Forge).unwrap();
    for (target, name, account, scopes, repo) in targets {
        let token = gitea.token_of(account, scopes).unwrap();
        let story = || {
            runtime().block_on(async {
                let client = open(target, &front.ca_file, &token);
                walk::walk(&client, &Others(&gitea, repo), name, &format!("own:{repo}")).await;
            });
        };
        network.within(story).unwrap();
        println!("{target}: walked");
    }
    network.within(|| runtime().block_on(forks(&gitea, &front.ca_file))).unwrap();
    network.within(|| runtime().block_on(refusals(&gitea, &front.ca_file))).unwrap();
    assert_eq!(gitea.runners("/admin").unwrap(), Vec::<String>::new());
}

/// A branch's pull request, that of a collaborator's fork, and a stranger's, which the forge holds back.
async fn forks(gitea: &Gitea, ca_file: &Path) {
    let on_request = workflow("nix", &["true"]).replace("workflow_dispatch", "pull_request");
    gitea.write(REPO, ".gitea/workflows/request.yml", &on_request).unwrap();
    gitea.api("PUT", &format!("/repos/{REPO}/collaborators/ann"), &json!({ "permission": "write" })).unwrap();
    for (branch, fork_of) in [("branch", None), ("friend", Some("ann")), ("stranger", Some("bob"))] {
        pull_request(gitea, branch, fork_of);
    }
    let client = open("repo = \"acme/app\"", ca_file, &gitea.token);
    let mut jobs = Vec::new();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        jobs = client.look("own:acme/app").await.unwrap();
        if jobs.len() == 3 {
            break;
        }
    }
    let mut found: Vec<_> =
        jobs.iter().map(|job| (job.status, job.from_fork, job.public, job.event.is_some())).collect();
    found.sort_unstable();
    let queued = |fork| (JobStatus::Queued, Some(fork), Some(true), true);
    let held = (JobStatus::NotReady, None, None, false);
    assert_eq!(found, [held, queued(false), queued(true)], "{jobs:#?}");
    for job in jobs {
        gitea.cancel(REPO, job.run_id).unwrap();
    }
}

/// What is refused is reported as what it is, with what to do about it.
async fn refusals(gitea: &Gitea, ca_file: &Path) {
    let scopes = ["read:repository"];
    let few = gitea.token_of("ann", &scopes).unwrap();
    let of = |target: &str, token: &str| open(target, ca_file, token);
    let mint =
        async |client: Client<Https>, scope: &str| client.mint(scope, "walk.refused", &[], None).await.unwrap_err();
    for (error, kind, words) in [
        (of("org = \"beta\"", "0000").discover("own:beta").await.unwrap_err(), ErrorKind::Unauthorized, "401"),
        (
            mint(of("repo = \"acme/app\"", &few), "own:acme/app").await,
            ErrorKind::Forbidden,
            "give the token the scope write:repository",
        ),
        (
            mint(of("org = \"beta\"", &few), "own:beta").await,
            ErrorKind::Forbidden,
            "give the token the scope write:organization",
        ),
        (of("repo = \"acme/none\"", &gitea.token).look("own:acme/none").await.unwrap_err(), ErrorKind::NotFound, "404"),
    ] {
        assert!(error.kind == kind && error.message.contains(words), "{error:?}");
    }
    let rename = json!({ "name": "renamed" });
    gitea.api("PATCH", "/repos/beta/tool", &rename).unwrap();
    let error = of("repo = \"beta/tool\"", &gitea.token).look("own:beta/tool").await.unwrap_err();
    assert!(error.kind == ErrorKind::Quarantined && error.message.contains("beta/renamed"), "{error:?}");
    let no_actions = json!({ "has_actions": false });
    gitea.api("PATCH", "/repos/beta/renamed", &no_actions).unwrap();
    let error = of("repo = \"beta/renamed\"", &gitea.token).look("own:beta/renamed").await.unwrap_err();
    assert!(error.kind == ErrorKind::Quarantined && error.message.contains("enable Actions"), "{error:?}");
    // By what the host trusts it is nobody's certificate.
    let settings = format!(
        "[credential.own]\nkind = \"gitea\"\nurl = \"https://{}:{PORT}\"\ntoken_file = \"/t\"\n[[target]]\n\
         org = \"acme\"\ncredential = \"own\"\n[template.default]\nkind = \"gitea\"\n",
        Place::Forge.address()
    );
    let settings = settings::check::check(toml::from_str(&settings).unwrap()).unwrap();
    let client = Client::open(&settings, "own", Https::new(None).unwrap(), Token::new("t")).unwrap();
    let error = client.discover("own:acme").await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.message.contains("add the authority"), "{error:?}");
}
