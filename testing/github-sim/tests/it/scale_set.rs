//! Scale sets: bootstrap, sets, sessions, the message queue and what a listener may rely on.

use crate::hub::{Got, HOUR, Hub, MINUTE, got};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use github_sim::{
    Call, Config, Reply, server,
    world::{
        AccountSpec, Assignment, Conclusion, Fault, JobId, JobSpec, RepoSpec, RunnerFault, RunnerGroupSpec,
        RunnerResult, RunnerWhat, ScaleSetId, ScaleSetRules, Scope, What,
    },
};
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

const SECOND: Duration = Duration::from_secs(1);

/// One listener with its set, as a client would hold it.
struct Listener {
    hub: Hub,
    service: String,
    admin: String,
    set: u64,
    session: String,
    queue: String,
    token: String,
    cursor: u64,
}

/// Asks anything with any credential.
fn raw(hub: &mut Hub, method: &str, uri: &str, auth: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
    let mut request = Request::builder().method(method).uri(uri).header("authorization", auth);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    hub.world.handle(hub.now, &request.body(body).unwrap())
}

/// From the REST credential to the Actions service; gives its address and the admin token.
fn register(hub: &mut Hub, scope: &str, url: &str) -> (String, String) {
    let minted = hub.post(&format!("{scope}/actions/runners/registration-token"), json!({}));
    assert_eq!(minted.status, 201, "{}", minted.body);
    let auth = format!("RemoteAuth {}", minted.body["token"].as_str().unwrap());
    let body = json!({ "url": url, "runner_event": "register" });
    let answer = got(raw(hub, "POST", "/actions/runner-registration", &auth, &[], Some(body)).answer().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.body);
    (answer.body["url"].as_str().unwrap().to_owned(), answer.body["token"].as_str().unwrap().to_owned())
}

fn events(message: &Got) -> Vec<Value> {
    serde_json::from_str(message.body["body"].as_str().unwrap()).unwrap()
}

fn kinds(message: &Got) -> Vec<String> {
    events(message).iter().map(|event| event["messageType"].as_str().unwrap().to_owned()).collect()
}

impl Listener {
    fn new() -> Self {
        Self::with(Hub::new(), &["nix"])
    }

    fn with_rules(rules: ScaleSetRules) -> Self {
        Self::with(Hub::with(Config { scale_sets: rules, ..Config::default() }), &["nix"])
    }

    fn with(hub: Hub, labels: &[&str]) -> Self {
        Self::at(hub, "/repos/o/r", "https://github.invalid/o/r", labels)
    }

    fn at(mut hub: Hub, scope: &str, url: &str, labels: &[&str]) -> Self {
        let (service, admin) = register(&mut hub, scope, url);
        let mut listener = Self {
            hub,
            service,
            admin,
            set: 0,
            session: String::new(),
            queue: String::new(),
            token: String::new(),
            cursor: 0,
        };
        let labels: Vec<Value> = labels.iter().map(|name| json!({ "type": "System", "name": name })).collect();
        let body =
            json!({ "name": "ours", "runnerGroupId": 1, "labels": labels, "RunnerSetting": { "disableUpdate": true } });
        let created = listener.api("POST", "_apis/runtime/runnerscalesets", Some(body));
        assert_eq!(created.status, 200, "{}", created.body);
        listener.set = created.body["id"].as_u64().unwrap();
        assert_eq!(listener.open().status, 200);
        listener
    }

    fn api(&mut self, method: &str, path: &str, body: Option<Value>) -> Got {
        let sign = if path.contains('?') { '&' } else { '?' };
        let uri = format!("{}/{path}{sign}api-version=6.0-preview", self.service);
        let auth = format!("Bearer {}", self.admin);
        got(raw(&mut self.hub, method, &uri, &auth, &[], body).answer().unwrap())
    }

    fn in_set(&mut self, method: &str, rest: &str, body: Option<Value>) -> Got {
        let path = format!("_apis/runtime/runnerscalesets/{}{rest}", self.set);
        self.api(method, &path, body)
    }

    fn open(&mut self) -> Got {
        let answer = self.in_set("POST", "/sessions", Some(json!({ "ownerName": "host-1" })));
        if answer.status == 200 {
            self.keep(&answer);
        }
        answer
    }

    fn keep(&mut self, session: &Got) {
        let text = |name: &str| session.body[name].as_str().unwrap().to_owned();
        self.session = text("sessionId");
        self.queue = text("messageQueueUrl");
        self.token = text("messageQueueAccessToken");
    }

    fn close(&mut self) -> Got {
        let path = format!("/sessions/{}", self.session);
        self.in_set("DELETE", &path, None)
    }

