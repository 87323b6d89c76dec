//! Derives the client from the user agent: its device, operating system and program, and whether it
//! is a machine.

use std::num::NonZeroUsize;
use std::rc::Rc;

use event::{Automation, AutomationReason, Client, Device, Text};
use lru::LruCache;
use serde::Deserialize;

use crate::OpenError;

const DATA: &str = include_str!("../data/agents.toml");
/// The name of the data file in error messages.
const NAME: &str = "agents.toml";

/// The size of the cache. Nearly all traffic comes from a few hundred user agents.
const CACHED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// The bytes of a user agent that are examined. The limit bounds the memory of the cache; real user
/// agents are shorter.
const MAX_LENGTH: usize = 512;

/// The confidence when the parser classifies a user agent as a crawler.
const CRAWLER_CONFIDENCE: f32 = 0.9;

/// Classifies user agents, first by the entries of the data file and then by the parser.
pub(crate) struct Agents {
    entries: Vec<Entry>,
    parser: woothee::parser::Parser,
    cache: LruCache<Box<str>, Rc<Agent>>,
}

/// The client behind one user agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Agent {
    device: Option<Device>,
    os: Option<String>,
    name: Option<String>,
    /// Set if the user agent identifies itself as a machine.
    pub(crate) automation: Option<Automation>,
}

/// One `[[agent]]` of the data file. The head of that file explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    is: Vec<String>,
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    all: Vec<String>,
    #[serde(default)]
    none: Vec<String>,
    device: Option<Device>,
    os: Option<String>,
    machine: Option<AutomationReason>,
    confidence: Option<f32>,
}

#[derive(Deserialize)]
struct Data {
    agent: Vec<Entry>,
}

impl Agents {
    /// Reads the built-in data.
    pub(crate) fn load() -> Result<Self, OpenError> {
        let Data { agent: mut entries } =
            toml::from_str(DATA).map_err(|error| OpenError::built_in(NAME, error))?;
        for entry in &mut entries {
            if let Err(problem) = entry.check() {
                return Err(OpenError::built_in(NAME, format_args!("{}: {problem}", entry.name)));
            }
        }
        let (parser, cache) = (woothee::parser::Parser::new(), LruCache::new(CACHED));
        Ok(Self { entries, parser, cache })
    }

    /// Returns the client behind a user agent.
    pub(crate) fn classify(&mut self, user_agent: &str) -> Rc<Agent> {
        let user_agent = &user_agent[..user_agent.floor_char_boundary(MAX_LENGTH)];
        if let Some(cached) = self.cache.get(user_agent) {
            return Rc::clone(cached);
        }
        let agent = Rc::new(self.classify_uncached(user_agent));
        self.cache.put(user_agent.into(), Rc::clone(&agent));
        agent
    }

    fn classify_uncached(&self, user_agent: &str) -> Agent {
        let parsed = self.parse(user_agent);
        let lower = user_agent.to_ascii_lowercase();
        let Some(entry) = self.entries.iter().find(|entry| entry.matches(&lower)) else {
            return parsed;
        };
        // Proxies and bots imitate the user agents of other devices, so their operating system is
        // not the reader's.
        let is_own = entry.device.is_none_or(Device::is_the_readers);
        Agent {
            device: entry.device.or(parsed.device.filter(|&device| device != Device::Bot)),
            os: entry.os.clone().or(parsed.os.filter(|_| is_own)),
            name: Some(entry.name.clone()),
            automation: entry.automation(),
        }
    }

    fn parse(&self, user_agent: &str) -> Agent {
        let Some(parsed) = self.parser.parse(user_agent) else { return Agent::default() };
        let device = device(parsed.category, parsed.os, user_agent);
        let automation = (device == Some(Device::Bot)).then_some(Automation {
            reason: AutomationReason::Scanner,
            confidence: CRAWLER_CONFIDENCE,
        });
        let os = if device == Some(Device::Bot) { None } else { os(parsed.os) };
        Agent { device, os: os.map(str::to_owned), name: name(parsed.name), automation }
    }
}

