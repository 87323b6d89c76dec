//! Logs which investigator has asked for the data of which recipients. The table `audit` is about commands of the
//! operator's tool.
//!
//! Addresses are not in the log. A recipient is named by a keyed digest, if there is a key: the one of
//! `privacy.erasure_key`, by which `mailpulse erase` knows recipients, or else the pseudonym of
//! `privacy.pseudonym_key`.

use std::collections::BTreeSet;

use privacy::{ErasureKey, Pseudonymizer};

use crate::access::{Role, Visitor};

/// The greatest number of recipients that one line names.
const MAX_NAMED: usize = 100;

/// Names recipients in the log.
#[derive(Debug, Default)]
pub struct Audit {
    erasure_key: Option<ErasureKey>,
    pseudonymizer: Option<Pseudonymizer>,
}

impl Audit {
    pub const fn new(
        erasure_key: Option<ErasureKey>,
        pseudonymizer: Option<Pseudonymizer>,
    ) -> Self {
        Self { erasure_key, pseudonymizer }
    }

    /// Logs that a visitor has asked for a page with data of these recipients. A viewer sees no address, so nothing is
    /// logged.
    pub(crate) fn log<'a>(
        &self,
        visitor: &Visitor,
        page: &'static str,
        recipients: impl IntoIterator<Item = &'a str>,
    ) {
        if visitor.role < Role::Investigator {
            return;
        }
        let recipients: BTreeSet<&str> =
            recipients.into_iter().filter(|recipient| !recipient.is_empty()).collect();
        let digests = self.digests(&recipients);
        tracing::info!(
            visitor = visitor.name,
            page,
            recipients = recipients.len(),
            digests,
            "an investigator asked for data of recipients"
        );
    }

    /// Returns the digests of recipients, separated by spaces. Empty: there is no key.
    fn digests(&self, recipients: &BTreeSet<&str>) -> String {
        let digests = recipients.iter().filter_map(|recipient| self.digest(recipient));
        digests.take(MAX_NAMED).collect::<Vec<_>>().join(" ")
    }

    fn digest(&self, address: &str) -> Option<String> {
        match (&self.erasure_key, &self.pseudonymizer) {
            (Some(key), _) => Some(key.digest(address).to_string()),
            (None, Some(pseudonymizer)) => pseudonymizer.pseudonym(address),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of the tests alone";
    const ADA: &str = "fad32a0144f8518642ba63cc43595bba";

    fn digests(audit: &Audit) -> String {
        audit.digests(&BTreeSet::from(["Ada@Example.com", "no address"]))
    }

    #[test]
    fn a_recipient_is_named_by_the_digest_of_the_key_that_there_is() {
        let (erasure_key, pseudonymizer) = (ErasureKey::new(KEY), Pseudonymizer::new(KEY));
        let (erasure_key, pseudonymizer) = (erasure_key.unwrap(), pseudonymizer.unwrap());
        assert_eq!(digests(&Audit::default()), "");
        let pseudonym = format!("{ADA}@example.com");
        assert_eq!(digests(&Audit::new(None, Some(pseudonymizer.clone()))), pseudonym);
        let both = digests(&Audit::new(Some(erasure_key), Some(pseudonymizer)));
        let both: Vec<&str> = both.split(' ').collect();
        assert!(both.len() == 2 && both[0].starts_with(ADA), "{both:?}");
        assert!(both.iter().all(|digest| digest.len() == 64), "{both:?}");
    }

    #[test]
    fn one_line_names_a_bounded_number_of_recipients() {
        let addresses: Vec<String> = (0..200).map(|n| format!("p{n}@example.com")).collect();
        let recipients = addresses.iter().map(String::as_str).collect();
        let audit = Audit::new(Some(ErasureKey::new(KEY).unwrap()), None);
        assert_eq!(audit.digests(&recipients).split(' ').count(), MAX_NAMED);
    }
}