    fn poll_reply(&mut self, capacity: u64) -> Reply {
        let uri = match self.cursor {
            0 => self.queue.clone(),
            cursor => format!("{}&lastMessageId={cursor}", self.queue),
        };
        let auth = format!("Bearer {}", self.token);
        let capacity = capacity.to_string();
        raw(&mut self.hub, "GET", &uri, &auth, &[("x-scalesetmaxcapacity", &capacity)], None)
    }

    /// Polls until there is an answer, letting time pass as a client that waits.
    fn poll(&mut self, capacity: u64) -> Got {
        let mut reply = self.poll_reply(capacity);
        while let Reply::Held(held) = reply {
            self.hub.pass(SECOND);
            reply = self.hub.world.look_again(self.hub.now, &held);
        }
        got(reply.answer().unwrap())
    }

    fn delete(&mut self, id: u64) -> u16 {
        let uri = self.queue.replace("message?", &format!("message/{id}?"));
        let auth = format!("Bearer {}", self.token);
        raw(&mut self.hub, "DELETE", &uri, &auth, &[], None).answer().unwrap().status().as_u16()
    }

    /// Polls and deletes what came.
    fn hear(&mut self, capacity: u64) -> Vec<String> {
        let message = self.poll(capacity);
        if message.status != 200 {
            return Vec::new();
        }
        let id = message.body["messageId"].as_u64().unwrap();
        assert_eq!(self.delete(id), 204);
        kinds(&message)
    }

    fn mint(&mut self, name: &str) -> Got {
        self.in_set("POST", "/generatejitconfig", Some(json!({ "name": name, "workFolder": "_work" })))
    }

    fn statistics(&mut self) -> Value {
        self.in_set("GET", "", None).body["statistics"].clone()
    }

    fn queue_job(&mut self, name: &str) -> JobId {
        self.hub.queue(name, &["nix"]).1
    }
}

#[test]
fn the_chain_of_credentials_ends_in_a_token_that_tells_its_end() {
    let mut hub = Hub::with(Config {
        scale_sets: ScaleSetRules { admin_token_ttl: 17 * MINUTE, ..ScaleSetRules::default() },
        ..Config::default()
    });
    let (service, admin) = register(&mut hub, "/api/v3/repos/o/r", "http://github.invalid/o/r");
    assert_eq!(service, "http://github.invalid/actions-service/rest");
    let claims = URL_SAFE_NO_PAD.decode(admin.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["exp"], (hub.now + 17 * MINUTE).as_secs());
    let uri = format!("{service}/_apis/runtime/runnerscalesets?api-version=6.0-preview");
    let auth = format!("Bearer {admin}");
    assert_eq!(raw(&mut hub, "GET", &uri, &auth, &[], None).answer().unwrap().status(), 200);
    hub.pass(17 * MINUTE);
    let refused = got(raw(&mut hub, "GET", &uri, &auth, &[], None).answer().unwrap());
    assert_eq!(refused.status, 401);
    assert!(refused.body["typeName"].as_str().unwrap().contains("InvalidTokenException"));
}

#[test]
fn registration_wants_the_token_of_that_very_place() {
    let mut hub = Hub::new();
    let minted = hub.post("/repos/o/r/actions/runners/registration-token", json!({}));
    let token = minted.body["token"].as_str().unwrap().to_owned();
    let mut ask = |auth: &str, url: &str| {
        let body = json!({ "url": url, "runner_event": "register" });
        let path = "/api/v3/actions/runner-registration";
        raw(&mut hub, "POST", path, auth, &[], Some(body)).answer().unwrap().status().as_u16()
    };
    assert_eq!(ask(&format!("RemoteAuth {token}"), "https://github.invalid/o/r"), 200);
    assert_eq!(ask(&format!("RemoteAuth {token}"), "https://github.invalid/o/s"), 404);
    assert_eq!(ask("RemoteAuth wrong", "https://github.invalid/o/r"), 401);
    assert_eq!(ask(&format!("Bearer {token}"), "https://github.invalid/o/r"), 401);
}

