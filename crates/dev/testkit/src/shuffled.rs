use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Returns items from a list in random order and shuffles the list again at its end. The shares
/// are exact: independent random numbers would, with some seeds, cause an alert by themselves.
pub(crate) struct Shuffled<T> {
    items: Vec<T>,
    left: usize,
}

impl<T: Copy> Shuffled<T> {
    /// Takes the count of each item. At least one count must be above 0.
    pub(crate) fn new(counts: &[(usize, T)]) -> Self {
        let items = counts.iter().flat_map(|&(n, item)| std::iter::repeat_n(item, n)).collect();
        Self { items, left: 0 }
    }

    pub(crate) fn next(&mut self, rng: &mut StdRng) -> T {
        if self.left == 0 {
            self.items.shuffle(rng);
            self.left = self.items.len();
        }
        self.left -= 1;
        self.items[self.left]
    }
}

impl Shuffled<bool> {
    /// Returns true for this share (0 to 1, rounded to 1/200) of the items.
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
        let mut shuffled = Shuffled::share(0.05);
        let yes = (0..400).filter(|_| shuffled.next(&mut rng)).count();
        assert_eq!(yes, 20);
    }
}
