//! A credential at work: every call gets a token that is good, and one more try with a fresh one where an App's was
//! refused.

use std::time::Duration;

use http::StatusCode;
use settings::token_file::Token;

use super::{
    app::{App, AppTokens, Installation},
    transport::{Answer, Call, Exchange, NoAnswer, Transport},
};

/// Sends calls with one token, or with those of one installation of a GitHub App.
#[derive(Debug)]
pub struct Session<X> {
    exchange: X,
    access: Access,
}

#[derive(Debug)]
enum Access {
    Token(Token),
    App(AppTokens),
}

impl<X: Exchange> Session<X> {
    /// With a personal access token.
    pub fn with_token(exchange: X, token: Token) -> Self {
        Self { exchange, access: Access::Token(token) }
    }

    /// With the tokens of an installation.
    pub fn with_app(exchange: X, app: App, installation: Installation) -> Self {
        Self { exchange, access: Access::App(AppTokens::new(app, installation)) }
    }
}

impl<X: Exchange> Transport for Session<X> {
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        let tokens = match &self.access {
            Access::Token(token) => return self.exchange.exchange(call, token).await,
            Access::App(tokens) => tokens,
        };
        let token = match tokens.token(&self.exchange, None).await {
            Ok(token) => token,
            Err(instead) => return instead,
        };
        let answer = self.exchange.exchange(call.clone(), &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        // A call that was refused was not carried out: it can be repeated whatever it is.
        match tokens.token(&self.exchange, Some(&token)).await {
            Ok(fresh) if fresh != token => self.exchange.exchange(call, &fresh).await,
            Ok(_) => Ok(answer),
            Err(instead) => instead,
        }
    }

    fn now(&self) -> Duration {
        self.exchange.now()
    }
}
