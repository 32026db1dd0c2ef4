//! A time as GitHub writes it: RFC 3339, in UTC or with an offset.

use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A time in an answer, since the Unix epoch. None = not told: missing, null, not set (the Actions service then writes
/// the year 1), or not a time. No answer is refused for a time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub Option<Duration>);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(from)?;
        Ok(Self(written.as_str().and_then(parse)))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let time = DateTime::parse_from_rfc3339(text.trim()).ok()?;
    Some(Duration::new(time.timestamp().try_into().ok()?, time.timestamp_subsec_nanos().min(999_999_999)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(written: Value) -> Option<Duration> {
        serde_json::from_value::<Timestamp>(written).unwrap().0
    }

    #[test]
    fn a_time_is_understood_with_and_without_an_offset() {
        let at = Duration::from_secs(1_795_939_200);
        for text in [
            "2026-11-29T08:00:00Z",
            "2026-11-29T08:00:00+00:00",
            "2026-11-29T10:00:00+02:00",
            "2026-11-28T22:30:00-09:30",
            "2026-11-29T10:00:00.000+02:00",
            "2026-11-29t08:00:00z",
        ] {
            assert_eq!(read(json!(text)), Some(at), "{text}");
        }
        let fraction = Some(at + Duration::from_nanos(123_456_700));
        assert_eq!(read(json!("2026-11-29T08:00:00.1234567Z")), fraction);
        assert_eq!(read(json!("2026-11-29T10:00:00.1234567+02:00")), fraction);
    }

    #[test]
    fn what_is_no_time_is_not_told() {
        for written in [
            json!(null),
            json!(""),
            json!("0001-01-01T00:00:00Z"),
            json!("2026-11-29"),
            json!("2026-13-29T08:00:00Z"),
            json!("2026-11-29T08:00:00+99:00"),
            json!("soon"),
            json!(7),
            json!({}),
        ] {
            assert_eq!(read(written.clone()), None, "{written}");
        }
    }
}
