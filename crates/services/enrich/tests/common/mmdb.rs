//! Small databases in MaxMind's format.

use std::net::IpAddr;
use std::path::Path;

use maxminddb_writer::Database;
use maxminddb_writer::paths::IpAddrWithMask;
use serde::Serialize;

#[derive(Serialize)]
struct City<'a> {
    city: Names<'a>,
    continent: Code<'a>,
    country: Iso<'a>,
    location: Location<'a>,
    subdivisions: Vec<Iso<'a>>,
}

#[derive(Serialize)]
struct Location<'a> {
    latitude: f64,
    time_zone: &'a str,
}

#[derive(Serialize)]
struct Names<'a> {
    names: English<'a>,
}

#[derive(Serialize)]
struct English<'a> {
    de: &'a str,
    en: &'a str,
}

#[derive(Serialize)]
struct Code<'a> {
    code: &'a str,
}

#[derive(Serialize)]
struct Iso<'a> {
    iso_code: &'a str,
}

#[derive(Serialize)]
struct Asn<'a> {
    autonomous_system_number: u32,
    autonomous_system_organization: &'a str,
}

/// The time zone of all locations.
pub const TIME_ZONE: &str = "Europe/Amsterdam";

/// Writes a database of locations. A row has a network, a country, a region and a city.
pub fn write_cities(path: &Path, rows: &[(&str, &str, &str, &str)]) {
    let rows = rows.iter().map(|&(network, country, region, city)| {
        let (iso_code, names) = (country, English { de: "anders", en: city });
        let row = City {
            city: Names { names },
            continent: Code { code: "EU" },
            country: Iso { iso_code },
            location: Location { latitude: 52.4, time_zone: TIME_ZONE },
            subdivisions: vec![Iso { iso_code: region }, Iso { iso_code: "smaller" }],
        };
        (network, row)
    });
    write(path, "Test-City", rows);
}

/// Writes a database of autonomous systems. A row has a network, a number and an organisation.
pub fn write_networks(path: &Path, rows: &[(&str, u32, &str)]) {
    let rows = rows.iter().map(|&(network, number, name)| {
        let row = Asn { autonomous_system_number: number, autonomous_system_organization: name };
        (network, row)
    });
    write(path, "Test-ASN", rows);
}

/// Replaces the file as a whole, as an operator should.
fn write<'r, T: Serialize>(path: &Path, of: &str, rows: impl Iterator<Item = (&'r str, T)>) {
    let mut database = Database::default();
    of.clone_into(&mut database.metadata.database_type);
    database.metadata.binary_format_major_version = 2;
    for (network, row) in rows {
        let (address, bits) = network.split_once('/').unwrap();
        let address: IpAddr = address.parse().unwrap();
        let row = database.insert_value(row).unwrap();
        database.insert_node(IpAddrWithMask::new(address, bits.parse().unwrap()), row);
    }
    let whole = path.with_extension("new");
    std::fs::write(&whole, database.write_to(Vec::new()).unwrap()).unwrap();
    std::fs::rename(&whole, path).unwrap();
}
