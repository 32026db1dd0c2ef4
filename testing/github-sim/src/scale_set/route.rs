//! Which call of the scale-set half a method and a path mean.

use super::{QUEUE, SERVICE};
use crate::rest::Call;

/// A request understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) call: Call,
    /// Scale set, agent or message.
    pub(super) id: u64,
    /// Session.
    pub(super) text: &'a str,
    /// Whether the request has to say which version of the interface it speaks.
    pub(super) wants_version: bool,
}

/// Understands a request; `None` for what the other halves serve.
pub(super) fn parse<'a>(method: &str, path: &'a str) -> Option<Route<'a>> {
    let path = path.strip_prefix("/api/v3/").unwrap_or(path).trim_start_matches('/');
    let route = |call, id, text, wants_version| Some(Route { call, id, text, wants_version });
    if path.trim_end_matches('/') == "actions/runner-registration" {
        let call = if method == "POST" { Call::RunnerRegistration } else { Call::Unknown };
        return route(call, 0, "", false);
    }
    if let Some(rest) = path.strip_prefix(QUEUE) {
        let call = match (method, rest.trim_matches('/')) {
            ("GET", "") => Call::GetMessage,
            ("DELETE", id) if number(id) > 0 => Call::DeleteMessage,
            _ => Call::Unknown,
        };
        return route(call, number(rest.trim_matches('/')), "", false);
    }
    let rest = path.strip_prefix(SERVICE)?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let (call, id, text) = match parts.as_slice() {
        ["_apis", "runtime", "runnergroups"] if method == "GET" => (Call::FindScaleSetGroup, 0, ""),
        ["_apis", "runtime", "runnerscalesets", rest @ ..] => in_sets(method, rest),
        ["_apis", "distributedtask", "pools", "0", "agents"] if method == "GET" => (Call::FindAgent, 0, ""),
        ["_apis", "distributedtask", "pools", "0", "agents", id] => match method {
            "GET" => (Call::GetAgent, number(id), ""),
            "DELETE" => (Call::DeleteAgent, number(id), ""),
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    };
    route(call, id, text, true)
}

fn in_sets<'a>(method: &str, rest: &[&'a str]) -> (Call, u64, &'a str) {
    match (method, rest) {
        ("GET", []) => (Call::ListScaleSets, 0, ""),
        ("POST", []) => (Call::CreateScaleSet, 0, ""),
        ("GET", [set]) => (Call::GetScaleSet, number(set), ""),
        ("PATCH", [set]) => (Call::UpdateScaleSet, number(set), ""),
        ("DELETE", [set]) => (Call::DeleteScaleSet, number(set), ""),
        ("POST", [set, "generatejitconfig"]) => (Call::MintScaleSetRunner, number(set), ""),
        ("POST", [set, "acquirejobs"]) => (Call::AcquireJobs, number(set), ""),
        ("GET", [set, "acquirablejobs"]) => (Call::AcquirableJobs, number(set), ""),
        ("POST", [set, "sessions"]) => (Call::OpenMessageSession, number(set), ""),
        ("PATCH", [set, "sessions", session]) => (Call::RefreshMessageSession, number(set), *session),
        ("DELETE", [set, "sessions", session]) => (Call::CloseMessageSession, number(set), *session),
        _ => UNKNOWN,
    }
}

const UNKNOWN: (Call, u64, &str) = (Call::Unknown, 0, "");

/// No id is 0, so what is not a number finds nothing.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_queue_the_service_and_the_rest_are_told_apart() {
        assert_eq!(parse("GET", "/repos/o/r"), None);
        assert_eq!(parse("POST", "/api/v3/actions/runner-registration").unwrap().call, Call::RunnerRegistration);
        let message = parse("DELETE", "/actions-service/scalesets/message/100000001").unwrap();
        assert_eq!((message.call, message.id, message.wants_version), (Call::DeleteMessage, 100_000_001, false));
        let session = parse("PATCH", "/actions-service/rest/_apis/runtime/runnerscalesets/7/sessions/abc").unwrap();
        assert_eq!((session.call, session.id, session.text), (Call::RefreshMessageSession, 7, "abc"));
        assert!(session.wants_version);
    }
}
