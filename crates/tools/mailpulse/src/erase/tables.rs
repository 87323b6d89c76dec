//! The tables, and which of their columns can name a recipient.

use clickhouse::Row;
use serde::Deserialize;

use super::target::Targets;
use crate::database::Database;

/// A table that stores rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The columns that contain text.
    pub(crate) texts: Vec<Column>,
    /// The columns of the sorting key.
    pub(crate) key: Vec<String>,
    /// Every stored column, in its order.
    pub(crate) stored: Vec<String>,
    /// True if a row has the coordinates of its Kafka record.
    pub(crate) has_coordinates: bool,
}

/// A column that contains text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type in ClickHouse.
    pub(crate) kind: String,
    shape: Shape,
    is_in_key: bool,
}

/// Where the texts of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Array,
    /// The values of a map.
    Map,
}

#[derive(Debug, Row, Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    kind: String,
    is_in_key: u8,
}

impl Shape {
    fn of(kind: &str) -> Option<Self> {
        let inner = |outer: &str| kind.strip_prefix(outer)?.strip_suffix(')');
        if let Some(inner) = inner("LowCardinality(").or_else(|| inner("Nullable(")) {
            return Self::of(inner);
        }
        if let Some(inner) = inner("SimpleAggregateFunction(") {
            return Self::of(inner.split_once(", ")?.1);
        }
        if let Some(inner) = inner("Array(") {
            return (Self::of(inner)? == Self::Text).then_some(Self::Array);
        }
        if let Some(inner) = inner("Map(") {
            let (_, value) = inner.split_once(", ")?;
            return (Self::of(value)? == Self::Text).then_some(Self::Map);
        }
        (kind == "String").then_some(Self::Text)
    }
}

impl Column {
    /// Returns whether the column names one of the addresses.
    pub(crate) fn names(&self, targets: &Targets<'_>) -> String {
        let name = &self.name;
        match self.shape {
            Shape::Text => targets.is_named_in(name),
            Shape::Array => format!("arrayExists(it -> {}, {name})", targets.is_named_in("it")),
            Shape::Map => {
                format!("arrayExists(it -> {}, mapValues({name}))", targets.is_named_in("it"))
            }
        }
    }

    /// Returns the column with the addresses replaced.
    pub(crate) fn removed(&self, targets: &Targets<'_>) -> String {
        let name = &self.name;
        match self.shape {
            Shape::Text => targets.removed_from(name),
            Shape::Array => format!("arrayMap(it -> {}, {name})", targets.removed_from("it")),
            Shape::Map => {
                format!("mapApply((k, it) -> (k, {}), {name})", targets.removed_from("it"))
            }
        }
    }
}

/// The tables from which others are filled again and again: `recipients` by a view, and the tables of predictions.
const READ_BY_OTHERS: [&str; 2] = ["events", "message_life"];

impl Table {
    /// Reads the definitions of all tables that store rows, those of [`READ_BY_OTHERS`] first.
    pub(crate) fn all(database: &Database) -> anyhow::Result<Vec<Self>> {
        let rows: Vec<ColumnRow> = database.rows(
            "SELECT table, name, type AS kind, is_in_sorting_key AS is_in_key FROM system.columns \
             WHERE database = ? AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') \
             AND table IN (SELECT name FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree') \
             ORDER BY table, position",
            &[database.name(), database.name()],
        )?;
        let mut tables: Vec<Self> = Vec::new();
        for row in rows {
            if tables.last().is_none_or(|last| last.name != row.table) {
                let name = row.table.clone();
                let (texts, key, stored) = (Vec::new(), Vec::new(), Vec::new());
                tables.push(Self { name, texts, key, stored, has_coordinates: false });
            }
            if let Some(table) = tables.last_mut() {
                table.add(row);
            }
        }
        for table in &mut tables {
            let has = |name: &str| table.stored.iter().any(|stored| stored == name);
            table.has_coordinates = has("kafka_partition") && has("kafka_offset");
        }
        tables.sort_by_key(|table| !READ_BY_OTHERS.contains(&table.name.as_str()));
        Ok(tables)
    }

    fn add(&mut self, ColumnRow { name, kind, is_in_key, .. }: ColumnRow) {
        let is_in_key = is_in_key == 1;
        if is_in_key {
            self.key.push(name.clone());
        }
        self.stored.push(name.clone());
        if let Some(shape) = Shape::of(&kind) {
            self.texts.push(Column { name, kind, shape, is_in_key });
        }
    }

    /// Returns the column that is the address of the person whom a row is about.
    pub(crate) fn recipient(&self) -> Option<&'static str> {
        let column = if self.name == "dead_letters" { "key" } else { "recipient" };
        self.stored.iter().any(|stored| stored == column).then_some(column)
    }

    /// Returns the columns of text that can be overwritten.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Column> {
        self.texts.iter().filter(|column| !column.is_in_key)
    }

    /// Returns the columns of text in the sorting key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Column> {
        self.texts.iter().filter(|column| column.is_in_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_with_text_are_recognised_by_their_type() {
        for kind in [
            "String",
            "LowCardinality(String)",
            "SimpleAggregateFunction(max, LowCardinality(String))",
        ] {
            assert_eq!(Shape::of(kind), Some(Shape::Text), "{kind}");
        }
        assert_eq!(Shape::of("Array(LowCardinality(String))"), Some(Shape::Array));
        assert_eq!(Shape::of("Map(LowCardinality(String), String)"), Some(Shape::Map));
        for kind in ["UInt64", "Map(String, UInt64)", "DateTime64(6, 'UTC')", "Array(UInt8)"] {
            assert_eq!(Shape::of(kind), None, "{kind}");
        }
    }
}
