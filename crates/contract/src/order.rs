//! What the controller asks of the launcher, one line a connection, and the line that answers it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ContainerName;

/// The launcher's socket: only root and the controller's group may connect (systemd.socket(5), `SocketMode=`).
pub const LAUNCHER_SOCKET: &str = "/run/gha-runner-launcher.sock";
/// Longest order, in bytes with its line feed.
pub const ORDER_LIMIT: u64 = 256;
/// Longest answer, in bytes with its line feed.
pub const ANSWER_LIMIT: u64 = 4096;
/// Most characters of a reason in an answer: as JSON it then fits [`ANSWER_LIMIT`], whatever is in it.
const REASON_LIMIT: usize = 600;

/// What is to be done. There is no other verb, and how systemd does it is not the controller's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start the container's unit; it must not run yet.
    Start,
    /// Stop it; one that does not run is no error.
    Stop,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// The class in the unit's name.
    pub class: String,
    /// The container: the unit's instance.
    pub name: ContainerName,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase", deny_unknown_fields)]
pub enum Answer {
    /// systemd has queued it.
    Done,
    /// The launcher does not do such a thing.
    Refused {
        /// Why.
        reason: String,
    },
    /// systemd did not.
    Failed {
        /// Its words.
        reason: String,
    },
}

impl Answer {
    /// A refusal; the reason may quote what was asked for.
    pub fn refused(reason: &str) -> Self {
        Self::Refused { reason: reason.chars().take(REASON_LIMIT).collect() }
    }

    /// A failure.
    pub fn failed(reason: &str) -> Self {
        Self::Failed { reason: reason.chars().take(REASON_LIMIT).collect() }
    }
}

/// A message as its line.
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // Texts and plain enums: there is nothing in them that JSON cannot have.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The message of a whole line; the error says what is wrong with it.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let line = line.strip_suffix(b"\n").ok_or("the line is not complete")?;
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order() -> Order {
        Order { verb: Verb::Start, class: "a".repeat(24), name: "j1234567abc".parse().unwrap() }
    }

    #[test]
    fn the_longest_order_and_the_worst_answer_fit_their_limits() {
        assert!(u64::try_from(line(&order()).len()).unwrap() <= ORDER_LIMIT);
        let worst = Answer::refused(&"\u{1}".repeat(10_000));
        assert!(u64::try_from(line(&worst).len()).unwrap() <= ANSWER_LIMIT);
        assert_eq!(parse::<Answer>(&line(&worst)).unwrap(), worst);
    }

    #[test]
    fn an_order_has_three_known_fields_and_ends_with_its_line() {
        let whole = line(&order());
        assert_eq!(parse::<Order>(&whole).unwrap(), order());
        assert!(parse::<Order>(&whole[..whole.len() - 1]).is_err());
        let text = String::from_utf8(whole).unwrap();
        for odd in [
            text.replace("start", "restart"),
            text.replace("start", "Start"),
            text.replace('}', ",\"mode\":\"flush\"}"),
            text.replace("j1234567abc", "../../dbus"),
            text.replace('\n', "x\n"),
            text.replace("\"verb\"", "\"verb\":\"stop\",\"verb\""),
        ] {
            assert!(parse::<Order>(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
