//! Bodies whose addresses are replaced by pseudonyms. The first byte is ignored: bodies have the same
//! seeds as `split`.

use std::sync::LazyLock;

use privacy::Pseudonymizer;

static PSEUDONYMIZER: LazyLock<Option<Pseudonymizer>> =
    LazyLock::new(|| Pseudonymizer::new(b"a key of the fuzz targets").ok());

/// Checks that a rewritten body is the same every time, and that JSON is still JSON.
pub fn check(data: &[u8]) {
    let Some((_, body)) = data.split_first() else { return };
    let pseudonymizer = PSEUDONYMIZER.as_ref().expect("the key is long enough");
    let rewritten = pseudonymizer.rewrite_body(body);
    assert_eq!(rewritten, pseudonymizer.rewrite_body(body));
    let is_json = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
    };
    assert!(!is_json(body) || is_json(&rewritten), "JSON is JSON no longer");
}
