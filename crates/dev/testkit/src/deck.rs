use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Draws from a fixed hand of cards, shuffled anew whenever it has run out: random order, exact
/// shares. A coin thrown per message would, with some seed, throw a bounce storm of its own.
pub(crate) struct Deck<T> {
    cards: Vec<T>,
    left: usize,
}

impl<T: Copy> Deck<T> {
    /// A deck with `count` of each card.
    ///
    /// An empty hand cannot be drawn from; every caller names its cards.
    pub(crate) fn new(hand: &[(usize, T)]) -> Self {
        let cards = hand.iter().flat_map(|&(n, card)| std::iter::repeat_n(card, n)).collect();
        Self { cards, left: 0 }
    }

    pub(crate) fn draw(&mut self, rng: &mut StdRng) -> T {
        if self.left == 0 {
            self.cards.shuffle(rng);
            self.left = self.cards.len();
        }
        self.left -= 1;
        self.cards[self.left]
    }
}

impl Deck<bool> {
    /// A deck in which `share` (0 to 1, to the nearest 1/200) of the cards say yes.
    pub(crate) fn share(share: f64) -> Self {
        let yes = (share.clamp(0.0, 1.0) * 200.0).round() as usize;
        Self::new(&[(yes, true), (200 - yes, false)])
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn shares_are_exact() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut deck = Deck::share(0.05);
        let yes = (0..400).filter(|_| deck.draw(&mut rng)).count();
        assert_eq!(yes, 20);
    }
}
