//! What injected faults do to a request or an answer, whichever half of GitHub serves it.

use crate::{rest::Reply, stamp, world::What};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use std::time::Duration;

/// What becomes of a request before anything is done.
pub(crate) enum Early {
    /// It is served.
    GoOn,
    /// Nobody answers.
    Hang,
    /// The connection breaks.
    Reset,
    /// It is answered so.
    Refuse(Refusal),
}

/// An answer a fault gives in place of the real one.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// The faults that keep a request from being served.
pub(crate) fn early(fault: Option<&What>) -> Early {
    match fault {
        Some(What::Hang) => Early::Hang,
        Some(What::Refused) => Early::Reset,
        Some(What::Status { code, message, headers }) => {
            let message = match message.as_str() {
                "" => StatusCode::from_u16(*code).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error"),
                message => message,
            };
            Early::Refuse(Refusal { status: *code, message: message.to_owned(), headers: headers.clone() })
        }
        _ => Early::GoOn,
    }
}

/// The faults that happen to an answer on its way.
pub(crate) fn late(fault: Option<&What>, now: Duration, mut response: Response<Vec<u8>>) -> Reply {
    match fault {
        Some(What::LostAnswer) => return Reply::Reset,
        Some(What::BadJson) => {
            let half = response.body().len() / 2;
            response.body_mut().truncate(half);
        }
        Some(What::DateSkew { seconds }) => {
            let skew = Duration::from_secs(seconds.unsigned_abs());
            let at = match *seconds < 0 {
                true => now.saturating_sub(skew),
                false => now + skew,
            };
            set(&mut response, "date", &stamp::http_date(at));
        }
        Some(What::Slow { ms }) => return Reply::Slow(Duration::from_millis(*ms), response),
        _ => {}
    }
    Reply::Answer(response)
}

/// Headers that HTTP does not allow are left out: an injected fault may name anything.
pub(crate) fn set(response: &mut Response<Vec<u8>>, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}
