//! Reads the metrics of services.

use std::collections::BTreeMap;

/// Returns the sum of a metric over all label sets that contain `label`, from a text in Prometheus's
/// format. An empty `label` selects all.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(label))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

/// Returns the metrics of every service that answers.
pub(crate) async fn all(
    client: &reqwest::Client,
    admins: &BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, String> {
    let mut texts = BTreeMap::new();
    for (&service, address) in admins {
        if let Ok(text) = one(client, address).await {
            texts.insert(service, text);
        }
    }
    texts
}

/// Returns the metrics of a service.
pub(crate) async fn one(client: &reqwest::Client, address: &str) -> reqwest::Result<String> {
    client.get(format!("http://{address}/metrics")).send().await?.text().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP a\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 9\n";
        assert!((sum(text, "a_total", "") - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "a_total", "x=\"2\"") - 3.0).abs() < f64::EPSILON);
    }
}
