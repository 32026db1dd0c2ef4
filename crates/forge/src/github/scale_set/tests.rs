//! The client against a scripted service: each status and fault alone.
#![allow(clippy::unwrap_used)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use super::*;
use settings::token_file::Token;

use crate::{
    github::{Rest, Session as Login},
    wire::{Answer, NoAnswer, Request},
};

const EPOCH: u64 = 1_793_577_600;
const REGISTRATION_TOKEN: &str = "POST /api/v3/repos/o/r/actions/runners/registration-token";
const SETS: &str = "/svc/_apis/runtime/runnerscalesets";
const SESSIONS: &str = "/svc/_apis/runtime/runnerscalesets/5/sessions";
const SESSION: &str = "/svc/_apis/runtime/runnerscalesets/5/sessions/s-1";

/// What the service does with a request.
#[derive(Clone)]
enum Step {
    Answer(u16, Vec<u8>, Vec<(&'static str, &'static str)>),
    After(Duration, Box<Step>),
    Cut,
}

fn status(status: u16) -> Step {
    Step::Answer(status, Vec::new(), Vec::new())
}

fn ok(body: Value) -> Step {
    Step::Answer(200, body.to_string().into_bytes(), Vec::new())
}

fn held(step: Step) -> Step {
    Step::After(Duration::from_secs(50), Box::new(step))
}

/// A request as it was seen.
#[derive(Debug, Clone)]
struct Seen {
    at: Duration,
    call: String,
    query: String,
    bearer: String,
    capacity: Option<String>,
    body: Value,
}

#[derive(Default)]
struct Script {
    /// What comes before the usual answer, by `METHOD path`.
    special: BTreeMap<String, VecDeque<Step>>,
    seen: Vec<Seen>,
    admins: u64,
    life: u64,
}

#[derive(Clone)]
struct Double {
    start: Instant,
    script: Rc<RefCell<Script>>,
}

fn jwt(exp: u64, name: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    format!("e30.{}.{name}", URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string()))
}

fn set(labels: &[&str], assigned: u32) -> Value {
    let labels: Vec<_> = labels.iter().map(|name| json!({"type": "System", "name": name})).collect();
    json!({"id": 5, "name": "nix", "runnerGroupId": 1, "labels": labels, "RunnerSetting": {"disableUpdate": true},
           "statistics": {"totalAssignedJobs": assigned, "totalRunningJobs": null}, "createdOn": null, "enabled": 7})
}

fn session(token: &str, assigned: u32) -> Value {
    json!({"sessionId": "s-1", "ownerName": "me", "messageQueueUrl": "http://queue.test/message?tenant=t",
           "messageQueueAccessToken": token, "statistics": {"totalAssignedJobs": assigned}})
}

fn message(id: u64, inner: Value, assigned: u32) -> Step {
    ok(json!({"messageId": id, "messageType": "RunnerScaleSetJobMessages", "body": inner.to_string(),
              "statistics": {"totalAssignedJobs": assigned}}))
}

fn assigned_job(id: &str) -> Value {
    json!({"messageType": "JobAssigned", "runnerRequestId": 0, "jobId": id, "repositoryName": "r", "ownerName": "o",
           "workflowRunId": 9001, "requestLabels": ["nix"], "scaleSetAssignTime": "2026-11-01T10:00:01.1234567Z",
           "finishTime": "0001-01-01T00:00:00Z"})
}

impl std::fmt::Debug for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Double")
    }
}

impl Double {
    fn usual(&self, call: &str) -> Step {
        let mut script = self.script.borrow_mut();
        match call {
            REGISTRATION_TOKEN => {
                let body = json!({"token": "REGISTRATION", "expires_at": "2026-11-02T00:00:00Z"});
                Step::Answer(201, body.to_string().into(), Vec::new())
            }
            "POST /api/v3/actions/runner-registration" => {
                script.admins += 1;
                let now = EPOCH + self.start.elapsed().as_secs();
                let token = jwt(now + script.life, &format!("admin-{}", script.admins));
                ok(json!({"url": "http://actions.test/svc/", "token": token, "token_schema": "OAuthAccessToken"}))
            }
            call if call == format!("GET {SETS}") => ok(json!({"count": 1, "value": [set(&["nix"], 0)]})),
            call if call == format!("POST {SESSIONS}") => ok(session("queue-1", 0)),
            call if call == format!("PATCH {SESSION}") => ok(session("queue-2", 0)),
            "GET /message" => held(status(202)),
            call if call.starts_with("DELETE ") => status(204),
            call => panic!("nobody expected {call}"),
        }
    }
}

