//! Maps each provider to its folder.

/// Generates everything that depends on the provider from one line per provider. Each folder has
/// the same items: `PROFILE`, `Options`, `Verifier`, `split` and `parse`. A provider without a line
/// does not compile, because all matches below are exhaustive.
macro_rules! folders {
    ($($variant:ident => $folder:ident,)+) => {
        /// The keys of a `[[source]]` that depend on its provider. Every key is optional.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Options {
            $($variant($folder::Options),)+
        }

        impl Options {
            /// Reads the options of a source of this provider. A key that the provider does not
            /// use is an error, because it shows a misunderstanding of how the provider signs.
            pub fn read<'de, D: Deserializer<'de>>(
                provider: Provider,
                from: D,
            ) -> Result<Self, D::Error> {
                match provider {
                    $(Provider::$variant => $folder::Options::deserialize(from).map(Self::$variant),)+
                }
            }

            /// The options of a source of this provider that has none of the keys.
            pub fn none(provider: Provider) -> Self {
                match provider {
                    $(Provider::$variant => Self::$variant($folder::Options::default()),)+
                }
            }

            /// The keys that a source of this provider may have.
            pub fn keys(provider: Provider) -> &'static [&'static str] {
                match provider {
                    $(Provider::$variant => settings::keys_of::<$folder::Options>(),)+
                }
            }

            /// The provider that these options belong to.
            pub const fn provider(&self) -> Provider {
                match self {
                    $(Self::$variant(_) => Provider::$variant,)+
                }
            }

            /// The networks that requests may come from.
            pub const fn allow_ips(&self) -> &Networks {
                match self {
                    $(Self::$variant(options) => &options.allow_ips,)+
                }
            }
        }

        /// The verifier of a source.
        #[derive(Debug)]
        pub(crate) enum Verifier {
            $($variant($folder::Verifier),)+
        }

        impl Verifier {
            pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
                match &settings.options {
                    $(Options::$variant(options) => {
                        $folder::Verifier::new(settings, options).map(Self::$variant)
                    })+
                }
            }

            pub(crate) fn check_head(
                &self,
                request: &ReceivedRequest<'_>,
            ) -> Result<(), Rejection> {
                match self {
                    $(Self::$variant(verifier) => verifier.check_head(request),)+
                }
            }

            pub(crate) fn verify(
                &self,
                request: &ReceivedRequest<'_>,
                certificates: &FindCertificate<'_>,
                trace: &mut Trace,
            ) -> Result<Verified, Rejection> {
                match self {
                    $(Self::$variant(verifier) => verifier.verify(request, certificates, trace),)+
                }
            }
        }

        /// Returns the facts about a provider's webhooks.
        pub const fn profile(provider: Provider) -> &'static Profile {
            match provider {
                $(Provider::$variant => &$folder::PROFILE,)+
            }
        }

        /// Splits a body of the provider's usual form.
        fn split_usual(provider: Provider, body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
            match provider {
                $(Provider::$variant => $folder::split(body),)+
            }
        }

        /// Parses a raw event of the provider's usual form.
        fn parse_usual<'a>(
            provider: Provider,
            raw: &'a [u8],
            envelope: &Envelope<'a>,
        ) -> Result<Event<'a>, ParseError> {
            match provider {
                $(Provider::$variant => $folder::parse(raw, envelope),)+
            }
        }
    };
}
