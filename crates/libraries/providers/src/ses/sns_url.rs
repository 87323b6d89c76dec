//! Recognises URLs that belong to Amazon SNS. The domain `amazonaws.com` is not sufficient, because the
//! storage buckets of all customers have host names in it: `sns.s3-eu-west-1.amazonaws.com` was a form
//! of the bucket `sns`. The region must therefore be the region of a topic that the source accepts.

/// A partition of AWS: regions that have their own domain.
struct Partition {
    /// The second part of every ARN in the partition.
    name: &'static str,
    /// The domain of its services.
    suffix: &'static str,
    /// The starts of the names of its regions.
    regions: &'static [&'static str],
}

/// The partitions, from the endpoint data of Amazon's SDKs. A new region needs no change unless its
/// name begins with a new prefix.
#[rustfmt::skip]
const PARTITIONS: &[Partition] = &[
    Partition { name: "aws",        suffix: "amazonaws.com",
        regions: &["af-", "ap-", "ca-", "eu-", "il-", "me-", "mx-", "sa-", "us-"] },
    Partition { name: "aws-cn",     suffix: "amazonaws.com.cn", regions: &["cn-"] },
    Partition { name: "aws-us-gov", suffix: "amazonaws.com",    regions: &["us-gov-"] },
    Partition { name: "aws-eusc",   suffix: "amazonaws.eu",     regions: &["eusc-"] },
    Partition { name: "aws-iso",    suffix: "c2s.ic.gov",       regions: &["us-iso-"] },
    Partition { name: "aws-iso-b",  suffix: "sc2s.sgov.gov",    regions: &["us-isob-"] },
    Partition { name: "aws-iso-e",  suffix: "cloud.adc-e.uk",   regions: &["eu-isoe-"] },
    Partition { name: "aws-iso-f",  suffix: "csp.hci.ic.gov",   regions: &["us-isof-"] },
];

