//! The parameters of a URL.

use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::percent_decode_str;
use suppression::standing::Question;
use suppression::{Purpose, Reason};

use crate::http::problem::Problem;

/// What a URL may contain.
const KNOWN: [&str; 7] = ["list", "purpose", "scope", "reason", "since", "limit", "note"];

/// The parameters by name.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the parameters. A parameter with a wrong name must not be ignored: the answer would be to another question.
    pub(super) fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !KNOWN.contains(&&*name) {
                let known = KNOWN.join(", ");
                let problem =
                    format!("the parameter `{name}` is unknown; the parameters are {known}");
                return Err(Problem::InvalidParameter(problem));
            }
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                let problem = format!("the parameter `{name}` occurs more than once");
                return Err(Problem::InvalidParameter(problem));
            }
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn question(&self, now: i64) -> Result<Question<'_>, Problem> {
        let purpose = match self.get("purpose") {
            None => Purpose::Marketing,
            Some(name) => Purpose::from_name(name).ok_or_else(|| {
                Problem::InvalidParameter("purpose must be marketing or transactional".to_owned())
            })?,
        };
        Ok(Question { list: self.get("list"), purpose, scope: self.get("scope"), now })
    }

    pub(super) fn reason(&self) -> Result<Option<Reason>, Problem> {
        let reason = self.get("reason").map(|name| {
            Reason::from_name(name).ok_or_else(|| {
                let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                Problem::InvalidParameter(format!("reason must be one of {}", names.join(", ")))
            })
        });
        reason.transpose()
    }

    pub(super) fn limit(&self, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(most) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| Problem::InvalidParameter(format!("limit must be from 1 to {most}")))
    }
}

/// Decodes a segment of a path.
pub(super) fn decode(segment: &str) -> Result<String, Problem> {
    let text = percent_decode_str(segment).decode_utf8();
    let text = text.map_err(|_| Problem::NoAddress(segment.to_owned()))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Query, Problem> {
        Query::read(&uri.parse().unwrap())
    }

    #[test]
    fn parameters_are_read_or_refused() {
        let query = read("/x?list=ses%2Fnews&purpose=transactional&limit=5").unwrap();
        let question = query.question(7).unwrap();
        assert_eq!((question.list, question.purpose), (Some("ses/news"), Purpose::Transactional));
        assert_eq!(query.limit(10).unwrap(), 5);
        assert_eq!(read("/x").unwrap().limit(10).unwrap(), 10);
        for uri in ["/x?lists=a", "/x?list=a&list=b"] {
            assert_eq!(read(uri).unwrap_err().code(), "invalid_parameter", "{uri}");
        }
        assert!(read("/x?purpose=fun").unwrap().question(0).is_err());
        assert!(read("/x?reason=bored").unwrap().reason().is_err());
        assert!(read("/x?limit=11").unwrap().limit(10).is_err());
        assert_eq!(decode("ada%2Bx%40example.com").unwrap(), "ada+x@example.com");
    }
}
