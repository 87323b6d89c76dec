//! Next engagement: the BG/BB model (Fader, Hardie and Shang, "Customer-Base Analysis in a Discrete-Time Noncontractual
//! Setting", Marketing Science 29, 2010).

use crate::beta::{Beta, LnBetaRatio, ln_sum_exp};
use crate::history::{Histories, History};
use crate::minimum::minimum;
use crate::{Unknown, float};

/// A recipient engages with each mail with a personal probability, until the recipient quits for good; before each
/// mail, the recipient quits with another personal probability.
///
/// Without the second distribution nobody quits: that is the beta-binomial model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BgBb {
    engages: Beta,
    quits: Option<Beta>,
}

impl BgBb {
    /// `engages` has the shapes α and β of the paper, `quits` γ and δ.
    pub const fn new(engages: Beta, quits: Option<Beta>) -> Self {
        Self { engages, quits }
    }

    /// The distribution of the probability to engage with a mail, among all who ever subscribed.
    pub const fn engages(&self) -> Beta {
        self.engages
    }

    /// The distribution of the probability to quit before a mail; `None` if nobody quits.
    pub const fn quits(&self) -> Option<Beta> {
        self.quits
    }

    /// Fits the model by maximum likelihood.
    ///
    /// If hardly anybody quits, γ and δ are not in the data: all pairs with a tiny γ/δ have the same likelihood. So the
    /// result has no `quits` unless they raise the log likelihood by more than Schwarz's criterion (BIC) asks for two
    /// more parameters.
    ///
    /// # Errors
    /// If fewer than [`MIN_RECIPIENTS`](crate::MIN_RECIPIENTS) recipients have got two mails or more.
    pub fn fit(histories: &Histories) -> Result<Self, Unknown> {
        let without = Fitted::without_quits(histories)?;
        let with = Fitted::with_quits(histories, &without);
        let needed = float(histories.recipients_with(1)).ln();
        let is_evident = with.ln_likelihood - without.ln_likelihood > needed;
        Ok(if is_evident { with.model } else { without.model })
    }

    /// Fits the beta-binomial model, in which nobody quits, by maximum likelihood.
    ///
    /// # Errors
    /// If fewer than [`MIN_RECIPIENTS`](crate::MIN_RECIPIENTS) recipients have got two mails or more.
    pub fn fit_without_quits(histories: &Histories) -> Result<Self, Unknown> {
        Ok(Fitted::without_quits(histories)?.model)
    }

    /// Returns the log probability of all histories.
    pub fn ln_likelihood(&self, histories: &Histories) -> f64 {
        let terms = Terms::new(self, histories.most_mails());
        let mut scratch = Vec::new();
        histories
            .iter()
            .map(|(history, recipients)| {
                float(recipients) * terms.ln_likelihood(history, &mut scratch)
            })
            .sum()
    }
}

struct Fitted {
    model: BgBb,
    ln_likelihood: f64,
}

impl Fitted {
    fn without_quits(histories: &Histories) -> Result<Self, Unknown> {
        // One mail tells nothing about how much recipients differ.
        Unknown::unless_enough(histories.recipients_with(2))?;
        let from = |[mean, sum]: [f64; 2]| Some(BgBb::new(beta(mean, sum)?, None));
        let (point, _) = minimum([logit(0.2), 1.0], cost(histories, &from));
        Ok(Self::at(point, from, histories))
    }

    fn with_quits(histories: &Histories, without: &Self) -> Self {
        let from = |[mean, sum, quit_mean, quit_sum]: [f64; 4]| {
            Some(BgBb::new(beta(mean, sum)?, Some(beta(quit_mean, quit_sum)?)))
        };
        let engages = without.model.engages;
        // There are two starts, because few opens have two explanations: a recipient who rarely opens, and one who often
        // opened and has quit. The search can end at the wrong one.
        let starts = [(0.02, 3.0), (0.2, 1.0)].map(|(quit_mean, quit_sum)| {
            [logit(engages.mean()), (engages.a() + engages.b()).ln(), logit(quit_mean), quit_sum]
        });
        let found = starts.map(|start| minimum(start, cost(histories, &from)));
        let [(first, first_cost), (second, second_cost)] = found;
        Self::at(if second_cost < first_cost { second } else { first }, from, histories)
    }

    fn at<const N: usize>(
        point: [f64; N],
        from: impl Fn([f64; N]) -> Option<BgBb>,
        histories: &Histories,
    ) -> Self {
        // The search starts at possible shapes and never leaves them.
        let model = from(point).unwrap_or(BgBb::new(Beta::UNIFORM, None));
        Self { model, ln_likelihood: model.ln_likelihood(histories) }
    }
}

/// Returns what the search makes small: the negative log likelihood.
fn cost<const N: usize>(
    histories: &Histories,
    from: impl Fn([f64; N]) -> Option<BgBb>,
) -> impl Fn(&[f64; N]) -> f64 {
    move |point| from(*point).map_or(f64::INFINITY, |model| -model.ln_likelihood(histories))
}

/// Returns the distribution with this logit of its mean and this logarithm of the sum of its shapes; these are less
/// correlated than the shapes. Both have limits, because the likelihood of some data has no maximum: it grows without
/// end while everybody becomes equal, or while nobody engages.
fn beta(logit_mean: f64, ln_sum: f64) -> Option<Beta> {
    if logit_mean.abs() > 14.0 || !(-7.0..=12.0).contains(&ln_sum) {
        return None;
    }
    Beta::with_mean(1.0 / (1.0 + (-logit_mean).exp()), ln_sum.exp())
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// The factors of the likelihood for all histories up to a number of mails.
pub(crate) struct Terms {
    pub(crate) model: BgBb,
    engages: LnBetaRatio,
    quits: Option<LnBetaRatio>,
}

impl Terms {
    pub(crate) fn new(model: &BgBb, most_mails: u32) -> Self {
        Self {
            model: *model,
            engages: LnBetaRatio::new(model.engages, most_mails),
            quits: model.quits.map(|quits| LnBetaRatio::new(quits, most_mails)),
        }
    }

    /// Returns ln P(one given order of `engaged` engaged ones among `mails` mails, and not quit before any).
    pub(crate) fn ln_alive(&self, mails: u32, engaged: u32) -> f64 {
        let stays = self.quits.as_ref().map_or(0.0, |quits| quits.at(0, mails));
        self.engages.at(engaged, mails - engaged) + stays
    }

    /// Returns ln P(the same for the first `mails` mails, and quit before the next); `None` if nobody quits.
    pub(crate) fn ln_quits_after(&self, mails: u32, engaged: u32) -> Option<f64> {
        let quits = self.quits.as_ref()?;
        Some(self.engages.at(engaged, mails - engaged) + quits.at(1, mails))
    }

    /// Returns the log probability of the history. `scratch` only saves allocations.
    pub(crate) fn ln_likelihood(&self, history: History, scratch: &mut Vec<f64>) -> f64 {
        scratch.clear();
        scratch.push(self.ln_alive(history.mails(), history.engaged()));
        let last_alive = history.last_engaged()..history.mails();
        scratch.extend(last_alive.map_while(|mails| self.ln_quits_after(mails, history.engaged())));
        ln_sum_exp(scratch)
    }
}

#[cfg(test)]
pub(crate) mod tests;
