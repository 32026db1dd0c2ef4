//! A credential at work: every call gets a token that is good, and one more try with a fresh one where an App's was
//! refused.

use std::time::Duration;

use http::StatusCode;
use settings::token_file::Token;

use super::{
    app::{App, AppTokens, Installation},
    rest::Rest,
    transport::{Answer, Call, NoAnswer, Transport},
    wire::Wire,
};

/// Sends calls with one token, or with those of one installation of a GitHub App.
#[derive(Debug)]
pub struct Session<W> {
    rest: Rest<W>,
    access: Access,
}

#[derive(Debug)]
enum Access {
    Token(Token),
    App(AppTokens),
}

impl<W: Wire> Session<W> {
    /// With a personal access token.
    pub fn with_token(rest: Rest<W>, token: Token) -> Self {
        Self { rest, access: Access::Token(token) }
    }

    /// With the tokens of an installation.
    pub fn with_app(rest: Rest<W>, app: App, installation: Installation) -> Self {
        Self { rest, access: Access::App(AppTokens::new(app, installation)) }
    }
}

impl<W: Wire> Transport for Session<W> {
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        let tokens = match &self.access {
            Access::Token(token) => return self.rest.exchange(call, token).await,
            Access::App(tokens) => tokens,
        };
        let token = match tokens.token(&self.rest, None).await {
            Ok(token) => token,
            Err(instead) => return instead,
        };
        let answer = self.rest.exchange(call.clone(), &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        // A call that was refused was not carried out: it can be repeated whatever it is.
        match tokens.token(&self.rest, Some(&token)).await {
            Ok(fresh) if fresh != token => self.rest.exchange(call, &fresh).await,
            Ok(_) => Ok(answer),
            Err(instead) => instead,
        }
    }

    fn now(&self) -> Duration {
        self.rest.now()
    }
}