#[test]
fn a_set_is_found_by_its_name_and_reads_back_its_labels() {
    let mut hub = Listener::with(Hub::new(), &["nix", "big"]);
    let found = hub.api("GET", "_apis/runtime/runnerscalesets?runnerGroupId=1&name=ours", None);
    assert_eq!(found.body["count"], 1);
    let set = &found.body["value"][0];
    assert_eq!(set["labels"][1]["name"], "big");
    assert_eq!(set["labels"][1]["type"], "System");
    assert_eq!(set["RunnerSetting"]["disableUpdate"], true);
    assert_eq!(set["runnerGroupName"], "Default");
    assert_eq!(hub.api("GET", "_apis/runtime/runnerscalesets?runnerGroupId=1&name=other", None).body["count"], 0);
    let again = hub.api("POST", "_apis/runtime/runnerscalesets", Some(json!({ "name": "ours", "runnerGroupId": 1 })));
    assert_eq!(again.status, 400);
    let named = hub.api("POST", "_apis/runtime/runnerscalesets", Some(json!({ "name": "bare", "runnerGroupId": 1 })));
    assert_eq!(named.body["labels"][0]["name"], "bare", "the name is the label where none is given");
    assert_eq!(hub.in_set("DELETE", "", None).status, 204);
    assert_eq!(hub.in_set("GET", "", None).status, 404);
}

#[test]
fn a_server_that_does_not_know_several_labels_drops_them_in_silence() {
    let rules = ScaleSetRules { several_labels: false, ..ScaleSetRules::default() };
    let mut hub = Listener::with(Hub::with(Config { scale_sets: rules, ..Config::default() }), &["nix", "big"]);
    let labels = hub.in_set("GET", "", None).body["labels"].clone();
    assert_eq!(labels.as_array().unwrap().len(), 1);
    assert_eq!(labels[0]["name"], "nix");
}

#[test]
fn what_a_request_may_not_leave_out() {
    let mut hub = Listener::new();
    let auth = format!("Bearer {}", hub.admin);
    let uri = format!("{}/_apis/runtime/runnerscalesets", hub.service);
    assert_eq!(raw(&mut hub.hub, "GET", &uri, &auth, &[], None).answer().unwrap().status(), 400, "api-version");
    hub.queue = hub.queue.split('?').next().unwrap().to_owned();
    assert_eq!(hub.poll_reply(1).answer().unwrap().status(), 400, "the query of the queue");
    let answer = hub.in_set("GET", "", None);
    assert!(answer.header("activityid").is_some());
    assert!(answer.header("x-github-request-id").is_some());
}

