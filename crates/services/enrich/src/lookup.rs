//! The operator's own table: whose mail it is, and labels.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Instant;

use event::{Event, Text, recipient_key};

use crate::watched::Watched;
use crate::{FileError, OpenError};

/// The column that becomes the tenant.
const TENANT: &str = "tenant";

/// Tables by recipient or campaign, in the operator's order.
pub(crate) struct Lookups(Vec<Watched<Table>>);

/// One table: a CSV file whose first column is `recipient` or `campaign`, one of the others
/// `tenant` perhaps, and the rest labels of the name their header has.
struct Table {
    by: By,
    /// Which of `rows` a recipient or campaign has.
    keys: HashMap<Box<str>, u32>,
    /// The distinct ones: most keys share theirs with many others.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Recipient,
    Campaign,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    tenant: Option<String>,
    labels: Vec<(String, String)>,
}

impl Lookups {
    /// Reads the tables.
    pub(crate) fn open<'p>(paths: impl Iterator<Item = &'p Path>) -> Result<Self, OpenError> {
        let open = |path| Watched::open("lookup", path, Table::read);
        paths.map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Takes tables that have changed.
    pub(crate) fn refresh(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|table| table.refresh(now));
    }

    /// Fills in tenant and labels. What an earlier table says holds.
    pub(crate) fn add<'e>(&'e self, event: &mut Event<'e>) {
        for table in self.0.iter().map(Watched::value) {
            let Some(row) = table.row(event) else { continue };
            if event.tenant.is_none() {
                event.tenant = row.tenant.as_deref().map(Text::from);
            }
            for (name, value) in &row.labels {
                let label = event.labels.entry(Text::from(name.as_str()));
                label.or_insert_with(|| Text::from(value.as_str()));
            }
        }
    }
}

impl Table {
    fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path)?)
    }

    fn parse(mut csv: csv::Reader<impl std::io::Read>) -> Result<Self, FileError> {
        let header = csv.headers()?.clone();
        let by = by(&header)?;
        let (mut keys, mut rows, mut numbers) = (HashMap::new(), Vec::new(), BTreeMap::new());
        for record in csv.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let key = match by {
                By::Recipient => recipient_key(&record[0]).into_owned(),
                By::Campaign => record[0].to_owned(),
            };
            if key.is_empty() {
                return Err(FileError::EmptyKey { line, column: header[0].to_owned() });
            }
            let row = Row::new(&header, &record);
            let number = match numbers.get(&row) {
                Some(&number) => number,
                None => {
                    let number = u32::try_from(rows.len()).map_err(|_| FileError::TooManyRows)?;
                    rows.push(row.clone());
                    numbers.insert(row, number);
                    number
                }
            };
            if keys.insert(key.into_boxed_str(), number).is_some() {
                return Err(FileError::KeyTwice { line, key: record[0].to_owned() });
            }
        }
        keys.shrink_to_fit();
        Ok(Self { by, keys, rows })
    }

    fn row(&self, event: &Event<'_>) -> Option<&Row> {
        let key = match self.by {
            By::Recipient => event.recipient.as_deref()?,
            By::Campaign => event.campaign.as_deref()?,
        };
        self.rows.get(*self.keys.get(key)? as usize)
    }
}

/// What the table is joined by, when its header is in order.
fn by(header: &csv::StringRecord) -> Result<By, FileError> {
    let by = match header.get(0) {
        Some("recipient") => By::Recipient,
        Some("campaign") => By::Campaign,
        _ => return Err(FileError::NoKey),
    };
    for (place, name) in header.iter().enumerate() {
        if name.is_empty() {
            return Err(FileError::NamelessColumn(place + 1));
        }
        if header.iter().take(place).any(|other| other == name) {
            return Err(FileError::ColumnTwice(name.to_owned()));
        }
    }
    Ok(by)
}

impl Row {
    /// Empty cells say nothing.
    fn new(header: &csv::StringRecord, record: &csv::StringRecord) -> Self {
        let cells = || header.iter().zip(record).skip(1).filter(|(_, cell)| !cell.is_empty());
        let tenant = cells().find(|(name, _)| *name == TENANT).map(|(_, cell)| cell.to_owned());
        let labels = cells().filter(|(name, _)| *name != TENANT);
        let labels = labels.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect();
        Self { tenant, labels }
    }
}

#[cfg(test)]
mod tests {
    use event::{Provider, ReceivedAt};
    use providers::Envelope;

    use super::*;

    fn table(text: &str) -> Result<Table, FileError> {
        Table::parse(csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes()))
    }

    fn refused(text: &str) -> String {
        table(text).err().unwrap().to_string()
    }

    #[test]
    fn earlier_tables_hold_and_later_ones_fill_in() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = [
            write("a", "recipient,tenant,tier\nAda@Example.com,acme,\"gold, plus\"\n"),
            write("b", "campaign, team ,tenant,tier\nspring,growth,globex,none\n"),
        ];
        let lookups = Lookups::open(paths.iter().map(AsRef::as_ref)).unwrap();
        let raw = br#"{"event":"open","email":"ada@example.com","timestamp":1800000000,
            "campaign_id":"spring"}"#;
        let added = |recipient| {
            let received_at = ReceivedAt(1_800_000_000_000_000);
            let envelope = Envelope { source: "s", recipient, received_at, request_id: "r" };
            let mut event = providers::parse(Provider::SendGrid, raw, &envelope).unwrap();
            lookups.add(&mut event);
            let labels: Vec<_> = event.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            (event.tenant.unwrap().to_string(), labels.join(" "))
        };
        assert_eq!(added("ada@example.com"), ("acme".into(), "team=growth tier=gold, plus".into()));
        assert_eq!(added("bob@example.com"), ("globex".into(), "team=growth tier=none".into()));
    }

    #[test]
    fn equal_rows_are_kept_once() {
        let text: String = (0..1000).map(|n| format!("c{n},acme,{}\n", n % 3)).collect();
        let table = table(&format!("campaign,tenant,tier\n{text}")).unwrap();
        assert_eq!((table.keys.len(), table.rows.len()), (1000, 3));
    }

    #[test]
    fn a_table_that_cannot_be_meant_is_refused() {
        assert!(refused("name,tenant\na,b\n").contains("the first column"));
        assert!(refused("campaign,tenant,tenant\na,b,c\n").contains("`tenant` is there twice"));
        assert!(refused("campaign,\na,b\n").contains("column 2 has no name"));
        assert!(refused("campaign,tenant\na,b\na,c\n").contains("line 3: a is there twice"));
        assert!(refused("recipient,tenant\nA@example.com,b\na@example.com,c\n").contains("twice"));
        assert!(refused("campaign,tenant\n,b\n").contains("line 2: an empty campaign"));
        assert!(refused("campaign,tenant\na,b,c\n").contains("record"), "a cell too many");
        assert!(refused("").contains("the first column"));
    }
}
