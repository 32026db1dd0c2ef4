//! Answers that say no.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use controller::{operation::Denied, ports::PortError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    /// For people: what is wrong, and what to do about it.
    pub error: String,
}

/// A refusal with its status code.
#[derive(Debug)]
pub(super) struct Refused(pub StatusCode, pub String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorAnswer { error: self.1 })).into_response()
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for Refused {
    fn from(rejection: PathRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        // Whatever is wrong with a body: too large is its own matter.
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(code, rejection.body_text())
    }
}

impl From<PortError> for Refused {
    fn from(error: PortError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("the history cannot be read: {error}"))
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::NotFound(_) => StatusCode::NOT_FOUND,
            Denied::Conflict(_) => StatusCode::CONFLICT,
            Denied::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, denied.to_string())
    }
}
