use std::str::FromStr;

use serde::Deserialize;

/// Which bytes a generic source signs: a template such as `{timestamp}.{body}`, in which
/// `{timestamp}` and `{id}` stand for the values of their headers. `body` and `timestamp.body` are
/// short for `{body}` and `{timestamp}.{body}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Signed(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Timestamp,
    Id,
    Body,
}

impl Signed {
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        self.0.contains(&Piece::Timestamp)
    }

    pub(crate) fn has_id(&self) -> bool {
        self.0.contains(&Piece::Id)
    }
}

impl Default for Signed {
    fn default() -> Self {
        Self(vec![Piece::Timestamp, Piece::Text(".".into()), Piece::Body])
    }
}

/// A template that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`signed` must be a template with {{body}} once and, where they are signed, {{timestamp}} and \
     {{id}}, such as `v0:{{timestamp}}:{{body}}`"
)]
pub struct BadTemplate;

impl FromStr for Signed {
    type Err = BadTemplate;

    fn from_str(template: &str) -> Result<Self, BadTemplate> {
        let template = match template {
            "body" => "{body}",
            "timestamp.body" => "{timestamp}.{body}",
            other => other,
        };
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(BadTemplate)?;
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            pieces.push(match name {
                "timestamp" => Piece::Timestamp,
                "id" => Piece::Id,
                "body" => Piece::Body,
                _ => return Err(BadTemplate),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let count = |piece: &Piece| pieces.iter().filter(|other| *other == piece).count();
        let once = count(&Piece::Body) == 1 && count(&Piece::Timestamp) <= 1;
        if once && count(&Piece::Id) <= 1 { Ok(Self(pieces)) } else { Err(BadTemplate) }
    }
}

impl TryFrom<String> for Signed {
    type Error = BadTemplate;

    fn try_from(template: String) -> Result<Self, BadTemplate> {
        template.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_their_short_forms() {
        let read = |template: &str| template.parse::<Signed>().map(|signed| signed.0);
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(read("body"), Ok(vec![Piece::Body]));
        assert_eq!(read("timestamp.body"), Ok(Signed::default().0));
        assert_eq!(
            read("v0:{timestamp}:{body}"),
            Ok(vec![text("v0:"), Piece::Timestamp, text(":"), Piece::Body])
        );
        assert_eq!(
            read("{id}.{timestamp}.{body}!"),
            Ok(vec![Piece::Id, text("."), Piece::Timestamp, text("."), Piece::Body, text("!")])
        );
        for broken in ["", "{timestamp}", "{body}{body}", "{body", "{url}{body}", "{id}{id}{body}"]
        {
            assert_eq!(read(broken), Err(BadTemplate), "{broken}");
        }
    }
}
