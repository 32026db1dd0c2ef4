//! What an answer that is not the one hoped for means (docs/github.md#rate-limits, docs/github.md#rest-requests).

use std::time::Duration;

use http::StatusCode;

use super::{models::ErrorBody, permissions, transport::Answer};
use crate::{ErrorKind, ForgeError, RateLimit};

/// Pause after a secondary limit that names none.
const SECONDARY_PAUSE: Duration = Duration::from_secs(60);

/// Header of an answer that the controller gave itself, to stay within its share of the limit.
pub(super) const OWN_SHARE: &str = "x-gha-runner-own-share";

/// A header as a number or text.
pub(crate) fn header<N: std::str::FromStr>(answer: &Answer, name: &str) -> Option<N> {
    answer.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `x-ratelimit-*`
pub(super) fn rate_limit(answer: &Answer) -> Option<RateLimit> {
    Some(RateLimit {
        limit: header(answer, "x-ratelimit-limit")?,
        remaining: header(answer, "x-ratelimit-remaining")?,
        reset: header(answer, "x-ratelimit-reset")?,
    })
}

/// `retry-after`, in seconds.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    header(answer, "retry-after").map(|seconds: u64| Duration::from_secs(seconds.min(3600)))
}

/// What the forge said, short enough for a line.
pub(crate) fn said(answer: &Answer) -> String {
    let said = serde_json::from_slice::<ErrorBody>(&answer.body).unwrap_or_default().message.unwrap_or_default();
    said.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A limit was hit, primary or secondary.
pub(crate) fn is_limit(answer: &Answer) -> bool {
    let forbidden = answer.status == StatusCode::FORBIDDEN;
    answer.status == StatusCode::TOO_MANY_REQUESTS
        || forbidden
            && (retry_after(answer).is_some()
                || header::<u64>(answer, "x-ratelimit-remaining") == Some(0)
                || said(answer).to_ascii_lowercase().contains("rate limit"))
}

/// The error that `answer` to the call `shown` amounts to.
pub(super) fn refusal(shown: &str, answer: &Answer, now: Duration) -> ForgeError {
    let said = said(answer);
    let colon = if said.is_empty() { "" } else { ": " };
    let mut message = format!("{shown}: {}{colon}{said}", answer.status);
    let lower = said.to_ascii_lowercase();
    let kind = if is_limit(answer) {
        let reset = header::<u64>(answer, "x-ratelimit-reset").map(Duration::from_secs);
        let exhausted = header::<u64>(answer, "x-ratelimit-remaining") == Some(0);
        let until = match (retry_after(answer), reset) {
            (Some(after), _) => now + after,
            (None, Some(reset)) if exhausted => reset,
            _ => now + SECONDARY_PAUSE,
        };
        let until = until.clamp(now + Duration::from_secs(1), now + Duration::from_secs(3600));
        if answer.headers.contains_key(OWN_SHARE) { ErrorKind::Paced(until) } else { ErrorKind::RateLimited(until) }
    } else {
        match answer.status {
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
                if lower.contains("disabled") && lower.contains("actions") =>
            {
                message += ". Remedy: enable Actions in the repository's settings, or do not serve it";
                ErrorKind::Quarantined
            }
            StatusCode::FORBIDDEN if lower.contains("archived") => {
                message += ". Remedy: do not serve it while it is archived";
                ErrorKind::Quarantined
            }
            StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS if lower.contains("access blocked") => {
                ErrorKind::Quarantined
            }
            // A policy of the organisation or enterprise refuses without a word.
            StatusCode::FORBIDDEN if answer.body.is_empty() && shown.ends_with("/generate-jitconfig") => {
                message += ", without a word: a policy allows no self-hosted runners there. Remedy: allow them in the \
                            settings of the organisation or enterprise (Actions), or do not serve it";
                ErrorKind::Quarantined
            }
            StatusCode::FORBIDDEN => {
                if let Some(missing) = permissions::missing(answer) {
                    message += &format!(". Remedy: give the credential {missing}");
                }
                ErrorKind::Forbidden
            }
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                message += " (deleted, or the credential may not see it)";
                ErrorKind::NotFound
            }
            StatusCode::CONFLICT => ErrorKind::Conflict,
            StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
            status if status.is_client_error() => ErrorKind::Refused,
            _ => ErrorKind::Unavailable,
        }
    };
    ForgeError::new(kind, message)
}