#[tokio::test]
async fn a_poll_that_its_client_gives_up_is_counted_and_answered_by_nobody() {
    let ever = 1_000_000 * HOUR;
    let rules = ScaleSetRules { session_ttl: ever, queue_token_ttl: ever, ..ScaleSetRules::default() };
    let Listener { hub, queue, token, .. } = Listener::with_rules(rules);
    let world = server::Shared::new(hub.world);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(world.clone().serve_tcp(listener, server::Doors::Public));
    let path = queue.split_once("/actions-service").unwrap().1;
    let request = format!("GET /actions-service{path} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let polls = || world.lock().traffic().of(Call::GetMessage);
    assert_eq!(polls().requests, 0, "it is held");
    drop(client);
    let counted = async {
        while polls().unanswered == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(10 * SECOND, counted).await.unwrap();
    assert_eq!(polls().requests, 1);
}

#[test]
fn capacity_is_a_cap_on_all_assigned_jobs_at_every_poll() {
    let mut hub = Listener::new();
    let (first, second) = (hub.queue_job("a"), hub.queue_job("b"));
    let began = hub.hub.now;
    assert_eq!(hub.poll(0).status, 202);
    assert_eq!(hub.hub.now - began, 50 * SECOND, "held");
    assert_eq!(hub.statistics()["totalAvailableJobs"], 2);
    let one = hub.poll(1);
    assert_eq!(kinds(&one), ["JobAssigned"]);
    assert_eq!(one.body["messageId"], 100_000_001);
    assert_eq!(one.body["messageType"], "RunnerScaleSetJobMessages");
    assert_eq!((one.body["statistics"]["totalAssignedJobs"].as_u64()), Some(1));
    assert_eq!(hub.delete(100_000_001), 204);
    assert_eq!(hub.poll(1).status, 202, "full");
    let two = hub.poll(2);
    assert_eq!(two.body["messageId"], 100_000_002);
    assert_eq!(two.body["statistics"]["totalAssignedJobs"], 2);
    assert_eq!(hub.hub.world.scale_set_views()[0].assigned_jobs, [first, second]);
}

#[test]
fn an_event_says_what_is_known_of_the_job() {
    let mut hub = Listener::new();
    let (run, _) = hub.hub.queue("build (x)", &["NIX"]);
    let message = hub.poll(5);
    let event = &events(&message)[0];
    assert_eq!(event["runnerRequestId"], 0);
    assert_eq!((event["ownerName"].as_str(), event["repositoryName"].as_str()), (Some("o"), Some("r")));
    assert_eq!(event["jobDisplayName"], "build (x)");
    assert_eq!(event["workflowRunId"], json!(run));
    assert_eq!(event["eventName"], "push");
    assert_eq!(event["requestLabels"], json!(["NIX"]));
    assert_eq!(event["jobWorkflowRef"], "o/r/.github/workflows/ci.yml@refs/heads/main");
    assert_eq!(event["scaleSetAssignTime"], "2026-11-01T10:00:00Z");
    assert_eq!(event["runnerAssignTime"], "0001-01-01T00:00:00Z");
    assert_eq!(event["jobId"].as_str().unwrap().len(), 36);
}

#[test]
fn a_poll_is_held_until_there_is_something_to_say() {
    let mut hub = Listener::new();
    let Reply::Held(held) = hub.poll_reply(1) else { panic!("nothing is queued") };
    hub.hub.pass(10 * SECOND);
    hub.queue_job("late");
    let reply = hub.hub.world.look_again(hub.hub.now, &held);
    assert_eq!(kinds(&got(reply.answer().unwrap())), ["JobAssigned"]);
    let traffic = hub.hub.world.traffic();
    assert_eq!(traffic.of(Call::GetMessage).requests, 1, "one poll, however often somebody looked");
}

#[test]
fn a_job_runs_on_a_runner_of_the_set_and_the_listener_hears_of_it() {
    let mut hub = Listener::new();
    let job = hub.queue_job("a");
    assert_eq!(hub.hear(3), ["JobAssigned"]);
    let minted = hub.mint("host-1-abc");
    assert_eq!(minted.status, 200);
    assert_eq!(minted.body["runner"]["name"], "host-1-abc");
    assert_eq!(minted.body["runner"]["runnerScaleSetId"], hub.set);
    let blob = minted.body["encodedJITConfig"].as_str().unwrap().to_owned();
    let runner = hub.hub.world.runner_connect(hub.hub.now, &blob).unwrap();
    assert_eq!(hub.statistics()["totalIdleRunners"], 1);
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &runner).unwrap(), Some(job));
    let started = hub.poll(3);
    let event = &events(&started)[0];
    assert_eq!(event["messageType"], "JobStarted");
    assert_eq!((event["runnerId"].as_u64(), event["runnerName"].as_str()), (Some(runner.runner.0), Some("host-1-abc")));
    assert_eq!(started.body["statistics"]["totalRunningJobs"], 1);
    assert_eq!(started.body["statistics"]["totalBusyRunners"], 1);
    hub.cursor = started.body["messageId"].as_u64().unwrap();
    hub.hub.pass(MINUTE);
    hub.hub.world.runner_complete(hub.hub.now, &runner, RunnerResult::Failed).unwrap();
    let completed = hub.poll(3);
    let event = &events(&completed)[0];
    assert_eq!((event["messageType"].as_str(), event["result"].as_str()), (Some("JobCompleted"), Some("failed")));
    assert_eq!(event["runnerName"], "host-1-abc");
    assert_eq!(completed.body["statistics"]["totalAssignedJobs"], 0);
}

#[test]
fn a_cancelled_job_completes_without_a_runner() {
    let mut hub = Listener::new();
    let job = hub.queue_job("a");
    assert_eq!(hub.hear(1), ["JobAssigned"]);
    hub.hub.world.cancel_job(hub.hub.now, job).unwrap();
    let message = hub.poll(1);
    let event = &events(&message)[0];
    assert_eq!((event["messageType"].as_str(), event["result"].as_str()), (Some("JobCompleted"), Some("canceled")));
    assert_eq!((event["runnerId"].as_u64(), event["runnerName"].as_str()), (Some(0), Some("")));
}

#[test]
fn a_job_of_the_set_is_for_its_runners_only() {
    let mut hub = Listener::new();
    hub.queue_job("a");
    assert_eq!(hub.hear(1), ["JobAssigned"]);
    let stranger = hub.hub.runner("classic", &["nix"]);
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &stranger).unwrap(), None);
    let blob = hub.mint("ours-1").body["encodedJITConfig"].as_str().unwrap().to_owned();
    let own = hub.hub.world.runner_connect(hub.hub.now, &blob).unwrap();
    assert!(hub.hub.world.runner_poll(hub.hub.now, &own).unwrap().is_some());
    let other = hub.queue_job("nobody's yet");
    let blob = hub.mint("ours-2").body["encodedJITConfig"].as_str().unwrap().to_owned();
    let own = hub.hub.world.runner_connect(hub.hub.now, &blob).unwrap();
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &own).unwrap(), None, "not assigned yet");
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &stranger).unwrap(), Some(other));
}

