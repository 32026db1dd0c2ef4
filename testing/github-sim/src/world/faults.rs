//! Faults to inject: what goes wrong, where, and how often.
//!
//! The faults of tests/README.md#faults by number, and how a test makes each happen. `What` is injected with
//! [`World::inject`](super::World::inject), `RunnerWhat` with `inject_runner`, `HookWhat` with `inject_hook`; the
//! others are calls of [`World`](super::World), each also a [`ControlCommand`](crate::ControlCommand).
//!
//! | # | fault | how |
//! |---|---|---|
//! | 1 | registration made, answer lost | [`What::LostAnswer`] on `Call::Mint` or `Call::MintScaleSetRunner` |
//! | 2 | registration 409 | mint a name twice, or [`What::Status`] 409, or [`What::Exception`] `AgentExistsException` |
//! | 3 | DELETE 422, 404, 5xx | 422 while busy or lingering, 404 once gone, [`What::Status`] on `Call::DeleteRunner` |
//! | 4 | another job than expected | [`RunnerWhat::StealJob`], `Picking::Random` |
//! | 5 | cancelled before launch | `cancel_job`, `cancel_run` |
//! | 6 | waiting, pending, requested jobs | `JobSpec::gate`, `hold_job`, `release_job` |
//! | 7 | run without jobs, filter empty once | `JobSpec::delay_ms`, [`What::EmptyJobs`], [`What::EmptyList`] |
//! | 8 | page shift | [`What::PageShift`] |
//! | 9 | other entity tag, same content | [`What::StaleEtag`] |
//! | 10 | limits | [`What::RateLimitPrimary`], [`What::RateLimitSecondary`], `set_rate_limit`, `set_limit_rules`, `TokenSpec::rate_limit` |
//! | 11 | installation token refused mid-page | `revoke_installation_tokens`, [`What::Unauthorized`] with `after(1)` |
//! | 12 | renamed, deleted, without Actions, archived, blocked | `rename_repo`, `delete_repo`, `set_repo` |
//! | 13 | session 409 after a crash | a session left open for `ScaleSetRules::session_ttl`, or [`What::Exception`] `RunnerScaleSetSessionConflictException` on `Call::OpenMessageSession` |
//! | 14 | queue token 401, refresh 404 | `ScaleSetRules::queue_token_ttl`, `revoke_scale_set_tokens`, [`What::Unauthorized`] on `Call::GetMessage`; `lose_session` |
//! | 15 | replay of the log | what was not deleted comes again by itself; `restore_messages` for what was |
//! | 16 | dropped assignment | `drop_assignment`; taken back in the open: `ScaleSetRules::pickup_limit` |
//! | 17 | statistics 0 with assignments in the body | [`What::ZeroStatistics`] |
//! | 18 | empty body, byte order mark, unknown kinds | [`What::EmptyMessage`], [`What::ByteOrderMark`], [`What::UnknownEvent`], [`What::UnknownMessage`] |
//! | 19 | 202 at once | [`What::NothingAtOnce`] |
//! | 20 | runner too old, exit 7 | [`RunnerWhat::VersionTooOld`], `set_minimum_runner_version`, `set_runner_deprecation` |
//! | 21 | never listens | [`RunnerWhat::NeverListening`] |
//! | 22 | clock jumps | time comes in with every call; [`What::DateSkew`] for the server's clock |
//! | 23 | controller killed at any step | for whoever runs it; the world keeps what was done |
//! | 24 | webhook twice, out of order, badly signed, late, lost | the five of [`HookWhat`](super::HookWhat) |
//! | – | not in that list | [`What::NoRunners`], [`What::Refused`], [`What::Hang`], [`What::Slow`], [`What::BadJson`], [`What::Redirect`], [`RunnerWhat::SessionConflict`], [`RunnerWhat::VanishMidJob`], [`RunnerWhat::SessionForbidden`], [`RunnerWhat::ClockSkew`], [`RunnerWhat::SessionInvalid`], [`RunnerWhat::CancelledAtOnce`], [`RunnerWhat::RenewalFails`], [`RunnerWhat::RegistrationGone`], [`RunnerWhat::SessionBroken`], [`RunnerWhat::RegistrationLost`], [`RunnerWhat::Deprovisioned`], [`RunnerWhat::RefreshConfig`], [`RunnerWhat::AcknowledgeRefused`], [`RunnerWhat::AcquireRefused`], [`RunnerWhat::AssignmentLost`], [`RunnerWhat::GivenNothing`], [`RunnerWhat::CutOff`], [`RunnerWhat::RenewalBroken`], [`RunnerWhat::JobForgotten`], [`RunnerWhat::TooOldInJob`] |
//!
//! Which test throws each of them at the controller: `tests/README.md`.

use crate::rest::Call;
use serde::{Deserialize, Serialize};

