use rdkafka::message::BorrowedMessage;

use super::partition::OwnedPartition;
use super::unfit::Unfit;
use super::{Outcome, Output, Stage};
use crate::refusals::ManyRefusals;
use crate::{Error, Record, TopicPartition};

/// Successive records of one partition.
pub(super) struct Run<'r, 'c> {
    pub(super) name: &'r TopicPartition,
    pub(super) partition: &'r mut OwnedPartition,
    pub(super) records: &'r [BorrowedMessage<'c>],
    pub(super) unfit: &'r Unfit,
}

impl Run<'_, '_> {
    /// Passes each record to the stage. If an output of a record is too large, the batch will be rolled
    /// back, but the other records are processed all the same, to find all such records in one attempt.
    pub(super) fn process<S: Stage>(
        &mut self,
        stage: &mut S,
        refusal_limit: u32,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        for message in self.records {
            let record = Record(message);
            out.input += 1;
            let processed = if self.unfit.is_empty() {
                stage.process(&record, out)
            } else {
                self.process_carefully(stage, &record, out)
            };
            let outcome = match processed {
                Ok(outcome) => outcome,
                Err(Error::OutputRejected { .. }) if out.has_too_large() => continue,
                Err(error) => return Err(error),
            };
            let is_redriven = record.is_redriven_for(S::STAGE);
            let many = self.partition.count(&record, outcome, is_redriven, refusal_limit);
            if let Some(ManyRefusals { in_a_row, sources }) = many {
                let (partition, offset) = (self.name.clone(), record.offset());
                return Err(Error::RefusalLimit { in_a_row, sources, partition, offset });
            }
        }
        Ok(())
    }

    /// Processes a record while some records are unfit or suspected.
    fn process_carefully<S: Stage>(
        &self,
        stage: &mut S,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, Error> {
        let is_suspected = self.unfit.is_suspected(self.name, record.offset());
        if is_suspected {
            out.flush()?;
        }
        let outcome = match self.unfit.dead_letter_bytes(self.name, record.offset()) {
            Some(max_bytes) => out.unfit(record, &stage.kept(record), max_bytes)?,
            None => stage.process(record, out)?,
        };
        if is_suspected {
            out.flush()?;
        }
        Ok(outcome)
    }
}