impl Wire for Double {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let call = format!("{} {}", request.method, request.url.path());
        let agent = header("user-agent").unwrap();
        if call == REGISTRATION_TOKEN {
            assert_eq!(agent, "gha-runner-controller");
        } else {
            let agent: Value = serde_json::from_str(&agent).unwrap();
            assert_eq!((&agent["kind"], &agent["system"]), (&json!("scaleset"), &json!("gha-runner-controller")));
        }
        self.script.borrow_mut().seen.push(Seen {
            at: self.start.elapsed(),
            call: call.clone(),
            query: request.url.query().unwrap_or_default().to_owned(),
            bearer: header("authorization").unwrap(),
            capacity: header("x-scalesetmaxcapacity"),
            body: request.body.map_or(Value::Null, |body| serde_json::from_slice(&body).unwrap()),
        });
        let special = self.script.borrow_mut().special.get_mut(&call).and_then(VecDeque::pop_front);
        let mut step = special.unwrap_or_else(|| self.usual(&call));
        loop {
            step = match step {
                Step::Cut => return Err(NoAnswer("connection reset".into())),
                Step::After(wait, then) if wait > request.timeout => {
                    sleep(request.timeout).await;
                    drop(then);
                    return Err(NoAnswer("too slow".into()));
                }
                Step::After(wait, then) => {
                    sleep(wait).await;
                    *then
                }
                Step::Answer(status, body, named) => {
                    let mut headers = HeaderMap::new();
                    for (name, value) in named {
                        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
                    }
                    return Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body });
                }
            }
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(EPOCH) + self.start.elapsed()
    }

    fn random(&self) -> u64 {
        0
    }
}

/// A client, its service and the capacity it is told.
struct Bench {
    set: ScaleSet<Login<Double>, Double>,
    double: Double,
    capacity: watch::Sender<u32>,
    receiver: watch::Receiver<u32>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut SetSpec)) -> Self {
        let double = Double { start: Instant::now(), script: Rc::default() };
        double.script.borrow_mut().life = 86_400;
        let mut spec = SetSpec {
            config_url: "http://ghe.test/o/r".into(),
            api_url: "http://ghe.test/api/v3".into(),
            scope: Scope::of("http://ghe.test/o/r").unwrap(),
            set_name: "nix".into(),
            runner_group: None,
            labels: vec!["nix".into()],
            owner_name: "host-1".into(),
        };
        change(&mut spec);
        let (capacity, receiver) = watch::channel(3);
        let login = Login::with_token(Rest::new(double.clone(), &spec.api_url), Token::new("t0k"));
        Self { set: ScaleSet::new(spec, login, double.clone()), double, capacity, receiver }
    }

    /// What `call` is answered with, before the usual.
    fn say(&self, call: impl Into<String>, steps: impl IntoIterator<Item = Step>) {
        self.double.script.borrow_mut().special.entry(call.into()).or_default().extend(steps);
    }

    async fn listen(&mut self) -> Result<Tidings, ForgeError> {
        self.set.listen(&mut self.receiver).await
    }

    /// Listens until the session is there, and forgets what was seen.
    async fn begun(&mut self) {
        let tidings = self.listen().await.unwrap();
        assert!(tidings.fresh && tidings.message_id.is_none());
        self.double.script.borrow_mut().seen.clear();
    }

    fn seen(&self, call: &str) -> Vec<Seen> {
        self.double.script.borrow().seen.iter().filter(|seen| seen.call == call).cloned().collect()
    }

    fn calls(&self) -> Vec<String> {
        self.double.script.borrow().seen.iter().map(|seen| seen.call.clone()).collect()
    }
}

fn kinds<T: std::fmt::Debug>(result: &Result<T, ForgeError>) -> ErrorKind {
    result.as_ref().unwrap_err().kind
}

