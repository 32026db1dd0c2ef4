//! Every kind of target with a token of no more than the documented scopes, and the forge's own deliveries.

use std::time::{Duration, Instant};

use controller::{cause::Cause, status::Status};
use gitea::Gitea;
use lab::Place;

use crate::{MINUTE, config, credential, finished, nothing_left, stage, token_file, workflow};

/// Target, credential, the account whose token it is and the scopes of docs/forges.md, where deliveries come from, and a
/// repository.
#[allow(clippy::type_complexity, reason = "a table of six columns")]
const TARGETS: [(&str, &str, &str, &[&str], &str, &str); 4] = [
    ("repo = \"beta/one\"", "single", "ann", &["write:repository"], "/repos/beta/one", "beta/one"),
    ("org = \"acme\"", "group", "ann", &["write:organization", "read:repository"], "/orgs/acme", "acme/app"),
    ("user = \"ann\"", "person", "ann", &["write:user", "read:repository"], "/repos/ann/own", "ann/own"),
    (
        "instance = true\ninclude = [\"all\"]",
        "all",
        "root1",
        &["write:admin", "read:repository"],
        "/repos/gamma/all",
        "gamma/all",
    ),
];
const SECRET: &str = "of-deliveries-8d1f";

fn prepare(gitea: &Gitea) -> anyhow::Result<Vec<(&'static str, String)>> {
    gitea.create_user("ann")?;
    let own = serde_json::json!({ "name": "own", "auto_init": true, "default_branch": "main" });
    gitea.api("POST", "/admin/users/ann/repos", &own)?;
    for org in ["acme", "beta", "gamma"] {
        gitea.create_org(org, if org == "gamma" { "root1" } else { "ann" })?;
    }
    let mut tokens = Vec::new();
    for (_, credential, account, scopes, _, repo) in TARGETS {
        let (owner, name) = repo.split_once('/').unwrap();
        if owner != "ann" {
            gitea.create_repo(owner, name)?;
        }
        gitea.write(repo, ".gitea/workflows/hand.yml", &workflow("nix", &["echo served"]))?;
        tokens.push((credential, gitea.token_of(account, scopes)?));
    }
    Ok(tokens)
}

#[test]
fn each_kind_of_target_is_served_with_the_documented_scopes_as_soon_as_the_forge_delivers() {
    let hook_file = token_file("hook");
    let mut config = config(&[]);
    config.targets = format!("[webhook]\naddress = \"0.0.0.0\"\n[[target]]\nrepo = \"{}\"\n", stage::REPO);
    for (target, name, ..) in TARGETS {
        config.targets += &format!("[[target]]\n{target}\ncredential = \"{name}\"\n{}", credential(name));
        config.files.push((token_file(name), b"none-yet".to_vec(), 0o400));
        config.targets += &format!("webhook_secret_file = \"{hook_file}\"\n");
    }
    config.files.push((hook_file, SECRET.into(), 0o400));
    config.top = config.top.replace("poll_interval = \"1s\"", "poll_interval = \"10m\"");
    let Some((stage, gitea)) = stage(config, prepare) else { return };
    let looked = |status: &Status| {
        status.targets.len() == 5 && status.targets.iter().all(|target| target.last_poll_ms.is_some())
    };
    stage.wait_for("the first look", MINUTE, looked).unwrap();
    let check = ["gha-runner-controller", "check"];
    println!("{}", stage.lab.exec(Place::Host, &check).unwrap().text());

    // A stranger's deliveries are refused, and nobody looks.
    let url = |name: &str| format!("http://{}:8081/webhook/{name}", Place::Host.address());
    gitea.hook("/repos/beta/one", &url("single"), "another").unwrap();
    let unheard = gitea.dispatch("beta/one", "hand.yml").unwrap();
    let refused = |status: &Status| status.webhook.is_some_and(|counts| counts.refused >= 1);
    stage.wait_for("a stranger's delivery is refused", MINUTE, refused).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(stage.status().unwrap().active_containers.is_empty());
    gitea.cancel("beta/one", unheard).unwrap();

    for (_, name, .., from, repo) in TARGETS {
        gitea.hook(from, &url(name), SECRET).unwrap();
        let run = gitea.dispatch(repo, "hand.yml").unwrap();
        let began = Instant::now();
        let done = gitea.wait_completed(repo, run, MINUTE).unwrap();
        println!("{name} served after {:.1?}", began.elapsed());
        assert_eq!(done.conclusion.as_deref(), Some("success"), "{name}");
        let ended = finished(&stage, done.id);
        assert_eq!((ended.repo, ended.cause), (format!("{name}:{repo}"), Cause::Succeeded), "{name}");
    }
    let counts = stage.status().unwrap().webhook.unwrap();
    assert!(counts.accepted >= 4 && counts.refused >= 1, "{counts:?}");
    nothing_left(&stage, &gitea);
    let journal = stage.lab.journal(stage::SERVICE).unwrap();
    assert!(!journal.contains(SECRET), "{journal}");
}
