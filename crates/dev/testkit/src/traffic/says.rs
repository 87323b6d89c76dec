//! What each provider tells of a message, and how much of it at once.

use event::Provider;

/// What a provider tells of a message beside its delivery, its final refusal, opens and clicks,
/// which all of them tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Says {
    /// It took the message for sending.
    pub(crate) accepted: bool,
    /// It could not deliver it yet and will try again.
    pub(crate) deferred: bool,
    /// It gave up, and the address may be good all the same.
    pub(crate) soft_bounced: bool,
    /// The recipient reported it as spam.
    pub(crate) complained: bool,
    /// The recipient wants no more.
    pub(crate) unsubscribed: bool,
    /// A machine opened it; elsewhere only the user agent would tell.
    pub(crate) machine_opened: bool,
    /// The most events of one request here; where it is more than one, its own limit is far higher.
    pub(crate) at_once: usize,
}

impl Says {
    /// Everything in a message's life, but for who opened it; one event in each request.
    const ALL_BUT_MACHINES: Self = Self {
        accepted: true,
        deferred: true,
        soft_bounced: true,
        complained: true,
        unsubscribed: true,
        machine_opened: false,
        at_once: 1,
    };

    /// What this provider tells, by its documents.
    pub(crate) const fn of(provider: Provider) -> Self {
        const ALL: Says = Says::ALL_BUT_MACHINES;
        match provider {
            Provider::SendGrid => Self { machine_opened: true, at_once: 30, ..ALL },
            // Tries again until it gives up for good.
            Provider::Mailgun => Self { machine_opened: true, soft_bounced: false, ..ALL },
            Provider::Postmark => Self { accepted: false, ..ALL },
            Provider::Ses => ALL,
            Provider::Mandrill => Self { at_once: 20, ..ALL },
            Provider::Generic => Self { machine_opened: true, at_once: 20, ..ALL },
            Provider::SparkPost => Self { machine_opened: true, at_once: 20, ..ALL },
            // Who leaves changes a contact, of no message.
            Provider::Resend => Self { unsubscribed: false, ..ALL },
            Provider::StandardWebhooks => Self { machine_opened: true, ..ALL },
            Provider::Brevo => Self { machine_opened: true, at_once: 20, ..ALL },
            Provider::Mailjet => Self { accepted: false, deferred: false, at_once: 20, ..ALL },
            Provider::MailerSend => Self { deferred: false, ..ALL },
            // A mail server: it hears of no complaint, and its soft failures are deferrals.
            Provider::Postal => Self {
                accepted: false,
                soft_bounced: false,
                complained: false,
                unsubscribed: false,
                ..ALL
            },
        }
    }

    /// Whether the provider posts several events at once.
    pub(crate) const fn in_batches(self) -> bool {
        self.at_once > 1
    }
}
