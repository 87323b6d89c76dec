use std::str::FromStr;

use serde::Deserialize;

/// The signed bytes of a generic source, such as `{timestamp}.{body}`. `{timestamp}` and `{id}` are
/// the values of their headers. `body` and `timestamp.body` are accepted as short forms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Timestamp,
    Id,
    Body,
}

impl Template {
    /// The template `{body}`.
    pub(crate) fn body() -> Self {
        Self(vec![Part::Body])
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        self.0.contains(&Part::Timestamp)
    }

    pub(crate) fn has_id(&self) -> bool {
        self.0.contains(&Part::Id)
    }
}

impl Default for Template {
    fn default() -> Self {
        Self(vec![Part::Timestamp, Part::Text(".".into()), Part::Body])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`signed` must be a template that contains {{body}} once and may contain {{timestamp}} and \
     {{id}}, such as `v0:{{timestamp}}:{{body}}`"
)]
pub struct InvalidTemplate;

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(template: &str) -> Result<Self, InvalidTemplate> {
        let template = match template {
            "body" => "{body}",
            "timestamp.body" => "{timestamp}.{body}",
            other => other,
        };
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(match name {
                "timestamp" => Part::Timestamp,
                "id" => Part::Id,
                "body" => Part::Body,
                _ => return Err(InvalidTemplate),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let count = |part: &Part| parts.iter().filter(|other| *other == part).count();
        let is_valid =
            count(&Part::Body) == 1 && count(&Part::Timestamp) <= 1 && count(&Part::Id) <= 1;
        if is_valid { Ok(Self(parts)) } else { Err(InvalidTemplate) }
    }
}

impl TryFrom<String> for Template {
    type Error = InvalidTemplate;

    fn try_from(template: String) -> Result<Self, InvalidTemplate> {
        template.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_their_short_forms() {
        let read = |template: &str| template.parse::<Template>().map(|template| template.0);
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(read("body"), Ok(vec![Part::Body]));
        assert_eq!(read("timestamp.body"), Ok(Template::default().0));
        assert_eq!(
            read("v0:{timestamp}:{body}"),
            Ok(vec![text("v0:"), Part::Timestamp, text(":"), Part::Body])
        );
        assert_eq!(
            read("{id}.{timestamp}.{body}!"),
            Ok(vec![Part::Id, text("."), Part::Timestamp, text("."), Part::Body, text("!")])
        );
        for broken in ["", "{timestamp}", "{body}{body}", "{body", "{url}{body}", "{id}{id}{body}"]
        {
            assert_eq!(read(broken), Err(InvalidTemplate), "{broken}");
        }
    }
}
