//! What one partition of the match stage remembers: states of recipients, follow-ups, and members of segments.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use automation::{FollowUp, RecipientDigest, RecipientState, RuleSet};
use event::EventId;

use crate::changelog::Changes;

/// The follow-ups of a recipient that wait at the same time.
const MOST_FOLLOW_UPS: usize = 32;
/// How many states and follow-ups end with one time record, so that a transaction stays small after an outage. The
/// next time record comes after a second.
pub(crate) const MOST_DUE: usize = 5_000;

const RECIPIENT: &str = "recipient/";
const FOLLOW_UP: &str = "follow-up/";

/// The state of a partition.
#[derive(Debug, Default)]
pub(crate) struct Recipients {
    pub(crate) changes: Changes,
    /// The JSON of a [`RecipientState`], which needs less memory than the state.
    states: HashMap<RecipientDigest, Box<[u8]>>,
    /// When a state may end: one entry for each state. The state may have changed since.
    ends: BinaryHeap<Reverse<(i64, RecipientDigest)>>,
    follow_ups: BTreeMap<(i64, EventId), (RecipientDigest, FollowUp)>,
    follow_ups_of: HashMap<RecipientDigest, Vec<(i64, EventId)>>,
    /// When each follow-up is due: a deletion in the changelog has only its id.
    due_of: HashMap<EventId, i64>,
    pub(crate) members: Members,
}

/// The members of the segments that rules ask for.
#[derive(Debug, Default)]
pub(crate) struct Members {
    segments: HashMap<String, HashSet<RecipientDigest>>,
    /// The offset up to which `mail.segments` was restored.
    pub(crate) next_offset: i64,
}

impl Members {
    /// Applies a record of `mail.segments`. Records of segments that no rule asks for are left out.
    pub(crate) fn apply(&mut self, rules: &RuleSet, key: &[u8], is_member: bool) {
        let Some((segment, recipient)) = automation::read_segment_key(key) else { return };
        if !rules.reads_segment(segment) {
            return;
        }
        let members = self.segments.entry(segment.to_owned()).or_default();
        if is_member {
            members.insert(recipient);
        } else {
            members.remove(&recipient);
        }
    }
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A newer release may have written it.
    #[error(
        "`{0}` in the changelog of automate-match cannot be read: {1}; start the release that wrote it"
    )]
    Value(String, serde_json::Error),
    /// The key is not known.
    #[error(
        "`{0}` is not a key of the changelog of automate-match; start the release that wrote it"
    )]
    Key(String),
    /// A defect.
    #[error("a state cannot be written: {0}")]
    Write(#[from] serde_json::Error),
}

