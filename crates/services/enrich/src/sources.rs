//! What the operator says about a source in its `[[source]]`: who sends its mail, and which mailbox
//! providers report complaints to it.

use std::collections::HashMap;

use event::{Event, Provider, Text, domain_of, limits};
use providers::Pointer;
use serde::Deserialize;
use service::{Settings, SettingsError};

use crate::OpenError;
use crate::mailbox::MailboxProviders;
use crate::mx_hosts::MxHosts;

const DATA: &str = include_str!("../data/feedback_loops.toml");
/// The name of the data file in error messages.
const NAME: &str = "feedback_loops.toml";

/// The keys of a `[[source]]` that concern its senders and complaints. Its other keys are ignored, so
/// that `enrich` needs none of its secrets.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SourceSettings {
    provider: Provider,
    name: String,
    sender: Option<String>,
    sender_pointer: Option<Pointer>,
    feedback_loops: Option<Vec<String>>,
}

/// The settings of all sources.
pub(crate) struct Sources {
    by_name: HashMap<String, Vec<SourceSettings>>,
    default_loops: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    default: Vec<String>,
}

impl SourceSettings {
    /// Reads and checks the settings of all sources.
    pub(crate) fn read_all(settings: &Settings) -> Result<Vec<Self>, SettingsError> {
        let mut sources: Vec<Self> = settings.list("source")?;
        for (index, source) in sources.iter_mut().enumerate() {
            let Some(written) = source.sender.take() else { continue };
            let address = providers::sender(Some(Text::from(written.as_str())));
            let Some(address) = address else {
                let problem = format!(
                    "`{written}` is not an address such as news@acme.example; for a JSON pointer use \
                     sender_pointer"
                );
                return Err(settings.invalid(&format!("source[{index}].sender"), problem));
            };
            source.sender = Some(address.limited(limits::RECIPIENT).to_string());
        }
        Ok(sources)
    }
}

impl Sources {
    /// Checks the names of mailbox providers.
    pub(crate) fn open(
        sources: Vec<SourceSettings>,
        mailbox_providers: &MailboxProviders,
        hosts: &MxHosts,
    ) -> Result<Self, OpenError> {
        let Data { default } =
            toml::from_str(DATA).map_err(|error| OpenError::built_in(NAME, error))?;
        let is_unknown =
            |name: &&String| !mailbox_providers.has_name(name) && !hosts.has_name(name);
        if let Some(unknown) = default.iter().find(is_unknown) {
            return Err(OpenError::built_in(
                NAME,
                format_args!("{unknown} is no mailbox provider"),
            ));
        }
        let mut by_name: HashMap<String, Vec<SourceSettings>> = HashMap::new();
        for source in sources {
            if let Some(unknown) = source.feedback_loops.iter().flatten().find(is_unknown) {
                let (source, name) = (source.name, unknown.clone());
                return Err(OpenError::UnknownMailboxProvider { source_name: source, name });
            }
            by_name.entry(source.name.clone()).or_default().push(source);
        }
        Ok(Self { by_name, default_loops: default })
    }

    fn of(&self, event: &Event<'_>) -> Option<&SourceSettings> {
        self.by_name.get(event.source.as_str())?.iter().find(|it| it.provider == event.provider)
    }

    /// Adds the sender and its organizational domain. What the operator says comes before what the
    /// provider reports.
    pub(crate) fn add_sender<'e>(&'e self, event: &mut Event<'e>) {
        let source = self.of(event);
        let pointer = source.and_then(|source| source.sender_pointer.as_ref());
        let raw = event.raw;
        let pointed = pointer.and_then(|pointer| providers::sender(pointer.text(raw.get())));
        let fixed = source.and_then(|source| source.sender.as_deref()).map(Text::from);
        if let Some(sender) = pointed.or(fixed) {
            event.sender = Some(sender.limited(limits::RECIPIENT));
        }
        event.sender_domain = event.sender.as_ref().and_then(organizational_domain);
    }

    /// Returns whether the recipient's mailbox provider reports complaints to the source.
    pub(crate) fn reports_complaints(&self, event: &Event<'_>) -> bool {
        let Some(mailbox_provider) = event.mailbox_provider.as_deref() else { return false };
        let enrolled = self.of(event).and_then(|source| source.feedback_loops.as_ref());
        enrolled.unwrap_or(&self.default_loops).iter().any(|name| name == mailbox_provider)
    }
}