/// A fault of the REST half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which calls it hits.
    #[serde(default)]
    pub on: On,
    /// Only requests for this repository (`owner/name`), which those of the scale-set half never are.
    #[serde(default)]
    pub repo: Option<String>,
    /// So many matching calls go well first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls it hits.
    #[serde(default = "once")]
    pub count: u32,
    /// What goes wrong.
    pub what: What,
}

impl Fault {
    /// Hits the next call of that kind.
    #[must_use]
    pub fn once(call: Call, what: What) -> Self {
        Self::times(1, call, what)
    }

    /// Hits the next calls of that kind.
    #[must_use]
    pub fn times(count: u32, call: Call, what: What) -> Self {
        Self { on: On::Call(call), repo: None, skip: 0, count, what }
    }

    /// Hits the next calls whatever they are.
    #[must_use]
    pub fn any(count: u32, what: What) -> Self {
        Self { on: On::Any, repo: None, skip: 0, count, what }
    }

    /// Hits only requests for this repository.
    #[must_use]
    pub fn in_repo(mut self, repo: &str) -> Self {
        self.repo = Some(repo.to_owned());
        self
    }

    /// Lets so many matching calls go well first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}

fn once() -> u32 {
    1
}

/// Which calls a fault hits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// All.
    #[default]
    Any,
    /// One kind.
    Call(Call),
    /// One HTTP method.
    Method(String),
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// This answer, and nothing is done.
    Status {
        /// Status.
        code: u16,
        /// `message` of the body.
        #[serde(default)]
        message: String,
        /// More headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// Everything is done, and the answer is lost.
    LostAnswer,
    /// Nothing is done, and the connection breaks.
    Refused,
    /// Nothing is done, and there is never an answer.
    Hang,
    /// The answer comes late.
    Slow {
        /// How late.
        ms: u64,
    },
    /// A list of runs or runners is empty once.
    EmptyList,
    /// A list of jobs is empty once.
    EmptyJobs,
    /// The content is the same and has another entity tag from now on.
    StaleEtag,
    /// The primary limit is used up, until so many seconds from now.
    RateLimitPrimary {
        /// Seconds.
        reset_after: u64,
    },
    /// The secondary limit refuses, with or without saying for how long.
    RateLimitSecondary {
        /// Seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// After this page another run appears at the top, so that everything moves down by one; after a page of
    /// jobs, one more job.
    PageShift,
    /// A policy allows no runners there: 403 with an empty body.
    NoRunners,
    /// The token is refused.
    Unauthorized,
    /// The body breaks off in the middle.
    BadJson,
    /// The answer points elsewhere.
    Redirect {
        /// 301, 302 or 307.
        status: u16,
        /// Path or address.
        to: String,
    },
    /// The server's clock is so many seconds off in its `Date` header.
    DateSkew {
        /// Seconds, negative for slow.
        seconds: i64,
    },
    /// The Actions service refuses with a named error, and nothing is done.
    Exception {
        /// Status.
        code: u16,
        /// Such as `RunnerScaleSetSessionConflictException`.
        type_name: String,
    },
    /// A poll is answered 200 with an empty body at once; no message is given.
    EmptyMessage,
    /// A poll is answered 202 at once instead of being held.
    NothingAtOnce,
    /// A message, or another answer of the Actions service, begins with a byte order mark.
    ByteOrderMark,
    /// A message comes with one event more, of a kind nobody has heard of.
    UnknownEvent,
    /// A message is itself of a kind nobody has heard of.
    UnknownMessage,
    /// The statistics of a message are all 0.
    ZeroStatistics,
}

impl What {
    /// Whether this fault means anything for that call.
    fn concerns(&self, call: Call) -> bool {
        match self {
            Self::EmptyList => matches!(call, Call::ListRuns | Call::ListRunners),
            Self::EmptyJobs => call == Call::ListJobs,
            Self::NoRunners => call == Call::Mint,
            Self::PageShift => matches!(call, Call::ListRuns | Call::ListJobs),
            Self::EmptyMessage
            | Self::NothingAtOnce
            | Self::UnknownEvent
            | Self::UnknownMessage
            | Self::ZeroStatistics => call == Call::GetMessage,
            _ => true,
        }
    }

    /// Whether it happens to the answer and not to the request. A poll meets these only when there is a message, so
    /// that they are not used up by polls that end with nothing.
    fn happens_to_the_answer(&self) -> bool {
        matches!(
            self,
            Self::LostAnswer
                | Self::BadJson
                | Self::Slow { .. }
                | Self::DateSkew { .. }
                | Self::ByteOrderMark
                | Self::UnknownEvent
                | Self::UnknownMessage
                | Self::ZeroStatistics
        )
    }
}

/// A fault of the runners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerFault {
    /// Only runners whose name begins so.
    #[serde(default)]
    pub name_prefix: Option<String>,
    /// How many runners it hits.
    #[serde(default = "once")]
    pub count: u32,
    /// What goes wrong.
    pub what: RunnerWhat,
}

impl RunnerFault {
    /// Hits the next runner.
    #[must_use]
    pub fn once(what: RunnerWhat) -> Self {
        Self { name_prefix: None, count: 1, what }
    }
}

/// What goes wrong with a runner, in the order of its life. What each makes of a runner that speaks GitHub's protocol
/// says `runner_service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerWhat {
    /// It gets no token, since its registration is gone.
    RegistrationGone,
    /// It gets no token, since its clock is off.
    ClockSkew,
    /// It never comes as far as listening.
    NeverListening,
    /// It may not have a session.
    SessionForbidden,
    /// The server is broken when it asks for a session.
    SessionBroken,
    /// Its session is refused because there is one already.
    SessionConflict,
    /// It is refused as too old when it asks for a message.
    VersionTooOld,
    /// Its session is not valid any more when it asks for a message.
    SessionInvalid,
    /// Its registration is gone when it asks for a message.
    RegistrationLost,
    /// Its service is over when it asks for a message.
    Deprovisioned,
    /// It is to read its configuration anew.
    RefreshConfig,
    /// The job it would get goes to a runner nobody here knows.
    StealJob,
    /// What it was offered is gone when it says that it heard so.
    AcknowledgeRefused,
    /// What it was offered is gone when it wants to have it; it is offered again in the time of an offer.
    AcquireRefused,
    /// What it was offered is gone when it wants to have it, and it listens on and is never offered anything again.
    AssignmentLost,
    /// It is offered nothing when it asks, each time once; one that connects meanwhile is never offered anything.
    GivenNothing,
    /// The server is broken when it asks for a message and from then on, for it alone, and shows it as offline.
    CutOff,
    /// Its job is cancelled before it begins.
    CancelledAtOnce,
    /// It cannot renew its job even once.
    RenewalFails,
    /// The server is broken when it renews its job again.
    RenewalBroken,
    /// The server has forgotten its job when it renews it again.
    JobForgotten,
    /// It is refused as too old in the middle of its job.
    TooOldInJob,
    /// It dies in the middle of its job. Only in a simulation: nobody kills a real one from here.
    VanishMidJob,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    rest: Vec<Fault>,
    runner: Vec<RunnerFault>,
    /// Changes entity tags without changing content.
    pub(crate) etag_salt: u64,
}

