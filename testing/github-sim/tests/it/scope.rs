//! What a credential reaches: accounts, repositories, enterprises, permissions, installations.

use crate::{
    hub::{HOUR, Hub},
    server::Sim,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use github_sim::world::{
    Access, AccountKind, AccountSpec, Grant, InstallationSpec, JobSpec, RepoSettings, RepoSpec, RunSpec,
    RunnerGroupSpec, Scope, TokenSpec, Visibility,
};
use serde_json::{Value, json};

/// Accepts a token with that grant and uses it from now on.
fn use_token(hub: &mut Hub, grant: Grant) {
    hub.token = "limited".to_owned();
    hub.world.set_token(hub.now, TokenSpec { token: hub.token.clone(), grant, ..TokenSpec::default() });
}

fn fine_grained(permissions: &[(&str, Access)], repositories: Option<&[&str]>) -> Grant {
    Grant::FineGrained {
        owner: None,
        permissions: permissions.iter().map(|(name, access)| ((*name).to_owned(), *access)).collect(),
        repositories: repositories.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    }
}

fn classic(scopes: &[&str]) -> Grant {
    Grant::Classic { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect() }
}

fn private(hub: &mut Hub, name: &str) {
    hub.world.add_repo(&RepoSpec { name: name.to_owned(), private: true }).unwrap();
}

/// Uses a JWT of the App from now on.
fn be_the_app(hub: &mut Hub) {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = hub.now.as_secs();
    let claims = json!({ "iat": now - 60, "exp": now + 540, "iss": "Iv1.abc" });
    hub.token = format!("{}.{}.c2ln", part(json!({ "alg": "RS256" })), part(claims));
}

const MINT: &str = "/repos/o/r/actions/runners/generate-jitconfig";

fn mint_body() -> Value {
    json!({ "name": "x", "runner_group_id": 1, "labels": ["nix"] })
}

#[test]
fn a_missing_permission_is_named() {
    let mut hub = Hub::new();
    use_token(&mut hub, fine_grained(&[("actions", Access::Read), ("administration", Access::Read)], None));
    assert_eq!(hub.get("/repos/o/r/actions/runners").status, 200);
    let refused = hub.post(MINT, mint_body());
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body["message"], "Resource not accessible by personal access token");
    assert_eq!(refused.header("x-accepted-github-permissions"), Some("administration=write"));
    assert_eq!(refused.header("x-oauth-scopes"), None);
    let org = hub.get("/orgs/o/actions/runners");
    assert_eq!(org.status, 403);
    assert_eq!(org.header("x-accepted-github-permissions"), Some("organization_self_hosted_runners=read"));
    assert!(hub.world.runner_views().is_empty());
}

#[test]
fn with_the_permission_it_works() {
    let mut hub = Hub::new();
    use_token(&mut hub, fine_grained(&[("administration", Access::Write)], Some(&["o/r"])));
    assert_eq!(hub.post(MINT, mint_body()).status, 201);
    let elsewhere = hub.post("/repos/o/s/actions/runners/generate-jitconfig", mint_body());
    assert_eq!(elsewhere.status, 403, "not one of its repositories");
}

#[test]
fn a_fine_grained_token_is_of_one_account() {
    let mut hub = Hub::new();
    let permissions = ["administration", "organization_self_hosted_runners"];
    let grant = Grant::FineGrained {
        owner: Some("o".to_owned()),
        permissions: permissions.iter().map(|name| ((*name).to_owned(), Access::Write)).collect(),
        repositories: None,
    };
    use_token(&mut hub, grant);
    assert_eq!(hub.get("/orgs/o/actions/runners").status, 200);
    assert_eq!(hub.get("/orgs/p/actions/runners").status, 403);
    assert_eq!(hub.get("/repos/o/r/actions/runners").status, 200);
    assert_eq!(hub.get("/repos/p/q/actions/runners").status, 403);
}