impl Agent {
    /// Returns the client for the event; `None` if nothing is known about it.
    pub(crate) fn client(&self) -> Option<Client<'_>> {
        let client = Client {
            device: self.device,
            os: self.os.as_deref().map(Text::from),
            name: self.name.as_deref().map(Text::from),
        };
        (client != Client::default()).then_some(client)
    }

    /// Returns false if the client is known to be a proxy or a bot, whose address is not the
    /// reader's.
    pub(crate) fn is_the_readers(&self) -> bool {
        self.device.is_none_or(Device::is_the_readers)
    }
}

impl Entry {
    /// Converts the patterns to lower case. Returns an error if the entry is incomplete or matches
    /// every user agent.
    fn check(&mut self) -> Result<(), &'static str> {
        let all = [&mut self.is, &mut self.any, &mut self.all, &mut self.none];
        for pattern in all.into_iter().flatten() {
            ensure(!pattern.is_empty(), "a pattern is empty")?;
            pattern.make_ascii_lowercase();
        }
        let is_selective = !self.is.is_empty() || !self.any.is_empty() || !self.all.is_empty();
        ensure(is_selective, "the entry matches every user agent; set `is`, `any` or `all`")?;
        let is_complete = self.machine.is_some() == self.confidence.is_some();
        ensure(is_complete, "`machine` and `confidence` must be set together")?;
        let in_range = self.confidence.is_none_or(|sure| (0.0..=1.0).contains(&sure));
        ensure(in_range, "`confidence` must be between 0 and 1")
    }

    /// Returns true if the entry describes this user agent, given in lower case.
    fn matches(&self, lower: &str) -> bool {
        let has = |pattern: &String| lower.contains(pattern.as_str());
        (self.is.is_empty() || self.is.iter().any(|is| is == lower))
            && (self.any.is_empty() || self.any.iter().any(has))
            && self.all.iter().all(has)
            && !self.none.iter().any(has)
    }

    fn automation(&self) -> Option<Automation> {
        Some(Automation { reason: self.machine?, confidence: self.confidence? })
    }
}

fn ensure(holds: bool, problem: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(problem) }
}

/// Returns the device of the parser's category. The parser does not distinguish tablets from
/// telephones, so we do it here.
fn device(category: &str, os: &str, user_agent: &str) -> Option<Device> {
    match category {
        "smartphone" if os == "iPad" => Some(Device::Tablet),
        // Browsers on Android send `Mobile` on telephones and not on tablets.
        "smartphone" if os == "Android" && !user_agent.contains("Mobile") => Some(Device::Tablet),
        "smartphone" | "mobilephone" => Some(Device::Phone),
        "pc" => Some(Device::Desktop),
        "appliance" => Some(Device::Appliance),
        "crawler" => Some(Device::Bot),
        _ => None,
    }
}

/// Returns the operating system without its version, because analysts group by it.
fn os(parsed: &str) -> Option<&str> {
    match parsed {
        woothee::woothee::VALUE_UNKNOWN | "" => None,
        "Mac OSX" | "Mac OS Classic" => Some("macOS"),
        "iPhone" | "iPad" | "iPod" => Some("iOS"),
        "Windows Phone OS" => Some("Windows Phone"),
        windows if windows.starts_with("Windows") => Some("Windows"),
        other => Some(other),
    }
}

