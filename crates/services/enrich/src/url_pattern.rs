//! Globs for the host and path of a link, and the parts of a link that they are compared with.

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use url::Url;

/// The greatest length of a pattern, in bytes.
const MAX_PATTERN: usize = 1024;
/// The greatest length of a value in a link, in bytes.
const MAX_VALUE: usize = 32;
/// The greatest value. Sums of millions of them are still exact to the unit.
const GREATEST_VALUE: f64 = 1e9;

/// A glob such as `*.example.com/order/**`. `*` matches within a segment, `**` matches segments.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct UrlPattern(GlobMatcher);

/// Why a text is not a pattern.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("write the host and the path, such as shop.example.com/order/**, without https://")]
    Scheme,
    #[error(
        "a pattern matches host and path only; use * for any characters, and value_parameter for the \
         query"
    )]
    Query,
    #[error("add a path after the host, such as /** for every path")]
    NoPath,
    #[error(
        "write other than ASCII characters as links have them: xn--… in the host, %C3%A9 in the path"
    )]
    NotAscii,
    #[error("a pattern has at most {MAX_PATTERN} bytes")]
    TooLong,
    #[error("it is not a glob: {0}")]
    Glob(#[from] globset::Error),
}

impl TryFrom<String> for UrlPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        if text.contains("://") {
            return Err(PatternError::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        if !text.is_ascii() {
            return Err(PatternError::NotAscii);
        }
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let (host, path) = text.split_once('/').ok_or(PatternError::NoPath)?;
        let glob = format!("{}/{path}", host.to_ascii_lowercase());
        let glob = GlobBuilder::new(&glob).literal_separator(true).build()?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl UrlPattern {
    pub(crate) fn matches(&self, link: &Link) -> bool {
        self.0.is_match(&link.host_and_path)
    }
}

/// A link to a web page, as patterns see it.
pub(crate) struct Link {
    url: Url,
    /// The host in lower case without port, and the path as the link has it.
    host_and_path: String,
}

impl Link {
    /// Returns `None` for anything but an absolute URL of the scheme http or https.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let host_and_path = format!("{}{}", url.host_str()?.trim_end_matches('.'), url.path());
        Some(Self { url, host_and_path })
    }

    /// Returns the decoded text of the first parameter with this name, if it is not empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let (_, value) = self.url.query_pairs().find(|(other, _)| other == name)?;
        (!value.is_empty()).then(|| value.into_owned())
    }

    /// Returns the number of a parameter. It is a decimal such as `49` or `49.90`, and at most a billion;
    /// anything else is no value, because the link comes from outside.
    pub(crate) fn value(&self, parameter: &str) -> Option<f64> {
        let text = self.parameter(parameter)?;
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let value: f64 = text.parse().ok().filter(|_| is_decimal && text.len() <= MAX_VALUE)?;
        (value <= GREATEST_VALUE).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, link: &str) -> bool {
        let pattern = UrlPattern::try_from(pattern.to_owned()).unwrap();
        Link::parse(link).is_some_and(|link| pattern.matches(&link))
    }

    #[test]
    fn a_pattern_matches_host_and_path() {
        for (pattern, link) in [
            ("shop.example.com/order/*", "https://shop.example.com/order/17"),
            ("Shop.Example.com/order/*", "HTTP://SHOP.example.COM:8443/order/17?a=/b#c"),
            ("*.example.com/**", "https://shop.example.com"),
            ("*.example.com/**/thanks", "https://a.b.example.com/x/y/thanks"),
            ("{a,b}.example.com/", "https://b.example.com./"),
            ("xn--bcher-kva.example/**", "https://bücher.example/neu"),
            ("shop.example.com/caf%C3%A9", "https://shop.example.com/café"),
        ] {
            assert!(matches(pattern, link), "{pattern} {link}");
        }
        for (pattern, link) in [
            ("shop.example.com/order/*", "https://shop.example.com/order/17/again"),
            ("shop.example.com/order/*", "https://shop.example.com/Order/17"),
            ("shop.example.com/order/*", "https://evil.example/shop.example.com/order/17"),
            ("shop.example.com/order/*", "https://shop.example.com@evil.example/order/17"),
            ("*.example.com/**", "https://evil.example/.example.com/"),
            ("*.example.com/**", "https://example.com/"),
            ("*.example.com/**", "mailto:ada@shop.example.com"),
            ("*.example.com/**", "shop.example.com/order"),
            ("*.example.com/**", ""),
        ] {
            assert!(!matches(pattern, link), "{pattern} {link}");
        }
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused_with_the_fix() {
        let refused = |text: &str| UrlPattern::try_from(text.to_owned()).unwrap_err().to_string();
        assert!(refused("https://shop.example.com/*").contains("without https://"));
        assert!(refused("shop.example.com/order?id=*").contains("value_parameter"));
        assert!(refused("shop.example.com").contains("add a path"));
        assert!(refused("bücher.example/*").contains("xn--"));
        assert!(refused(&format!("a/{}", "b".repeat(MAX_PATTERN))).contains("1024 bytes"));
        assert!(refused("shop.example.com/[a").contains("not a glob"));
    }

    #[test]
    fn a_value_is_a_bounded_decimal() {
        let value = |text: &str| {
            Link::parse(&format!("https://shop.example.com/?total={text}&total=1"))?.value("total")
        };
        assert_eq!(value("49.90"), Some(49.9));
        assert_eq!(value("0"), Some(0.0));
        assert_eq!(value("1000000000"), Some(1e9));
        for no_value in
            ["", "-1", "1e3", "inf", "NaN", "1,5", "1.2.3", ".", "1000000001", &"1".repeat(400)]
        {
            assert_eq!(value(no_value), None, "{no_value}");
        }
        let long = format!("0.{}", "1".repeat(MAX_VALUE));
        assert_eq!(value(&long), None, "longer than any value");
        assert_eq!(Link::parse("https://a.example/?b=%31").unwrap().value("b"), Some(1.0));
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_as_a_link(text in ".*", tail in "[\\x00-\\xff%/?#:@\\[\\]&=.]{0,64}") {
            let pattern = UrlPattern::try_from("*.example.com/**".to_owned()).unwrap();
            for text in [text.clone(), tail.clone(), format!("https://{text}"), format!("https://a.example.com/{tail}")] {
                let Some(link) = Link::parse(&text) else { continue };
                pattern.matches(&link);
                if let Some(value) = link.value("total") {
                    prop_assert!((0.0..=GREATEST_VALUE).contains(&value));
                }
            }
        }
    }
}
