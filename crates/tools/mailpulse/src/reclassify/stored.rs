//! Events as they are stored, and what they say about the classification.

use clickhouse::Row;
use event::{Automation, Bounce, CounterSet, Event, Text};
use serde::Deserialize;
use serde_json::json;

/// The columns that are read, as SQL.
pub(super) const COLUMNS: &str = "kafka_partition, kafka_offset, event_id, toString(kind) AS kind, \
     toString(provider) AS provider, toString(source) AS source, \
     toUnixTimestamp64Micro(occurred_at) AS occurred_at, toUnixTimestamp64Micro(received_at) AS received_at, \
     recipient, message_id, request_id, authentic, toString(mailbox_provider) AS mailbox_provider, \
     toString(campaign) AS campaign, toString(stream) AS stream, toString(tenant) AS tenant, \
     toString(sender_domain) AS sender_domain, toString(sending_ip) AS sending_ip, \
     toString(bounce_permanence) AS bounce_permanence, toString(bounce_class) AS bounce_class, \
     toString(bounce_side) AS bounce_side, toString(bounce_status) AS bounce_status, bounce_late, \
     toString(automation_reason) AS automation_reason, automation_confidence, \
     CAST(signals AS Array(String)) AS signals, CAST(counts AS Array(String)) AS counts, corrections, seen, \
     toUnixTimestamp64Micro(ifNull(sent_at, toDateTime64(0, 6, 'UTC'))) AS sent_at, raw";

/// A row of `events`. Texts are empty where the event says nothing.
#[derive(Debug, Clone, Row, Deserialize)]
pub(super) struct StoredEvent {
    pub(super) kafka_partition: u16,
    pub(super) kafka_offset: u64,
    event_id: String,
    pub(super) kind: String,
    pub(super) provider: String,
    pub(super) source: String,
    /// UTC microseconds.
    pub(super) occurred_at: i64,
    pub(super) received_at: i64,
    pub(super) recipient: String,
    pub(super) message_id: String,
    pub(super) request_id: String,
    pub(super) authentic: bool,
    mailbox_provider: String,
    campaign: String,
    stream: String,
    tenant: String,
    sender_domain: String,
    sending_ip: String,
    bounce_permanence: String,
    bounce_class: String,
    bounce_side: String,
    bounce_status: String,
    bounce_late: bool,
    automation_reason: String,
    automation_confidence: f32,
    signals: Vec<String>,
    counts: Vec<String>,
    pub(super) corrections: String,
    /// The ordinal of its kind. 0: not known.
    seen: u32,
    /// 0: not known.
    pub(super) sent_at: i64,
    pub(super) raw: String,
}

/// How an event is classified.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classification {
    pub(super) kind: String,
    pub(super) bounce: Option<Bounce<'static>>,
    pub(super) automation: Option<Automation>,
    pub(super) signals: Vec<String>,
}

impl Classification {
    /// Returns what the parsers say.
    pub(super) fn of(event: &Event<'_>) -> Self {
        Self {
            kind: event.kind.as_str().to_owned(),
            bounce: event.bounce.as_ref().map(|bounce| Bounce {
                permanence: bounce.permanence,
                class: bounce.class,
                side: bounce.side,
                status: bounce.status.clone().map(Text::into_owned),
                // The text is the provider's, and is not classified.
                diagnostic: None,
                late: bounce.late,
            }),
            automation: event.automation,
            signals: event.signals.iter().map(|signal| signal.to_string()).collect(),
        }
    }

    /// Describes it in a line.
    pub(super) fn describe(&self) -> String {
        let mut text = self.kind.clone();
        if let Some(bounce) = &self.bounce {
            let status = bounce.status.as_deref().unwrap_or("-");
            text += &format!(
                " {} {} {} {status}",
                bounce.permanence.as_str(),
                bounce.class.as_str(),
                bounce.side.as_str()
            );
        }
        if let Some(automation) = self.automation {
            text += &format!(" by a machine ({})", automation.reason.as_str());
        }
        for signal in &self.signals {
            text += &format!(" +{signal}");
        }
        text
    }
}

impl StoredEvent {
    /// Returns how the event is stored.
    ///
    /// # Errors
    /// If a column has a value that no release writes.
    pub(super) fn classification(&self) -> serde_json::Result<Classification> {
        let bounce = (!self.bounce_class.is_empty()).then(|| {
            json!({
                "permanence": self.bounce_permanence, "class": self.bounce_class,
                "side": self.bounce_side, "status": self.bounce_status, "late": self.bounce_late,
            })
            .to_string()
        });
        let bounce = match &bounce {
            Some(bounce) => {
                let bounce: Bounce<'_> = serde_json::from_str(bounce)?;
                let status = bounce.status.and_then(Text::non_empty).map(Text::into_owned);
                Some(Bounce {
                    permanence: bounce.permanence,
                    class: bounce.class,
                    side: bounce.side,
                    status,
                    diagnostic: None,
                    late: bounce.late,
                })
            }
            None => None,
        };
        let automation = (!self.automation_reason.is_empty()).then(
            || json!({"reason": self.automation_reason, "confidence": self.automation_confidence}),
        );
        Ok(Classification {
            kind: self.kind.clone(),
            bounce,
            automation: automation.map(serde_json::from_value).transpose()?,
            signals: self.signals.clone(),
        })
    }

    /// Returns the event with a classification, and with what its counts depend on, as JSON.
    pub(super) fn with(&self, classification: &Classification) -> String {
        let mut event = json!({
            "event_id": self.event_id, "kind": classification.kind, "provider": self.provider,
            "source": self.source, "occurred_at": self.occurred_at, "received_at": self.received_at,
            "authentic": self.authentic, "signals": classification.signals, "provider_event": "",
            "request_id": "", "raw": {},
        });
        let dimensions = [
            ("mailbox_provider", &self.mailbox_provider),
            ("campaign", &self.campaign),
            ("stream", &self.stream),
            ("tenant", &self.tenant),
            ("sender_domain", &self.sender_domain),
            ("sending_ip", &self.sending_ip),
        ];
        for (name, value) in dimensions.into_iter().filter(|(_, value)| !value.is_empty()) {
            event[name] = json!(value);
        }
        if let Some(bounce) = &classification.bounce {
            event["bounce"] = json!(bounce);
        }
        if let Some(automation) = classification.automation {
            event["automation"] = json!(automation);
        }
        event.to_string()
    }

    /// Returns what the event counts for, as it is stored.
    pub(super) fn counts(&self) -> Option<CounterSet> {
        CounterSet::from_names(&self.counts.join(","))
    }

    /// Returns whether `dedupe` added the event to the memory of its message. It adds unauthentic events only if
    /// `enrich.count_unauthentic` is true when they arrive, and numbers all that it adds.
    pub(super) fn is_remembered(&self) -> bool {
        self.authentic || self.seen > 0
    }

    /// Returns the number of the row in the table.
    pub(super) fn row(&self) -> u64 {
        u64::from(self.kafka_partition) << 48 | self.kafka_offset
    }
}
