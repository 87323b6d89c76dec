use serde::{Deserialize, Serialize};

use crate::Text;

/// The kind of device or program that fetched the tracking pixel or the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// A desktop or laptop computer.
    Desktop,
    Phone,
    Tablet,
    /// A games console or a television.
    Appliance,
    /// A server that fetches on behalf of a reader and hides the reader's device and location.
    Proxy,
    /// A program that no person operates.
    Bot,
}

impl Device {
    pub const ALL: &'static [Self] =
        &[Self::Desktop, Self::Phone, Self::Tablet, Self::Appliance, Self::Proxy, Self::Bot];

    /// The stable name in JSON and ClickHouse.
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

    /// True if this is the reader's own device, so that its address gives the reader's location.
    pub const fn is_the_readers(self) -> bool {
        !matches!(self, Self::Proxy | Self::Bot)
    }
}

/// The program that opened or clicked, according to its user agent. Unknown fields are absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Client<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The operating system, such as `iOS`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Text<'a>>,
    /// The mail program, browser, proxy or scanner, such as `Thunderbird`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
}

/// The location of an address according to the operator's databases, or to the provider if no database
/// knows it. Unknown fields are absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Geo<'a> {
    /// ISO 3166-1 alpha-2, such as `NL`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<'a>>,
    /// The part of ISO 3166-2 after the hyphen, such as `NH`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Text<'a>>,
    /// The English name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Text<'a>>,
    /// The number of the autonomous system that announces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// The name of the organisation that has this number.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Text<'a>>,
    /// The name in the time zone database of IANA, such as `Europe/Amsterdam`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Text<'a>>,
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
