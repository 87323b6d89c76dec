//! Looks up the location and the network of an address, in databases in MaxMind's format
//! (<https://maxmind.github.io/MaxMind-DB/>). The operator provides the databases; none is shipped.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use event::{Geo, Text};
use maxminddb::Reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::watched::Watched;
use crate::{FileError, OpenError};

type Database = Reader<Vec<u8>>;

/// The configured databases.
pub(crate) struct Geography {
    city: Option<Watched<Database>>,
    asn: Option<Watched<Database>>,
}

/// The fields we use of a record of GeoIP2/GeoLite2 City or Country.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Location {
    country: Area,
    /// Ordered from the largest to the smallest.
    subdivisions: Vec<Area>,
    city: Area,
    location: Coordinates,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Area {
    iso_code: Option<String>,
    names: Names,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coordinates {
    time_zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names {
    en: Option<String>,
}

/// The fields we use of a record of GeoIP2/GeoLite2 ASN or ISP.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

impl Geography {
    /// Reads the databases. A path of `None` means that this database is not configured.
    pub(crate) fn open(city: Option<&Path>, asn: Option<&Path>) -> Result<Self, OpenError> {
        let open = |name, path: Option<&Path>| {
            path.map(|path| Watched::open(name, path, read)).transpose()
        };
        Ok(Self { city: open("geo_city", city)?, asn: open("geo_asn", asn)? })
    }

    /// Reloads databases that have changed.
    pub(crate) fn refresh(&mut self, now: Instant) {
        [&mut self.city, &mut self.asn].into_iter().flatten().for_each(|file| file.refresh(now));
    }

    /// Looks up an address that the provider reported. `with_location` is false if the address is
    /// not the reader's own: the location of a proxy would be misleading.
    pub(crate) fn look_up(&self, address: &str, with_location: bool) -> Option<Geo<'static>> {
        if self.city.is_none() && self.asn.is_none() {
            return None;
        }
        let address: IpAddr = address.trim().parse().ok()?;
        let address = address.to_canonical();
        let text = |text: Option<String>| text.map(Text::from);
        let location =
            if with_location { find(self.city.as_ref(), address) } else { Location::default() };
        let Location { country, subdivisions, city, location } = location;
        let network: Network = find(self.asn.as_ref(), address);
        let geo = Geo {
            country: text(country.iso_code),
            region: text(subdivisions.into_iter().next().and_then(|region| region.iso_code)),
            city: text(city.names.en),
            asn: network.autonomous_system_number,
            network: text(network.autonomous_system_organization),
            time_zone: text(location.time_zone),
        };
        (geo != Geo::default()).then_some(geo)
    }
}

fn read(path: &Path) -> Result<Database, FileError> {
    Ok(Reader::open_readfile(path)?)
}

/// Returns the record of an address. A missing record, or one of an unexpected form, is returned as
/// an empty one.
fn find<T: Default + DeserializeOwned>(database: Option<&Watched<Database>>, address: IpAddr) -> T {
    database
        .and_then(|database| database.value().lookup(address).ok()?.decode().ok()?)
        .unwrap_or_default()
}
