//! A simulated GitHub: REST, a job queue, one-job runners, and faults on request.
//!
//! [`World`] is the whole of it, without a clock and without a socket: every call takes the time, so a test can
//! run a controller through a week in a second and get the same week again from the same seed. [`server`] puts a
//! socket and a real clock around a `World`; [`control`] is the back door through which a test queues jobs, breaks
//! things and looks at what happened.
//!
//! Inside a simulation:
//!
//! ```
//! use github_sim::world::{Fault, JobSpec, RepoSpec, What};
//! use github_sim::{Call, Config, World};
//! use std::time::Duration;
//!
//! let mut world = World::new(Config { tokens: vec!["t0k".into()], ..Config::default() });
//! let now = Duration::from_secs(1_793_527_200);
//! world.add_repo(&RepoSpec { name: "o/r".into(), private: false })?;
//! world.queue_job(now, "o/r", JobSpec::new("build", &["nix"], &["make"]))?;
//! world.inject(Fault::once(Call::ListRuns, What::EmptyList));
//! let request = http::Request::get("/repos/o/r/actions/runs?status=queued")
//!     .header("authorization", "Bearer t0k")
//!     .header("user-agent", "example")
//!     .body(Vec::new())?;
//! let answer = world.handle(now, &request).answer().expect("it answers");
//! assert_eq!(answer.status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Scale sets are served too. A poll for messages comes back as [`Reply::Held`] while there is nothing to say: ask
//! [`World::look_again`] from time to time until it gives something else. Webhooks are only written down by a world;
//! [`World::take_deliveries`] hands them to whoever can send them, which for the program is [`hook_sender`]. The
//! table at the top of `world/faults.rs` says what can go wrong and how a test makes it happen.
//!
//! From another process, with the two programs:
//!
//! ```text
//! github-sim --listen 192.0.2.1:8080 --control-socket /run/sim --token t0k --repo o/r
//! github-sim ctl --control-socket /run/sim \
//!     '{"do":"queue_job","repo":"o/r","job":{"name":"a","labels":["nix"],"steps":[{"name":"one","run":"make"}]}}'
//! github-sim ctl --control-socket /run/sim '{"do":"inject","fault":{"on":{"call":"mint"},"what":"lost_answer"}}'
//! RUNNER_ROOT=/var/lib/runner ACTIONS_RUNNER_INPUT_JITCONFIG=… Runner.Listener run     # fakerunner by that name
//! ```

pub mod control;
pub mod hook_sender;
pub mod http_client;
pub mod jit;
pub mod key;
mod mishap;
pub mod rest;
pub mod runner_service;
pub mod scale_set;
pub mod server;
mod stamp;
pub mod world;

pub use control::{ControlClient, ControlCommand};
pub use rest::{Call, Reply};
pub use world::{Config, World};
