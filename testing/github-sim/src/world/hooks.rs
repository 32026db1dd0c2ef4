//! Webhooks: what is sent when a job changes, and what goes wrong on the way (docs/github.md#deliveries).
//!
//! The world only writes deliveries down; [`World::take_deliveries`] hands them to whoever can send them.

use super::{JobId, RepoId, Scope, World, WorldError, ids};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::VecDeque;
use std::time::Duration;

/// Records of deliveries kept for a test to look at.
const KEPT: usize = 5_000;

/// A webhook to configure; one with the same scope and address is replaced.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSpec {
    /// The repository or organisation it is about.
    pub scope: Scope,
    /// Where deliveries go; plain HTTP only.
    pub url: String,
    /// What they are signed with.
    pub secret: String,
}

impl std::fmt::Debug for HookSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookSpec").field("scope", &self.scope).field("url", &self.url).finish_non_exhaustive()
    }
}

/// One delivery to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDelivery {
    /// Where to.
    pub url: String,
    /// All headers that say something.
    pub headers: Vec<(String, String)>,
    /// The body that is signed.
    pub body: Vec<u8>,
    /// Names its record in [`World::delivery_sent`].
    pub record: u64,
}

/// How a delivery went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// `X-GitHub-Delivery`.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// `action` of the body, empty for a ping.
    pub action: String,
    /// The job it is about.
    pub job: Option<JobId>,
    /// When what it tells happened.
    pub at: Duration,
    /// Status the receiver answered; `None` while it is not sent, 0 where nobody answered.
    pub status: Option<u16>,
    /// Whether a fault kept it from being sent at all.
    pub lost: bool,
}

/// A fault of the webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFault {
    /// Only deliveries with this `action`.
    #[serde(default)]
    pub action: Option<String>,
    /// How many deliveries it hits.
    #[serde(default = "once")]
    pub count: u32,
    /// What goes wrong.
    pub what: HookWhat,
}

impl HookFault {
    /// Hits the next delivery.
    #[must_use]
    pub fn once(what: HookWhat) -> Self {
        Self { action: None, count: 1, what }
    }

    /// Hits only deliveries with this `action`.
    #[must_use]
    pub fn of(mut self, action: &str) -> Self {
        self.action = Some(action.to_owned());
        self
    }
}

fn once() -> u32 {
    1
}

/// What goes wrong with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookWhat {
    /// It comes twice, with the same id.
    Duplicate,
    /// It comes after the next one.
    OutOfOrder,
    /// It is signed with another secret.
    BadSignature,
    /// It comes late.
    Delayed {
        /// How late.
        ms: u64,
    },
    /// It never comes.
    Lost,
}

#[derive(Debug)]
struct Hook {
    id: u64,
    spec: HookSpec,
}

#[derive(Debug)]
struct Waiting {
    due: Duration,
    delivery: HookDelivery,
}

/// Hooks, and what they have to send.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    hooks: Vec<Hook>,
    made: u64,
    outbox: Vec<Waiting>,
    /// Held back until another one went out.
    overtaken: Vec<HookDelivery>,
    records: VecDeque<(u64, DeliveryView)>,
    last_record: u64,
    faults: Vec<HookFault>,
}

impl Hooks {
    fn take_fault(&mut self, action: &str) -> Option<HookWhat> {
        let hit = self.faults.iter_mut().find(|fault| fault.action.as_deref().is_none_or(|wanted| wanted == action))?;
        hit.count -= 1;
        let what = hit.what;
        self.faults.retain(|fault| fault.count > 0);
        Some(what)
    }

    fn note(&mut self, view: DeliveryView) -> u64 {
        self.last_record += 1;
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back((self.last_record, view));
        self.last_record
    }
}

impl World {
    /// Configures a webhook and sends it a `ping`, as GitHub does. Gives its id.
    ///
    /// # Errors
    /// If the address is not plain HTTP, or the scope is an enterprise.
    pub fn set_hook(&mut self, now: Duration, spec: HookSpec) -> Result<u64, WorldError> {
        self.advance(now);
        if matches!(spec.scope, Scope::Enterprise(_)) {
            return Err(WorldError::Refused("webhooks here belong to repositories and organisations".to_owned()));
        }
        if spec.url.parse::<http::Uri>().ok().and_then(|uri| uri.scheme_str().map(|scheme| scheme == "http"))
            != Some(true)
        {
            return Err(WorldError::Refused(format!("{:?} is not an http:// address", spec.url)));
        }
        self.hooks.hooks.retain(|hook| hook.spec.scope != spec.scope || hook.spec.url != spec.url);
        self.hooks.made += 1;
        let id = 500_000 + self.hooks.made;
        self.hooks.hooks.push(Hook { id, spec });
        let body = json!({ "zen": "Practicality beats purity.", "hook_id": id });
        self.post(id, "ping", "", None, &body);
        Ok(id)
    }

