//! Adds the tenant and labels of a recipient or campaign, from CSV files of the operator and from queries of
//! ClickHouse.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use event::{Event, Text, recipient_key};
use service::ClickHouseSettings;

use crate::lookup_query::{LookupQuery, QueriedTables};
use crate::watched::Watched;
use crate::{FileError, Loading, OpenError};

/// The name of the column that becomes the tenant.
const TENANT: &str = "tenant";

/// The tables in the order of `enrich.lookup`, and then of `enrich.lookup_query`.
pub(crate) struct Lookups {
    files: Vec<Watched<Table>>,
    queried: QueriedTables,
}

/// A CSV file, or the answer to a query as one. Its first column is `recipient` or `campaign`. A column `tenant` becomes the tenant;
/// every other column becomes a label with the name of the column.
#[derive(Debug)]
pub(crate) struct Table {
    key_kind: KeyKind,
    /// The index in `rows` for each recipient or campaign.
    keys: HashMap<Box<str>, u32>,
    /// The distinct rows. Many keys share the same row.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Recipient,
    Campaign,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    tenant: Option<String>,
    labels: Vec<(String, String)>,
}

impl Lookups {
    /// Reads the files, and begins to send the queries.
    pub(crate) fn open<'p>(
        paths: impl Iterator<Item = &'p Path>,
        queries: &[LookupQuery],
        clickhouse: Option<&ClickHouseSettings>,
    ) -> Result<Self, OpenError> {
        let open = |path| Watched::open("lookup", path, Table::read);
        let files = paths.map(open).collect::<Result<_, _>>()?;
        Ok(Self { files, queried: QueriedTables::start(queries, clickhouse)? })
    }

    /// Waits at most `within` until every query has been answered once.
    pub(crate) fn load(&mut self, within: Duration) -> Loading {
        self.queried.load(within)
    }

    /// Takes over files that have changed and newer answers.
    pub(crate) fn refresh(&mut self, now: Instant) {
        self.files.iter_mut().for_each(|table| table.refresh(now));
        self.queried.refresh();
    }

    /// Adds tenant and labels. The values of earlier tables take precedence.
    pub(crate) fn add<'e>(&'e self, event: &mut Event<'e>) {
        for table in self.files.iter().map(Watched::value).chain(self.queried.tables()) {
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

    /// Reads a table from bytes.
    pub(crate) fn from_csv(bytes: &[u8]) -> Result<Self, FileError> {
        Self::parse(csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes))
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    fn parse(mut csv: csv::Reader<impl std::io::Read>) -> Result<Self, FileError> {
        let header = csv.headers()?.clone();
        let key_kind = key_kind(&header)?;
        let (mut keys, mut rows, mut numbers) = (HashMap::new(), Vec::new(), BTreeMap::new());
        for record in csv.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let key = match key_kind {
                KeyKind::Recipient => recipient_key(&record[0]).into_owned(),
                KeyKind::Campaign => record[0].to_owned(),
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
                return Err(match key_kind {
                    KeyKind::Recipient => FileError::DuplicateRecipient { line },
                    KeyKind::Campaign => {
                        FileError::DuplicateCampaign { line, campaign: record[0].to_owned() }
                    }
                });
            }
        }
        keys.shrink_to_fit();
        Ok(Self { key_kind, keys, rows })
    }

    fn row(&self, event: &Event<'_>) -> Option<&Row> {
        let key = match self.key_kind {
            KeyKind::Recipient => event.recipient.as_deref()?,
            KeyKind::Campaign => event.campaign.as_deref()?,
        };
        self.rows.get(*self.keys.get(key)? as usize)
    }
}

/// Checks the header and returns what the first column contains.
fn key_kind(header: &csv::StringRecord) -> Result<KeyKind, FileError> {
    let key_kind = match header.get(0) {
        Some("recipient") => KeyKind::Recipient,
        Some("campaign") => KeyKind::Campaign,
        _ => return Err(FileError::NoKey),
    };
    for (index, name) in header.iter().enumerate() {
        if name.is_empty() {
            return Err(FileError::UnnamedColumn(index + 1));
        }
        if header.iter().take(index).any(|other| other == name) {
            return Err(FileError::DuplicateColumn(name.to_owned()));
        }
    }
    Ok(key_kind)
}

impl Row {
    /// Reads the cells of a line. Empty cells are ignored.
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
        Table::from_csv(text.as_bytes())
    }

    fn error(text: &str) -> String {
        table(text).err().unwrap().to_string()
    }

    #[test]
    fn values_of_earlier_tables_take_precedence() {
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
        let lookups = Lookups::open(paths.iter().map(AsRef::as_ref), &[], None).unwrap();
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
    fn equal_rows_are_stored_once() {
        let text: String = (0..1000).map(|n| format!("c{n},acme,{}\n", n % 3)).collect();
        let table = table(&format!("campaign,tenant,tier\n{text}")).unwrap();
        assert_eq!((table.keys.len(), table.rows.len()), (1000, 3));
    }

    #[test]
    fn a_malformed_table_is_rejected() {
        assert!(error("name,tenant\na,b\n").contains("the first column"));
        assert!(error("campaign,tenant,tenant\na,b,c\n").contains("`tenant` is duplicated"));
        assert!(error("campaign,\na,b\n").contains("column 2 has no name"));
        assert!(
            error("campaign,tenant\na,b\na,c\n")
                .contains("line 3: an earlier line also has the campaign a")
        );
        assert!(error("campaign,tenant\n,b\n").contains("line 2: the campaign is empty"));
        assert!(error("campaign,tenant\na,b,c\n").contains("record"), "a line has an extra cell");
        assert!(error("").contains("the first column"));
    }

    #[test]
    fn an_error_about_recipients_contains_no_address() {
        let twice = error("recipient,tenant\nAda@example.com,b\nada@example.com,c\n");
        assert_eq!(twice, "line 3: an earlier line also has the recipient of this line");
        for text in [
            "recipient,tenant\nada@example.com,b,c\n",
            "recipient,tenant\nada@example.com\n",
            "recipient,tenant\nada@example.com,b\n,c\n",
        ] {
            assert!(!error(text).contains("ada"), "{text}");
        }
    }
}
