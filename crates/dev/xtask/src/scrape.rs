//! Reading a service's `/metrics`.

use std::collections::BTreeMap;

/// The sum of a counter over all label sets that contain `label` (any when empty), in the text
/// form of Prometheus.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(label))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

/// What the services say of themselves, by job; a service that does not answer is left out.
pub(crate) async fn all(
    client: &reqwest::Client,
    admins: &BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, String> {
    let mut texts = BTreeMap::new();
    for (&job, address) in admins {
        if let Ok(text) = one(client, address).await {
            texts.insert(job, text);
        }
    }
    texts
}

/// What one service says of itself.
pub(crate) async fn one(client: &reqwest::Client, address: &str) -> reqwest::Result<String> {
    client.get(format!("http://{address}/metrics")).send().await?.text().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_one_metric_over_its_labels() {
        let text = "# HELP a\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 9\n";
        assert!((sum(text, "a_total", "") - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "a_total", "x=\"2\"") - 3.0).abs() < f64::EPSILON);
    }
}