#[tokio::test(start_paused = true)]
async fn a_missing_set_is_created_with_its_labels_in_the_default_group_and_never_updates_itself() {
    let bench = Bench::with(|spec| spec.labels = vec!["nix".into(), "Big".into()]);
    bench.say(format!("GET {SETS}"), [ok(json!({"count": 0, "value": null}))]);
    bench.say(format!("POST {SETS}"), [ok(set(&["nix"], 0))]);
    let opened = bench.set.open().await.unwrap();
    assert_eq!((opened.id, opened.origin), (5, Origin::Created));
    assert_eq!(opened.missing_labels, ["Big"], "a server that drops a label is found out");
    let created = &bench.seen(&format!("POST {SETS}"))[0];
    assert_eq!(created.query, "api-version=6.0-preview");
    assert_eq!(
        created.body,
        json!({"name": "nix", "runnerGroupId": 1, "RunnerSetting": {"disableUpdate": true},
               "labels": [{"type": "System", "name": "nix"}, {"type": "System", "name": "Big"}]})
    );
    let found = &bench.seen(&format!("GET {SETS}"))[0];
    assert_eq!(found.query, "runnerGroupId=1&name=nix&api-version=6.0-preview");
    let registered = &bench.seen("POST /api/v3/actions/runner-registration")[0];
    assert_eq!(registered.bearer, "RemoteAuth REGISTRATION");
    assert_eq!(registered.body, json!({"url": "http://ghe.test/o/r", "runner_event": "register"}));
}