/// True for `https://sns.<region>.<suffix>/SimpleNotificationService-<32 hex digits>.pem` and nothing
/// else, where region and suffix are those of one of the topics.
pub(super) fn is_certificate<'t>(url: &str, topics: impl IntoIterator<Item = &'t str>) -> bool {
    let is_name = |path: &str| {
        let digits = path.strip_prefix("SimpleNotificationService-");
        digits.and_then(|name| name.strip_suffix(".pem")).is_some_and(|digits| {
            digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    topics.into_iter().any(|topic| after_host(url, topic).is_some_and(is_name))
}

/// True for `https://sns.<region>.<suffix>/?Action=ConfirmSubscription…`, where region and suffix are
/// those of the topic.
pub(super) fn is_confirmation(url: &str, topic: &str) -> bool {
    after_host(url, topic).is_some_and(|path| {
        path.starts_with("?Action=ConfirmSubscription&")
            && path.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Returns the part of the URL after `https://<host of SNS in the topic's region>/`. The URL must not
/// contain a user or a port.
fn after_host<'u>(url: &'u str, topic: &str) -> Option<&'u str> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let (region, suffix) = region(topic)?;
    let named = host.strip_prefix("sns.")?.strip_suffix(suffix)?.strip_suffix('.')?;
    (named == region).then_some(path)
}

/// Returns the region of a TopicArn, `arn:<partition>:sns:<region>:<account>:<name>`, and the domain of
/// its partition.
fn region(topic: &str) -> Option<(&str, &'static str)> {
    let mut parts = topic.split(':');
    let (arn, partition, service, region) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let partition = PARTITIONS.iter().find(|known| known.name == partition)?;
    let is_in_partition = partition.regions.iter().any(|prefix| region.starts_with(prefix));
    let is_sns = arn == "arn" && service == "sns";
    (is_sns && is_in_partition && is_region(region)).then_some((region, partition.suffix))
}

/// True for words of letters and then one digit, such as `eu-west-1`.
fn is_region(region: &str) -> bool {
    let words: Vec<&str> = region.split('-').collect();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match words.as_slice() {
        [first, middle @ .., last] => {
            matches!(first.len(), 2 | 4)
                && is_word(first)
                && !middle.is_empty()
                && middle.iter().all(is_word)
                && last.len() == 1
                && last.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
    const IRELAND: &str = "arn:aws:sns:eu-west-1:123456789012:events";

    #[test]
    fn every_partition_has_its_domain() {
        let topics = [
            ("arn:aws:sns:eu-west-1:1:t", "sns.eu-west-1.amazonaws.com"),
            ("arn:aws:sns:mx-central-1:1:t", "sns.mx-central-1.amazonaws.com"),
            ("arn:aws-cn:sns:cn-north-1:1:t", "sns.cn-north-1.amazonaws.com.cn"),
            ("arn:aws-us-gov:sns:us-gov-west-1:1:t", "sns.us-gov-west-1.amazonaws.com"),
            ("arn:aws-eusc:sns:eusc-de-east-1:1:t", "sns.eusc-de-east-1.amazonaws.eu"),
            ("arn:aws-iso:sns:us-iso-east-1:1:t", "sns.us-iso-east-1.c2s.ic.gov"),
            ("arn:aws-iso-b:sns:us-isob-east-1:1:t", "sns.us-isob-east-1.sc2s.sgov.gov"),
            ("arn:aws-iso-e:sns:eu-isoe-west-1:1:t", "sns.eu-isoe-west-1.cloud.adc-e.uk"),
            ("arn:aws-iso-f:sns:us-isof-south-1:1:t", "sns.us-isof-south-1.csp.hci.ic.gov"),
        ];
        let partitions: std::collections::BTreeSet<_> =
            topics.iter().filter_map(|(topic, _)| topic.split(':').nth(1)).collect();
        assert_eq!(partitions.len(), PARTITIONS.len());
        for (topic, host) in topics {
            for (other, _) in topics {
                let url = format!("https://{host}/{NAME}");
                assert_eq!(is_certificate(&url, [other]), topic == other, "{host} {other}");
            }
        }
        let all = topics.map(|(topic, _)| topic);
        assert!(is_certificate(&format!("https://sns.cn-north-1.amazonaws.com.cn/{NAME}"), all));
    }

    #[test]
    fn only_sns_itself_serves_certificates() {
        assert!(is_certificate(&format!("https://sns.eu-west-1.amazonaws.com/{NAME}"), [IRELAND]));
        for url in [
            format!("http://sns.eu-west-1.amazonaws.com/{NAME}"),
            format!("HTTPS://sns.eu-west-1.amazonaws.com/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com:443/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com@evil.test/{NAME}"),
            format!("https://user@sns.eu-west-1.amazonaws.com/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com.evil.test/{NAME}"),
            format!("https://evil.test/sns.eu-west-1.amazonaws.com/{NAME}"),
            format!("https://bucket.s3.amazonaws.com/{NAME}"),
            format!("https://sns.s3.eu-west-1.amazonaws.com/{NAME}"),
            format!("https://sns.s3-eu-west-1.amazonaws.com/{NAME}"),
            format!("https://sns.a.amazonaws.com/{NAME}"),
            format!("https://sns.amazonaws.com/{NAME}"),
            format!("https://xsns.eu-west-1.amazonaws.com/{NAME}"),
            format!("https://sns.eu-west-2.amazonaws.com/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com.cn/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.eu/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com/x/{NAME}"),
            format!("https://sns.eu-west-1.amazonaws.com/{NAME}?x"),
            format!("https://sns.eu-west-1.amazonaws.com/{NAME}#x"),
            format!("https://sns.eu-west-1.amazonaws.com/{}", NAME.to_ascii_uppercase()),
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-12.pem".to_owned(),
            format!("https://sns.eu-west-1.amazonaws.com\n/{NAME}"),
            String::new(),
        ] {
            assert!(!is_certificate(&url, [IRELAND]), "{url}");
        }
    }

    /// A topic of the settings, too, cannot make a bucket a host of SNS.
    #[test]
    fn a_region_is_words_and_a_digit() {
        for region in ["s3-eu-west-1", "eu-1", "eu--west-1", "eu-west-", "eu-west-12", "eu-west-a"]
        {
            let topic = format!("arn:aws:sns:{region}:1:t");
            let url = format!("https://sns.{region}.amazonaws.com/{NAME}");
            assert!(!is_certificate(&url, [topic.as_str()]), "{region}");
        }
        for region in ["eu-west-1", "us-gov-west-1", "eusc-de-east-1", "ap-southeast-7"] {
            assert!(is_region(region), "{region}");
        }
    }

    #[test]
    fn only_sns_itself_is_confirmed_to() {
        let query = "?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:t&Token=2336";
        let is_confirmation = |url: &str| super::is_confirmation(url, IRELAND);
        assert!(is_confirmation(&format!("https://sns.eu-west-1.amazonaws.com/{query}")));
        assert!(!is_confirmation(&format!("https://sns.eu-west-2.amazonaws.com/{query}")));
        assert!(!is_confirmation(&format!("https://169.254.169.254/{query}")));
        assert!(!is_confirmation(&format!("https://sns.eu-west-1.amazonaws.com/{query} x")));
        assert!(!is_confirmation("https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&a=b"));
    }
}
