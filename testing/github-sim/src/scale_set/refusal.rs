//! How the Actions service says no.

use serde_json::json;

/// A status and an exception with a name (docs/github.md#actions-service-requests).
pub(super) struct Refusal {
    pub(super) status: u16,
    type_name: Option<String>,
    message: String,
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: u16, type_name: &str, message: &str) -> Self {
        Self { status, type_name: Some(type_name.to_owned()), message: message.to_owned(), retry_after: None }
    }

    /// As a gateway before the service answers.
    pub(super) fn untyped(status: u16, message: &str) -> Self {
        Self { status, type_name: None, message: message.to_owned(), retry_after: None }
    }

    pub(super) fn bad_token() -> Self {
        Self::new(401, "InvalidTokenException", "The token is invalid or expired.")
    }

    pub(super) fn no_route() -> Self {
        Self::untyped(404, "Not Found")
    }

    pub(super) fn no_scale_set(id: u64) -> Self {
        Self::new(404, "RunnerScaleSetNotFoundException", &format!("No runner scale set found with identifier {id}."))
    }

    pub(super) fn too_many(retry_after: Option<u64>) -> Self {
        Self { retry_after, ..Self::untyped(429, "Too many requests.") }
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let body = match &self.type_name {
            Some(name) => json!({
                "$id": "1",
                "innerException": null,
                "message": self.message,
                "typeName": format!("GitHub.DistributedTask.WebApi.{name}, GitHub.DistributedTask.WebApi"),
                "typeKey": name,
                "errorCode": 0,
                "eventId": 3000,
            }),
            None => json!({ "message": self.message }),
        };
        body.to_string().into_bytes()
    }
}