#[test]
fn a_private_repository_is_not_there_for_a_token_that_is_not_meant_for_it() {
    let mut hub = Hub::new();
    private(&mut hub, "o/secret");
    use_token(&mut hub, fine_grained(&[("actions", Access::Read)], Some(&["o/r"])));
    assert_eq!(hub.get("/repos/o/secret").status, 404);
    assert_eq!(hub.get("/repos/o/secret/actions/runs").status, 404);
    let listed = hub.get("/orgs/o/repos");
    assert!(!listed.body.to_string().contains("secret"));
    use_token(&mut hub, fine_grained(&[("actions", Access::Read)], None));
    assert_eq!(hub.get("/repos/o/secret/actions/runs").status, 200);
}

#[test]
fn everybody_sees_the_runs_of_a_public_repository() {
    let mut hub = Hub::new();
    use_token(&mut hub, fine_grained(&[], Some(&[])));
    assert_eq!(hub.get("/repos/o/r/actions/runs").status, 200);
    private(&mut hub, "o/secret");
    use_token(&mut hub, fine_grained(&[], Some(&["o/secret"])));
    assert_eq!(hub.get("/repos/o/secret/actions/runs").status, 403);
}

#[test]
fn a_classic_token_names_its_scopes_and_what_was_needed() {
    let mut hub = Hub::new();
    use_token(&mut hub, classic(&["repo", "workflow"]));
    let seen = hub.get("/repos/o/r/actions/runners");
    assert_eq!(seen.status, 200);
    assert_eq!(seen.header("x-oauth-scopes"), Some("repo, workflow"));
    assert_eq!(seen.header("x-accepted-oauth-scopes"), Some("repo"));
    let refused = hub.get("/orgs/o/actions/runners");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("x-accepted-oauth-scopes"), Some("admin:org"));
    use_token(&mut hub, classic(&["admin:org"]));
    assert_eq!(hub.get("/orgs/o/actions/runners").status, 200);
    assert_eq!(hub.get("/repos/o/r/actions/runners").status, 403);
}

#[test]
fn a_token_says_when_it_expires() {
    let mut hub = Hub::new();
    let spec = TokenSpec {
        token: "short".to_owned(),
        grant: classic(&["repo"]),
        lives_s: Some(3_600),
        ..TokenSpec::default()
    };
    hub.world.set_token(hub.now, spec);
    hub.token = "short".to_owned();
    let seen = hub.get("/repos/o/r");
    assert_eq!(seen.header("github-authentication-token-expiration"), Some("2026-11-01 11:00:00 UTC"));
    hub.pass(HOUR);
    assert_eq!(hub.get("/repos/o/r").status, 401);
}

#[test]
fn accounts_are_organisations_or_users() {
    let mut hub = Hub::new();
    let spec = AccountSpec { login: "p".to_owned(), kind: AccountKind::User, enterprise: None };
    hub.world.set_account(spec).unwrap();
    private(&mut hub, "p/diary");
    assert_eq!(hub.get("/orgs/o").body["type"], "Organization");
    assert_eq!(hub.get("/orgs/p").status, 404);
    assert_eq!(hub.get("/orgs/p/actions/runners").status, 404);
    assert_eq!(hub.get("/users/p").body["type"], "User");
    assert_eq!(hub.get("/users/nobody/repos").status, 404);
    let public = hub.get("/users/p/repos").body;
    assert_eq!((public.as_array().unwrap().len(), &public[0]["full_name"]), (1, &json!("p/q")));
    let own = hub.get("/user/repos?visibility=private").body;
    assert_eq!((own.as_array().unwrap().len(), &own[0]["full_name"]), (1, &json!("p/diary")));
    hub.world.set_token(hub.now, TokenSpec { token: "p's".to_owned(), login: "p".to_owned(), ..TokenSpec::default() });
    hub.token = "p's".to_owned();
    assert_eq!(hub.get("/user").body["login"], "p");
}

#[test]
fn two_hundred_repositories_are_two_pages() {
    let mut hub = Hub::new();
    assert_eq!(hub.world.add_repos("big", "app", 200, true).unwrap().len(), 200);
    let first = hub.get("/orgs/big/repos?per_page=100");
    assert_eq!(first.body[0]["full_name"], "big/app-001");
    assert!(first.header("link").unwrap().contains("page=2>; rel=\"next\""));
    assert_eq!(hub.get("/orgs/big/repos?per_page=100&page=2").body.as_array().unwrap().len(), 100);
    assert_eq!(hub.get("/orgs/big/repos?per_page=100&page=3").body, json!([]));
}

