//! What a delivery says, and whether it is news. Pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use serde::Deserialize;

/// Deliveries remembered to know one that comes twice, and jobs remembered to know what was already said of them:
/// hours of a busy organisation, in less than a megabyte.
const REMEMBERED: usize = 4096;
/// Longest delivery id; GitHub's is a UUID of 36 characters.
const ID_LIMIT: usize = 64;

/// A job is queued: its repository is worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `owner/repository`, as the forge writes it.
    pub repository: String,
    /// The job.
    pub job_id: u64,
}

/// What happens to a job, in this order whatever the order of the deliveries (docs/github.md#job-status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// It waits for a runner.
    Queued,
    /// A runner has it.
    InProgress,
    /// It is over.
    Completed,
    /// Anything else; `waiting` for an approval is.
    #[serde(other)]
    Other,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Worth a look.
    News(Hint),
    /// Came before, or says what is already known to be past.
    Old,
    /// Nothing that a container could be booted for: a job that runs or is over only makes an older delivery about it
    /// old. What that frees here the controller knows by itself, and what it frees at the forge is queued next.
    Ignored,
    /// Not what a delivery looks like.
    Malformed(&'static str),
}

#[derive(Deserialize)]
struct Payload {
    action: Action,
    workflow_job: Job,
    repository: RepositoryPayload,
}

#[derive(Deserialize)]
struct Job {
    id: u64,
    /// Where a re-run keeps the id; GitHub's has a new one.
    #[serde(default)]
    run_attempt: u64,
}

#[derive(Deserialize)]
struct RepositoryPayload {
    full_name: String,
}

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Deliveries {
    deliveries: Recent<String, ()>,
    /// By id and attempt.
    jobs: Recent<(u64, u64), Action>,
}

impl Deliveries {
    /// Judges the body of a `workflow_job` delivery with this id.
    pub fn judge(&mut self, id: &str, body: &[u8]) -> Judged {
        if id.is_empty() || id.len() > ID_LIMIT {
            return Judged::Malformed("X-GitHub-Delivery is missing or too long");
        }
        let Ok(Payload { action, workflow_job, repository }) = serde_json::from_slice(body) else {
            return Judged::Malformed("the body is not a workflow_job event in JSON");
        };
        if self.deliveries.get(id).is_some() {
            return Judged::Old;
        }
        self.deliveries.put(id.to_owned(), ());
        if action == Action::Other {
            return Judged::Ignored;
        }
        let key = (workflow_job.id, workflow_job.run_attempt);
        if self.jobs.get(&key).is_some_and(|known| *known >= action) {
            return Judged::Old;
        }
        self.jobs.put(key, action);
        match action {
            Action::Queued => Judged::News(Hint { repository: repository.full_name, job_id: workflow_job.id }),
            _ => Judged::Ignored,
        }
    }
}

/// A map of the last [`REMEMBERED`] keys that were new.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.values.get(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{prelude::*, sample::select};

    use super::*;

    fn body(action: &str, job: u64) -> Vec<u8> {
        format!(
            r#"{{"action":"{action}","workflow_job":{{"id":{job},"labels":["x"]}},"repository":{{"full_name":"o/r"}}}}"#
        )
        .into_bytes()
    }

    fn news(job_id: u64) -> Judged {
        Judged::News(Hint { repository: "o/r".to_owned(), job_id })
    }

    #[test]
    fn a_delivery_counts_once_and_a_job_only_goes_forward() {
        let mut heard = Deliveries::default();
        for (id, action, job, judged) in [
            ("a", "queued", 1, news(1)),
            ("a", "queued", 1, Judged::Old),
            ("b", "queued", 1, Judged::Old),
            ("c", "completed", 1, Judged::Ignored),
            ("d", "in_progress", 1, Judged::Old),
            ("e", "in_progress", 2, Judged::Ignored),
            ("f", "queued", 2, Judged::Old),
            ("g", "waiting", 3, Judged::Ignored),
            ("h", "queued", 3, news(3)),
        ] {
            assert_eq!(heard.judge(id, &body(action, job)), judged, "{id}");
        }
    }

    #[test]
    fn what_is_no_job_event_is_malformed_and_is_not_remembered() {
        let mut heard = Deliveries::default();
        for text in
            ["", "[]", "{}", r#"{"action":"queued","workflow_job":{"id":"1"},"repository":{"full_name":"o/r"}}"#]
        {
            assert!(matches!(heard.judge("a", text.as_bytes()), Judged::Malformed(_)), "{text}");
        }
        assert_eq!(heard.judge("a", &body("queued", 1)), news(1));
        for id in ["", &"x".repeat(ID_LIMIT + 1)] {
            assert!(matches!(heard.judge(id, &body("queued", 2)), Judged::Malformed(_)));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut heard = Deliveries::default();
        for job in 0..2 * REMEMBERED as u64 {
            heard.judge(&job.to_string(), &body("queued", job));
        }
        assert_eq!((heard.deliveries.values.len(), heard.deliveries.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!((heard.jobs.values.len(), heard.jobs.order.len()), (REMEMBERED, REMEMBERED));
    }

    proptest! {
        #[test]
        fn a_job_is_news_once_and_not_after_it_was_taken(
            deliveries in prop::collection::vec((0..9u8, 0..3u64, select(vec!["queued", "in_progress", "completed", "waiting"])), 0..40)
        ) {
            let mut heard = Deliveries::default();
            let (mut delivered, mut known) = (HashSet::new(), HashSet::new());
            for (id, job, action) in deliveries {
                let judged = heard.judge(&id.to_string(), &body(action, job));
                let says = delivered.insert(id) && action != "waiting";
                let is_new = says && known.insert(job) && action == "queued";
                prop_assert_eq!(matches!(judged, Judged::News(_)), is_new);
            }
        }
    }
}
