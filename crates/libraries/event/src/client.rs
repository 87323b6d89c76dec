use serde::{Deserialize, Serialize};

use crate::Text;

/// What sort of thing fetched the picture or followed the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// A desk or lap computer.
    Desktop,
    /// A telephone.
    Phone,
    /// A tablet.
    Tablet,
    /// A console, a television.
    Appliance,
    /// A server that fetches for a reader and hides the reader's own device and place.
    Proxy,
    /// A program that nobody sits in front of.
    Bot,
}

impl Device {
    /// Every sort.
    pub const ALL: &'static [Self] =
        &[Self::Desktop, Self::Phone, Self::Tablet, Self::Appliance, Self::Proxy, Self::Bot];

    /// The stable snake-case name: JSON value and ClickHouse value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Appliance => "appliance",
            Self::Proxy => "proxy",
            Self::Bot => "bot",
        }
    }

    /// Whether this is the reader's own machine, so that its address tells where the reader is.
    pub const fn is_the_readers(self) -> bool {
        !matches!(self, Self::Proxy | Self::Bot)
    }
}

/// What opened or clicked, as its user agent says. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Client<'a> {
    /// What sort of thing it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Its operating system, such as `iOS`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Text<'a>>,
    /// The mail program, browser, proxy or scanner, such as `Thunderbird`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
}

/// Where an address is, as the operator's databases say. What they do not say is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Geo<'a> {
    /// ISO 3166-1 alpha-2, such as `NL`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<'a>>,
    /// The part of ISO 3166-2 after the hyphen, such as `NH`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Text<'a>>,
    /// Its English name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Text<'a>>,
    /// The number of the autonomous system that announces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// The name of the organisation behind that number.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Text<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_values_and_what_is_not_known_is_left_out() {
        for &device in Device::ALL {
            let client = Client { device: Some(device), ..Client::default() };
            let json = serde_json::to_string(&client).unwrap();
            assert_eq!(json, format!(r#"{{"device":"{}"}}"#, device.as_str()));
        }
        assert_eq!(serde_json::to_string(&Geo::default()).unwrap(), "{}");
    }
}
