//! What an answer of any forge says.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::{ErrorKind, wire::Answer};

/// What a forge says of an error.
#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    message: Option<String>,
}

/// A header as a number or text.
pub fn header<N: std::str::FromStr>(answer: &Answer, name: &str) -> Option<N> {
    answer.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `retry-after`, in seconds.
pub fn retry_after(answer: &Answer) -> Option<Duration> {
    header(answer, "retry-after").map(|seconds: u64| Duration::from_secs(seconds.min(3600)))
}

/// What the forge said, short enough for a line.
pub fn said(answer: &Answer) -> String {
    let said = serde_json::from_slice::<ErrorBody>(&answer.body).unwrap_or_default().message.unwrap_or_default();
    said.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A limit was hit, primary or secondary.
pub fn is_limit(answer: &Answer) -> bool {
    let forbidden = answer.status == StatusCode::FORBIDDEN;
    answer.status == StatusCode::TOO_MANY_REQUESTS
        || forbidden
            && (retry_after(answer).is_some()
                || header::<u64>(answer, "x-ratelimit-remaining") == Some(0)
                || said(answer).to_ascii_lowercase().contains("rate limit"))
}

/// What a status that stands for no success means, where a forge's own words say no more.
pub fn kind_of(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
        status if status.is_client_error() => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    }
}
