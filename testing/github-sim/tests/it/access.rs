//! Credentials, limits, entity tags, routing.

use crate::hub::{HOUR, Hub, START};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use github_sim::{Call, Config, world::RepoSpec};
use http::Request;
use serde_json::json;
use std::time::Duration;

#[test]
fn without_an_accepted_token_nothing_is_told() {
    let mut hub = Hub::new();
    hub.token = "wrong".to_owned();
    let refused = hub.get("/repos/o/r");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.body["message"], "Bad credentials");
    let bare = Request::get("/repos/o/r").header("user-agent", "test").body(Vec::new()).unwrap();
    let answer = hub.world.handle(START, &bare).answer().unwrap();
    assert_eq!(answer.status(), 401);
}

#[test]
fn a_client_has_to_say_who_it_is() {
    let mut hub = Hub::new();
    let nameless = Request::get("/repos/o/r").header("authorization", "token t0k").body(Vec::new()).unwrap();
    let answer = hub.world.handle(START, &nameless).answer().unwrap();
    assert_eq!(answer.status(), 403);
}

#[test]
fn a_client_names_a_version_of_the_api_once_or_not_at_all() {
    let mut hub = Hub::new();
    for (named, status) in [
        (&[][..], 200),
        (&["2022-11-28"], 200),
        (&["2026-03-10"], 200),
        (&["2021-01-01"], 400),
        (&["2022-11-28, 2022-11-28"], 400),
        (&["2022-11-28", "2022-11-28"], 400),
        (&["2022-11-28", "2026-03-10"], 400),
    ] {
        let headers: Vec<_> = named.iter().map(|version| ("X-GitHub-Api-Version", *version)).collect();
        let answer = hub.request("GET", "/repos/o/r", &headers, None).answer().unwrap();
        assert_eq!(answer.status(), status, "{named:?}");
    }
}

#[test]
fn tokens_come_expire_and_go() {
    let mut hub = Hub::new();
    hub.world.add_token("short", Some(START + HOUR));
    hub.token = "short".to_owned();
    assert_eq!(hub.get("/repos/o/r").status, 200);
    hub.pass(HOUR);
    assert_eq!(hub.get("/repos/o/r").status, 401);
    hub.token = "t0k".to_owned();
    assert!(hub.world.revoke_token("t0k"));
    assert_eq!(hub.get("/repos/o/r").status, 401);
}

#[test]
fn the_same_at_the_root_and_under_the_server_prefix() {
    let mut hub = Hub::new();
    for path in ["/repos/o/r", "/api/v3/repos/o/r", "/repos/O/R"] {
        let repo = hub.get(path);
        assert_eq!((repo.status, &repo.body["full_name"]), (200, &json!("o/r")));
    }
    let missing = hub.get("/repos/o/nothing");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body["message"], "Not Found");
    assert!(missing.body["documentation_url"].is_string());
}

#[test]
fn unchanged_is_304_and_costs_nothing() {
    let mut hub = Hub::new();
    let path = "/repos/o/r/actions/runs?status=queued";
    let first = hub.get(path);
    let etag = first.header("etag").unwrap().to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    assert_eq!(first.header("x-ratelimit-used"), Some("1"));
    let second = hub.get_if_changed(path, &etag);
    assert_eq!(second.status, 304);
    assert!(second.body.is_null());
    assert_eq!(second.header("x-ratelimit-used"), Some("1"));
    hub.queue("a", &["nix"]);
    let third = hub.get_if_changed(path, &etag);
    assert_eq!(third.status, 200);
    assert_ne!(third.header("etag"), Some(etag.as_str()));
    let report = hub.world.traffic();
    assert_eq!(report.of(Call::ListRuns).requests, 3);
    assert_eq!(report.of(Call::ListRuns).not_modified, 1);
}

#[test]
fn an_entity_tag_is_of_one_address_and_one_token() {
    let mut hub = Hub::new();
    let etag = hub.get("/repos/o/r/actions/runs").header("etag").unwrap().to_owned();
    let elsewhere = hub.get_if_changed("/repos/o/r/actions/runs?per_page=100", &etag);
    assert_eq!(elsewhere.status, 200);
    hub.token = "other".to_owned();
    let other = hub.get_if_changed("/repos/o/r/actions/runs", &etag);
    assert_eq!(other.status, 200);
}

