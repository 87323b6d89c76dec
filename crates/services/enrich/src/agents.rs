//! What a user agent says of the client: device, system, program; and whether it is a machine.

use std::num::NonZeroUsize;
use std::rc::Rc;

use event::{Automation, AutomationReason, Client, Device, Text};
use lru::LruCache;
use serde::Deserialize;

use crate::OpenError;

/// Built in; the data is reviewed like code.
const DATA: &str = include_str!("../data/agents.toml");
/// What errors call it.
const NAME: &str = "agents.toml";

/// User agents remembered: a few hundred make up nearly all of the traffic.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Bytes of a user agent that are looked at. Longer ones are made up, and would fill the memory.
const LOOKED_AT: usize = 512;

/// How sure we are of the parser's word that something is a crawler.
const CRAWLER_CONFIDENCE: f32 = 0.9;

/// The user agents we have heard of, our own entries before the parser's.
pub(crate) struct Agents {
    entries: Vec<Entry>,
    parser: woothee::parser::Parser,
    known: LruCache<Box<str>, Rc<Agent>>,
}

/// What is known of one user agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Agent {
    device: Option<Device>,
    os: Option<String>,
    name: Option<String>,
    /// Set when it is a machine's by its own word.
    pub(crate) automation: Option<Automation>,
}

/// One `[[agent]]` of the data file, which explains the fields.
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
        let (parser, known) = (woothee::parser::Parser::new(), LruCache::new(REMEMBERED));
        Ok(Self { entries, parser, known })
    }

    /// What is known of a user agent.
    pub(crate) fn of(&mut self, user_agent: &str) -> Rc<Agent> {
        let looked_at = &user_agent[..user_agent.floor_char_boundary(LOOKED_AT)];
        if let Some(known) = self.known.get(looked_at) {
            return Rc::clone(known);
        }
        let found = Rc::new(self.examine(looked_at));
        self.known.put(looked_at.into(), Rc::clone(&found));
        found
    }

    fn examine(&self, user_agent: &str) -> Agent {
        let parsed = self.parse(user_agent);
        let lower = user_agent.to_ascii_lowercase();
        let Some(entry) = self.entries.iter().find(|entry| entry.fits(&lower)) else {
            return parsed;
        };
        // A proxy or a bot writes the words of a device it is not.
        let is_own = entry.device.is_none_or(Device::is_the_readers);
        Agent {
            device: entry.device.or(parsed.device.filter(|&device| device != Device::Bot)),
            os: entry.os.clone().or(parsed.os.filter(|_| is_own)),
            name: Some(entry.name.clone()),
            automation: entry.automation(),
        }
    }

    /// What the parser says.
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
    /// The event's client, if anything is known of it.
    pub(crate) fn client(&self) -> Option<Client<'_>> {
        let client = Client {
            device: self.device,
            os: self.os.as_deref().map(Text::from),
            name: self.name.as_deref().map(Text::from),
        };
        (client != Client::default()).then_some(client)
    }

    /// Whether its address is the reader's, as far as is known.
    pub(crate) fn is_the_readers(&self) -> bool {
        self.device.is_none_or(Device::is_the_readers)
    }
}

impl Entry {
    /// Refuses what can never fit or says half, and makes the patterns ready.
    fn check(&mut self) -> Result<(), &'static str> {
        let all = [&mut self.is, &mut self.any, &mut self.all, &mut self.none];
        for pattern in all.into_iter().flatten() {
            ensure(!pattern.is_empty(), "an empty pattern")?;
            pattern.make_ascii_lowercase();
        }
        let asks = !self.is.is_empty() || !self.any.is_empty() || !self.all.is_empty();
        ensure(asks, "it fits every user agent")?;
        ensure(self.machine.is_some() == self.confidence.is_some(), "machine without confidence")?;
        let in_range = self.confidence.is_none_or(|sure| (0.0..=1.0).contains(&sure));
        ensure(in_range, "confidence is from 0 to 1")
    }

    /// Whether a user agent, in lower case, is meant.
    fn fits(&self, lower: &str) -> bool {
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

/// The parser's category, and what it leaves out: tablets.
fn device(category: &str, os: &str, user_agent: &str) -> Option<Device> {
    match category {
        "smartphone" if os == "iPad" => Some(Device::Tablet),
        // Android's browsers say `Mobile` on telephones and leave it out on tablets.
        "smartphone" if os == "Android" && !user_agent.contains("Mobile") => Some(Device::Tablet),
        "smartphone" | "mobilephone" => Some(Device::Phone),
        "pc" => Some(Device::Desktop),
        "appliance" => Some(Device::Appliance),
        "crawler" => Some(Device::Bot),
        _ => None,
    }
}

/// The parser's system without its version: analysts group by it.
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
        Agents::load().unwrap().of(user_agent).as_ref().clone()
    }

    fn words(user_agent: &str) -> (Option<Device>, String, String) {
        let agent = agent(user_agent);
        (agent.device, agent.os.unwrap_or_default(), agent.name.unwrap_or_default())
    }

    #[test]
    fn people_have_a_device_a_system_and_a_program() {
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
            assert_eq!(words(&user_agent), (Some(device), os.into(), name.into()), "{user_agent}");
            assert_eq!(agent(&user_agent).automation, None, "{user_agent}");
        }
    }

    #[test]
    fn a_proxy_hides_a_reader_and_is_none_itself() {
        let gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        assert_eq!(
            words(gmail),
            (Some(Device::Proxy), String::new(), "Gmail image proxy".to_owned()),
            "not the Windows XP it claims to be"
        );
        assert_eq!(agent(gmail).automation, None, "it fetches when the message is opened");
        assert!(!agent(gmail).is_the_readers());
        let apple = agent("Mozilla/5.0");
        assert_eq!(apple.automation.unwrap().reason, AutomationReason::AppleMpp);
        assert_eq!(agent("Mozilla/5.0 (something)").automation, None, "only the bare words");
    }

    #[test]
    fn scanners_and_programs_are_machines_by_their_own_word() {
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
    fn nothing_is_made_up() {
        for user_agent in ["", "-", "Mozilla/5.0 ...", "something of our own"] {
            assert_eq!(agent(user_agent).client(), None, "{user_agent}");
        }
    }

    #[test]
    fn every_entry_of_the_data_is_found_by_its_own_words() {
        let agents = Agents::load().unwrap();
        for entry in &agents.entries {
            let all = entry.all.join(" ");
            let any = entry.any.iter().map(|any| format!("{any} {all}"));
            let alone = (entry.is.is_empty() && entry.any.is_empty()).then(|| all.clone());
            for user_agent in entry.is.iter().cloned().chain(any).chain(alone) {
                let found = agents.examine(&user_agent);
                assert_eq!(found.name.as_deref(), Some(entry.name.as_str()), "{user_agent}");
                assert_eq!(found.automation, entry.automation());
            }
        }
    }

    #[test]
    fn an_endless_user_agent_is_looked_at_in_part_only() {
        let mut agents = Agents::load().unwrap();
        let endless = "é".repeat(100_000);
        agents.of(&endless);
        agents.of(&format!("{endless}x"));
        assert_eq!(agents.known.len(), 1);
        assert!(agents.known.iter().all(|(key, _)| key.len() <= LOOKED_AT));
    }

    proptest! {
        #[test]
        fn any_text_is_a_user_agent(text in "(Mozilla/|Opera|iPhone|Android|Windows|Chrome/|bot|[ ;()._0-9]|\\PC){0,40}") {
            agent(&text);
        }
    }
}