#[test]
fn runners_of_a_set_are_runners_of_the_rest_half_too() {
    let mut hub = Listener::new();
    let id = hub.mint("x").body["runner"]["id"].as_u64().unwrap();
    let again = hub.mint("x");
    assert_eq!(again.status, 409);
    assert!(again.body["typeName"].as_str().unwrap().contains("AgentExistsException"));
    let listed = hub.hub.get("/repos/o/r/actions/runners?name=x");
    assert_eq!(listed.all("runners", "id"), [json!(id)]);
    let by_name = hub.api("GET", "_apis/distributedtask/pools/0/agents?agentName=x", None);
    assert_eq!((by_name.body["count"].as_u64(), by_name.body["value"][0]["id"].as_u64()), (Some(1), Some(id)));
    assert_eq!(hub.hub.delete(&format!("/repos/o/r/actions/runners/{id}")).status, 204);
    let gone = hub.api("GET", &format!("_apis/distributedtask/pools/0/agents/{id}"), None);
    assert_eq!(gone.status, 404);
    assert!(gone.body["typeName"].as_str().unwrap().contains("AgentNotFoundException"));
}

#[test]
fn a_busy_agent_cannot_be_deleted() {
    let mut hub = Listener::new();
    hub.queue_job("a");
    hub.hear(1);
    let minted = hub.mint("x");
    let blob = minted.body["encodedJITConfig"].as_str().unwrap().to_owned();
    let runner = hub.hub.world.runner_connect(hub.hub.now, &blob).unwrap();
    hub.hub.world.runner_poll(hub.hub.now, &runner).unwrap();
    let path = format!("_apis/distributedtask/pools/0/agents/{}", runner.runner);
    let refused = hub.api("DELETE", &path, None);
    assert!(refused.body["typeName"].as_str().unwrap().contains("JobStillRunningException"));
    hub.hub.world.runner_complete(hub.hub.now, &runner, RunnerResult::Succeeded).unwrap();
    hub.hub.pass(MINUTE);
    assert_eq!(hub.api("DELETE", &path, None).status, 404);
}

#[test]
fn one_listener_at_a_time_until_its_session_ends_or_is_abandoned() {
    let mut hub = Listener::new();
    let refused = hub.open();
    assert_eq!(refused.status, 409);
    assert!(refused.body["typeName"].as_str().unwrap().contains("RunnerScaleSetSessionConflictException"));
    assert_eq!(hub.close().status, 204);
    assert_eq!(hub.close().status, 400, "a second time");
    assert_eq!(hub.open().status, 200);
    hub.hub.pass(2 * MINUTE - SECOND);
    assert_eq!(hub.open().status, 409);
    hub.hub.pass(SECOND);
    assert_eq!(hub.open().status, 200, "abandoned");
}

#[test]
fn a_poll_keeps_the_session_alive() {
    let mut hub = Listener::new();
    for _ in 0..10 {
        assert_eq!(hub.poll(1).status, 202);
    }
    assert_eq!(hub.open().status, 409);
}

#[test]
fn a_queue_token_expires_and_a_refresh_gives_a_new_one_for_the_same_session() {
    let rules = ScaleSetRules { queue_token_ttl: MINUTE, session_ttl: HOUR, ..ScaleSetRules::default() };
    let mut hub = Listener::with_rules(rules);
    hub.hub.pass(MINUTE);
    assert_eq!(hub.poll(1).status, 401);
    let path = format!("/sessions/{}", hub.session);
    let refreshed = hub.in_set("PATCH", &path, None);
    assert_eq!(refreshed.status, 200);
    assert_eq!(refreshed.body["sessionId"], hub.session);
    assert_ne!(refreshed.body["messageQueueAccessToken"], hub.token);
    assert_eq!(refreshed.body["statistics"]["totalAssignedJobs"], 0);
    hub.keep(&refreshed);
    assert_eq!(hub.poll(1).status, 202);
}

#[test]
fn a_lost_session_is_gone_for_queue_and_refresh_and_loses_no_message() {
    let mut hub = Listener::new();
    hub.queue_job("a");
    assert_eq!(kinds(&hub.poll(1)), ["JobAssigned"]);
    hub.hub.world.lose_session(hub.hub.now, ScaleSetId(hub.set)).unwrap();
    assert_eq!(hub.poll(1).status, 404);
    let path = format!("/sessions/{}", hub.session);
    assert_eq!(hub.in_set("PATCH", &path, None).status, 404);
    assert_eq!(hub.open().status, 200);
    assert_eq!(kinds(&hub.poll(1)), ["JobAssigned"]);
}

