//! Who may ask, and who may change.

use http::{HeaderMap, header};
use serde::Deserialize;
use service::tokens;

use super::problem::Problem;

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask, one address or many, and follow the delta feed.
    Reader,
    /// Also add and lift entries.
    Operator,
}

/// One of `suppress.tokens`.
pub type Token = tokens::Token<Role>;

/// Decides who may do what.
#[derive(Debug)]
pub struct Access(Vec<Token>);

impl Access {
    pub const fn new(tokens: Vec<Token>) -> Self {
        Self(tokens)
    }

    /// Returns whether nobody may do anything.
    pub const fn is_closed(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whose token is in the header `Authorization`, if it allows `role`.
    ///
    /// # Errors
    /// [`Problem::NoToken`], [`Problem::WrongToken`] or [`Problem::OperatorsOnly`].
    pub fn identify(&self, headers: &HeaderMap, role: Role) -> Result<&Token, Problem> {
        let value = headers.get(header::AUTHORIZATION).ok_or(Problem::NoToken)?;
        let (scheme, token) =
            value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::NoToken);
        }
        let token = tokens::find(&self.0, token.trim()).ok_or_else(|| {
            metrics::counter!("mailpulse_suppress_wrong_tokens_total").increment(1);
            Problem::WrongToken
        })?;
        if token.role < role { Err(Problem::OperatorsOnly) } else { Ok(token) }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use service::Secret;

    use super::*;

    #[test]
    fn a_token_allows_what_its_role_allows() {
        let token = |name: &str, role| {
            let secret = Secret::new(format!("secret of {name}"));
            Token { name: name.to_owned(), role, secret }
        };
        let access = Access::new(vec![token("shop", Role::Reader), token("desk", Role::Operator)]);
        let identify = |value: Option<&str>, role| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            access.identify(&headers, role).map(|it| it.name.clone()).map_err(|it| it.code())
        };
        let (shop, desk) = (Some("Bearer secret of shop"), Some("bearer  secret of desk"));
        assert_eq!(identify(shop, Role::Reader), Ok("shop".to_owned()));
        assert_eq!(identify(shop, Role::Operator), Err("operators_only"));
        assert_eq!(identify(desk, Role::Operator), Ok("desk".to_owned()));
        assert_eq!(identify(None, Role::Reader), Err("no_token"));
        assert_eq!(identify(Some("Basic c2VjcmV0"), Role::Reader), Err("no_token"));
        assert_eq!(identify(Some("Bearer secret of shop2"), Role::Reader), Err("wrong_token"));
    }
}