#[test]
fn a_repository_shows_what_it_is_and_what_one_may_do() {
    let mut hub = Hub::new();
    let settings =
        RepoSettings { internal: true, fork: true, topics: vec!["ci".to_owned()], ..RepoSettings::default() };
    hub.world.set_repo("o/r", settings).unwrap();
    hub.queue("a", &["nix"]);
    let repo = hub.get("/repos/o/r").body;
    assert_eq!(
        (&repo["private"], &repo["visibility"], &repo["fork"]),
        (&json!(true), &json!("internal"), &json!(true))
    );
    assert_eq!(repo["topics"], json!(["ci"]));
    assert_eq!(repo["pushed_at"], "2026-11-01T10:00:00Z");
    assert_eq!(repo["permissions"], json!({ "admin": true, "push": true, "pull": true }));
    use_token(&mut hub, fine_grained(&[("contents", Access::Read)], None));
    assert_eq!(hub.get("/repos/o/r").body["permissions"], json!({ "admin": false, "push": false, "pull": true }));
}

#[test]
fn an_archived_a_blocked_and_a_repository_without_actions_refuse_each_in_its_way() {
    let mut hub = Hub::new();
    let set = |hub: &mut Hub, settings| hub.world.set_repo("o/r", settings).unwrap();
    set(&mut hub, RepoSettings { archived: true, ..RepoSettings::default() });
    assert_eq!(hub.get("/repos/o/r").body["archived"], true);
    assert_eq!(hub.get("/repos/o/r/actions/runs").status, 200);
    assert_eq!(hub.post(MINT, mint_body()).status, 403);
    set(&mut hub, RepoSettings { actions_enabled: false, ..RepoSettings::default() });
    assert_eq!(hub.get("/repos/o/r").status, 200);
    assert_eq!(
        hub.get("/repos/o/r/actions/permissions").body,
        json!({ "enabled": false, "sha_pinning_required": false })
    );
    assert_eq!(hub.get("/repos/o/r/actions/runs").status, 403);
    set(&mut hub, RepoSettings { disabled: true, ..RepoSettings::default() });
    assert_eq!(hub.get("/repos/o/r").status, 403);
    set(&mut hub, RepoSettings::default());
    assert_eq!(hub.get("/repos/o/r/actions/permissions").body["enabled"], true);
    assert_eq!(hub.get("/repos/o/s").status, 200);
}

#[test]
fn a_pull_request_from_a_copy_says_so() {
    let mut hub = Hub::new();
    let jobs = vec![JobSpec::new("a", &["nix"], &[])];
    hub.world.queue_run(hub.now, "o/r", RunSpec::pull_request_from_fork(jobs)).unwrap();
    let run = hub.get("/repos/o/r/actions/runs").body["workflow_runs"][0].clone();
    assert_eq!(run["event"], "pull_request");
    assert_eq!((&run["head_repository"]["fork"], &run["repository"]["private"]), (&json!(true), &json!(false)));
    assert_ne!(run["head_repository"]["id"], run["repository"]["id"]);
    assert_eq!(run["head_repository"]["full_name"], "somebody-else/r");
}

#[test]
fn runners_of_an_enterprise_serve_all_its_organisations() {
    let mut hub = Hub::new();
    for login in ["o", "p"] {
        let spec = AccountSpec {
            login: login.to_owned(),
            kind: AccountKind::Organization,
            enterprise: Some("corp".to_owned()),
        };
        hub.world.set_account(spec).unwrap();
    }
    let minted = hub.post("/enterprises/corp/actions/runners/generate-jitconfig", mint_body());
    assert_eq!(minted.status, 201, "{}", minted.body);
    let runner = hub.world.runner_connect(hub.now, minted.body["encoded_jit_config"].as_str().unwrap()).unwrap();
    private(&mut hub, "p/secret");
    let job = JobSpec::new("a", &["nix"], &[]);
    let (_, job) = hub.world.queue_job(hub.now, "p/secret", job).unwrap();
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(job));
    assert_eq!(hub.get("/enterprises/corp/actions/runners").body["total_count"], 1);
    assert_eq!(hub.get("/enterprises/nobody/actions/runners").status, 404);
    use_token(&mut hub, fine_grained(&[("administration", Access::Write)], None));
    assert_eq!(hub.get("/enterprises/corp/actions/runners").status, 403, "no fine-grained token can");
    use_token(&mut hub, classic(&["manage_runners:enterprise"]));
    assert_eq!(hub.get("/enterprises/corp/actions/runners").status, 200);
}