#[test]
fn what_was_not_deleted_comes_again_to_the_next_session() {
    let mut hub = Listener::new();
    hub.queue_job("a");
    let first = hub.poll(9);
    hub.cursor = first.body["messageId"].as_u64().unwrap();
    hub.queue_job("b");
    let second = hub.poll(9);
    assert_eq!(second.body["messageId"], 100_000_002, "the cursor moved on");
    assert_eq!(hub.delete(100_000_002), 204);
    assert_eq!(hub.delete(100_000_002), 404);
    hub.close();
    hub.hub.pass(13 * HOUR);
    let (_, admin) = register(&mut hub.hub, "/repos/o/r", "http://github.invalid/o/r");
    hub.admin = admin;
    hub.open();
    hub.cursor = 0;
    let again = hub.poll(9);
    assert_eq!((again.body["messageId"].as_u64(), &again.body["body"]), (Some(100_000_001), &first.body["body"]));
    assert_eq!(hub.delete(100_000_001), 204);
    hub.hub.world.restore_messages(hub.hub.now, ScaleSetId(hub.set)).unwrap();
    assert_eq!(hub.hub.world.scale_set_views()[0].undeleted_messages, [100_000_001, 100_000_002]);
}

#[test]
fn a_message_holds_fifty_events_at_most() {
    let mut hub = Listener::new();
    for number in 0..60 {
        hub.queue_job(&number.to_string());
    }
    assert_eq!(hub.hear(100).len(), 50);
    assert_eq!(hub.hear(100).len(), 10);
}

#[test]
fn claiming_is_unknown_where_the_server_assigns() {
    let mut hub = Listener::new();
    let uri = format!("{}/_apis/runtime/runnerscalesets/{}/acquirejobs?api-version=6.0-preview", hub.service, hub.set);
    let auth = format!("Bearer {}", hub.token);
    assert_eq!(raw(&mut hub.hub, "POST", &uri, &auth, &[], Some(json!([1]))).answer().unwrap().status(), 404);
}

#[test]
fn an_enterprise_server_holds_jobs_out_until_they_are_claimed() {
    let mut hub = Listener::with_rules(ScaleSetRules { assignment: Assignment::Acquire, ..ScaleSetRules::default() });
    let job = hub.queue_job("a");
    let message = hub.poll(5);
    assert_eq!(kinds(&message), ["JobAvailable"]);
    assert_eq!(message.body["statistics"]["totalAvailableJobs"], 1);
    assert_eq!(message.body["statistics"]["totalAssignedJobs"], 0);
    hub.cursor = message.body["messageId"].as_u64().unwrap();
    let request = events(&message)[0]["runnerRequestId"].as_u64().unwrap();
    assert!(request > 0);
    assert_eq!(hub.in_set("GET", "/acquirablejobs", None).body["count"], 1);
    let uri = format!("{}/_apis/runtime/runnerscalesets/{}/acquirejobs?api-version=6.0-preview", hub.service, hub.set);
    let admin = format!("Bearer {}", hub.admin);
    let body = Some(json!([request, 4_711]));
    let refused = raw(&mut hub.hub, "POST", &uri, &admin, &[], body.clone()).answer().unwrap();
    assert_eq!(refused.status(), 401, "only the queue token claims");
    let queue = format!("Bearer {}", hub.token);
    let taken = got(raw(&mut hub.hub, "POST", &uri, &queue, &[], body).answer().unwrap());
    assert_eq!(taken.body, json!({ "count": 1, "value": [request] }));
    let assigned = hub.poll(5);
    assert_eq!(kinds(&assigned), ["JobAssigned"]);
    assert_eq!(hub.hub.world.job_view(job).unwrap().scale_set, Some(ScaleSetId(hub.set)));
    assert_eq!(hub.in_set("GET", "/acquirablejobs", None).status, 204);
}

#[test]
fn an_organisation_gets_jobs_of_the_repositories_its_group_allows() {
    let mut hub = Hub::new();
    let private = RepoSpec { name: "o/secret".to_owned(), private: true };
    hub.world.add_repo(&private).unwrap();
    let mut hub = Listener::at(hub, "/orgs/o", "https://github.invalid/o", &["nix"]);
    let open = hub.queue_job("in a public repository");
    let job = JobSpec::new("in a private one", &["nix"], &[]);
    let (_, hidden) = hub.hub.world.queue_job(hub.hub.now, "o/secret", job).unwrap();
    hub.hear(9);
    assert_eq!(hub.hub.world.scale_set_views()[0].assigned_jobs, [hidden]);
    assert_eq!(hub.statistics()["totalAvailableJobs"], 0);
    let group = RunnerGroupSpec {
        name: "Default".to_owned(),
        visibility: Default::default(),
        allows_public_repositories: true,
    };
    hub.hub.world.set_runner_group(&Scope::Org("o".to_owned()), group).unwrap();
    hub.hear(9);
    assert!(hub.hub.world.scale_set_views()[0].assigned_jobs.contains(&open));
}