#[tokio::test(start_paused = true)]
async fn a_set_without_labels_of_its_own_answers_to_its_name() {
    let bench = Bench::with(|spec| spec.labels = Vec::new());
    let opened = bench.set.open().await.unwrap();
    assert_eq!((opened.origin, opened.missing_labels.len(), opened.other_labels.len()), (Origin::Found, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_runner_group_is_found_by_name_and_an_unknown_one_is_named() {
    let groups = "GET /svc/_apis/runtime/runnergroups/";
    let bench = Bench::with(|spec| spec.runner_group = Some("Team A".into()));
    bench.say(groups, [ok(json!({"count": 1, "value": [{"id": 12, "name": "team a", "isDefaultGroup": false}]}))]);
    assert_eq!(bench.set.open().await.unwrap().group_id, 12);
    assert_eq!(bench.seen(groups)[0].query, "groupName=Team+A&api-version=6.0-preview");
    let bench = Bench::with(|spec| spec.runner_group = Some("Team A".into()));
    bench.say(groups, [ok(json!({"count": 0, "value": []}))]);
    let error = bench.set.open().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("Team A") && error.message.contains("Remedy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_set_with_other_labels_is_made_anew_only_when_it_has_no_jobs() {
    let bench = Bench::new();
    bench.say(format!("GET {SETS}"), [ok(json!({"value": [set(&["old"], 0)]}))]);
    bench.say(format!("GET {SETS}/5"), [ok(set(&["old"], 0))]);
    bench.say(format!("POST {SETS}"), [ok(set(&["nix"], 0))]);
    assert_eq!(bench.set.open().await.unwrap().origin, Origin::Recreated);
    assert_eq!(bench.seen(&format!("DELETE {SETS}/5")).len(), 1);

    let bench = Bench::new();
    bench.say(format!("GET {SETS}"), [ok(json!({"value": [set(&["old"], 0)]}))]);
    bench.say(format!("GET {SETS}/5"), [ok(set(&["old"], 2))]);
    let opened = bench.set.open().await.unwrap();
    assert_eq!(opened.origin, Origin::FoundBusy);
    assert_eq!((opened.missing_labels, opened.other_labels), (vec!["nix".to_owned()], vec!["old".to_owned()]));
    assert_eq!(bench.seen(&format!("DELETE {SETS}/5")).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_while_creating_is_looked_up_again() {
    let bench = Bench::new();
    bench.say(format!("GET {SETS}"), [ok(json!({"value": []}))]);
    bench.say(format!("POST {SETS}"), [status(400)]);
    assert_eq!(bench.set.open().await.unwrap().id, 5);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_registration_token_may_be_refused_for_a_moment() {
    let bench = Bench::new();
    let registration = "POST /api/v3/actions/runner-registration";
    bench.say(registration, [status(401), status(403), Step::Cut]);
    bench.set.open().await.unwrap();
    let at: Vec<_> = bench.seen(registration).iter().map(|seen| seen.at.as_secs_f64()).collect();
    assert_eq!(at.len(), 4);
    assert!(at[3] >= 5.0, "{at:?}");

    let bench = Bench::new();
    bench.say(registration, vec![status(401); 10]);
    assert_eq!(kinds(&bench.set.open().await), ErrorKind::Unauthorized);
    assert_eq!(bench.seen(registration).len(), 5, "not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_may_not_register_runners_is_told_what_it_lacks() {
    let bench = Bench::new();
    let refused = Step::Answer(404, br#"{"message":"Not Found"}"#.to_vec(), Vec::new());
    bench.say(REGISTRATION_TOKEN, [refused]);
    let error = bench.set.open().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("Remedy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_admin_token_is_renewed_in_its_last_minute_and_when_refused() {
    let bench = Bench::new();
    bench.double.script.borrow_mut().life = 1000;
    bench.set.open().await.unwrap();
    let gone = || Step::Answer(404, br#"{"typeName":"AgentNotFoundException"}"#.to_vec(), Vec::new());
    bench.say("DELETE /svc/_apis/distributedtask/pools/0/agents/9", [gone(), gone(), status(401), gone()]);
    advance(Duration::from_secs(930)).await;
    assert_eq!(bench.set.delete_runner(9).await.unwrap(), Deletion::AlreadyGone);
    assert_eq!(bench.double.script.borrow().admins, 1);
    advance(Duration::from_secs(15)).await;
    bench.set.delete_runner(9).await.unwrap();
    assert_eq!(bench.double.script.borrow().admins, 2);
    bench.set.delete_runner(9).await.unwrap();
    assert_eq!(bench.double.script.borrow().admins, 3);
}

#[tokio::test(start_paused = true)]
async fn no_token_shows_in_debug_output() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.set.acknowledge(1).await;
    let mut shown = format!("{:?}", bench.set);
    assert!(shown.contains("Sensitive") && !shown.contains("queue-1"), "{shown}");
    bench.say("GET /message", [Step::Cut]);
    shown.push_str(&format!("{:?}", bench.listen().await));
    for secret in ["admin-1", "e30.", "REGISTRATION"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_tidings_are_the_counts_of_the_new_session() {
    let mut bench = Bench::new();
    bench.say(format!("POST {SESSIONS}"), [ok(session("queue-1", 4))]);
    let tidings = bench.listen().await.unwrap();
    assert_eq!((tidings.statistics.assigned_jobs, tidings.fresh, tidings.message_id), (4, true, None));
    assert_eq!(bench.double.start.elapsed(), Duration::ZERO, "nobody waits for the first message");
    assert_eq!(bench.seen(&format!("POST {SESSIONS}"))[0].body, json!({"ownerName": "host-1"}));
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_again_until_it_is_acknowledged_and_not_in_a_rush() {
    let mut bench = Bench::new();
    bench.begun().await;
    let m = || message(100_000_001, json!([assigned_job("a")]), 1);
    bench.say("GET /message", [m(), m(), m()]);
    for _ in 0..3 {
        let tidings = bench.listen().await.unwrap();
        assert_eq!((tidings.message_id, tidings.messages.len()), (Some(100_000_001), 1));
        assert_eq!(tidings.messages[0].repository, "o/r");
        assert_eq!(tidings.messages[0].assigned_at.unwrap().as_secs(), 1_793_527_201);
        assert_eq!(tidings.messages[0].queued_at, None);
    }
    bench.set.acknowledge(100_000_001).await;
    bench.listen().await.unwrap();
    let polls = bench.seen("GET /message");
    assert!(polls[2].at - polls[1].at >= Duration::from_secs(1), "{polls:?}");
    let queries: Vec<_> = polls.iter().map(|seen| seen.query.as_str()).collect();
    assert_eq!(queries[..3], ["tenant=t"; 3]);
    assert_eq!(queries[3], "tenant=t&lastMessageId=100000001");
    assert_eq!(polls[0].bearer, "Bearer queue-1");
    assert_eq!(polls[0].capacity.as_deref(), Some("3"));
    let acknowledged = &bench.seen("DELETE /message/100000001")[0];
    assert_eq!((acknowledged.query.as_str(), acknowledged.bearer.as_str()), ("tenant=t", "Bearer queue-1"));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_taken_off_the_queue_once_however_long_that_takes_while_the_next_poll_begins() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [message(7, json!([assigned_job("a")]), 1)]);
    assert_eq!(bench.listen().await.unwrap().message_id, Some(7));
    let slow = Step::After(Duration::from_secs(3), Box::new(status(204)));
    bench.say("DELETE /message/7", [slow, status(404)]);
    // As the controller does: the next poll does not wait for it.
    let ((), heard) = tokio::join!(bench.set.acknowledge(7), bench.set.listen(&mut bench.receiver));
    heard.unwrap();
    bench.listen().await.unwrap();
    assert_eq!(bench.seen("DELETE /message/7").len(), 1, "{:?}", bench.calls());
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_failed_is_made_up_for() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("DELETE /message/7", [status(500), Step::Cut]);
    bench.set.acknowledge(7).await;
    bench.listen().await.unwrap();
    bench.listen().await.unwrap();
    bench.listen().await.unwrap();
    assert_eq!(bench.seen("DELETE /message/7").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_survives_a_token_that_ran_out() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("DELETE /message/7", [status(401)]);
    bench.set.acknowledge(7).await;
    let bearers: Vec<_> = bench.seen("DELETE /message/7").into_iter().map(|seen| seen.bearer).collect();
    assert_eq!(bearers, ["Bearer queue-1", "Bearer queue-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_at_once_does_not_become_a_flood() {
    let mut bench = Bench::new();
    bench.begun().await;
    let empty = Step::Answer(200, b"\xef\xbb\xbf \r\n".to_vec(), Vec::new());
    bench.say("GET /message", vec![status(202); 10].into_iter().chain(vec![empty; 10]));
    for _ in 0..20 {
        let tidings = bench.listen().await.unwrap();
        assert_eq!((tidings.message_id, tidings.fresh), (None, false));
    }
    assert!(bench.double.start.elapsed() >= Duration::from_secs(19));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_held_is_begun_anew_at_once() {
    let mut bench = Bench::new();
    bench.begun().await;
    while bench.double.start.elapsed() < Duration::from_secs(150) {
        bench.listen().await.unwrap();
    }
    let at: Vec<_> = bench.seen("GET /message").iter().map(|seen| seen.at.as_secs()).collect();
    assert_eq!(at, [0, 50, 100]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_mark_nulls_and_things_unheard_of_is_understood() {
    let mut bench = Bench::new();
    bench.begun().await;
    let inner = json!([{"messageType": "JobUpgraded"}, 7, null, {"messageType": "JobAssigned", "jobId": "a",
        "repositoryName": null, "requestLabels": null, "workflowRunId": null, "queueTime": "soon"},
        {"messageType": "JobStarted", "jobId": "", "runnerRequestId": 88, "runnerName": "x"},
        {"messageType": "JobCompleted", "jobId": null, "runnerRequestId": 0}]);
    let body = json!({"messageId": 9, "messageType": "RunnerScaleSetJobMessages", "new": {},
        "body": format!("\u{feff}{inner}"), "statistics": null});
    let marked = [b"\xef\xbb\xbf".to_vec(), body.to_string().into_bytes()].concat();
    bench.say("GET /message", [Step::Answer(200, marked, Vec::new())]);
    let tidings = bench.listen().await.unwrap();
    let jobs: Vec<_> = tidings.messages.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!((jobs, tidings.fresh), (vec!["a", "request-88"], false));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_understands_is_passed_over_but_left_in_the_queue() {
    let mut bench = Bench::new();
    bench.begun().await;
    let unknown = ok(json!({"messageId": 11, "messageType": "SomethingNew", "body": "x"}));
    let broken = ok(json!({"messageId": 12, "messageType": "RunnerScaleSetJobMessages", "body": "[{",
                           "statistics": {"totalAssignedJobs": 2}}));
    bench.say("GET /message", [unknown, broken]);
    assert_eq!(bench.listen().await.unwrap().message_id, None);
    let tidings = bench.listen().await.unwrap();
    assert_eq!((tidings.message_id, tidings.statistics.assigned_jobs), (None, 2));
    bench.listen().await.unwrap();
    assert!(bench.seen("GET /message")[2].query.ends_with("lastMessageId=12"));
    assert!(!bench.calls().iter().any(|call| call.starts_with("DELETE")));
}

#[tokio::test(start_paused = true)]
async fn a_queue_token_that_ran_out_is_refreshed_and_the_poll_repeated() {
    for refused in [401, 403] {
        let mut bench = Bench::new();
        bench.begun().await;
        bench.say("GET /message", [status(refused), message(1, json!([]), 0)]);
        assert_eq!(bench.listen().await.unwrap().message_id, Some(1));
        assert_eq!(bench.calls(), ["GET /message", &format!("PATCH {SESSION}"), "GET /message"]);
        assert_eq!(bench.seen("GET /message")[1].bearer, "Bearer queue-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_refreshed_is_replaced() {
    for refused in [401, 404, 400] {
        let mut bench = Bench::new();
        bench.begun().await;
        advance(Duration::from_secs(10)).await;
        bench.say("GET /message", [status(401)]);
        // A 401 to the admin token is tried with a fresh one before it counts.
        bench.say(format!("PATCH {SESSION}"), [status(refused), status(refused)]);
        let tidings = bench.listen().await.unwrap();
        assert!(tidings.fresh, "the new session's counts");
        assert_eq!(bench.seen(&format!("POST {SESSIONS}")).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_gone_is_replaced_but_sessions_are_not_begun_in_a_rush() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [status(404), status(410), status(404), status(404)]);
    for _ in 0..4 {
        assert!(bench.listen().await.unwrap().fresh);
    }
    let begun = bench.seen(&format!("POST {SESSIONS}"));
    assert_eq!(begun.len(), 4);
    assert!(begun[3].at >= Duration::from_secs(20), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scale_set_that_somebody_deleted_is_opened_again() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.set.acknowledge(100_000_042).await;
    bench.say("GET /message", [status(404)]);
    bench.say(format!("POST {SESSIONS}"), [status(404)]);
    bench.say(format!("GET {SETS}"), [ok(json!({"value": []}))]);
    bench.say(format!("POST {SETS}"), [ok(set(&["nix"], 0))]);
    assert!(bench.listen().await.unwrap().fresh);
    bench.listen().await.unwrap();
    assert_eq!(bench.seen("GET /message")[1].query, "tenant=t", "ids of the new set begin again");
}

#[tokio::test(start_paused = true)]
async fn while_somebody_else_holds_the_session_it_is_asked_for_at_growing_intervals() {
    let mut bench = Bench::new();
    bench.say(format!("POST {SESSIONS}"), vec![status(409); 8]);
    assert_eq!(bench.set.held_for(), None);
    for _ in 0..8 {
        assert_eq!(kinds(&bench.listen().await), ErrorKind::Conflict);
    }
    assert!(bench.set.held_for().unwrap() >= Duration::from_secs(60));
    bench.begun().await;
    assert_eq!(bench.set.held_for(), None);
    assert!(bench.double.start.elapsed() < Duration::from_secs(240));
}

#[tokio::test(start_paused = true)]
async fn a_session_of_our_own_that_we_gave_up_does_not_stand_in_the_way() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [status(401)]);
    bench.say(format!("PATCH {SESSION}"), [status(404)]);
    bench.say(format!("POST {SESSIONS}"), [status(500), status(409)]);
    assert_eq!(kinds(&bench.listen().await), ErrorKind::Unavailable);
    assert!(bench.listen().await.unwrap().fresh);
    assert_eq!(bench.seen(&format!("DELETE {SESSION}")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_github_asks_for_is_kept() {
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [Step::Answer(429, Vec::new(), vec![("retry-after", "42")])]);
    assert!(matches!(kinds(&bench.listen().await), ErrorKind::RateLimited(_)));
    bench.listen().await.unwrap();
    let polls = bench.seen("GET /message");
    assert!(polls[1].at - polls[0].at >= Duration::from_secs(42));
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_and_the_next_tries_wait_ever_longer() {
    let mut bench = Bench::new();
    bench.begun().await;
    let broken = Step::Answer(200, b"<html>".to_vec(), Vec::new());
    bench.say("GET /message", [status(500), status(503), Step::Cut, broken, status(502), status(500)]);
    for _ in 0..6 {
        assert_eq!(kinds(&bench.listen().await), ErrorKind::Unavailable);
    }
    bench.listen().await.unwrap();
    let polls = bench.seen("GET /message");
    let waits: Vec<_> = polls.windows(2).map(|two| (two[1].at - two[0].at).as_millis()).collect();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000], "half of 1, 2, 4 … s, and dice up to the whole");
    assert_eq!(bench.seen(&format!("POST {SESSIONS}")).len(), 0, "the session is kept");
}

#[tokio::test(start_paused = true)]
async fn a_changed_capacity_is_told_at_once() {
    let mut bench = Bench::new();
    bench.begun().await;
    let sender = bench.capacity.clone();
    let change = async move {
        sleep(Duration::from_secs(20)).await;
        sender.send(3).unwrap();
        sleep(Duration::from_secs(1)).await;
        sender.send(0).unwrap();
    };
    let listen = bench.set.listen(&mut bench.receiver);
    let (tidings, ()) = tokio::join!(listen, change);
    assert_eq!(tidings.unwrap().message_id, None);
    let polls: Vec<_> =
        bench.seen("GET /message").into_iter().map(|seen| (seen.at.as_secs(), seen.capacity.unwrap())).collect();
    assert_eq!(polls, [(0, "3".to_owned()), (21, "0".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_capacity_that_flickers_does_not_become_a_flood() {
    let mut bench = Bench::new();
    bench.begun().await;
    let sender = bench.capacity.clone();
    let change = async move {
        for capacity in 10..110 {
            sender.send(capacity).unwrap();
            sleep(Duration::from_millis(50)).await;
        }
    };
    let listen = bench.set.listen(&mut bench.receiver);
    let (tidings, ()) = tokio::join!(listen, change);
    tidings.unwrap();
    let polls = bench.seen("GET /message");
    assert!(polls.len() <= 8, "{}", polls.len());
    assert_eq!(polls.last().unwrap().capacity.as_deref(), Some("109"), "the last word is the one that counts");
}

#[tokio::test(start_paused = true)]
async fn a_capacity_that_nobody_can_change_any_more_is_no_reason_to_stop() {
    let mut bench = Bench::new();
    bench.begun().await;
    let (sender, receiver) = watch::channel(1);
    drop(sender);
    bench.receiver = receiver;
    bench.listen().await.unwrap();
    assert_eq!(bench.seen("GET /message").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_are_offered_are_claimed_with_the_queue_token_and_no_others() {
    let acquire = format!("POST {SETS}/5/acquirejobs");
    let offer = |id: i64| json!({"messageType": "JobAvailable", "jobId": format!("j{id}"), "runnerRequestId": id});
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [message(1, json!([offer(31), assigned_job("a"), offer(32)]), 1)]);
    bench.say(&acquire, [ok(json!({"count": 1, "value": [31]}))]);
    assert_eq!(bench.listen().await.unwrap().messages.len(), 3);
    let claimed = &bench.seen(&acquire)[0];
    assert_eq!((&claimed.body, claimed.bearer.as_str()), (&json!([31, 32]), "Bearer queue-1"));

    bench.say("GET /message", [message(2, json!([assigned_job("b")]), 2)]);
    bench.listen().await.unwrap();
    assert_eq!(bench.seen(&acquire).len(), 1, "an assigned job is ours already");
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_not_lost_when_claiming_fails() {
    let acquire = format!("POST {SETS}/5/acquirejobs");
    let offer = message(1, json!([{"messageType": "JobAvailable", "jobId": "j", "runnerRequestId": 31}]), 0);
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say("GET /message", [offer.clone(), offer.clone(), offer]);
    bench.say(&acquire, [status(500), status(401), ok(json!({"value": [31]}))]);
    assert_eq!(kinds(&bench.listen().await), ErrorKind::Unavailable);
    assert_eq!(bench.listen().await.unwrap().message_id, Some(1), "after a refresh");
    assert_eq!(bench.seen(&acquire).last().unwrap().bearer, "Bearer queue-2");
    assert!(bench.seen("GET /message").iter().all(|poll| !poll.query.contains("lastMessageId")));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_claiming_or_with_nothing_to_claim_does_not_block_the_queue() {
    for answer in [404, 400, 410] {
        let mut bench = Bench::new();
        bench.begun().await;
        let offer = json!([{"messageType": "JobAvailable", "jobId": "j", "runnerRequestId": 31}]);
        bench.say("GET /message", [message(1, offer, 0)]);
        bench.say(format!("POST {SETS}/5/acquirejobs"), [status(answer)]);
        assert_eq!(bench.listen().await.unwrap().message_id, Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn counts_are_fetched_again_each_minute_while_jobs_are_about_and_not_otherwise() {
    let refreshes = |bench: &Bench| bench.seen(&format!("PATCH {SESSION}")).len();
    let mut bench = Bench::new();
    bench.begun().await;
    for _ in 0..20 {
        bench.listen().await.unwrap();
    }
    let before = refreshes(&bench);
    for _ in 0..20 {
        bench.listen().await.unwrap();
    }
    assert_eq!(refreshes(&bench), before, "an idle set is left alone");

    bench.say("GET /message", [message(1, json!([assigned_job("a")]), 1)]);
    bench.say(format!("PATCH {SESSION}"), vec![ok(session("queue-2", 1)); 10]);
    bench.listen().await.unwrap();
    bench.set.acknowledge(1).await;
    let begin = bench.double.start.elapsed();
    while bench.double.start.elapsed() - begin < Duration::from_secs(475) {
        bench.listen().await.unwrap();
    }
    assert!((9..=10).contains(&(refreshes(&bench) - before)), "each minute at least");
    // The counts are 0 from now on: long enough that an assignment without a place becomes void.
    let counted = refreshes(&bench);
    for _ in 0..30 {
        bench.listen().await.unwrap();
    }
    assert!((5..=8).contains(&(refreshes(&bench) - counted)), "{}", refreshes(&bench) - counted);
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_registered_with_one_request_whatever_comes_of_it() {
    let mint = format!("POST {SETS}/5/generatejitconfig");
    let bench = Bench::new();
    let taken = Step::Answer(409, br#"{"typeName":"GitHub.TaskAgentExistsException"}"#.to_vec(), Vec::new());
    let jit = ok(json!({"runner": {"id": 23, "name": "n-2", "runnerScaleSetId": 5}, "encodedJITConfig": "e30="}));
    bench.say(&mint, [taken, status(500), Step::Cut, jit]);
    assert_eq!(kinds(&bench.set.mint("n-1").await), ErrorKind::Conflict);
    assert_eq!(kinds(&bench.set.mint("n-1").await), ErrorKind::Unavailable);
    assert_eq!(kinds(&bench.set.mint("n-1").await), ErrorKind::Unavailable);
    let minted = bench.set.mint("n-2").await.unwrap();
    assert_eq!(minted.runner_id, 23);
    assert_eq!(minted.grant, contract::Grant::GithubJit { encoded_jit_config: "e30=".into() });
    let sent = bench.seen(&mint);
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3].body, json!({"name": "n-2", "workFolder": "_work"}));
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_found_by_its_exact_name_and_kept_while_it_has_a_job() {
    let agents = "/svc/_apis/distributedtask/pools/0/agents";
    let bench = Bench::new();
    let both =
        json!({"count": 2, "value": [{"id": 1, "name": "n-10"}, {"id": 2, "name": "n-1", "runnerScaleSetId": 5}]});
    bench.say(format!("GET {agents}"), [ok(both), ok(json!({"count": 0, "value": []}))]);
    let found = bench.set.find_runner("n-1").await.unwrap();
    assert_eq!(found, Some(Agent { id: 2, name: "n-1".into(), set_id: Some(5) }));
    assert_eq!(bench.set.find_runner("n-1").await.unwrap(), None);
    let busy = Step::Answer(400, br#"{"typeName":"JobStillRunningException","message":"m"}"#.to_vec(), Vec::new());
    bench.say(format!("DELETE {agents}/2"), [busy, status(500), status(204), status(404)]);
    assert_eq!(bench.set.delete_runner(2).await.unwrap(), Deletion::Busy);
    assert_eq!(kinds(&bench.set.delete_runner(2).await), ErrorKind::Unavailable);
    assert_eq!(bench.set.delete_runner(2).await.unwrap(), Deletion::Deleted);
    assert_eq!(bench.set.delete_runner(2).await.unwrap(), Deletion::AlreadyGone);
}

#[tokio::test(start_paused = true)]
async fn the_session_is_ended_at_the_stop_and_never_for_long() {
    let expired = Step::Answer(400, br#"{"typeName":"RunnerScaleSetSessionExpiredException"}"#.to_vec(), Vec::new());
    for answer in [status(204), status(404), expired] {
        let mut bench = Bench::new();
        bench.begun().await;
        bench.say(format!("DELETE {SESSION}"), [answer]);
        bench.set.release().await.unwrap();
        bench.set.release().await.unwrap();
        assert_eq!(bench.seen(&format!("DELETE {SESSION}")).len(), 1);
    }
    let mut bench = Bench::new();
    bench.begun().await;
    bench.say(format!("DELETE {SESSION}"), [Step::After(Duration::from_secs(29), Box::new(status(204)))]);
    let start = Instant::now();
    assert_eq!(kinds(&bench.set.release().await), ErrorKind::Unavailable);
    assert!(start.elapsed() <= Duration::from_secs(5));
}
