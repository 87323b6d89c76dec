use http::HeaderName;

use crate::authenticator::Request;
use crate::{Encoding, Refusal, SettingsError, Signed, SourceSettings, freshness, mac};

const SIGNATURE: HeaderName = HeaderName::from_static("x-mailpulse-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-mailpulse-timestamp");
const TOLERANCE_SECONDS: u64 = 300;

/// An HMAC of the body, or of `timestamp.body`, in a header.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    header: HeaderName,
    timestamp_header: HeaderName,
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
        let secret_encoding = options.secret_encoding.unwrap_or_default();
        let mend = "give the HMAC key, written as `secret_encoding` says";
        let secrets = settings.prepared(mend, |secret| secret_encoding.decode(secret))?;
        let algorithm = options.algorithm.unwrap_or_default();
        let signed = options.signed.unwrap_or_default();
        if signed == Signed::Body && options.tolerance_seconds.is_some() {
            let mend = "has nothing to measure where only the body is signed: remove it, or sign \
                        `timestamp.body`";
            return Err(settings.bad_option("tolerance_seconds", mend));
        }
        Ok(Self {
            keys: mac::Keys::new(algorithm, &secrets),
            header: name("header", &options.header, SIGNATURE)?,
            timestamp_header: name("timestamp_header", &options.timestamp_header, TIMESTAMP)?,
            prefix: options.prefix.clone().unwrap_or_else(|| format!("{}=", algorithm.as_str())),
            encoding: options.encoding.unwrap_or_default(),
            signed,
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    pub(crate) fn verify(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let header = request.header(self.header.as_str()).ok_or(Refusal::MissingSignature)?;
        let written = header
            .strip_prefix(self.prefix.as_str())
            .ok_or(Refusal::MalformedSignature("it does not start with the prefix"))?;
        let tag = match self.encoding {
            Encoding::Hex => mac::Tag::from_hex(written),
            Encoding::Base64 => mac::Tag::from_base64(written),
        }
        .ok_or(Refusal::MalformedSignature("it is not in the encoding"))?;
        let right = |parts: &[&[u8]]| {
            if self.keys.verify(parts, &tag) { Ok(()) } else { Err(Refusal::WrongSignature) }
        };
        match self.signed {
            Signed::Body => right(&[request.body]),
            Signed::TimestampBody => {
                let timestamp = request
                    .header(self.timestamp_header.as_str())
                    .ok_or(Refusal::MissingSignature)?;
                right(&[timestamp.as_bytes(), b".", request.body])?;
                let signed_at = freshness::seconds(timestamp)?;
                freshness::check(signed_at, request.now, self.tolerance_seconds)
            }
        }
    }
}
