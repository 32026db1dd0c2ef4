//! Which permission an answer says is missing (docs/github.md#permissions).

use crate::{answer::header, wire::Answer};

/// The permissions that would have done, in GitHub's own words as its settings pages show them; `None` = not said.
pub fn missing(answer: &Answer) -> Option<String> {
    let fine_grained: Option<String> = header(answer, "x-accepted-github-permissions");
    let scopes: Option<String> = header(answer, "x-accepted-oauth-scopes");
    match (fine_grained.filter(|text| !text.is_empty()), scopes.filter(|text| !text.is_empty())) {
        // Only a classic token is told its scopes.
        (_, Some(accepted)) if answer.headers.contains_key("x-oauth-scopes") => {
            let has: String = header(answer, "x-oauth-scopes").unwrap_or_default();
            let has = if has.is_empty() { "none".to_owned() } else { has };
            Some(format!("one of the scopes {accepted} (it has: {has})"))
        }
        (Some(accepted), _) => {
            let ways: Vec<String> = accepted
                .split(';')
                .map(|way| way.split(',').map(|one| in_words(one.trim())).collect::<Vec<_>>().join(" and "))
                .collect();
            Some(ways.join(", or "))
        }
        (None, Some(accepted)) => Some(format!("one of the scopes {accepted}")),
        (None, None) => None,
    }
}

/// `administration=write` as "Administration: read and write".
fn in_words(permission: &str) -> String {
    let (name, access) = permission.split_once('=').unwrap_or((permission, "read"));
    let (place, name) = match name.strip_prefix("organization_") {
        Some(name) => ("organisation permission ", name),
        None => ("", name),
    };
    let name = match name {
        "self_hosted_runners" => "Self-hosted runners".to_owned(),
        name => {
            let mut letters = name.replace('_', " ");
            if let Some(first) = letters.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            letters
        }
    };
    let access = if access == "write" { "read and write" } else { access };
    format!("{place}{name}: {access}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::StatusCode;

    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let mut answer = Answer::made_up(StatusCode::FORBIDDEN, "Resource not accessible");
        for (name, value) in headers {
            answer.headers.insert(*name, value.parse().unwrap());
        }
        missing(&answer)
    }

    #[test]
    fn the_missing_permission_is_named_as_the_settings_page_names_it() {
        for (header, words) in [
            ("administration=write", "Administration: read and write"),
            ("organization_self_hosted_runners=read", "organisation permission Self-hosted runners: read"),
            ("actions=read,metadata=read; contents=read", "Actions: read and Metadata: read, or Contents: read"),
        ] {
            assert_eq!(told(&[("x-accepted-github-permissions", header)]).unwrap(), words);
        }
        let classic = [("x-oauth-scopes", "gist"), ("x-accepted-oauth-scopes", "admin:org")];
        assert_eq!(told(&classic).unwrap(), "one of the scopes admin:org (it has: gist)");
        assert_eq!(told(&[]), None);
    }
}
