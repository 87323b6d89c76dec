//! The mappings of all `generic` sources. The ingress splits with them and `enrich` parses with
//! them, each from the same `[[source]]` tables.

use std::collections::{BTreeMap, HashMap};

use event::{Event, Provider};
use serde::Deserialize;

use super::Options;
use super::mapping::{BadSetting, Mapping};
use crate::{Envelope, ParseError, SettingsError, SplitBody, SplitError};

/// The keys of a `[[source]]` that say how its bodies are read. Its other keys are ignored, so that
/// `enrich` needs none of its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SourceMapping {
    provider: Provider,
    name: String,
    #[serde(default)]
    events: Option<String>,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    kinds: BTreeMap<String, String>,
}

/// The mappings of the configured `generic` sources, by name. A source that posts our own form has
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mappings(HashMap<String, Option<Mapping>>);

impl Mappings {
    /// Checks the mappings of all sources.
    ///
    /// # Errors
    /// Names the source and the key of the first mistake, and the fix.
    pub fn new(sources: impl IntoIterator<Item = SourceMapping>) -> Result<Self, SettingsError> {
        let generic = sources.into_iter().filter(|source| source.provider == Provider::Generic);
        let read = |source: SourceMapping| {
            let SourceMapping { name, events, fields, kinds, .. } = source;
            match Mapping::new(events.as_deref(), &fields, &kinds) {
                Ok(mapping) => Ok((name, mapping)),
                Err(mistake) => Err(mistake.of(name)),
            }
        };
        generic.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// True if the events of a source can be read only with its mapping.
    pub fn has(&self, provider: Provider, source: &str) -> bool {
        self.of(provider, source).is_some()
    }

    /// Splits a verified body of a source like [`crate::split`].
    ///
    /// # Errors
    /// As [`crate::split`], and if the source is `generic` and not configured: then it may have had a
    /// mapping.
    pub fn split<'b>(
        &self,
        provider: Provider,
        source: &str,
        body: &'b [u8],
    ) -> Result<SplitBody<'b>, SplitError> {
        if provider == Provider::Generic && !self.0.contains_key(source) {
            return Err(SplitError::NoMapping);
        }
        match self.of(provider, source) {
            Some(mapping) => mapping.split(body),
            None => crate::split(provider, body),
        }
    }

    /// Splits raw events that were taken out of their body, such as the value of a record. Returns
    /// `None` if the source has no mapping.
    pub fn split_events<'b>(
        &self,
        provider: Provider,
        source: &str,
        raw: &'b [u8],
    ) -> Option<Result<SplitBody<'b>, SplitError>> {
        self.of(provider, source).map(|mapping| mapping.split_events(raw))
    }

    /// Parses a raw event like [`crate::parse`]. `is_mapped` tells how its body was split.
    ///
    /// # Errors
    /// As [`crate::parse`], and if the body was split with a mapping that is not configured here.
    pub fn parse<'a>(
        &self,
        provider: Provider,
        is_mapped: bool,
        raw: &'a [u8],
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        if !is_mapped {
            return crate::parse(provider, raw, envelope);
        }
        self.of(provider, envelope.source).ok_or(ParseError::NoMapping)?.parse(raw, envelope)
    }

    fn of(&self, provider: Provider, source: &str) -> Option<&Mapping> {
        self.0.get(source).filter(|_| provider == Provider::Generic)?.as_ref()
    }
}

impl BadSetting {
    pub(super) fn of(self, source_name: String) -> SettingsError {
        let (key, fix) = (self.key.into(), self.fix.into());
        SettingsError::BadOption { provider: Provider::Generic, source_name, key, fix }
    }
}

impl Options {
    /// Checks the mapping in these options.
    pub(super) fn check_mapping(&self, source_name: &str) -> Result<(), SettingsError> {
        Mapping::new(self.events.as_deref(), &self.fields, &self.kinds)
            .map(drop)
            .map_err(|mistake| mistake.of(source_name.to_owned()))
    }
}
