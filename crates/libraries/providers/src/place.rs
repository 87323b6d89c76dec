//! The location of a reader, as some providers report it with opens and clicks.

use event::{Geo, Text};

/// The fields that providers have. Each of them may be anything.
#[derive(Debug, Default)]
pub(crate) struct Place<'a> {
    pub(crate) country: Option<Text<'a>>,
    pub(crate) region: Option<Text<'a>>,
    pub(crate) city: Option<Text<'a>>,
}

impl<'a> Place<'a> {
    /// Returns what has the form of [`Geo`]. Some providers send a name where others send a code, and
    /// `Unknown` where they know nothing.
    pub(crate) fn geo(self) -> Option<Geo<'a>> {
        // ISO 3166-1 alpha-2, and the part of ISO 3166-2 after the hyphen.
        let country = self.country.filter(|code| code.len() == 2 && is_code(code))?;
        let region = self.region.filter(|code| (1..=3).contains(&code.len()) && is_code(code));
        let city = self.city.filter(|name| !name.eq_ignore_ascii_case("unknown"));
        Some(Geo { country: Some(country), region, city, ..Geo::default() })
    }
}

fn is_code(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geo(country: &'static str, region: &'static str, city: &'static str) -> Option<[String; 3]> {
        let text = |text: &'static str| Text::from(text).non_empty();
        let place = Place { country: text(country), region: text(region), city: text(city) };
        let geo = place.geo()?;
        Some([geo.country, geo.region, geo.city].map(|it| it.unwrap_or_default().to_string()))
    }

    #[test]
    fn names_in_place_of_codes_are_left_out() {
        let found = |parts: [&str; 3]| Some(parts.map(str::to_owned));
        assert_eq!(geo("US", "CA", "San Francisco"), found(["US", "CA", "San Francisco"]));
        assert_eq!(geo("US", "Oklahoma", "Oklahoma City"), found(["US", "", "Oklahoma City"]));
        assert_eq!(geo("US", "Unknown", "Unknown"), found(["US", "", ""]));
        assert_eq!(geo("GB", "ENG", ""), found(["GB", "ENG", ""]));
        for country in ["", "Unknown", "Germany", "de", "é"] {
            assert_eq!(geo(country, "HH", "Hamburg"), None, "{country}");
        }
    }
}
