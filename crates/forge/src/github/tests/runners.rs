//! Runners of organisations and enterprises, and their groups.

use github_sim::world::{RunnerGroupSpec, Scope, Visibility};

use super::*;
use crate::{Deletion, ErrorKind, Forge, Reach};

fn group(name: &str, allows_public_repositories: bool) -> RunnerGroupSpec {
    RunnerGroupSpec { name: name.to_owned(), visibility: Visibility::All, allows_public_repositories }
}

#[tokio::test(start_paused = true)]
async fn an_organisations_runner_joins_the_group_it_is_told_to() {
    let hub = Hub::new(Config::default());
    let acme = Scope::Org("acme".to_owned());
    let id = hub.world.borrow_mut().set_runner_group(&acme, group("Ephemeral", true)).unwrap();
    let github = hub.github("token_file = \"/t\"\n[[target]]\norg = \"acme\"\nrunner_group = \"ephemeral\"\n");
    let minted = github.mint("acme", "r-1", &["x".to_owned()], None).await.unwrap();
    github.mint("acme", "r-2", &["x".to_owned()], None).await.unwrap();
    assert_eq!(hub.asked(SimCall::ListRunnerGroups), 1, "asked once");
    let listed = hub.rest().exchange(Call::get("/orgs/acme/actions/runners"), &Token::new(TOKEN)).await.unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!([0, 1].map(|at| listed["runners"][at]["runner_group_id"].as_u64()), [Some(id); 2]);
    assert_eq!(github.find_runner("acme", "r-1").await.unwrap().unwrap().id, minted.runner_id);
    assert_eq!(github.delete_runner("acme", minted.runner_id).await.unwrap(), Deletion::Deleted);
    assert_eq!(github.list_runners("acme").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_there_is_refused_with_those_that_are() {
    let hub = Hub::new(Config::default());
    let github = hub.github("token_file = \"/t\"\n[[target]]\norg = \"acme\"\nrunner_group = \"none\"\n");
    let error = github.mint("acme", "r-1", &["x".to_owned()], None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("\"none\"") && error.message.contains("Default"), "{error}");
    assert_eq!(hub.asked(SimCall::Mint), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_leaves_public_repositories_out_is_found_and_nothing_is_left_behind() {
    let hub = Hub::new(Config::default());
    let github = hub.github("token_file = \"/t\"\n[[target]]\norg = \"acme\"\n");
    let excluded = |findings: Vec<crate::Finding>| {
        let public = findings.iter().find(|finding| finding.reach == Reach::PublicRepositories);
        public.is_some_and(|finding| finding.problem.is_some())
    };
    assert!(excluded(github.probe("acme").await), "the default group serves none unless told");
    let acme = Scope::Org("acme".to_owned());
    hub.world.borrow_mut().set_runner_group(&acme, group("Default", true)).unwrap();
    let findings = github.probe("acme").await;
    assert!(findings.iter().all(|finding| finding.problem.is_none()), "{findings:#?}");
    assert_eq!(findings.len(), 6);
    assert!(hub.world.borrow().runner_views().is_empty());
}
