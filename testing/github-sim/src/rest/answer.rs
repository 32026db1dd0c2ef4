//! An answer before it becomes HTTP.

use super::unchanged::MadeFrom;
use serde_json::{Value, json};

/// Status, body and the headers that are not the same on every answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
    /// What it was made from, where that says whether it would be the same again.
    pub(super) made_from: Option<MadeFrom>,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self::with(200, body)
    }

    pub(super) fn with(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new(), made_from: None }
    }

    pub(super) fn no_content() -> Self {
        Self { status: 204, body: None, headers: Vec::new(), made_from: None }
    }

    /// The client has it already.
    pub(super) fn not_modified() -> Self {
        Self { status: 304, ..Self::no_content() }
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::with(
            status,
            json!({
                "message": message,
                "documentation_url": "https://docs.github.com/rest",
                "status": status.to_string(),
            }),
        )
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}
