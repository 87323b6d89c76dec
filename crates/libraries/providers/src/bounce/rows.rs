//! For the tests of the tables: what each row comes to in an event. The snapshots say it in plain
//! words, so a row that is changed, shadowed by another, or no longer asked shows there.

use std::fmt::Write as _;

use event::{Provider, ReceivedAt};

use super::{Meaning, Row, meaning};
use crate::{Envelope, parse};

/// One line per word: the word, and what the event says that has it in place of `WORD`.
pub(crate) fn told<'w>(
    provider: Provider,
    template: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> String {
    let envelope = Envelope {
        source: "shop",
        recipient: "ada@example.com",
        received_at: ReceivedAt(1_762_788_000_000_000),
        request_id: "r-1",
    };
    let mut told = String::new();
    for word in words {
        let raw = template.replace("WORD", word);
        let event = parse(provider, raw.as_bytes(), &envelope).unwrap();
        let bounce = event.bounce.map_or("not refused".to_owned(), |bounce| {
            let (permanence, class) = (bounce.permanence.as_str(), bounce.class.as_str());
            format!("{permanence:<12} {class:<18} {}", bounce.side.as_str())
        });
        writeln!(told, "{word:<34} {:<12} {bounce}", event.kind.as_str()).unwrap();
    }
    told
}

/// The words of a table, none of which an earlier row may keep from being reached.
pub(crate) fn words(table: &'static [Row]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|&(word, permanence, class)| {
        for spelled in [word.to_ascii_lowercase(), word.to_ascii_uppercase()] {
            assert_eq!(meaning(table, Some(&spelled)), Meaning { permanence, class }, "{word}");
        }
        word
    })
}
