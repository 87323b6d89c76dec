use privacy::Eraser;
use record::names;

use super::Coordinates;
use crate::native::{LowCardinality, NullableMicros, StringMap, Strings, U16, U64, columns};

columns! {
    /// The rows of the table `dead_letters`.
    DeadLetters {
        reason: LowCardinality,
        detail: Strings,
        stage: LowCardinality,
        origin: Strings,
        provider: LowCardinality,
        source: LowCardinality,
        key: Strings,
        value: Strings,
        headers: StringMap,
        received_at: NullableMicros,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

impl DeadLetters {
    /// Like [`DeadLetters::push`], without what the dead letter says about erased recipients. That of an erased
    /// recipient has no value.
    pub fn push_erased(
        &mut self,
        at: Coordinates,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        eraser: &Eraser,
    ) {
        let pseudonym = std::str::from_utf8(key).ok().and_then(|key| eraser.pseudonym(key));
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, eraser.erase_body(value))).collect();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        match pseudonym {
            Some(pseudonym) => self.push(at, pseudonym.as_bytes(), b"", &headers),
            None => self.push(at, key, &eraser.erase_body(value), &headers),
        }
    }

    /// Adds a record of `mail.dead-letters`. Any record becomes a row: if a dead letter could be
    /// rejected, it would be published to the topic that it was read from.
    pub fn push(&mut self, at: Coordinates, key: &[u8], value: &[u8], headers: &[(&str, &[u8])]) {
        // The headers of the original record come first, and may have the same names. Those of the
        // dead letter are last.
        let bytes = |name: &str| {
            headers.iter().rev().find(|(key, _)| *key == name).map_or(&b""[..], |(_, value)| value)
        };
        let text = |name: &str| std::str::from_utf8(bytes(name)).unwrap_or_default();
        self.reason.push(text(names::REASON));
        self.detail.push(bytes(names::DETAIL));
        self.stage.push(text(names::STAGE));
        self.origin.push(bytes(names::ORIGIN));
        self.provider.push(text(names::PROVIDER));
        self.source.push(text(names::SOURCE));
        self.key.push(key);
        self.value.push(value);
        self.headers.push(headers.iter().copied());
        self.received_at.push(text(names::RECEIVED_AT).parse().ok());
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
    }
}
