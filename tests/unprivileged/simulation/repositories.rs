//! Repositories that cannot be served any more, and the others beside them.

use github_sim::world::{JobId, RepoSettings, World};
use tokio::time::sleep;

use crate::{
    REPOS, repo_spec,
    story::{MINUTE, beside},
};

/// What is done to a repository, the words its operator reads, and how it is taken back.
type Mishap = (fn(&mut World, &str), &'static [&'static str], fn(&mut World, &str));

const MISHAPS: [Mishap; 3] = [
    (
        |hub, repo| hub.rename_repo(repo, &format!("{repo}-2")).unwrap(),
        &["renamed, now ", "-2. Remedy: write the new name in the configuration"],
        |hub, repo| hub.rename_repo(&format!("{repo}-2"), repo).unwrap(),
    ),
    (
        |hub, repo| hub.delete_repo(repo).unwrap(),
        &["404", "deleted, or the credential may not see it"],
        |hub, repo| {
            hub.add_repo(&repo_spec(repo)).unwrap();
        },
    ),
    (
        |hub, repo| {
            let settings = hub.repo_settings(repo).unwrap();
            hub.set_repo(repo, RepoSettings { actions_enabled: false, ..settings }).unwrap();
        },
        &["Actions has been disabled", "Remedy: enable Actions"],
        |hub, repo| {
            let settings = hub.repo_settings(repo).unwrap();
            hub.set_repo(repo, RepoSettings { actions_enabled: true, ..settings }).unwrap();
        },
    ),
];

#[test]
fn a_repository_that_cannot_be_served_is_quarantined_with_its_reason_and_the_others_go_on() {
    for (happens, words, is_taken_back) in MISHAPS {
        beside(
            1,
            |_| {},
            async |story| {
                sleep(2 * MINUTE).await;
                happens(&mut story.simulation.hub.borrow_mut(), REPOS[0]);
                sleep(5 * MINUTE).await;
                let problems = story.problems();
                assert!(problems.contains(&format!("{}: cannot be served: ", REPOS[0])), "{problems}");
                for word in words {
                    assert!(problems.contains(word), "{word:?} is not in {problems}");
                }
                let shown = story.status.borrow().repositories.clone();
                let quarantined: Vec<_> = shown.iter().filter(|repository| repository.quarantine.is_some()).collect();
                assert!(quarantined.len() == 1 && quarantined[0].repo == REPOS[0], "{quarantined:?}");

                let others: Vec<JobId> = REPOS[1..].iter().map(|repo| story.queue_polled(repo)).collect();
                sleep(20 * MINUTE).await;
                let waiting: Vec<_> =
                    others.iter().map(|job| story.view(*job)).filter(|job| job.acquired_at.is_none()).collect();
                assert!(waiting.is_empty(), "others wait: {waiting:#?}\n{:#?}", story.status.borrow().queue);

                is_taken_back(&mut story.simulation.hub.borrow_mut(), REPOS[0]);
                let job = story.queue_polled(REPOS[0]);
                sleep(25 * MINUTE).await;
                assert!(story.is_taken(job), "tried again now and then, and served");
                assert_eq!(story.problems(), "");
            },
        );
    }
}