#[test]
fn a_group_names_the_repositories_it_is_for_and_serves_no_others() {
    let mut hub = Hub::new();
    private(&mut hub, "o/in");
    private(&mut hub, "o/out");
    let group = RunnerGroupSpec {
        name: "some".to_owned(),
        visibility: Visibility::Selected(["o/in".to_owned()].into()),
        allows_public_repositories: false,
    };
    let id = hub.world.set_runner_group(&Scope::Org("o".to_owned()), group).unwrap();
    let groups = hub.get("/orgs/o/actions/runner-groups");
    assert_eq!(groups.all("runner_groups", "name"), ["Default", "some"]);
    let repos = hub.get(&format!("/orgs/o/actions/runner-groups/{id}/repositories"));
    assert_eq!(repos.all("repositories", "full_name"), ["o/in"]);
    let body = json!({ "name": "x", "runner_group_id": id, "labels": ["nix"] });
    let minted = hub.post("/orgs/o/actions/runners/generate-jitconfig", body);
    let runner = hub.world.runner_connect(hub.now, minted.body["encoded_jit_config"].as_str().unwrap()).unwrap();
    let job = JobSpec::new("a", &["nix"], &[]);
    hub.world.queue_job(hub.now, "o/out", job.clone()).unwrap();
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), None);
    let (_, inside) = hub.world.queue_job(hub.now, "o/in", job).unwrap();
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(inside));
}

#[test]
fn a_job_without_labels_is_of_the_group_that_it_names() {
    let mut hub = Hub::new();
    private(&mut hub, "o/in");
    let minted = hub.post(
        "/orgs/o/actions/runners/generate-jitconfig",
        json!({ "name": "x", "runner_group_id": 1, "labels": ["nix"] }),
    );
    let runner = hub.world.runner_connect(hub.now, minted.body["encoded_jit_config"].as_str().unwrap()).unwrap();
    let queue = |hub: &mut Hub, group: Option<&str>, labels: &[&str]| {
        let spec = JobSpec { group: group.map(str::to_owned), ..JobSpec::new("a", labels, &[]) };
        hub.world.queue_job(hub.now, "o/in", spec).unwrap().1
    };
    queue(&mut hub, None, &[]);
    queue(&mut hub, Some("other"), &[]);
    queue(&mut hub, Some("Default"), &["windows"]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), None);
    let ours = queue(&mut hub, Some("default"), &[]);
    assert_eq!(hub.world.runner_poll(hub.now, &runner).unwrap(), Some(ours));
}

#[test]
fn an_installation_is_of_one_account_and_may_be_narrowed() {
    let mut hub = Hub::new();
    be_the_app(&mut hub);
    let (o, p) = (hub.get("/orgs/o/installation").body, hub.get("/repos/p/q/installation").body);
    assert_ne!(o["id"], p["id"]);
    assert_eq!(hub.get("/app/installations").body.as_array().unwrap().len(), 2);
    let path = format!("/app/installations/{}/access_tokens", o["id"]);
    let asked = json!({ "repositories": ["r"], "permissions": { "actions": "read" } });
    let narrow = hub.post(&path, asked);
    assert_eq!((narrow.status, &narrow.body["repository_selection"]), (201, &json!("selected")));
    assert_eq!(narrow.body["permissions"], json!({ "actions": "read" }));
    assert_eq!(hub.post(&path, json!({ "permissions": { "packages": "write" } })).status, 422);
    assert_eq!(hub.post(&path, json!({ "repositories": ["q"] })).status, 422);
    hub.token = narrow.body["token"].as_str().unwrap().to_owned();
    assert_eq!(hub.get("/installation/repositories").all("repositories", "full_name"), ["o/r"]);
    let refused = hub.post(MINT, mint_body());
    assert_eq!(refused.body["message"], "Resource not accessible by integration");
    assert_eq!(refused.header("x-accepted-github-permissions"), Some("administration=write"));
    assert_eq!(hub.get("/user/repos").status, 403);
}

