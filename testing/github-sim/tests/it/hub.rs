//! A world with one repository, a clock to turn by hand, and short ways to ask it something.

use github_sim::{
    Config, Reply, World,
    world::{JobSpec, RepoSpec, RunnerSession},
};
use http::{Request, Response};
use serde_json::{Value, json};
use std::time::Duration;

pub const START: Duration = Duration::from_secs(1_793_527_200);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);

pub struct Hub {
    pub world: World,
    pub now: Duration,
    pub token: String,
}

pub struct Got {
    pub status: u16,
    pub body: Value,
    pub headers: http::HeaderMap,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// One field of every element of a list.
    pub fn all(&self, list: &str, field: &str) -> Vec<Value> {
        let items = self.body[list].as_array().unwrap();
        items.iter().map(|item| item[field].clone()).collect()
    }
}

impl Hub {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let config = Config { tokens: vec!["t0k".to_owned(), "other".to_owned()], ..config };
        let mut world = World::new(config);
        for name in ["o/r", "o/s", "p/q"] {
            let name = name.to_owned();
            world.add_repo(&RepoSpec { name, private: false }).unwrap();
        }
        Self { world, now: START, token: "t0k".to_owned() }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.world.advance(self.now);
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("user-agent", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.world.handle(self.now, &request.body(body).unwrap())
    }

    pub fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> Got {
        got(self.request(method, path, &[], body).answer().unwrap())
    }

    pub fn get(&mut self, path: &str) -> Got {
        self.ask("GET", path, None)
    }

    pub fn get_if_changed(&mut self, path: &str, etag: &str) -> Got {
        let reply = self.request("GET", path, &[("if-none-match", etag)], None);
        got(reply.answer().unwrap())
    }

    pub fn post(&mut self, path: &str, body: Value) -> Got {
        self.ask("POST", path, Some(body))
    }

    pub fn delete(&mut self, path: &str) -> Got {
        self.ask("DELETE", path, None)
    }

    pub fn mint(&mut self, name: &str, labels: &[&str]) -> Got {
        self.post(
            "/repos/o/r/actions/runners/generate-jitconfig",
            json!({ "name": name, "runner_group_id": 1, "labels": labels }),
        )
    }

    /// Mints and connects.
    pub fn runner(&mut self, name: &str, labels: &[&str]) -> RunnerSession {
        let minted = self.mint(name, labels);
        assert_eq!(minted.status, 201, "{}", minted.body);
        let blob = minted.body["encoded_jit_config"].as_str().unwrap();
        self.world.runner_connect(self.now, blob).unwrap()
    }

    /// Queues a job in `o/r`. Gives run and job.
    pub fn queue(&mut self, name: &str, labels: &[&str]) -> (github_sim::world::RunId, github_sim::world::JobId) {
        let job = JobSpec::new(name, labels, &["true"]);
        self.world.queue_job(self.now, "o/r", job).unwrap()
    }
}

pub fn got(response: Response<Vec<u8>>) -> Got {
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status.as_u16(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        headers: parts.headers,
    }
}
