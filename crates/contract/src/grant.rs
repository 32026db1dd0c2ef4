//! The one-job grant: what lets the guest register as a runner, once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A credential good for one runner and one job. `Debug` never shows its content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Grant {
    /// GitHub's JIT configuration as `generate-jitconfig` returned it (docs/github.md#contents-of-a-jit-configuration):
    /// base64 of a JSON object from file name to base64 file content.
    GithubJit {
        /// The `encoded_jit_config` field, unchanged.
        encoded_jit_config: String,
    },
    /// The identity of one ephemeral runner of Gitea or Forgejo, as the forge gave it at registration.
    ActRunner(ActRunner),
}

/// What a runner of Gitea or Forgejo is registered as.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRunner {
    /// Which program it is for.
    pub flavour: ActFlavour,
    /// The forge's root: `https://git.example.org`, without a slash at its end.
    pub url: String,
    /// The registration's number.
    pub id: u64,
    /// What it says it is in each call.
    pub uuid: String,
    /// What proves it.
    pub token: String,
    /// Its name at the forge.
    pub name: String,
    /// Each with its schema: `nix:host`, `builder:docker://image`.
    pub labels: Vec<String>,
    /// The one job it is bound to, where the forge binds runners to jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
}

/// A runner program that speaks the protocol of Gitea's Actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActFlavour {
    /// `gitea-runner`, before its release 1.0 `act_runner`.
    Gitea,
    /// `forgejo-runner`.
    Forgejo,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GithubJit { .. } => f.write_str("GithubJit(…)"),
            Self::ActRunner(runner) => runner.fmt(f),
        }
    }
}

impl fmt::Debug for ActRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActRunner(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RUNNER: &str = r#"{"kind":"act-runner","flavour":"gitea","url":"http://g","id":2,"uuid":"u-u","token":"swordfish",
        "name":"h.j0000001","labels":["nix:host"]}"#;

    #[test]
    fn a_grant_is_read_with_or_without_a_handle_and_shows_nothing_of_it() {
        let grant: Grant = serde_json::from_str(RUNNER).unwrap();
        let again: Grant = serde_json::from_slice(&serde_json::to_vec(&grant).unwrap()).unwrap();
        assert_eq!(again, grant);
        let Grant::ActRunner(runner) = &grant else { panic!("{grant:?}") };
        assert_eq!((runner.flavour, runner.id, runner.handle.as_deref()), (ActFlavour::Gitea, 2, None));
        let bound = RUNNER.replace(r#""id":2"#, r#""id":2,"handle":"h-1""#);
        let Grant::ActRunner(bound) = serde_json::from_str(&bound).unwrap() else { panic!("{bound}") };
        assert_eq!(bound.handle.as_deref(), Some("h-1"));
        for shown in [format!("{grant:?}"), format!("{bound:?}")] {
            assert_eq!(shown, "ActRunner(…)");
        }
    }

    #[test]
    fn a_grant_with_a_field_nobody_knows_is_refused() {
        for odd in [RUNNER.replace("\"id\"", "\"path\":\"/\",\"id\""), RUNNER.replace("gitea", "gogs")] {
            assert!(serde_json::from_str::<Grant>(&odd).is_err(), "{odd}");
        }
        assert!(serde_json::from_str::<Grant>(r#"{"kind":"github-jit","encoded_jit_config":"e30=","x":1}"#).is_err());
    }
}