#[test]
fn the_primary_limit_is_enforced_for_each_token_until_its_reset() {
    let mut hub = Hub::with(Config { rate_limit: Some(3), ..Config::default() });
    for left in ["2", "1", "0"] {
        let answer = hub.get("/repos/o/r");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left));
    }
    let refused = hub.get("/repos/o/r");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    let reset: u64 = refused.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert_eq!(reset, (START + HOUR).as_secs());
    let free = hub.get("/rate_limit");
    assert_eq!(free.status, 200);
    assert_eq!(free.body["resources"]["core"]["remaining"], 0);
    hub.token = "other".to_owned();
    assert_eq!(hub.get("/repos/o/r").status, 200);
    hub.token = "t0k".to_owned();
    hub.pass(HOUR);
    assert_eq!(hub.get("/repos/o/r").status, 200);
}

#[test]
fn a_server_without_limits_says_nothing_of_them() {
    let mut hub = Hub::with(Config { rate_limit: None, ..Config::default() });
    assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-limit"), None);
    assert_eq!(hub.get("/rate_limit").status, 404);
}

#[test]
fn a_renamed_repository_redirects_and_a_deleted_one_is_gone() {
    let mut hub = Hub::new();
    let (run, _) = hub.queue("a", &["nix"]);
    hub.world.rename_repo("o/r", "o/new").unwrap();
    let moved = hub.get(&format!("/api/v3/repos/o/r/actions/runs/{run}/jobs"));
    assert_eq!(moved.status, 301);
    let to = moved.header("location").unwrap();
    let path = to.strip_prefix("http://github.invalid").unwrap().to_owned();
    assert!(path.starts_with("/api/v3/repositories/"), "{path}");
    assert_eq!(hub.get(&path).body["total_count"], 1);
    assert_eq!(hub.mint("x", &["nix"]).status, 307);
    assert_eq!(hub.get("/repos/o/new/actions/runs").body["total_count"], 1);
    hub.world.delete_repo("o/new").unwrap();
    assert_eq!(hub.get("/repos/o/new").status, 404);
    assert_eq!(hub.get("/repos/o/r").status, 404);
    assert!(hub.world.job_views().is_empty());
}

#[test]
fn an_app_gets_a_token_for_its_installation() {
    let mut hub = Hub::new();
    let jwt = |issued: u64, expires: u64| {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.{}",
            part(json!({ "alg": "RS256", "typ": "JWT" })),
            part(json!({ "iat": issued, "exp": expires, "iss": 1 })),
            URL_SAFE_NO_PAD.encode("signature"),
        )
    };
    let now = START.as_secs();
    hub.token = jwt(now - 60, now + 540);
    let found = hub.get("/repos/o/r/installation");
    assert_eq!(found.status, 200);
    let minted = hub.post(&format!("/app/installations/{}/access_tokens", found.body["id"]), json!({}));
    assert_eq!(minted.status, 201);
    assert_eq!(hub.get("/repos/o/r").status, 401, "an App is not a user");
    for (issued, expires) in [(now + 300, now + 500), (now - 900, now - 300), (now, now + 900)] {
        hub.token = jwt(issued, expires);
        assert_eq!(hub.get("/app/installations").status, 401);
    }
    hub.token = minted.body["token"].as_str().unwrap().to_owned();
    let repos = hub.get("/installation/repositories");
    assert_eq!(repos.all("repositories", "full_name"), ["o/r", "o/s"], "those of the account it is for");
    hub.pass(HOUR);
    assert_eq!(hub.get("/installation/repositories").status, 401);
}

#[test]
fn adding_a_repository_twice_is_adding_it_once() {
    let mut hub = Hub::new();
    let spec = |name: &str| RepoSpec { name: name.to_owned(), private: false };
    let first = hub.world.add_repo(&spec("a/b")).unwrap();
    assert_eq!(hub.world.add_repo(&spec("a/b")).unwrap(), first);
    assert!(hub.world.add_repo(&spec("nonsense")).is_err());
}

#[test]
fn the_date_is_that_of_the_world() {
    let mut hub = Hub::new();
    hub.pass(Duration::from_secs(1));
    assert_eq!(hub.get("/repos/o/r").header("date"), Some("Sun, 01 Nov 2026 10:00:01 GMT"));
}