impl Recipients {
    /// Applies a record of the changelog.
    pub(crate) fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), StateError> {
        let unknown = || StateError::Key(key.to_owned());
        if let Some(digest) = key.strip_prefix(RECIPIENT) {
            let digest = digest.parse().map_err(|_| unknown())?;
            match value {
                Some(value) => drop(self.states.insert(digest, value.into())),
                None => drop(self.states.remove(&digest)),
            }
            return Ok(());
        }
        let id: EventId =
            key.strip_prefix(FOLLOW_UP).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        match value {
            Some(value) => {
                let follow_up = serde_json::from_slice::<FollowUp>(value)
                    .map_err(|error| StateError::Value(key.to_owned(), error))?;
                self.insert(follow_up);
            }
            None => {
                let due = self.due_of.get(&id).copied();
                due.into_iter().for_each(|due| drop(self.take((due, id))));
            }
        }
        Ok(())
    }

    /// Ends a restore.
    pub(crate) fn finish_restore(
        &mut self,
        changes: Changes,
        rules: &RuleSet,
    ) -> Result<(), StateError> {
        self.changes = changes;
        for (digest, json) in &self.states {
            let state: RecipientState = serde_json::from_slice(json)
                .map_err(|error| StateError::Value(format!("{RECIPIENT}{digest}"), error))?;
            self.ends.push(Reverse((state.expires_at(rules), *digest)));
        }
        Ok(())
    }

    pub(crate) fn is_member(&self, segment: &str, recipient: RecipientDigest) -> bool {
        self.members.segments.get(segment).is_some_and(|members| members.contains(&recipient))
    }

    /// The number of recipients with a state.
    pub(crate) fn states(&self) -> usize {
        self.states.len()
    }

    /// The number of follow-ups that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.follow_ups.len()
    }

    /// Returns the state of a recipient.
    pub(crate) fn state(&self, recipient: RecipientDigest) -> Result<RecipientState, StateError> {
        match self.states.get(&recipient) {
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| StateError::Value(format!("{RECIPIENT}{recipient}"), error)),
            None => Ok(RecipientState::default()),
        }
    }

    /// Replaces the state of a recipient.
    pub(crate) fn set_state(
        &mut self,
        rules: &RuleSet,
        recipient: RecipientDigest,
        state: &RecipientState,
    ) -> Result<(), StateError> {
        if state.is_empty() {
            return Ok(());
        }
        let json = serde_json::to_vec(state)?;
        self.changes.set(format!("{RECIPIENT}{recipient}"), Some(json.clone()));
        if self.states.insert(recipient, json.into()).is_none() {
            self.ends.push(Reverse((state.expires_at(rules), recipient)));
        }
        Ok(())
    }

    /// Adds a follow-up. Returns false, and adds nothing, if the recipient has too many.
    pub(crate) fn add(&mut self, follow_up: FollowUp) -> Result<bool, StateError> {
        let recipient = digest_of(&follow_up);
        let waiting = self.follow_ups_of.get(&recipient).map_or(0, Vec::len);
        if waiting >= MOST_FOLLOW_UPS {
            return Ok(false);
        }
        let json = serde_json::to_vec(&follow_up)?;
        self.changes.set(format!("{FOLLOW_UP}{}", follow_up.id), Some(json));
        self.insert(follow_up);
        Ok(true)
    }

    fn insert(&mut self, follow_up: FollowUp) {
        let (recipient, place) = (digest_of(&follow_up), (follow_up.due, follow_up.id));
        if self.follow_ups.insert(place, (recipient, follow_up)).is_none() {
            self.follow_ups_of.entry(recipient).or_default().push(place);
            self.due_of.insert(place.1, place.0);
        }
    }

    fn take(&mut self, place: (i64, EventId)) -> Option<FollowUp> {
        let (recipient, follow_up) = self.follow_ups.remove(&place)?;
        self.due_of.remove(&place.1);
        if let Some(places) = self.follow_ups_of.get_mut(&recipient) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.follow_ups_of.remove(&recipient);
            }
        }
        Some(follow_up)
    }

    fn remove(&mut self, place: (i64, EventId)) -> Option<FollowUp> {
        let follow_up = self.take(place)?;
        self.changes.set(format!("{FOLLOW_UP}{}", follow_up.id), None);
        Some(follow_up)
    }

    /// Removes the follow-ups of a recipient for which `is_over` returns true. Returns their number.
    pub(crate) fn remove_if(
        &mut self,
        recipient: RecipientDigest,
        is_over: impl Fn(&FollowUp) -> bool,
    ) -> usize {
        let Some(places) = self.follow_ups_of.get(&recipient) else { return 0 };
        let is_over = |place: &&(i64, EventId)| {
            self.follow_ups.get(place).is_some_and(|(_, follow_up)| is_over(follow_up))
        };
        let over: Vec<_> = places.iter().filter(is_over).copied().collect();
        over.iter().filter_map(|place| self.remove(*place)).count()
    }

    /// Removes all follow-ups of recipients for whom `is_erased` returns true. Returns their number.
    pub(crate) fn remove_erased(&mut self, is_erased: impl Fn(&str) -> bool) -> usize {
        let erased = self.follow_ups.iter().filter(|(_, (_, it))| is_erased(&it.event.recipient));
        let erased: Vec<_> = erased.map(|(place, _)| *place).collect();
        erased.iter().filter_map(|place| self.remove(*place)).count()
    }

    /// Removes and returns the follow-ups that are due.
    pub(crate) fn due(&mut self, now: i64) -> Vec<FollowUp> {
        let due = self.follow_ups.keys().take_while(|(due, _)| *due <= now).take(MOST_DUE);
        let due: Vec<_> = due.copied().collect();
        due.into_iter().filter_map(|place| self.remove(place)).collect()
    }

    /// Removes the states that decide nothing any more.
    pub(crate) fn expire(&mut self, rules: &RuleSet, now: i64) -> Result<(), StateError> {
        for _ in 0..MOST_DUE {
            let Some(&Reverse((end, recipient))) = self.ends.peek() else { break };
            if end > now {
                break;
            }
            self.ends.pop();
            let end = self.state(recipient)?.expires_at(rules);
            if end > now {
                self.ends.push(Reverse((end, recipient)));
            } else {
                self.states.remove(&recipient);
                self.changes.set(format!("{RECIPIENT}{recipient}"), None);
            }
        }
        Ok(())
    }
}

fn digest_of(follow_up: &FollowUp) -> RecipientDigest {
    automation::recipient_digest(follow_up.event.recipient.as_bytes())
}
