//! How GitHub writes a point in time, and the few ways it lets clients write one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-01T10:00:00Z`.
pub(crate) fn rfc3339(at: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + at).to_string()
}

/// `2026-11-01T10:00:00.000Z`, the form of token expiry times.
pub(crate) fn rfc3339_millis(at: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + at).to_string()
}

/// The form of the `Date` header: `Sun, 01 Nov 2026 10:00:00 GMT`.
pub(crate) fn http_date(at: Duration) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = rfc3339(at);
    let weekday = DAYS[usize::try_from(at.as_secs() / 86_400 % 7).unwrap_or(0)];
    let month = text[5..7].parse::<usize>().ok().and_then(|number| MONTHS.get(number - 1)).unwrap_or(&"Jan");
    let (year, day, time) = (&text[0..4], &text[8..10], &text[11..19]);
    format!("{weekday}, {day} {month} {year} {time} GMT")
}

/// Reads `2026-11-01`, `2026-11-01T10:00:00Z` and `2026-11-01T10:00:00+00:00`.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_suffix("+00:00").unwrap_or(text);
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time: SystemTime = humantime::parse_rfc3339_weak(&full).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn writes_the_three_forms() {
        let at = Duration::from_secs(1_793_527_200);
        assert_eq!(rfc3339(at), "2026-11-01T10:00:00Z");
        assert_eq!(http_date(at), "Sun, 01 Nov 2026 10:00:00 GMT");
        assert_eq!(rfc3339_millis(at), "2026-11-01T10:00:00.000Z");
    }

    #[test]
    fn reads_what_clients_write() {
        let at = Some(Duration::from_secs(1_793_527_200));
        assert_eq!(parse("2026-11-01T10:00:00Z"), at);
        assert_eq!(parse("2026-11-01T10:00:00+00:00"), at);
        assert_eq!(parse("2026-11-01"), Some(Duration::from_secs(1_793_491_200)));
        assert_eq!(parse("yesterday"), None);
    }
}