    /// Injects a fault of the webhooks.
    pub fn inject_hook(&mut self, fault: HookFault) {
        self.hooks.faults.push(fault);
    }

    pub(super) fn clear_hook_faults(&mut self) {
        self.hooks.faults.clear();
    }

    /// How all deliveries went, the last 5,000.
    #[must_use]
    pub fn deliveries(&self) -> Vec<DeliveryView> {
        self.hooks.records.iter().map(|(_, view)| view.clone()).collect()
    }

    /// What has to be sent by now, in this order; whoever takes it sends it.
    pub fn take_deliveries(&mut self, now: Duration) -> Vec<HookDelivery> {
        self.advance(now);
        let (due, later): (Vec<Waiting>, Vec<Waiting>) =
            self.hooks.outbox.drain(..).partition(|waiting| waiting.due <= now);
        self.hooks.outbox = later;
        due.into_iter().map(|waiting| waiting.delivery).collect()
    }

    /// Notes what the receiver answered; 0 for nothing.
    pub fn delivery_sent(&mut self, record: u64, status: u16) {
        if let Some((_, view)) = self.hooks.records.iter_mut().find(|(id, _)| *id == record) {
            view.status = Some(status);
        }
    }

    /// A job changed: every hook of its repository or organisation hears of it.
    pub(super) fn tell_hooks(&mut self, id: JobId, action: &str) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let hooks = self.hooks_of(job.repo);
        if hooks.is_empty() {
            return;
        }
        if let Some(mut body) = crate::rest::render_job_event(self, job) {
            body["action"] = json!(action);
            for hook in hooks {
                self.post(hook, "workflow_job", action, Some(id), &body);
            }
        }
    }

    fn hooks_of(&self, repo: RepoId) -> Vec<u64> {
        let owner = self.repos.get(&repo).map(|repo| repo.owner.clone()).unwrap_or_default();
        let is_its = |hook: &&Hook| match &hook.spec.scope {
            Scope::Repo(own) => *own == repo,
            Scope::Org(login) => login.eq_ignore_ascii_case(&owner),
            Scope::Enterprise(_) => false,
        };
        self.hooks.hooks.iter().filter(is_its).map(|hook| hook.id).collect()
    }

    fn post(&mut self, hook: u64, event: &str, action: &str, job: Option<JobId>, body: &Value) {
        let guid = ids::uuid(&mut self.rng);
        let now = self.now;
        let fault = self.hooks.take_fault(action);
        let Some(spec) = self.hooks.hooks.iter().find(|own| own.id == hook).map(|hook| hook.spec.clone()) else {
            return;
        };
        let body = body.to_string().into_bytes();
        let secret = match fault {
            Some(HookWhat::BadSignature) => "somebody else's secret",
            _ => spec.secret.as_str(),
        };
        let (target, target_id) = match &spec.scope {
            Scope::Repo(repo) => ("repository", repo.0),
            Scope::Org(_) | Scope::Enterprise(_) => ("organization", 1),
        };
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("user-agent", "GitHub-Hookshot/f00cafe".to_owned()),
            ("x-github-event", event.to_owned()),
            ("x-github-delivery", guid.clone()),
            ("x-github-hook-id", hook.to_string()),
            ("x-github-hook-installation-target-type", target.to_owned()),
            ("x-github-hook-installation-target-id", target_id.to_string()),
            ("x-hub-signature-256", signature(secret, &body)),
        ];
        let lost = fault == Some(HookWhat::Lost);
        let (event, action) = (event.to_owned(), action.to_owned());
        let record = self.hooks.note(DeliveryView { guid, event, action, job, at: now, status: None, lost });
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let delivery = HookDelivery { url: spec.url, headers, body, record };
        let due = match fault {
            Some(HookWhat::Lost) => return,
            Some(HookWhat::OutOfOrder) => return self.hooks.overtaken.push(delivery),
            Some(HookWhat::Delayed { ms }) => now + Duration::from_millis(ms),
            _ => now,
        };
        if fault == Some(HookWhat::Duplicate) {
            self.hooks.outbox.push(Waiting { due, delivery: delivery.clone() });
        }
        self.hooks.outbox.push(Waiting { due, delivery });
        for delivery in self.hooks.overtaken.drain(..) {
            self.hooks.outbox.push(Waiting { due, delivery });
        }
    }
}

/// `sha256=` and the HMAC of the body in small hexadecimal digits.
fn signature(secret: &str, body: &[u8]) -> String {
    // Never fails: a key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_documentation() {
        assert_eq!(
            signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
