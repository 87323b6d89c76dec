//! Who may see what.
//!
//! A visitor is known by a token (in the header `Authorization`, or in a cookie that follows from it), or by
//! the headers of a trusted proxy. Everybody on this machine is an investigator if `console.open` is set.

mod attempts;
mod session;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service::tokens;

use crate::problem::Problem;
use attempts::Attempts;

/// What a visitor may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything except addresses of recipients, which are masked.
    Viewer,
    /// Everything. May search for an address.
    Investigator,
}

impl Role {
    /// Returns the name, as in the settings and in the header of a proxy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Investigator => "investigator",
        }
    }
}

/// Somebody who may see pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The name of the token, or of the user of the proxy.
    pub name: String,
    /// What they may see.
    pub role: Role,
    /// Whether they are logged in by a cookie, so that they can log out.
    pub has_session: bool,
}

/// One of `console.tokens`.
pub type Token = tokens::Token<Role>;

/// A proxy that has checked who the visitor is.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The networks from which the headers are trusted.
    pub networks: Vec<IpNet>,
    /// The header with the name of the user.
    pub user_header: HeaderName,
    /// The header with the role. `None`: every user is a viewer.
    pub role_header: Option<HeaderName>,
}

/// Decides who may see what.
#[derive(Debug)]
pub struct Access {
    tokens: Vec<Token>,
    proxy: Option<Proxy>,
    open: bool,
    session_seconds: i64,
    https: bool,
    attempts: Attempts,
}

impl Access {
    /// `session_seconds` is how long a login lasts. `https` tells that browsers reach the console by HTTPS only.
    pub fn new(
        tokens: Vec<Token>,
        proxy: Option<Proxy>,
        open: bool,
        session_seconds: i64,
        https: bool,
    ) -> Self {
        Self { tokens, proxy, open, session_seconds, https, attempts: Attempts::default() }
    }

    /// Returns whether everybody on this machine may see everything.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Returns who sends a request with these headers.
    ///
    /// # Errors
    /// [`Problem::NotLoggedIn`] and the other problems of a login.
    pub fn identify(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Visitor, Problem> {
        if let Some(visitor) = self.by_proxy(peer, headers)? {
            return Ok(visitor);
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().unwrap_or_default();
            let (scheme, token) = text.split_once(' ').unwrap_or_default();
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Problem::WrongToken);
            }
            return self.by_token(peer, token.trim(), now).map(|token| holder(token, false));
        }
        if let Some(token) = self.by_session(headers, now) {
            return Ok(holder(token, true));
        }
        if self.open {
            return local_visitor(headers);
        }
        Err(Problem::NotLoggedIn)
    }

    /// Returns the header `Set-Cookie` for a token that somebody has typed in.
    ///
    /// # Errors
    /// [`Problem::WrongToken`] or [`Problem::TooManyAttempts`].
    pub fn log_in(&self, peer: IpAddr, typed: &str, now: Timestamp) -> Result<String, Problem> {
        let token = self.by_token(peer, typed, now)?;
        let expires = now.as_second().saturating_add(self.session_seconds);
        tracing::info!(visitor = token.name, role = token.role.as_str(), "visitor logged in");
        Ok(self.cookie(&session::value(token, expires), self.session_seconds))
    }

    /// Returns the header `Set-Cookie` that ends a session.
    pub fn log_out(&self) -> String {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, max_age: i64) -> String {
        let secure = if self.https { "; Secure" } else { "" };
        let name = self.cookie_name();
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}")
    }

    /// Browsers accept a cookie with the prefix only from the host itself, over HTTPS.
    const fn cookie_name(&self) -> &'static str {
        if self.https { "__Host-console" } else { "console" }
    }

    fn by_proxy(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Visitor>, Problem> {
        let Some(Proxy { networks, user_header, role_header }) = &self.proxy else {
            return Ok(None);
        };
        let peer = peer.to_canonical();
        if !networks.iter().any(|network| network.contains(&peer)) {
            return Ok(None);
        }
        let Some(user) = only(headers, user_header)? else { return Ok(None) };
        let role = match role_header {
            None => Role::Viewer,
            Some(name) => match only(headers, name)? {
                Some("viewer") => Role::Viewer,
                Some("investigator") => Role::Investigator,
                _ => return Err(Problem::NoRole),
            },
        };
        let name: String = user.chars().filter(|c| !c.is_control()).take(100).collect();
        Ok(Some(Visitor { name, role, has_session: false }))
    }

    fn by_token(&self, peer: IpAddr, typed: &str, now: Timestamp) -> Result<&Token, Problem> {
        tokens::find(&self.tokens, typed).ok_or_else(|| {
            metrics::counter!("mailpulse_console_wrong_tokens_total").increment(1);
            if !self.attempts.wrong(peer, now) {
                return Problem::TooManyAttempts;
            }
            tracing::warn!(%peer, "a request had a wrong token");
            Problem::WrongToken
        })
    }

    fn by_session(&self, headers: &HeaderMap, now: Timestamp) -> Option<&Token> {
        let name = self.cookie_name();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let values = cookies.flat_map(|line| line.split(';')).filter_map(|cookie| {
            let (key, value) = cookie.trim().split_once('=')?;
            (key == name).then_some(value)
        });
        values.take(4).find_map(|value| session::token(&self.tokens, value, now.as_second()))
    }
}

/// Returns the holder of a token.
fn holder(token: &Token, has_session: bool) -> Visitor {
    Visitor { name: token.name.clone(), role: token.role, has_session }
}

/// Returns the value of a header that must not be repeated: a proxy may have added its own line to a forged one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Problem::RepeatedHeader(name.to_string()));
    }
    Ok(value.and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty()))
}

/// The headers by which a proxy tells that it passes on the request of somebody else.
const PROXY_HEADERS: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    header::VIA,
];

/// Returns the visitor of an open console. Somebody on another machine can reach it in two ways. A proxy on this
/// machine may pass on their request; most add a header then. And a page of another site may let its own host name
/// lead to this machine and read what it gets; then `Host` has that name.
fn local_visitor(headers: &HeaderMap) -> Result<Visitor, Problem> {
    if let Some(name) = PROXY_HEADERS.into_iter().find(|name| headers.contains_key(name)) {
        return Err(Problem::ThroughProxy(name.to_string()));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_local =
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_local {
        return Err(Problem::WrongHost);
    }
    Ok(Visitor { name: "local".to_owned(), role: Role::Investigator, has_session: false })
}

#[cfg(test)]
#[path = "access/tests.rs"]
mod tests;
