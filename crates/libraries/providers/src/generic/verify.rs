use http::HeaderName;

use super::Options;
use super::mapping::pointer;
use super::options::{Encoding, TimeUnit};
use super::template::{Part, Template};
use crate::mac::{self, Tag};
use crate::{
    FindCertificate, Pointer, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace,
    Verified, freshness, times,
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-mailpulse-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-mailpulse-timestamp");
const ID: HeaderName = HeaderName::from_static("x-mailpulse-id");
const TOLERANCE_SECONDS: u64 = 300;

/// Verifies an HMAC in a header, over the bytes that the source's template describes. Secrets are
/// the HMAC keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    header: HeaderName,
    timestamp_header: HeaderName,
    timestamp_unit: TimeUnit,
    id_header: HeaderName,
    prefix: String,
    encoding: Encoding,
    template: Template,
    /// The time inside the body, if it is checked.
    body_time: Option<Pointer>,
    tolerance_seconds: u64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let name = |key, given: &Option<String>, default| match given {
            None => Ok(default),
            Some(name) => name
                .parse::<HeaderName>()
                .map_err(|_| settings.bad_option(key, "must be the name of an HTTP header")),
        };
        options.check_mapping(&settings.name)?;
        let template = options.signed.clone().unwrap_or_else(|| match options.timestamp {
            Some(_) => Template::body(),
            None => Template::default(),
        });
        check_template(settings, options, &template)?;
        let body_time = options.timestamp.as_deref().map(|path| pointer("timestamp", path));
        let body_time = body_time.transpose().map_err(|wrong| wrong.of(settings.name.clone()))?;
        let secret_encoding = options.secret_encoding.unwrap_or_default();
        let fix = "give the HMAC key in the encoding that `secret_encoding` names";
        let secrets = settings.read_secrets(fix, |secret| secret_encoding.decode(secret))?;
        let algorithm = options.algorithm.unwrap_or_default();
        Ok(Self {
            keys: mac::Keys::new(algorithm, &secrets),
            header: name("header", &options.header, SIGNATURE)?,
            timestamp_header: name("timestamp_header", &options.timestamp_header, TIMESTAMP)?,
            timestamp_unit: options.timestamp_unit.unwrap_or_default(),
            id_header: name("id_header", &options.id_header, ID)?,
            prefix: options.prefix.clone().unwrap_or_else(|| format!("{}=", algorithm.as_str())),
            encoding: options.encoding.unwrap_or_default(),
            template,
            body_time,
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    /// Checks what needs no body.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        self.read(request, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let Head { tag, timestamp, id } = self.read(request, trace)?;
        let parts: Vec<&[u8]> = self
            .template
            .parts()
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_bytes(),
                Part::Timestamp => timestamp.unwrap_or_default().as_bytes(),
                Part::Id => id.as_bytes(),
                Part::Body => request.body,
            })
            .collect();
        trace.signed(&parts);
        let key = self.keys.find(&parts, &tag);
        trace.key(key, self.keys.count());
        let age = match timestamp {
            Some(timestamp) => self.check_age(timestamp, request, trace),
            None => match &self.body_time {
                Some(path) => self.check_body(path, request, trace),
                None => {
                    trace.undated();
                    Ok(())
                }
            },
        };
        let key = key.ok_or(Rejection::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }

    /// Reads the headers that the template uses.
    fn read<'a>(
        &self,
        request: &ReceivedRequest<'a>,
        trace: &mut Trace,
    ) -> Result<Head<'a>, Rejection> {
        let tag = self.tag(request, trace)?;
        let timestamp = match self.template.has_timestamp() {
            true => Some(request.signature(self.timestamp_header.as_str(), trace)?),
            false => None,
        };
        let id = match self.template.has_id() {
            true => request.signature(self.id_header.as_str(), trace)?,
            false => "",
        };
        Ok(Head { tag, timestamp, id })
    }

    /// Returns the signature in the header, decoded.
    fn tag(&self, request: &ReceivedRequest<'_>, trace: &mut Trace) -> Result<Tag, Rejection> {
        let encoded = request
            .signature(self.header.as_str(), trace)?
            .strip_prefix(self.prefix.as_str())
            .ok_or(Rejection::MalformedSignature("it does not start with `prefix`"))?;
        match self.encoding {
            Encoding::Hex => Tag::from_hex(encoded),
            Encoding::Base64 => Tag::from_base64(encoded),
        }
        .ok_or(Rejection::MalformedSignature("it is not in `encoding`"))
    }

    fn check_age(
        &self,
        timestamp: &str,
        request: &ReceivedRequest<'_>,
        trace: &mut Trace,
    ) -> Result<(), Rejection> {
        let number = freshness::seconds(timestamp)?;
        let signed_at = match self.timestamp_unit {
            TimeUnit::Seconds => number,
            TimeUnit::Milliseconds => number.div_euclid(1_000),
        };
        freshness::check(signed_at, request.now, self.tolerance_seconds, trace)
    }

    /// The body is signed, and its time with it.
    fn check_body(
        &self,
        path: &Pointer,
        request: &ReceivedRequest<'_>,
        trace: &mut Trace,
    ) -> Result<(), Rejection> {
        let Some(signed_at) = time_in(request.body, path) else {
            trace.failed("timestamp", || "the body has no time at `timestamp`".to_owned());
            return Err(Rejection::MalformedSignature("its body has no time at `timestamp`"));
        };
        freshness::check(signed_at, request.now, self.tolerance_seconds, trace)
    }
}

/// Returns the time in a signed body, in unix seconds.
fn time_in(body: &[u8], path: &Pointer) -> Option<i64> {
    let json = path.json(std::str::from_utf8(body).ok()?)?;
    let time = times::any(serde_json::from_str(&json).ok()).ok()?;
    Some(time.micros().div_euclid(1_000_000))
}

/// The headers of a signed request.
struct Head<'a> {
    tag: Tag,
    timestamp: Option<&'a str>,
    id: &'a str,
}

/// Rejects options about a header that the template does not use.
fn check_template(
    settings: &SourceSettings,
    options: &Options,
    template: &Template,
) -> Result<(), SettingsError> {
    if options.timestamp.is_some() && template.has_timestamp() {
        let fix = "and the {timestamp} of `signed` are both a signed time: remove one of them";
        return Err(settings.bad_option("timestamp", fix));
    }
    let about_header = template.has_timestamp();
    let is_dated = about_header || options.timestamp.is_some();
    if options.tolerance_seconds.is_some() && !is_dated {
        let fix = "has no effect, because `signed` has no {timestamp} and there is no `timestamp`: \
                   remove it or name the signed time";
        return Err(settings.bad_option("tolerance_seconds", fix));
    }
    let about_time = [
        ("timestamp_header", options.timestamp_header.is_some()),
        ("timestamp_unit", options.timestamp_unit.is_some()),
    ];
    match about_time.into_iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) if !about_header => {
            let fix =
                "has no effect, because `signed` has no {timestamp}: remove it or sign the time";
            return Err(settings.bad_option(key, fix));
        }
        _ => {}
    }
    if options.id_header.is_some() && !template.has_id() {
        let fix = "has no effect, because `signed` has no {id}: remove it or sign the id";
        return Err(settings.bad_option("id_header", fix));
    }
    Ok(())
}
