//! Recognises URLs that belong to Amazon SNS. The domain `amazonaws.com` is not sufficient, because the
//! storage buckets of all customers have host names in it.

/// True for `https://sns.<region>.amazonaws.com[.cn]/SimpleNotificationService-<32 hex digits>.pem`
/// and nothing else.
pub(super) fn is_certificate(url: &str) -> bool {
    let digits = after_host(url)
        .and_then(|path| path.strip_prefix("SimpleNotificationService-"))
        .and_then(|name| name.strip_suffix(".pem"));
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// True for `https://sns.<region>.amazonaws.com[.cn]/?Action=ConfirmSubscription…`.
pub(super) fn is_confirmation(url: &str) -> bool {
    after_host(url).is_some_and(|path| {
        path.starts_with("?Action=ConfirmSubscription&")
            && path.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Returns the part of the URL after `https://<host of SNS>/`. The URL must not contain a user or a port.
fn after_host(url: &str) -> Option<&str> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let name = host.strip_suffix(".cn").unwrap_or(host);
    let region = name.strip_prefix("sns.")?.strip_suffix(".amazonaws.com")?;
    let is_region =
        region.len() >= 3 && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_region.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sns_itself_serves_certificates() {
        let name = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
        for host in ["sns.eu-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"] {
            assert!(is_certificate(&format!("https://{host}/{name}")), "{host}");
        }
        for url in [
            format!("http://sns.eu-west-1.amazonaws.com/{name}"),
            format!("HTTPS://sns.eu-west-1.amazonaws.com/{name}"),
            format!("https://sns.eu-west-1.amazonaws.com:443/{name}"),
            format!("https://sns.eu-west-1.amazonaws.com@evil.test/{name}"),
            format!("https://user@sns.eu-west-1.amazonaws.com/{name}"),
            format!("https://sns.eu-west-1.amazonaws.com.evil.test/{name}"),
            format!("https://evil.test/sns.eu-west-1.amazonaws.com/{name}"),
            format!("https://bucket.s3.amazonaws.com/{name}"),
            format!("https://sns.s3.eu-west-1.amazonaws.com/{name}"),
            format!("https://sns.a.amazonaws.com/{name}"),
            format!("https://sns.amazonaws.com/{name}"),
            format!("https://xsns.eu-west-1.amazonaws.com/{name}"),
            format!("https://sns.eu-west-1.amazonaws.com/x/{name}"),
            format!("https://sns.eu-west-1.amazonaws.com/{name}?x"),
            format!("https://sns.eu-west-1.amazonaws.com/{name}#x"),
            format!("https://sns.eu-west-1.amazonaws.com/{}", name.to_ascii_uppercase()),
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-12.pem".to_owned(),
            format!("https://sns.eu-west-1.amazonaws.com\n/{name}"),
            String::new(),
        ] {
            assert!(!is_certificate(&url), "{url}");
        }
    }

    #[test]
    fn only_sns_itself_is_confirmed_to() {
        let query = "?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:t&Token=2336";
        assert!(is_confirmation(&format!("https://sns.eu-west-1.amazonaws.com/{query}")));
        assert!(!is_confirmation(&format!("https://169.254.169.254/{query}")));
        assert!(!is_confirmation(&format!("https://sns.eu-west-1.amazonaws.com/{query} x")));
        assert!(!is_confirmation("https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&a=b"));
    }
}
