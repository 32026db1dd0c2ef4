//! What GitHub publishes of itself, held against both sides of ours: the calls of the client, the answers and
//! deliveries of the simulated GitHub, and the client again with answers made from GitHub's own schemas.
//!
//! `tests/setup.sh` fetches the files; without them this says so and passes.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod description;
mod generate;
mod judge;
mod story;

use std::collections::BTreeSet;

use api::webhook::{Deliveries, Judged};

use self::{
    client::{Made, Served},
    description::Published,
    generate::Taste,
    judge::{Judge, validator},
};

/// Differences that are left as they are: how they begin, and why.
const ACCEPTED: [(&str, &str); 2] = [
    (
        "GET /repositories/*",
        "where a renamed repository is redirected to; GitHub answers there and does not describe it",
    ),
    (
        "actions/delete-self-hosted-runner-from-repo 422 /status",
        "GitHub puts the status into every error, and describes it for some",
    ),
];

fn published() -> Option<Published> {
    Published::read().inspect_err(|why| println!("skipped: GitHub's description of itself is not here: {why}")).ok()
}

#[tokio::test(start_paused = true)]
async fn calls_answers_and_deliveries_are_as_github_describes_them() {
    let Some(published) = published() else { return };
    let served = Served::new(Judge::new(published));
    story::play(&served).await;
    let judge = served.judge.borrow();
    println!(
        "{} calls and {} deliveries, of {} operations and events, differ in {} ways from GitHub's description",
        judge.calls,
        judge.deliveries,
        judge.covered.len(),
        judge.deviations.len(),
    );
    let accepted = |deviation: &&String| ACCEPTED.iter().any(|(begin, _)| deviation.starts_with(begin));
    let (known, new): (Vec<&String>, Vec<&String>) = judge.deviations.iter().partition(accepted);
    known.iter().for_each(|deviation| println!("accepted: {deviation}"));
    assert!(new.is_empty(), "{} differ:\n{}", new.len(), new.into_iter().cloned().collect::<Vec<_>>().join("\n"));
    for (begin, why) in ACCEPTED {
        assert!(known.iter().any(|deviation| deviation.starts_with(begin)), "{begin} ({why}) does not differ any more");
    }
    assert!(judge.covered.len() > 40 && judge.calls > 200, "{:#?}", judge.covered);
}

#[tokio::test(start_paused = true)]
async fn the_client_understands_every_answer_that_githubs_schemas_allow() {
    let Some(published) = published() else { return };
    let made = Made::new(published);
    let mut tastes = 0;
    for all in [false, true] {
        for nulls in [false, true] {
            for items in [0, 1, 3] {
                for last in [false, true] {
                    made.taste.set(Taste { all, nulls, items, last });
                    client::ask_everything(&made).await;
                    tastes += 1;
                }
            }
        }
    }
    let asked = made.asked.borrow();
    let answers: usize = asked.values().sum();
    println!("{answers} answers of {} operations in {tastes} ways, all understood", asked.len());
    assert!(asked.len() >= 20, "{asked:#?}");
}

#[test]
fn what_is_made_from_a_schema_fits_it() {
    let Some(published) = published() else { return };
    for (method, path) in client::OPERATIONS {
        let operation = published.operation(method, path).unwrap_or_else(|| panic!("{method} {path}"));
        let Some(Some(schema)) = operation.answer(operation.good()) else { continue };
        let validator = validator(&description::alone(operation.document, schema));
        for taste in [
            Taste { all: false, nulls: false, items: 1, last: false },
            Taste { all: true, nulls: true, items: 1, last: true },
            Taste { all: true, nulls: false, items: 2, last: false },
        ] {
            let value = generate::make(operation.document, schema, taste, 0);
            let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{method} {path} {taste:?}: {wrong:#?}");
        }
    }
}

#[test]
fn every_job_event_that_github_published_is_understood_at_the_webhook() {
    let Some(published) = published() else { return };
    let event = published.examples.iter().find(|event| event["name"] == "workflow_job").unwrap();
    let examples = event["examples"].as_array().unwrap();
    let mut actions = BTreeSet::new();
    for (number, example) in examples.iter().enumerate() {
        let body = example.to_string();
        let judged = Deliveries::default().judge(&number.to_string(), body.as_bytes());
        let action = example["action"].as_str().unwrap();
        actions.insert(action);
        match (action, judged) {
            ("queued", Judged::News(hint)) => {
                assert_eq!(Some(hint.repository.as_str()), example["repository"]["full_name"].as_str());
                assert_eq!(Some(hint.job_id), example["workflow_job"]["id"].as_u64());
            }
            ("queued", judged) => panic!("{judged:?}: {body}"),
            (_, judged) => assert_eq!(judged, Judged::Ignored, "{body}"),
        }
    }
    println!("{} examples of {actions:?}", examples.len());
    assert!(actions.contains("queued") && examples.len() >= 5);
}
