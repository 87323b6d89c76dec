use event::Provider;

/// Which events a provider reports besides deliveries, hard bounces, opens and clicks (all
/// providers report these), and how many of them in one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportedKinds {
    pub(crate) accepted: bool,
    pub(crate) deferred: bool,
    pub(crate) soft_bounced: bool,
    pub(crate) complained: bool,
    pub(crate) unsubscribed: bool,
    /// Whether an open by a machine has a flag. At the other providers only the user agent differs.
    pub(crate) machine_opened: bool,
    /// A limit for this crate. If it is more than 1, the provider's own limit is far higher.
    pub(crate) max_events_per_request: usize,
}

impl ReportedKinds {
    const ALL_BUT_MACHINES: Self = Self {
        accepted: true,
        deferred: true,
        soft_bounced: true,
        complained: true,
        unsubscribed: true,
        machine_opened: false,
        max_events_per_request: 1,
    };

    /// Returns what this provider reports according to its documentation.
    pub(crate) const fn of(provider: Provider) -> Self {
        const ALL: ReportedKinds = ReportedKinds::ALL_BUT_MACHINES;
        match provider {
            Provider::SendGrid => Self { machine_opened: true, max_events_per_request: 30, ..ALL },
            // Retries until the failure is permanent.
            Provider::Mailgun => Self { machine_opened: true, soft_bounced: false, ..ALL },
            Provider::Postmark => Self { accepted: false, ..ALL },
            Provider::Mandrill => Self { max_events_per_request: 20, ..ALL },
            Provider::Generic => Self { machine_opened: true, max_events_per_request: 20, ..ALL },
            Provider::SparkPost => Self { machine_opened: true, max_events_per_request: 20, ..ALL },
            // Unsubscribing changes a contact. The event names no message.
            Provider::Resend => Self { unsubscribed: false, ..ALL },
            Provider::StandardWebhooks => Self { machine_opened: true, ..ALL },
            Provider::Brevo => Self { machine_opened: true, max_events_per_request: 20, ..ALL },
            Provider::Mailjet => {
                Self { accepted: false, deferred: false, max_events_per_request: 20, ..ALL }
            }
            Provider::MailerSend => Self { deferred: false, ..ALL },
            // A mail server receives no complaints, and its soft failures are deferrals.
            Provider::Postal => Self {
                accepted: false,
                soft_bounced: false,
                complained: false,
                unsubscribed: false,
                ..ALL
            },
            _ => ALL,
        }
    }

    pub(crate) const fn in_batches(self) -> bool {
        self.max_events_per_request > 1
    }
}
