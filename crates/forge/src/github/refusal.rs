//! What an answer that is not the one hoped for means (docs/github.md#rate-limits, docs/github.md#rest-requests).

use std::time::Duration;

use http::StatusCode;

use super::{permissions, transport::Answer};
use crate::{
    ErrorKind, ForgeError, RateLimit,
    answer::{header, is_limit, kind_of, retry_after, said},
};

/// Pause after a secondary limit that names none.
const SECONDARY_PAUSE: Duration = Duration::from_secs(60);

/// Header of an answer that the controller gave itself, to stay within its share of the limit.
pub(super) const OWN_SHARE: &str = "x-gha-runner-own-share";

/// `x-ratelimit-*`
pub(super) fn rate_limit(answer: &Answer) -> Option<RateLimit> {
    Some(RateLimit {
        limit: header(answer, "x-ratelimit-limit")?,
        remaining: header(answer, "x-ratelimit-remaining")?,
        reset: header(answer, "x-ratelimit-reset")?,
    })
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
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                message += " (deleted, or the credential may not see it)";
                ErrorKind::NotFound
            }
            status => kind_of(status),
        }
    };
    ForgeError::new(kind, message)
}
