use std::collections::BTreeMap;

/// The most mails of one history. The work and the memory for a prediction are proportional to the number of mails.
pub const MAX_MAILS: u32 = 10_000;

/// What is known of a recipient's engagement: how many mails the recipient got, with how many the recipient engaged,
/// and the index of the last one of these, from 1; 0 if there is none.
///
/// No other order of the same mails changes a prediction of [`BgBb`](crate::BgBb): the three numbers are a sufficient
/// statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    mails: u32,
    engaged: u32,
    last_engaged: u32,
}

/// Why three numbers are not a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleHistory {
    #[error("{mails} mails are more than {MAX_MAILS}")]
    TooManyMails { mails: u32 },
    #[error("the last engaged mail is number {last_engaged} of {mails}")]
    AfterTheLastMail { mails: u32, last_engaged: u32 },
    #[error("{engaged} engaged mails do not fit into the first {last_engaged}")]
    TooManyEngaged { engaged: u32, last_engaged: u32 },
    #[error("the last engaged mail is number {last_engaged}, although none is engaged")]
    NoneEngaged { last_engaged: u32 },
}

impl History {
    /// # Errors
    /// If no recipient can have these numbers.
    pub const fn new(
        mails: u32,
        engaged: u32,
        last_engaged: u32,
    ) -> Result<Self, ImpossibleHistory> {
        if mails > MAX_MAILS {
            return Err(ImpossibleHistory::TooManyMails { mails });
        }
        if last_engaged > mails {
            return Err(ImpossibleHistory::AfterTheLastMail { mails, last_engaged });
        }
        if engaged > last_engaged {
            return Err(ImpossibleHistory::TooManyEngaged { engaged, last_engaged });
        }
        if engaged == 0 && last_engaged > 0 {
            return Err(ImpossibleHistory::NoneEngaged { last_engaged });
        }
        Ok(Self { mails, engaged, last_engaged })
    }

    /// Returns the history of mails in the order of sending; `true` is engaged.
    ///
    /// # Errors
    /// If there are more than [`MAX_MAILS`].
    pub fn of(mails: &[bool]) -> Result<Self, ImpossibleHistory> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let engaged = mails.iter().filter(|engaged| **engaged).count();
        let last_engaged = mails.iter().rposition(|engaged| *engaged).map_or(0, |index| index + 1);
        Self::new(count(mails.len()), count(engaged), count(last_engaged))
    }

    pub const fn mails(self) -> u32 {
        self.mails
    }

    pub const fn engaged(self) -> u32 {
        self.engaged
    }

    pub const fn last_engaged(self) -> u32 {
        self.last_engaged
    }
}

/// How many recipients have each history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histories(BTreeMap<History, u64>);

impl Histories {
    pub fn add(&mut self, history: History, recipients: u64) {
        if recipients > 0 {
            *self.0.entry(history).or_default() += recipients;
        }
    }

    /// In ascending order of mails, engaged mails and last engaged mail.
    pub fn iter(&self) -> impl Iterator<Item = (History, u64)> {
        self.0.iter().map(|(history, recipients)| (*history, *recipients))
    }

    /// Returns how many recipients have got at least `mails` mails.
    pub(crate) fn recipients_with(&self, mails: u32) -> u64 {
        self.iter()
            .filter(|(history, _)| history.mails >= mails)
            .map(|(_, recipients)| recipients)
            .sum()
    }

    pub(crate) fn most_mails(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(history, _)| history.mails)
    }
}

impl FromIterator<(History, u64)> for Histories {
    fn from_iter<I: IntoIterator<Item = (History, u64)>>(iter: I) -> Self {
        let mut histories = Self::default();
        for (history, recipients) in iter {
            histories.add(history, recipients);
        }
        histories
    }
}

impl FromIterator<History> for Histories {
    fn from_iter<I: IntoIterator<Item = History>>(iter: I) -> Self {
        iter.into_iter().map(|history| (history, 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_numbers_of_some_sequence_of_mails_are_a_history() {
        let mut of_sequences = std::collections::BTreeSet::new();
        for mails in 0..=6_usize {
            for bits in 0..1_u32 << mails {
                let sequence: Vec<bool> = (0..mails).map(|index| bits >> index & 1 == 1).collect();
                of_sequences.insert(History::of(&sequence).unwrap());
            }
        }
        let mut possible = std::collections::BTreeSet::new();
        for mails in 0..=6 {
            for engaged in 0..=8 {
                for last_engaged in 0..=8 {
                    possible.extend(History::new(mails, engaged, last_engaged));
                }
            }
        }
        assert_eq!(possible, of_sequences);
        assert!(History::new(MAX_MAILS, 1, MAX_MAILS).is_ok());
        assert!(History::new(MAX_MAILS + 1, 1, 1).is_err());
    }

    #[test]
    fn an_error_names_the_numbers() {
        for (numbers, text) in [
            ((10_001, 0, 0), "10001 mails are more than 10000"),
            ((3, 1, 4), "the last engaged mail is number 4 of 3"),
            ((3, 3, 2), "3 engaged mails do not fit into the first 2"),
            ((3, 0, 2), "the last engaged mail is number 2, although none is engaged"),
        ] {
            let (mails, engaged, last_engaged) = numbers;
            let error = History::new(mails, engaged, last_engaged).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn recipients_with_the_same_history_are_added_up() {
        let (one, two) = (History::new(1, 1, 1).unwrap(), History::new(2, 1, 1).unwrap());
        let histories: Histories = [one, two, one].into_iter().collect();
        assert_eq!(histories.iter().collect::<Vec<_>>(), [(one, 2), (two, 1)]);
        assert_eq!((histories.recipients_with(1), histories.recipients_with(2)), (3, 1));
        assert_eq!(histories.most_mails(), 2);
    }
}
