use crate::credentials::Credentials;
use crate::examine::Trace;
use crate::{Received, Refusal, SettingsError, SourceSettings, Verified};

/// Mailjet signs nothing: HTTP credentials, or a header of our choice, are all there is.
#[derive(Debug)]
pub(crate) struct Verifier(Credentials);

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        Credentials::new(settings).map(Self)
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        self.0.verify(received, trace)
    }
}
