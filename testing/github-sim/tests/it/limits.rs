//! Limits of each credential, and the counters by which a test sees what was asked.

use crate::hub::{HOUR, Hub, MINUTE};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use github_sim::{
    Call, Config,
    world::{LimitRules, TokenSpec},
};
use serde_json::json;
use std::time::Duration;

fn with_rules(rules: LimitRules) -> Hub {
    Hub::with(Config { limits: rules, ..Config::default() })
}

#[test]
fn a_server_may_refuse_with_429() {
    let mut hub = with_rules(LimitRules { status: 429, ..LimitRules::default() });
    hub.world.set_rate_limit(Some(1));
    assert_eq!(hub.get("/repos/o/r").status, 200);
    let refused = hub.get("/repos/o/r");
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, Some("0")));
}

#[test]
fn a_credential_may_have_a_limit_of_its_own() {
    let mut hub = Hub::new();
    let spec = TokenSpec { token: "small".to_owned(), rate_limit: Some(60), ..TokenSpec::default() };
    hub.world.set_token(hub.now, spec);
    assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-limit"), Some("5000"));
    hub.token = "small".to_owned();
    assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-limit"), Some("60"));
    assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-remaining"), Some("58"));
}

#[test]
fn registrations_are_counted_by_themselves() {
    let mut hub = Hub::new();
    hub.world.set_rate_limit(Some(2));
    assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-resource"), Some("core"));
    for left in ["9999", "9998", "9997"] {
        let minted = hub.mint(left, &["nix"]);
        let told = ["resource", "limit", "remaining"].map(|what| minted.header(&format!("x-ratelimit-{what}")));
        assert_eq!(told, [Some("actions_runner_registration"), Some("10000"), Some(left)]);
    }
    assert_eq!(hub.get("/repos/o/r").status, 200, "the others are as they were");
    let told = hub.get("/rate_limit").body["resources"].clone();
    assert_eq!(told["core"]["remaining"], 0);
    assert_eq!(told["actions_runner_registration"]["remaining"], 9_997);
}

#[test]
fn too_many_points_a_minute_are_refused_until_the_minute_is_over() {
    let mut hub = with_rules(LimitRules { points_per_minute: Some(10), ..LimitRules::default() });
    hub.pass(Duration::from_secs(15));
    for _ in 0..5 {
        assert_eq!(hub.get("/repos/o/r").status, 200);
    }
    assert_eq!(hub.mint("x", &["nix"]).status, 201, "the other five points");
    let refused = hub.get("/repos/o/r");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("retry-after"), Some("45"));
    assert_ne!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert!(refused.body["message"].as_str().unwrap().contains("secondary rate limit"));
    hub.token = "other".to_owned();
    assert_eq!(hub.get("/repos/o/r").status, 200, "that credential only");
    hub.token = "t0k".to_owned();
    hub.pass(Duration::from_secs(45));
    assert_eq!(hub.get("/repos/o/r").status, 200);
}

#[test]
fn unchanged_answers_cost_points_too() {
    let mut hub = with_rules(LimitRules { points_per_minute: Some(2), retry_after: false, ..LimitRules::default() });
    let etag = hub.get("/repos/o/r").header("etag").unwrap().to_owned();
    assert_eq!(hub.get_if_changed("/repos/o/r", &etag).status, 304);
    let refused = hub.get_if_changed("/repos/o/r", &etag);
    assert_eq!((refused.status, refused.header("retry-after")), (403, None));
}

#[test]
fn a_new_token_of_an_installation_does_not_begin_a_new_hour() {
    let mut hub = Hub::new();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = hub.now.as_secs();
    let claims = json!({ "iat": now, "exp": now + 540, "iss": 1 });
    let jwt = format!("{}.{}.c2ln", part(json!({ "alg": "RS256" })), part(claims));
    for used in ["1", "2"] {
        hub.token = jwt.clone();
        let id = hub.get("/orgs/o/installation").body["id"].clone();
        let minted = hub.post(&format!("/app/installations/{id}/access_tokens"), json!({}));
        hub.token = minted.body["token"].as_str().unwrap().to_owned();
        assert_eq!(hub.get("/repos/o/r").header("x-ratelimit-used"), Some(used));
    }
    assert_eq!(hub.world.traffic().of_credential("installation of o").requests, 2);
    assert_eq!(hub.world.traffic().of_credential("app").requests, 4);
}

#[test]
fn what_was_asked_is_counted_by_credential_call_and_status() {
    let mut hub = Hub::new();
    let path = "/repos/o/r/actions/runs";
    let etag = hub.get(path).header("etag").unwrap().to_owned();
    for _ in 0..3 {
        hub.get_if_changed(path, &etag);
    }
    hub.token = "other".to_owned();
    hub.get("/repos/o/nothing");
    let report = hub.world.traffic();
    let tally = report.of_credential("t0k");
    assert_eq!((tally.requests, tally.not_modified, tally.errors), (4, 3, 0));
    assert!((tally.not_modified_share() - 0.75).abs() < f64::EPSILON);
    assert_eq!(report.of_credential("other").errors, 1);
    let unchanged = report.counts.iter().find(|count| count.status == 304).unwrap();
    assert_eq!((unchanged.credential.as_str(), unchanged.call, unchanged.requests), ("t0k", Call::ListRuns, 3));
    hub.pass(HOUR + MINUTE);
    hub.world.reset_traffic();
    assert!(hub.world.traffic().counts.is_empty());
    hub.get(path);
    hub.get(path);
    hub.pass(30 * MINUTE);
    let report = hub.world.traffic();
    assert_eq!(report.lasted, 30 * MINUTE);
    assert!((report.per_hour(report.total) - 4.0).abs() < 1e-9);
}