fn name(parsed: &str) -> Option<String> {
    match parsed {
        woothee::woothee::VALUE_UNKNOWN | "" => None,
        "misc crawler" => Some("crawler".to_owned()),
        other => Some(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent(user_agent: &str) -> Agent {
        Agents::load().unwrap().classify(user_agent).as_ref().clone()
    }

    fn client(user_agent: &str) -> (Option<Device>, String, String) {
        let agent = agent(user_agent);
        (agent.device, agent.os.unwrap_or_default(), agent.name.unwrap_or_default())
    }

    #[test]
    fn the_device_system_and_program_of_readers_are_recognised() {
        const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        const ANDROID: &str = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0";
        let cases = [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36".to_owned(),
                (Device::Desktop, "Windows", "Chrome"),
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0".to_owned(),
                (Device::Desktop, "Linux", "Thunderbird"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)".to_owned(),
                (Device::Desktop, "macOS", "Apple Mail"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15".to_owned(),
                (Device::Desktop, "macOS", "Safari"),
            ),
            (format!("{IPHONE} Mobile/15E148"), (Device::Phone, "iOS", "Apple Mail")),
            (
                format!("{IPHONE} Version/18.6 Mobile/15E148 Safari/604.1"),
                (Device::Phone, "iOS", "Safari"),
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148".to_owned(),
                (Device::Tablet, "iOS", "Apple Mail"),
            ),
            (format!("{ANDROID} Mobile Safari/537.36"), (Device::Phone, "Android", "Chrome")),
            (format!("{ANDROID} Safari/537.36"), (Device::Tablet, "Android", "Chrome")),
            (
                "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; Microsoft Outlook 16.0.17328; ms-office; MSOffice 16)".to_owned(),
                (Device::Desktop, "Windows", "Outlook"),
            ),
        ];
        for (user_agent, (device, os, name)) in cases {
            assert_eq!(client(&user_agent), (Some(device), os.into(), name.into()), "{user_agent}");
            assert_eq!(agent(&user_agent).automation, None, "{user_agent}");
        }
    }

    #[test]
    fn a_proxy_that_fetches_on_opening_is_not_a_machine() {
        let gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        assert_eq!(
            client(gmail),
            (Some(Device::Proxy), String::new(), "Gmail image proxy".to_owned()),
            "not the Windows XP it claims to be"
        );
        assert_eq!(agent(gmail).automation, None, "it fetches when the message is opened");
        assert!(!agent(gmail).is_the_readers());
        let apple = agent("Mozilla/5.0");
        assert_eq!(apple.automation.unwrap().reason, AutomationReason::AppleMpp);
        assert_eq!(agent("Mozilla/5.0 (something)").automation, None, "only the exact text");
    }

    #[test]
    fn scanners_and_http_libraries_are_machines() {
        for (user_agent, name) in [
            ("Barracuda Sentinel (EE)", "Barracuda"),
            ("Mozilla/5.0 (compatible; Proofpoint/2.0)", "Proofpoint"),
            ("mimecast-ua/1.0", "Mimecast"),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 BingPreview/1.0b",
                "Microsoft link scanner",
            ),
            ("python-requests/2.32.3", "HTTP library"),
            ("curl/8.5.0", "HTTP library"),
            ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Link preview"),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "Googlebot",
            ),
            ("ExampleCrawler/1.0 (some-crawler; +https://example.com/bot)", "crawler"),
        ] {
            let agent = agent(user_agent);
            assert_eq!(agent.name.as_deref(), Some(name), "{user_agent}");
            assert_eq!(agent.device, Some(Device::Bot), "{user_agent}");
            assert_eq!(agent.automation.unwrap().reason, AutomationReason::Scanner);
        }
    }

    #[test]
    fn an_unknown_user_agent_has_no_client() {
        for user_agent in ["", "-", "Mozilla/5.0 ...", "an unknown program"] {
            assert_eq!(agent(user_agent).client(), None, "{user_agent}");
        }
    }

    #[test]
    fn every_entry_matches_its_own_patterns() {
        let agents = Agents::load().unwrap();
        for entry in &agents.entries {
            let all = entry.all.join(" ");
            let any = entry.any.iter().map(|any| format!("{any} {all}"));
            let alone = (entry.is.is_empty() && entry.any.is_empty()).then(|| all.clone());
            for user_agent in entry.is.iter().cloned().chain(any).chain(alone) {
                let found = agents.classify_uncached(&user_agent);
                assert_eq!(found.name.as_deref(), Some(entry.name.as_str()), "{user_agent}");
                assert_eq!(found.automation, entry.automation());
            }
        }
    }

    #[test]
    fn only_the_start_of_a_long_user_agent_is_examined() {
        let mut agents = Agents::load().unwrap();
        let long = "é".repeat(100_000);
        agents.classify(&long);
        agents.classify(&format!("{long}x"));
        assert_eq!(agents.cache.len(), 1);
        assert!(agents.cache.iter().all(|(key, _)| key.len() <= MAX_LENGTH));
    }

    proptest! {
        #[test]
        fn classifying_arbitrary_text_never_panics(text in "(Mozilla/|Opera|iPhone|Android|Windows|Chrome/|bot|[ ;()._0-9]|\\PC){0,40}") {
            agent(&text);
        }
    }
}