#[test]
fn groups_are_found_by_name() {
    let mut hub = Hub::new();
    let group = RunnerGroupSpec {
        name: "builders".to_owned(),
        visibility: Default::default(),
        allows_public_repositories: false,
    };
    let id = hub.world.set_runner_group(&Scope::Org("o".to_owned()), group).unwrap();
    let mut hub = Listener::at(hub, "/orgs/o", "https://github.invalid/o", &["nix"]);
    let found = hub.api("GET", "_apis/runtime/runnergroups/?groupName=builders", None);
    assert_eq!(found.body["value"][0], json!({ "id": id, "name": "builders", "size": 0, "isDefaultGroup": false }));
    assert_eq!(hub.api("GET", "_apis/runtime/runnergroups/?groupName=nobody", None).body["count"], 0);
    let moved = hub.in_set("PATCH", "", Some(json!({ "runnerGroupId": id })));
    assert_eq!(moved.body["runnerGroupName"], "builders");
}

#[test]
fn a_dropped_assignment_shows_in_the_statistics_only() {
    let mut hub = Listener::new();
    let job = hub.queue_job("a");
    assert_eq!(hub.hear(1), ["JobAssigned"]);
    hub.hub.world.drop_assignment(hub.hub.now, job).unwrap();
    assert_eq!(hub.poll(1).status, 202);
    assert_eq!(hub.statistics()["totalAssignedJobs"], 0);
    assert_eq!(hub.hub.world.job_view(job).unwrap().conclusion, None);
}

#[test]
fn a_job_nobody_picks_up_is_assigned_three_times() {
    let mut hub = Listener::with_rules(ScaleSetRules { pickup_limit: Some(5 * MINUTE), ..ScaleSetRules::default() });
    let job = hub.queue_job("a");
    let mut heard = hub.hear(1);
    for _ in 0..3 {
        hub.hub.pass(MINUTE);
        while hub.hub.world.job_view(job).unwrap().scale_set.is_some() && heard.len() < 6 {
            heard.extend(hub.hear(1));
        }
    }
    let kinds: Vec<&str> = heard.iter().map(String::as_str).collect();
    assert_eq!(kinds, ["JobAssigned", "JobCompleted", "JobAssigned", "JobCompleted", "JobAssigned", "JobCompleted"]);
    assert_eq!(hub.hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Cancelled));
}

#[test]
fn an_empty_answer_and_a_hasty_one_hold_nothing_and_lose_nothing() {
    let mut hub = Listener::new();
    hub.hub.world.inject(Fault::once(Call::GetMessage, What::NothingAtOnce));
    assert_eq!(hub.poll_reply(1).answer().unwrap().status(), 202, "not held");
    hub.queue_job("a");
    hub.hub.world.inject(Fault::once(Call::GetMessage, What::EmptyMessage));
    let empty = hub.poll_reply(1).answer().unwrap();
    assert_eq!((empty.status().as_u16(), empty.body().len()), (200, 0));
    assert_eq!(hub.hear(1), ["JobAssigned"]);
}

#[test]
fn messages_come_with_a_mark_with_unknown_events_and_of_unknown_kinds() {
    let mut hub = Listener::new();
    hub.queue_job("a");
    for what in [What::ByteOrderMark, What::UnknownEvent, What::UnknownMessage, What::ZeroStatistics] {
        hub.hub.world.inject(Fault::once(Call::GetMessage, what));
    }
    let marked = hub.poll_reply(1).answer().unwrap();
    assert!(marked.body().starts_with(&[0xef, 0xbb, 0xbf]));
    assert_eq!(kinds(&hub.poll(1)), ["JobAssigned", "JobPondered"]);
    assert_ne!(hub.poll(1).body["messageType"], "RunnerScaleSetJobMessages");
    let zero = hub.poll(1);
    assert_eq!(kinds(&zero), ["JobAssigned"]);
    assert_eq!(zero.body["statistics"]["totalAssignedJobs"], 0);
    assert_eq!(hub.poll(1).body["statistics"]["totalAssignedJobs"], 1);
}