/// Returns the organizational domain of an address (RFC 7489 §3.2): one label more than the public
/// suffix has. A domain that is itself a public suffix is its own; an address literal has none.
fn organizational_domain<'a>(sender: &Text<'a>) -> Option<Text<'a>> {
    fn of(address: &str) -> Option<&str> {
        let domain = domain_of(address);
        let is_name = !domain.is_empty() && !domain.starts_with('[');
        is_name.then(|| psl::domain_str(domain).unwrap_or(domain))
    }
    match &sender.0 {
        std::borrow::Cow::Borrowed(address) => of(address).map(Text::from),
        std::borrow::Cow::Owned(address) => of(address).map(|domain| Text::from(domain.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use event::{Kind, ReceivedAt};
    use providers::Envelope;

    use super::*;

    fn open(file: &str) -> Result<Sources, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, file).unwrap();
        let settings = Settings::load(Some(&path), std::iter::empty()).unwrap();
        let sources = SourceSettings::read_all(&settings).map_err(|error| error.to_string())?;
        let (known, hosts) = (MailboxProviders::load().unwrap(), MxHosts::load().unwrap());
        Sources::open(sources, &known, &hosts).map_err(|error| error.to_string())
    }

    const FILE: &str = r#"
        [[source]]
        provider = "sendgrid"
        name = "acme"
        sender_pointer = "/brand/from"
        sender = "Acme <News@mail.acme.co.uk>"
        feedback_loops = ["comcast"]
        [[source]]
        provider = "resend"
        name = "acme"
        feedback_loops = []
    "#;

    fn with_event<T>(
        sources: &Sources,
        (provider, raw): (Provider, &str),
        recipient_at: &'static str,
        then: impl FnOnce(&Event<'_>, bool) -> T,
    ) -> T {
        let envelope = Envelope {
            source: "acme",
            recipient: "ada@example.com",
            received_at: ReceivedAt(1_800_000_000_000_000),
            request_id: "r",
        };
        let mut event = providers::parse(provider, raw.as_bytes(), &envelope).unwrap();
        event.mailbox_provider = Some(Text::from(recipient_at));
        assert_eq!(event.kind, Kind::Delivered);
        sources.add_sender(&mut event);
        let reports = sources.reports_complaints(&event);
        then(&event, reports)
    }

    const SENDGRID: (Provider, &str) = (Provider::SendGrid, r#"{"event":"delivered"}"#);

    #[test]
    fn the_operator_may_say_who_sends() {
        let sender = |file: &str, event: (Provider, &str)| {
            with_event(&open(file).unwrap(), event, "gmail", |event, _| {
                let text = |text: &Option<Text<'_>>| text.as_deref().unwrap_or("none").to_owned();
                (text(&event.sender), text(&event.sender_domain))
            })
        };
        let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        assert_eq!(sender("", SENDGRID), owned(("none", "none")));
        assert_eq!(sender(FILE, SENDGRID), owned(("news@mail.acme.co.uk", "acme.co.uk")));
        let pointed = r#"{"event":"delivered","brand":{"from":"Globex <a@News.globex.example>"}}"#;
        let expected = owned(("a@news.globex.example", "globex.example"));
        assert_eq!(sender(FILE, (Provider::SendGrid, pointed)), expected);
        let no_address = r#"{"event":"delivered","brand":{"from":"Globex"}}"#;
        let fixed = owned(("news@mail.acme.co.uk", "acme.co.uk"));
        assert_eq!(sender(FILE, (Provider::SendGrid, no_address)), fixed);
        let resend = r#"{"type":"email.delivered","data":{"from":"hi@resend.example"}}"#;
        let own = owned(("hi@resend.example", "resend.example"));
        assert_eq!(sender(FILE, (Provider::Resend, resend)), own);
    }

    #[test]
    fn an_organizational_domain_has_one_label_more_than_the_public_suffix() {
        let of = |address: &'static str| {
            organizational_domain(&Text::from(address)).map(|text| text.to_string())
        };
        for (address, domain) in [
            ("a@acme.com", Some("acme.com")),
            ("a@news.mail.acme.com", Some("acme.com")),
            ("a@news.acme.co.uk", Some("acme.co.uk")),
            ("a@acme.github.io", Some("acme.github.io")),
            ("a@x.acme.example", Some("acme.example")),
            ("a@co.uk", Some("co.uk")),
            ("a@localhost", Some("localhost")),
            ("a@[192.0.2.1]", None),
        ] {
            assert_eq!(of(address).as_deref(), domain, "{address}");
        }
    }

    #[test]
    fn complaints_are_reported_where_the_source_is_enrolled() {
        let reports = |file: &str, event: (Provider, &str), at: &'static str| {
            with_event(&open(file).unwrap(), event, at, |_, reports| reports)
        };
        for (at, expected) in
            [("yahoo", true), ("outlook", true), ("gmail", false), ("other", false)]
        {
            assert_eq!(reports("", SENDGRID, at), expected, "{at}");
        }
        assert!(reports(FILE, SENDGRID, "comcast") && !reports(FILE, SENDGRID, "yahoo"));
        let resend = (Provider::Resend, r#"{"type":"email.delivered","data":{}}"#);
        assert!(!reports(FILE, resend, "yahoo"), "enrolled nowhere");
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_an_error_that_names_it() {
        let error = |key: &str| {
            let file = format!("[[source]]\nprovider = \"resend\"\nname = \"acme\"\n{key}\n");
            open(&file).err().unwrap()
        };
        let unknown = error(r#"feedback_loops = ["aol"]"#);
        assert!(unknown.contains("source acme") && unknown.contains("`aol`"), "{unknown}");
        let sender = error(r#"sender = "/from""#);
        assert!(sender.contains("source[0].sender") && sender.contains("pointer"), "{sender}");
        let pointer = error(r#"sender_pointer = "from""#);
        assert!(pointer.contains("is not a JSON pointer"), "{pointer}");
    }
}
