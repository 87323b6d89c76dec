//! For the tests of the tables: writes the meaning of every row as it appears in an event. The
//! snapshots show if a row is changed, hidden by another row, or no longer used.

use std::fmt::Write as _;

use event::{Provider, ReceivedAt};

use super::{Meaning, Row, meaning};
use crate::{Envelope, parse};

/// Returns one line per term: the term, and the meaning of the event that has it instead of `WORD`.
pub(crate) fn meanings<'t>(
    provider: Provider,
    template: &str,
    terms: impl IntoIterator<Item = &'t str>,
) -> String {
    let envelope = Envelope {
        source: "shop",
        recipient: "ada@example.com",
        received_at: ReceivedAt(1_762_788_000_000_000),
        request_id: "r-1",
    };
    let mut lines = String::new();
    for term in terms {
        let raw = template.replace("WORD", term);
        let event = parse(provider, raw.as_bytes(), &envelope).unwrap();
        let bounce = event.bounce.map_or("not refused".to_owned(), |bounce| {
            let (permanence, class) = (bounce.permanence.as_str(), bounce.class.as_str());
            format!("{permanence:<12} {class:<18} {}", bounce.side.as_str())
        });
        writeln!(lines, "{term:<34} {:<12} {bounce}", event.kind.as_str()).unwrap();
    }
    lines
}

/// Returns the terms of a table, and checks that no earlier row hides one.
pub(crate) fn terms(table: &'static [Row]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|&(term, permanence, class)| {
        for spelling in [term.to_ascii_lowercase(), term.to_ascii_uppercase()] {
            assert_eq!(meaning(table, Some(&spelling)), Meaning { permanence, class }, "{term}");
        }
        term
    })
}