#[test]
fn a_message_that_is_lost_on_its_way_is_not_lost() {
    let mut hub = Listener::new();
    hub.hub.world.inject(Fault::once(Call::GetMessage, What::LostAnswer));
    assert_eq!(hub.poll(1).status, 202, "the fault waits for a message");
    hub.queue_job("a");
    assert!(matches!(hub.poll_reply(1), Reply::Reset));
    assert_eq!(hub.hear(1), ["JobAssigned"]);
}

#[test]
fn a_runner_whose_answer_was_lost_is_there_all_the_same() {
    let mut hub = Listener::new();
    hub.hub.world.inject(Fault::once(Call::MintScaleSetRunner, What::LostAnswer));
    let uri =
        format!("{}/_apis/runtime/runnerscalesets/{}/generatejitconfig?api-version=6.0-preview", hub.service, hub.set);
    let auth = format!("Bearer {}", hub.admin);
    let reply = raw(&mut hub.hub, "POST", &uri, &auth, &[], Some(json!({ "name": "x", "workFolder": "_work" })));
    assert!(matches!(reply, Reply::Reset));
    assert_eq!(hub.hub.world.leaked_runners().len(), 1);
    assert_eq!(hub.mint("x").status, 409);
}

#[test]
fn a_job_of_the_set_that_a_stranger_takes_is_told_of_like_any_other() {
    let mut hub = Listener::new();
    let job = hub.queue_job("a");
    assert_eq!(hub.hear(1), ["JobAssigned"]);
    let blob = hub.mint("ours").body["encodedJITConfig"].as_str().unwrap().to_owned();
    let own = hub.hub.world.runner_connect(hub.hub.now, &blob).unwrap();
    hub.hub.world.inject_runner(RunnerFault::once(RunnerWhat::StealJob));
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &own).unwrap(), None);
    let started = hub.poll(1);
    assert!(events(&started)[0]["runnerName"].as_str().unwrap().starts_with("stranger-"));
    hub.cursor = started.body["messageId"].as_u64().unwrap();
    assert_eq!(kinds(&hub.poll(1)), ["JobCompleted"]);
    assert_eq!(hub.hub.world.job_view(job).unwrap().conclusion, Some(Conclusion::Success));
    assert_eq!(hub.statistics()["totalIdleRunners"], 1);
}

#[test]
fn a_deleted_set_lets_go_of_its_jobs_and_its_idle_runners() {
    let mut hub = Listener::new();
    let job = hub.queue_job("a");
    assert_eq!(hub.hear(1), ["JobAssigned"]);
    assert_eq!(hub.mint("ours").status, 200);
    assert_eq!(hub.in_set("DELETE", "", None).status, 204);
    assert!(hub.hub.world.runner_views().is_empty());
    assert_eq!(hub.poll_reply(1).answer().unwrap().status(), 404);
    let classic = hub.hub.runner("classic", &["nix"]);
    assert_eq!(hub.hub.world.runner_poll(hub.hub.now, &classic).unwrap(), Some(job));
}

#[test]
fn the_service_refuses_by_name_as_told() {
    let mut hub = Listener::new();
    hub.close();
    let conflict = What::Exception { code: 409, type_name: "RunnerScaleSetSessionConflictException".to_owned() };
    hub.hub.world.inject(Fault::once(Call::OpenMessageSession, conflict));
    let refused = hub.open();
    assert_eq!(refused.status, 409);
    assert!(refused.body["typeName"].as_str().unwrap().contains("RunnerScaleSetSessionConflictException"));
    assert_eq!(hub.open().status, 200);
    hub.hub.world.inject(Fault::once(Call::GetMessage, What::Unauthorized));
    assert_eq!(hub.poll(1).status, 401);
    hub.hub.world.revoke_scale_set_tokens();
    assert_eq!(hub.poll(1).status, 401);
    assert_eq!(hub.statistics(), Value::Null);
}

#[test]
fn an_enterprise_has_scale_sets_for_all_its_organisations() {
    let mut hub = Hub::new();
    let account = |login: &str| AccountSpec {
        login: login.to_owned(),
        kind: Default::default(),
        enterprise: Some("corp".to_owned()),
    };
    hub.world.set_account(account("o")).unwrap();
    let private = RepoSpec { name: "o/secret".to_owned(), private: true };
    hub.world.add_repo(&private).unwrap();
    let mut hub = Listener::at(hub, "/enterprises/corp", "https://github.invalid/enterprises/corp", &["nix"]);
    let job = JobSpec::new("a", &["nix"], &[]);
    hub.hub.world.queue_job(hub.hub.now, "o/secret", job).unwrap();
    assert_eq!(hub.hear(1), ["JobAssigned"]);
}
