//! Where an address is and whose network it belongs to, from databases in MaxMind's format
//! (<https://maxmind.github.io/MaxMind-DB/>) that the operator gives. None is shipped.

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

/// The operator's databases.
pub(crate) struct Geography {
    city: Option<Watched<Database>>,
    asn: Option<Watched<Database>>,
}

/// What we want of a record of GeoIP2/GeoLite2 City or Country.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    country: Area,
    /// From the largest to the smallest.
    subdivisions: Vec<Area>,
    city: Area,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Area {
    iso_code: Option<String>,
    names: Names,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names {
    en: Option<String>,
}

/// What we want of a record of GeoIP2/GeoLite2 ASN or ISP.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

impl Geography {
    /// Reads the databases; `None` for one that is not configured.
    pub(crate) fn open(city: Option<&Path>, asn: Option<&Path>) -> Result<Self, OpenError> {
        let open = |name, path: Option<&Path>| {
            path.map(|path| Watched::open(name, path, read)).transpose()
        };
        Ok(Self { city: open("geo_city", city)?, asn: open("geo_asn", asn)? })
    }

    /// Takes databases that have changed.
    pub(crate) fn refresh(&mut self, now: Instant) {
        [&mut self.city, &mut self.asn].into_iter().flatten().for_each(|file| file.refresh(now));
    }

    /// What is known of an address as the provider writes it. `with_place` is off for addresses
    /// that are not the reader's: where a proxy stands says nothing.
    pub(crate) fn of(&self, address: &str, with_place: bool) -> Option<Geo<'static>> {
        if self.city.is_none() && self.asn.is_none() {
            return None;
        }
        let address: IpAddr = address.trim().parse().ok()?;
        let address = address.to_canonical();
        let text = |text: Option<String>| text.map(Text::from);
        let place = if with_place { find(self.city.as_ref(), address) } else { Place::default() };
        let Place { country, subdivisions, city } = place;
        let network: Network = find(self.asn.as_ref(), address);
        let geo = Geo {
            country: text(country.iso_code),
            region: text(subdivisions.into_iter().next().and_then(|region| region.iso_code)),
            city: text(city.names.en),
            asn: network.autonomous_system_number,
            network: text(network.autonomous_system_organization),
        };
        (geo != Geo::default()).then_some(geo)
    }
}

fn read(path: &Path) -> Result<Database, FileError> {
    Ok(Reader::open_readfile(path)?)
}

/// A record that is not there or not of this form is an address nothing is known of.
fn find<T: Default + DeserializeOwned>(database: Option<&Watched<Database>>, address: IpAddr) -> T {
    database
        .and_then(|database| database.value().lookup(address).ok()?.decode().ok()?)
        .unwrap_or_default()
}
