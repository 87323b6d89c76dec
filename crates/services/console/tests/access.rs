//! `[console]`: who may see what must be decided, and errors name the key and the fix.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use console::settings::ConsoleSettings;
use service::Settings;

fn settings(file: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailpulse.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(Some(&path), std::iter::empty()).unwrap()
}

fn error(file: &str) -> String {
    let settings = settings(file);
    match ConsoleSettings::read(&settings) {
        Err(error) => error.to_string(),
        Ok(own) => own.access(&settings).map(drop).unwrap_err().to_string(),
    }
}

const TOKEN: &str =
    "tokens = [{ name = \"team\", role = \"viewer\", secret = \"sixteen-bytes-xy\" }]\n";

#[test]
fn nobody_is_let_in_by_default() {
    let error = error("");
    assert!(error.contains("`console.tokens`") && error.contains("console.open = true"), "{error}");
}

#[test]
fn an_open_console_listens_on_this_machine_only() {
    let open = settings("[console]\nopen = true\n");
    assert!(ConsoleSettings::read(&open).unwrap().access(&open).unwrap().is_open());
    let error = error("[console]\nopen = true\nlisten = \"0.0.0.0:9180\"\n");
    assert!(error.contains("`console.open`") && error.contains("127.0.0.1"), "{error}");
}

#[test]
fn an_open_console_has_no_other_way_in() {
    for (keys, other) in [
        (TOKEN, "console.tokens"),
        ("https = true\n", "console.https"),
        (
            "[console.proxy]\nnetworks = [\"10.0.0.0/8\"]\nuser_header = \"x-user\"\n",
            "console.proxy",
        ),
        ("[console.proxy]\nnetworks = [\"127.0.0.1/32\"]\n", "console.proxy"),
    ] {
        let error = error(&format!("[console]\nopen = true\n{keys}"));
        assert!(error.contains("`console.open`") && error.contains(other), "{keys}: {error}");
    }
}

#[test]
fn the_proxy_has_no_limit_of_connections() {
    let with = |file| ConsoleSettings::read(&settings(file)).unwrap().connections().proxies;
    assert!(with("").is_empty());
    let networks = "[console.proxy]\nnetworks = [\"10.0.0.0/8\"]\n";
    assert_eq!(with(networks), ["10.0.0.0/8".parse().unwrap()], "without a header, too");
}

#[test]
fn tokens_and_a_proxy_are_accepted() {
    let file = format!(
        "[console]\nlisten = \"0.0.0.0:9180\"\n{TOKEN}[console.proxy]\nnetworks = [\"10.0.0.0/8\"]\n\
         user_header = \"x-forwarded-user\"\nrole_header = \"x-forwarded-role\"\n"
    );
    let settings = settings(&file);
    let own = ConsoleSettings::read(&settings).unwrap();
    assert!(!own.access(&settings).unwrap().is_open());
    assert!(own.store(&settings).is_ok());
    assert_eq!((own.admin.port(), own.listen.port(), own.max_live), (9108, 9180, 100));
    assert!(!ConsoleSettings::rules(&settings).unwrap().rules().is_empty());
    assert_eq!(ConsoleSettings::pages(&settings).unwrap().dashboard_url, "");
}

#[test]
fn errors_name_the_key() {
    let token = |text: &str, with: &str| format!("[console]\n{}", TOKEN.replace(text, with));
    let proxy = |keys: &str| format!("[console.proxy]\n{keys}");
    for (file, key) in [
        (token("sixteen-bytes-xy", "short"), "`console.tokens[0].secret`"),
        (token("\"team\"", "\"a b\""), "`console.tokens[0].name`"),
        (token("viewer", "admin"), "`console.tokens[0].role`"),
        (
            format!(
                "[console]\ntokens = [{0}, {0}]\n",
                TOKEN.trim().trim_start_matches("tokens = [").trim_end_matches(']')
            ),
            "`console.tokens[1].name`",
        ),
        (proxy("user_header = \"x-user\"\n"), "`console.proxy.networks`"),
        (proxy("networks = [\"10.0.0.0/33\"]\n"), "`console.proxy.networks[0]`"),
        (
            proxy("networks = [\"10.0.0.0/8\"]\nuser_header = \"x user\"\n"),
            "`console.proxy.user_header`",
        ),
        ("[console]\nmax_live = 0\n".to_owned(), "`console.max_live`"),
        ("[console]\nmax_queries = 0\n".to_owned(), "`console.max_queries`"),
        ("[console]\nquery_timeout = \"10ms\"\n".to_owned(), "`console.query_timeout`"),
        ("[console]\nsession = \"1s\"\n".to_owned(), "`console.session`"),
    ] {
        let error = error(&file);
        assert!(error.contains(key), "{file}: {error}");
    }
}
