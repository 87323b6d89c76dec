use http::HeaderName;

use crate::examine::Trace;
use crate::signed::Piece;
use crate::{
    Encoding, Received, Refusal, SettingsError, Signed, SourceSettings, TimeUnit, Verified,
    freshness, mac,
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-mailpulse-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-mailpulse-timestamp");
const ID: HeaderName = HeaderName::from_static("x-mailpulse-id");
const TOLERANCE_SECONDS: u64 = 300;

/// An HMAC in a header, over the body and what else the source's template names.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    header: HeaderName,
    timestamp_header: HeaderName,
    timestamp_unit: TimeUnit,
    id_header: HeaderName,
    prefix: String,
    encoding: Encoding,
    signed: Signed,
    tolerance_seconds: u64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let options = &settings.options;
        let name = |key, given: &Option<String>, default| match given {
            None => Ok(default),
            Some(name) => name
                .parse::<HeaderName>()
                .map_err(|_| settings.bad_option(key, "must be the name of an HTTP header")),
        };
        let signed = options.signed.clone().unwrap_or_default();
        check_template(settings, &signed)?;
        let secret_encoding = options.secret_encoding.unwrap_or_default();
        let mend = "give the HMAC key, written as `secret_encoding` says";
        let secrets = settings.prepared(mend, |secret| secret_encoding.decode(secret))?;
        let algorithm = options.algorithm.unwrap_or_default();
        Ok(Self {
            keys: mac::Keys::new(algorithm, &secrets),
            header: name("header", &options.header, SIGNATURE)?,
            timestamp_header: name("timestamp_header", &options.timestamp_header, TIMESTAMP)?,
            timestamp_unit: options.timestamp_unit.unwrap_or_default(),
            id_header: name("id_header", &options.id_header, ID)?,
            prefix: options.prefix.clone().unwrap_or_else(|| format!("{}=", algorithm.as_str())),
            encoding: options.encoding.unwrap_or_default(),
            signed,
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let header = received.signature(self.header.as_str(), trace)?;
        let written = header
            .strip_prefix(self.prefix.as_str())
            .ok_or(Refusal::MalformedSignature("it does not start with the prefix"))?;
        let tag = match self.encoding {
            Encoding::Hex => mac::Tag::from_hex(written),
            Encoding::Base64 => mac::Tag::from_base64(written),
        }
        .ok_or(Refusal::MalformedSignature("it is not in the encoding"))?;

        let timestamp = match self.signed.has_timestamp() {
            true => Some(received.signature(self.timestamp_header.as_str(), trace)?),
            false => None,
        };
        let id = match self.signed.has_id() {
            true => received.signature(self.id_header.as_str(), trace)?,
            false => "",
        };
        let pieces = self.signed.pieces().iter();
        let parts: Vec<&[u8]> = pieces
            .map(|piece| match piece {
                Piece::Text(text) => text.as_bytes(),
                Piece::Timestamp => timestamp.unwrap_or_default().as_bytes(),
                Piece::Id => id.as_bytes(),
                Piece::Body => received.body,
            })
            .collect();
        trace.signed(&parts);
        let key = self.keys.find(&parts, &tag);
        trace.key(key, self.keys.count());
        let age = match timestamp {
            Some(timestamp) => self.check_age(timestamp, received, trace),
            None => {
                trace.undated();
                Ok(())
            }
        };
        let key = key.ok_or(Refusal::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }

    fn check_age(
        &self,
        timestamp: &str,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<(), Refusal> {
        let written = freshness::seconds(timestamp)?;
        let signed_at = match self.timestamp_unit {
            TimeUnit::Seconds => written,
            TimeUnit::Milliseconds => written.div_euclid(1_000),
        };
        freshness::check(signed_at, received.now, self.tolerance_seconds, trace)
    }
}

/// Refuses what says how to read a header that the template does not use.
fn check_template(settings: &SourceSettings, signed: &Signed) -> Result<(), SettingsError> {
    let options = &settings.options;
    let mend = "has no use where `signed` has no {timestamp}: remove it, or sign the time";
    let dated = [
        ("tolerance_seconds", options.tolerance_seconds.is_some()),
        ("timestamp_header", options.timestamp_header.is_some()),
        ("timestamp_unit", options.timestamp_unit.is_some()),
    ];
    match dated.into_iter().find(|(_, given)| *given) {
        Some((key, _)) if !signed.has_timestamp() => return Err(settings.bad_option(key, mend)),
        _ => {}
    }
    if options.id_header.is_some() && !signed.has_id() {
        let mend = "has no use where `signed` has no {id}: remove it, or sign the id";
        return Err(settings.bad_option("id_header", mend));
    }
    Ok(())
}
