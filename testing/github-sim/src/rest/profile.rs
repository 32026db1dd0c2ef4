//! Accounts and repositories with all that GitHub says of them wherever they are mentioned.

use crate::{stamp::rfc3339, world::Repo};
use serde_json::{Map, Value, json};

/// When everything here was made that does not remember it.
const MADE: &str = "2026-01-01T00:00:00Z";

/// Addresses of an account below its own.
const ACCOUNT_URLS: [(&str, &str); 9] = [
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
];

/// Addresses of a repository below its own.
const REPOSITORY_URLS: [(&str, &str); 37] = [
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
    ("url", ""),
];

fn add_urls(object: &mut Map<String, Value>, base: &str, urls: &[(&str, &str)]) {
    object.extend(urls.iter().map(|(name, below)| ((*name).to_owned(), Value::String(format!("{base}{below}")))));
}

/// An account as other answers mention it.
pub(super) fn account(api: &str, login: &str, kind: &str) -> Value {
    let mut object = Map::new();
    let base = format!("{api}/users/{login}");
    add_urls(&mut object, &base, &ACCOUNT_URLS);
    let own = json!({
        "login": login,
        "id": 1,
        "node_id": "U_1",
        "avatar_url": format!("{api}/avatars/{login}"),
        "gravatar_id": "",
        "url": base,
        "html_url": format!("{api}/{login}"),
        "type": kind,
        "user_view_type": "public",
        "site_admin": false,
    });
    merge(&mut object, own);
    Value::Object(object)
}

/// Whoever owns a repository or did something there.
pub(super) fn user(api: &str, login: &str) -> Value {
    account(api, login, "User")
}

/// What of a repository stands in other answers: `full_name` may be that of a copy of `repo`.
pub(super) fn mentioned(api: &str, repo: &Repo, id: u64, full_name: &str, fork: bool, private: bool) -> Value {
    let mut object = Map::new();
    add_urls(&mut object, &format!("{api}/repos/{full_name}"), &REPOSITORY_URLS);
    let owner = full_name.split('/').next().unwrap_or_default();
    let own = json!({
        "id": id,
        "node_id": format!("R_{id}"),
        "name": repo.name,
        "full_name": full_name,
        "private": private,
        "owner": user(api, owner),
        "html_url": format!("{api}/{full_name}"),
        "description": null,
        "fork": fork,
    });
    merge(&mut object, own);
    Value::Object(object)
}

/// A repository with everything that anybody may know of it.
pub(super) fn repository(api: &str, repo: &Repo) -> Value {
    let (full_name, settings) = (repo.full_name(), &repo.settings);
    let mut value = mentioned(api, repo, repo.id.0, &full_name, settings.fork, repo.private);
    let own = json!({
        "visibility": match (settings.internal, repo.private) {
            (true, _) => "internal",
            (false, true) => "private",
            (false, false) => "public",
        },
        "archived": settings.archived,
        "disabled": settings.disabled,
        "topics": settings.topics,
        "created_at": MADE,
        "updated_at": settings.pushed_at.map_or_else(|| MADE.to_owned(), rfc3339),
        "pushed_at": settings.pushed_at.map(rfc3339),
        "default_branch": "main",
        "git_url": format!("git://git.invalid/{full_name}.git"),
        "ssh_url": format!("git@git.invalid:{full_name}.git"),
        "clone_url": format!("{api}/{full_name}.git"),
        "svn_url": format!("{api}/{full_name}"),
        "mirror_url": null,
        "homepage": null,
        "language": null,
        "license": null,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "watchers": 0,
        "forks_count": 0,
        "forks": 0,
        "open_issues_count": 0,
        "open_issues": 0,
        "has_issues": true,
        "has_projects": true,
        "has_downloads": true,
        "has_wiki": true,
        "has_pages": false,
        "has_discussions": false,
        "allow_forking": true,
        "is_template": false,
        "web_commit_signoff_required": false,
    });
    if let Value::Object(object) = &mut value {
        merge(object, own);
    }
    value
}

/// An organisation as deliveries mention it.
pub(super) fn organization(api: &str, login: &str) -> Value {
    let base = format!("{api}/orgs/{login}");
    json!({
        "login": login,
        "id": 1,
        "node_id": "O_1",
        "url": base,
        "repos_url": format!("{base}/repos"),
        "events_url": format!("{base}/events"),
        "hooks_url": format!("{base}/hooks"),
        "issues_url": format!("{base}/issues"),
        "members_url": format!("{base}/members{{/member}}"),
        "public_members_url": format!("{base}/public_members{{/member}}"),
        "avatar_url": format!("{api}/avatars/{login}"),
        "description": null,
    })
}

/// What is added where a repository is asked for by itself.
pub(super) fn in_full(mut repository: Value) -> Value {
    if repository["pushed_at"].is_null() {
        repository["pushed_at"] = json!(MADE);
    }
    for count in ["network_count", "subscribers_count"] {
        repository[count] = json!(0);
    }
    repository
}

/// An account that is asked for by itself.
pub(super) fn account_in_full(api: &str, login: &str, is_organization: bool) -> Value {
    let mut more = json!({
        "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
        "created_at": MADE, "updated_at": MADE, "html_url": format!("{api}/{login}"),
    });
    let mut value = match is_organization {
        true => {
            more["type"] = json!("Organization");
            more["archived_at"] = Value::Null;
            more["has_organization_projects"] = json!(true);
            more["has_repository_projects"] = json!(true);
            organization(api, login)
        }
        false => {
            for unknown in ["name", "company", "blog", "location", "email", "hireable", "bio"] {
                more[unknown] = Value::Null;
            }
            user(api, login)
        }
    };
    if let Value::Object(object) = &mut value {
        merge(object, more);
    }
    value
}

/// What only its owner may know of an account.
pub(super) fn with_private(mut account: Value) -> Value {
    for count in ["private_gists", "total_private_repos", "owned_private_repos", "disk_usage", "collaborators"] {
        account[count] = json!(0);
    }
    account["two_factor_authentication"] = json!(true);
    account["user_view_type"] = json!("private");
    account
}

fn merge(object: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        object.extend(more);
    }
}
