//! A credential at work: every call gets a token that is good, and one more try with a fresh one where an App's was
//! refused, or its file has another one by now.

use std::time::Duration;

use http::StatusCode;
use settings::token_file::Token;

use super::{
    app::{App, AppTokens, Installation, Obtained},
    rest::Rest,
    transport::{Answer, Call, NoAnswer, Transport},
};
use crate::Held;
use crate::wire::Wire;

/// Sends calls with one token, or with those of one installation of a GitHub App.
#[derive(Debug)]
pub struct Session<W> {
    rest: Rest<W>,
    access: Access,
}

#[derive(Debug)]
enum Access {
    Token(Held),
    /// The App's private key beside its tokens; None = it never changes.
    App(AppTokens, Option<Held>),
}

impl<W: Wire> Session<W> {
    /// With a personal access token.
    pub fn with_token(rest: Rest<W>, token: impl Into<Held>) -> Self {
        Self { rest, access: Access::Token(token.into()) }
    }

    /// With the tokens of an installation.
    pub fn with_app(rest: Rest<W>, app: App, installation: Installation) -> Self {
        Self { rest, access: Access::App(AppTokens::new(app, installation), None) }
    }

    /// The same, of an App whose private key is this, and may be renewed.
    pub fn with_app_key(rest: Rest<W>, app: App, installation: Installation, key: impl Into<Held>) -> Self {
        Self { rest, access: Access::App(AppTokens::new(app, installation), Some(key.into())) }
    }

    async fn with_personal(&self, call: Call, held: &Held) -> Result<Answer, NoAnswer> {
        held.renewed(false);
        let answer = self.rest.exchange(call.clone(), &held.token()).await?;
        if answer.status == StatusCode::UNAUTHORIZED && held.renewed(true) {
            return self.rest.exchange(call, &held.token()).await;
        }
        Ok(answer)
    }

    /// A token of the installation; where the App is refused, by its renewed key if there is one.
    async fn obtain(&self, tokens: &AppTokens, key: Option<&Held>, refused: Option<&Token>) -> Obtained {
        let renew = |was_refused| key.is_some_and(|key| key.renewed(was_refused) && tokens.sign_with(&key.token()));
        renew(false);
        match tokens.token(&self.rest, refused).await {
            Err(Ok(answer)) if answer.status == StatusCode::UNAUTHORIZED && renew(true) => {
                tokens.token(&self.rest, refused).await
            }
            obtained => obtained,
        }
    }
}

impl<W: Wire> Transport for Session<W> {
    async fn send(&self, call: Call) -> Result<Answer, NoAnswer> {
        let (tokens, key) = match &self.access {
            Access::Token(held) => return self.with_personal(call, held).await,
            Access::App(tokens, key) => (tokens, key.as_ref()),
        };
        let token = match self.obtain(tokens, key, None).await {
            Ok(token) => token,
            Err(instead) => return instead,
        };
        let answer = self.rest.exchange(call.clone(), &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        // A call that was refused was not carried out: it can be repeated whatever it is.
        match self.obtain(tokens, key, Some(&token)).await {
            Ok(fresh) if fresh != token => self.rest.exchange(call, &fresh).await,
            Ok(_) => Ok(answer),
            Err(instead) => instead,
        }
    }

    fn now(&self) -> Duration {
        self.rest.now()
    }

    fn has_fresh_secret(&self) -> bool {
        match &self.access {
            Access::Token(held) | Access::App(_, Some(held)) => held.has_fresh(),
            Access::App(_, None) => false,
        }
    }
}