impl Faults {
    /// The first fault that hits this call, used up once.
    pub(crate) fn take(&mut self, call: Call, method: &str, repo: Option<&str>) -> Option<What> {
        self.take_if(call, method, repo, |what| call != Call::GetMessage || !what.happens_to_the_answer())
    }

    /// The first fault that hits a message which is about to be given.
    pub(crate) fn take_for_message(&mut self) -> Option<What> {
        self.take_if(Call::GetMessage, "GET", None, What::happens_to_the_answer)
    }

    fn take_if(
        &mut self,
        call: Call,
        method: &str,
        repo: Option<&str>,
        wanted: impl Fn(&What) -> bool,
    ) -> Option<What> {
        let hits = |fault: &Fault| {
            let here = match &fault.on {
                On::Any => true,
                On::Call(wanted) => *wanted == call,
                On::Method(wanted) => wanted.eq_ignore_ascii_case(method),
            };
            let this_repo =
                fault.repo.as_deref().is_none_or(|wanted| repo.is_some_and(|repo| repo.eq_ignore_ascii_case(wanted)));
            fault.count > 0 && here && this_repo && fault.what.concerns(call) && wanted(&fault.what)
        };
        let mut taken = None;
        for fault in self.rest.iter_mut().filter(|fault| hits(fault)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.count -= 1;
            taken = Some(fault.what.clone());
            break;
        }
        self.rest.retain(|fault| fault.count > 0);
        taken
    }

    /// Whether the next runner of that name is hit by this fault, which is then used up once.
    pub(super) fn take_runner(&mut self, name: &str, what: RunnerWhat) -> bool {
        let hit = self.runner.iter_mut().find(|fault| {
            fault.count > 0
                && fault.what == what
                && fault.name_prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix))
        });
        let taken = hit.map(|fault| fault.count -= 1).is_some();
        self.runner.retain(|fault| fault.count > 0);
        taken
    }
}

impl super::World {
    /// Injects a fault of the REST half.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.rest.push(fault);
    }

    /// Injects a fault of the runners.
    pub fn inject_runner(&mut self, fault: RunnerFault) {
        self.faults.runner.push(fault);
    }

    /// Takes back all faults that have not happened yet.
    pub fn clear_faults(&mut self) {
        self.faults.rest.clear();
        self.faults.runner.clear();
        self.clear_hook_faults();
    }

    /// Faults that have not happened yet: of the REST half, of the runners.
    #[must_use]
    pub fn pending_faults(&self) -> (&[Fault], &[RunnerFault]) {
        (&self.faults.rest, &self.faults.runner)
    }
}