#[test]
fn an_installation_is_suspended_or_taken_away() {
    let mut hub = Hub::new();
    be_the_app(&mut hub);
    let app = hub.token.clone();
    let id = hub.get("/orgs/o/installation").body["id"].clone();
    let path = format!("/app/installations/{id}/access_tokens");
    let token = hub.post(&path, json!({})).body["token"].as_str().unwrap().to_owned();
    hub.world.set_installation(InstallationSpec { suspended: true, ..InstallationSpec::of("o") }).unwrap();
    assert_eq!(hub.post(&path, json!({})).status, 403);
    hub.world.set_installation(InstallationSpec { installed: false, ..InstallationSpec::of("o") }).unwrap();
    assert_eq!(hub.post(&path, json!({})).status, 404);
    assert_eq!(hub.get("/orgs/o/installation").status, 404);
    hub.token = token;
    assert_eq!(hub.get("/repos/o/r").status, 401);
    hub.world.set_installation(InstallationSpec::of("o")).unwrap();
    hub.token = app;
    assert_eq!(hub.post(&path, json!({})).status, 201);
}

#[test]
fn installation_tokens_are_revoked_in_the_middle_of_a_list() {
    let mut hub = Hub::new();
    hub.world.add_repos("o", "app", 3, false).unwrap();
    be_the_app(&mut hub);
    let app = hub.token.clone();
    let id = hub.get("/orgs/o/installation").body["id"].clone();
    let path = format!("/app/installations/{id}/access_tokens");
    hub.token = hub.post(&path, json!({})).body["token"].as_str().unwrap().to_owned();
    assert_eq!(hub.get("/installation/repositories?per_page=2").status, 200);
    assert_eq!(hub.world.revoke_installation_tokens(), 1);
    assert_eq!(hub.get("/installation/repositories?per_page=2&page=2").status, 401);
    hub.token = app;
    hub.token = hub.post(&path, json!({})).body["token"].as_str().unwrap().to_owned();
    assert_eq!(hub.get("/installation/repositories?per_page=2&page=2").status, 200);
}

#[test]
fn the_back_door_changes_accounts_repositories_and_tokens() {
    let sim = Sim::start(&[]);
    sim.control.add_repos("big", "app", 200, true).unwrap();
    sim.control.change_repo("o/r", |repo| repo.archived = true).unwrap();
    assert!(sim.raw("GET", "/repos/o/r", "").contains("\"archived\":true"));
    let group =
        RunnerGroupSpec { name: "Default".to_owned(), visibility: Visibility::All, allows_public_repositories: true };
    assert_eq!(sim.control.set_runner_group(Scope::Org("big".to_owned()), group).unwrap(), 1);
    sim.control
        .set_token(TokenSpec { token: "own".to_owned(), grant: classic(&["repo"]), ..TokenSpec::default() })
        .unwrap();
    let answer = sim.raw_as("Bearer own", "GET", "/orgs/big/repos?per_page=1", "", "");
    assert!(answer.contains("x-oauth-scopes: repo\r\n"), "{answer}");
    assert!(sim.control.revoke_token("own").unwrap());
    assert!(sim.raw_as("Bearer own", "GET", "/orgs/big/repos", "", "").starts_with("HTTP/1.1 401"));
    sim.control.rename_repo("o/r", "o/new").unwrap();
    assert!(sim.raw("GET", "/repos/o/r", "").starts_with("HTTP/1.1 301"));
    sim.control.delete_repo("o/new").unwrap();
    assert!(sim.raw("GET", "/repos/o/r", "").starts_with("HTTP/1.1 404"));
}
