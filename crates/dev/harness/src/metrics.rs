//! Metrics in Prometheus' text format.

/// A scrape of one service.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Takes the body of a `/metrics` response.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the sum of all samples of `name` whose labels contain the given ones, and `None` if
    /// there is no such sample.
    ///
    /// # Panics
    /// If a sample has no number.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self
            .0
            .lines()
            .filter_map(sample)
            .filter(|sample| sample.name == name && sample.has(labels))
            .map(|sample| sample.value)
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Returns how many samples of `name` have the given labels and this value.
    pub fn count(&self, name: &str, labels: &[(&str, &str)], value: f64) -> usize {
        let samples = self.0.lines().filter_map(sample);
        samples.filter(|s| s.name == name && s.has(labels) && s.value == value).count()
    }
}

struct Sample<'m> {
    name: &'m str,
    labels: &'m str,
    value: f64,
}

impl Sample<'_> {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| {
            let label = format!("{name}=\"{value}\"");
            // The character before a label's name ends another label, or begins the labels.
            self.labels
                .match_indices(&label)
                .any(|(at, _)| at == 0 || self.labels.as_bytes()[at - 1] == b',')
        })
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().unwrap_or_else(|_| panic!("no number in the sample {line}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}')),
        None => (series, ""),
    };
    Some(Sample { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_given() {
        let metrics = Metrics::new(
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{topic=\"x\",stage=\"s\"} 1\n\
             a_total{topic=\"y\",stage=\"s\"} 2.5\na_total_other 7\nheld{subtopic=\"x\"} 1\n\
             held{topic=\"x y\"} 0\nup 1\n"
                .to_owned(),
        );
        assert_eq!(metrics.get("a_total", &[]), Some(3.5));
        assert_eq!(metrics.get("a_total", &[("stage", "s"), ("topic", "y")]), Some(2.5));
        assert_eq!(metrics.get("a_total", &[("topic", "z")]), None);
        assert_eq!(metrics.get("up", &[]), Some(1.0));
        assert_eq!(metrics.get("held", &[("topic", "x")]), None, "subtopic is another label");
        assert_eq!(metrics.get("held", &[("topic", "x y")]), Some(0.0));
        assert_eq!(metrics.count("a_total", &[("stage", "s")], 1.0), 1);
    }
}
