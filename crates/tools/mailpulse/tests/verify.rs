//! `mailpulse verify` on requests of every provider that `mailpulse sign` has made.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use event::Provider;
use tool::{AT, Tool, URL, replaced, verifying_key};

/// Changes one byte of what the provider authenticates: of the event, or of what else is signed if the
/// signature does not cover the event.
fn forged(provider: Provider, request: &[u8]) -> Vec<u8> {
    let (from, to) = match provider {
        Provider::Mailgun => return with_other_token(request),
        Provider::Postmark | Provider::SparkPost => {
            ("authorization: Basic c", "authorization: Basic d")
        }
        Provider::Brevo => ("authorization: Bearer ", "authorization: Bearer\t"),
        Provider::Mailjet => return with_longer_header(request),
        Provider::Mandrill => ("ada%40example.com", "eda%40example.com"),
        _ => ("ada@example.com", "eda@example.com"),
    };
    replaced(request, from, to)
}

fn with_other_token(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (_, rest) = text.split_once("\"token\":\"").unwrap();
    let first = &rest[..1];
    let other = if first == "0" { "1" } else { "0" };
    replaced(request, &format!("\"token\":\"{first}"), &format!("\"token\":\"{other}"))
}

fn with_longer_header(request: &[u8]) -> Vec<u8> {
    replaced(request, "x-webhook-key: ", "x-webhook-key: x")
}

#[test]
fn only_the_request_that_sign_has_made_is_authentic() {
    let tool = Tool::new();
    for provider in testkit::PROVIDERS {
        let request = tool.signed(provider);
        let authentic = tool.verify(provider, AT, &request);
        assert_eq!(authentic.code, 0, "{provider}: {authentic:?}");
        let verdict = authentic.text.lines().last().unwrap();
        assert_eq!(verdict, format!("authentic: by {}", verifying_key(provider)), "{provider}");

        let not = tool.verify(provider, AT, &forged(provider, &request));
        assert_eq!(not.code, 1, "{provider}: {not:?}");
        assert!(not.text.lines().last().unwrap().starts_with("not authentic: "), "{not:?}");
        assert!(not.text.contains("\nfailed "), "{provider}: {not:?}");

        let cut = tool.verify(provider, AT, &request[..20]);
        assert_eq!((cut.code, &*cut.text), (2, ""), "{provider}: {cut:?}");
    }
}

#[test]
fn the_report_has_every_step() {
    let tool = Tool::new();
    let request = tool.signed(Provider::SendGrid);
    let body = request.len() - request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4;
    let output = tool.verify(Provider::SendGrid, "2026-11-21T10:00:07Z", &request);
    assert_eq!(output.code, 0, "{output:?}");
    let line = |start: &str| {
        let mut lines = output.text.lines().filter(|line| line.starts_with(start));
        lines.next().unwrap_or_else(|| panic!("{start} in {}", output.text))
    };
    assert!(line("request").contains("POST /webhooks/sendgrid/default"));
    assert!(line("body").contains(&format!("{body} bytes, SHA-256 ")));
    assert!(line("passed   timestamp").contains("7 s"), "{}", output.text);
    assert!(line("passed   key").contains("secrets[0]"), "{}", output.text);
    assert!(line("skipped  signed").contains("1795255200[{\\\""), "{}", output.text);
    assert!(line("skipped  address").contains("any address is allowed"), "{}", output.text);
}

#[test]
fn stale_signatures_are_rejected_and_undated_ones_stay_valid() {
    let tool = Tool::new();
    for provider in testkit::PROVIDERS {
        let request = tool.signed(provider);
        let late = tool.verify(provider, "2026-11-25T10:00:00Z", &request);
        let is_dated = matches!(
            provider,
            Provider::SendGrid
                | Provider::Mailgun
                | Provider::Resend
                | Provider::StandardWebhooks
                | Provider::Generic
        );
        assert_eq!(late.code, i32::from(is_dated), "{provider}: {late:?}");
        if is_dated {
            assert!(late.text.contains("not authentic: stale_signature"), "{provider}: {late:?}");
            assert!(late.text.contains("\nfix "), "{provider}: {late:?}");
            let generous = tool.run_with(
                &[
                    "verify",
                    "--provider",
                    provider.as_str(),
                    "--at",
                    "2026-11-25T10:00:00Z",
                    "--secret-file",
                    &verifying_key(provider),
                    "--tolerance",
                    "7d",
                    "-",
                ],
                &request,
            );
            assert_eq!(generous.code, 0, "{provider}: {generous:?}");
        }
    }
}

#[test]
fn a_failure_names_the_fix() {
    let tool = Tool::new();
    let mandrill = tool.signed(Provider::Mandrill);
    let secret = verifying_key(Provider::Mandrill);
    let common = ["verify", "--provider", "mandrill", "--secret-file", &secret, "-"];
    let http = URL.replace("https", "http");
    let output = tool.run_with(&[&common[..], &["--url", &http]].concat(), &mandrill);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(fixes(&output).contains("https://"), "{output:?}");

    let resend = tool.signed(Provider::Resend);
    let with_newline = replaced(&resend, "content-length: ", "x-was: ");
    let with_newline = [&with_newline[..], b"\n"].concat();
    let output = tool.verify(Provider::Resend, AT, &with_newline);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(
        fixes(&output).contains("newline") || fixes(&output).contains("line feed"),
        "{output:?}"
    );
}

fn fixes(output: &tool::Output) -> String {
    output.text.lines().filter(|line| line.starts_with("fix")).collect()
}

#[test]
fn any_of_several_secrets_may_be_valid() {
    let tool = Tool::new();
    let request = tool.signed(Provider::Mailgun);
    let right = verifying_key(Provider::Mailgun);
    let text = std::fs::read_to_string(tool.path(&right)).unwrap();
    tool.write("old.txt", "retired\n");
    tool.write("new.txt", format!("{}\r\n", text.trim_end()));
    let common = ["verify", "--provider", "mailgun", "--at", AT, "-"];
    let with = |files: &[&str]| {
        let files: Vec<&str> = files.iter().flat_map(|file| ["--secret-file", *file]).collect();
        tool.run_with(&[&common[..], &files].concat(), &request)
    };
    let both = with(&["old.txt", "new.txt"]);
    assert_eq!(both.code, 0, "{both:?}");
    assert!(both.text.contains("secrets[1] of 2") && both.text.ends_with("by new.txt\n"));
    assert_eq!(with(&["old.txt"]).code, 1);
    // Standard Webhooks are signed with every key, so either key verifies them.
    let request = tool.signed(Provider::StandardWebhooks);
    let public = "keys-standardwebhooks/standardwebhooks-public-key.txt";
    let common = ["verify", "--provider", "svix", "--at", AT, "--secret-file", public, "-"];
    let output = tool.run_with(&common, &request);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn json_has_the_whole_report() {
    let tool = Tool::new();
    let request = tool.signed(Provider::MailerSend);
    let secret = verifying_key(Provider::MailerSend);
    let arguments = [
        "verify",
        "--provider",
        "mailersend",
        "--secret-file",
        &secret,
        "--at",
        AT,
        "--remote-ip",
        "192.0.2.9",
        "--json",
        "-",
    ];
    let report = |request: &[u8]| -> serde_json::Value {
        let output = tool.run_with(&arguments, request);
        assert_eq!(output.text.lines().count(), 1);
        serde_json::from_str(&output.text).unwrap()
    };
    let authentic = report(&request);
    assert_eq!(authentic["verdict"], "authentic");
    assert_eq!((&authentic["key"], &authentic["secret"]), (&0.into(), &secret.as_str().into()));
    assert_eq!((&authentic["at"], &authentic["remote_ip"]), (&AT.into(), &"192.0.2.9".into()));
    assert_eq!(authentic["body"]["sha256"].as_str().unwrap().len(), 64);
    assert!(authentic["steps"].as_array().unwrap().iter().any(|step| step["name"] == "signed"));

    let forged = report(&replaced(&request, "ada@", "eda@"));
    assert_eq!(
        (&forged["verdict"], &forged["code"]),
        (&"not_authentic".into(), &"wrong_signature".into())
    );
    assert!(forged["fixes"].is_array() && forged["key"].is_null());
}

#[test]
fn addresses_are_checked_where_networks_are_given() {
    let tool = Tool::new();
    tool.write("request.http", "POST /webhooks/postmark HTTP/1.1\nHost: x\n\n{}");
    let with = |ip: &str| {
        let network = ["--allow-ip", "192.0.2.0/24", "--remote-ip", ip];
        let common = ["verify", "--provider", "postmark", "request.http"];
        tool.run(&[&common[..], &network].concat())
    };
    assert_eq!(with("192.0.2.9").code, 0);
    let outside = with("198.51.100.1");
    assert_eq!(outside.code, 1, "{outside:?}");
    assert!(outside.text.contains("address_not_allowed"), "{outside:?}");
}

#[test]
fn a_configured_source_is_verified_with_its_settings() {
    let tool = Tool::new();
    let request = tool.signed(Provider::Mandrill);
    let secret = verifying_key(Provider::Mandrill);
    let toml = format!(
        "[[source]]\nprovider = \"mandrill\"\nname = \"press\"\nsecrets = [\"file:{secret}\"]\n\
         public_url = \"{URL}\"\nrate = 100\nshadow = true\n\n[[source]]\nprovider = \"ses\"\nname = \"press\"\n\
         topics = [\"arn:aws:sns:eu-west-1:123456789012:mail-events\"]\n"
    );
    tool.write("sources.toml", toml);
    let verify = |source: &str, more: &[&str]| {
        let common = [
            "verify",
            "--provider",
            "mandrill",
            "--source",
            source,
            "--config",
            "sources.toml",
            "-",
        ];
        tool.run_with(&[&common[..], more].concat(), &request)
    };
    let output = verify("press", &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.text.lines().last(), Some("authentic: by secrets[0]"));
    assert!(output.text.contains("shadow mode"), "{output:?}");
    assert_eq!(
        verify("press", &["--url", "https://elsewhere.test/"]).code,
        1,
        "an option overrides the setting"
    );
    let unknown = verify("other", &[]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.err.contains("name other is configured"), "{unknown:?}");
}

#[test]
fn ses_is_verified_by_the_given_certificate_and_topic() {
    let tool = Tool::new();
    let request = tool.signed(Provider::Ses);
    let any = tool.verify(Provider::Ses, AT, &request);
    assert!(any.text.contains("any topic is accepted here"), "{any:?}");
    let certificate = verifying_key(Provider::Ses);
    let common = ["verify", "--provider", "ses", "--secret-file", &certificate, "-"];
    let topic = |arn: &str| tool.run_with(&[&common[..], &["--topic", arn]].concat(), &request);
    assert_eq!(topic("arn:aws:sns:eu-west-1:123456789012:mail-events").code, 0);
    let other = topic("arn:aws:sns:eu-west-1:123456789012:others");
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.text.contains("topic_not_allowed"), "{other:?}");

    let without = tool.run_with(&["verify", "--provider", "sns", "-"], &request);
    assert_eq!(without.code, 2, "{without:?}");
    assert!(without.err.contains("not downloaded here"), "{without:?}");
    assert!(without.err.contains("curl -o sns.pem 'https://sns."), "{without:?}");
}

#[test]
fn unusable_arguments_exit_with_2_and_the_reason() {
    let tool = Tool::new();
    tool.write("key.txt", "key\n");
    tool.write("empty.txt", "\n");
    tool.write("binary.txt", b"\xff\xfe");
    tool.write("request.http", "POST /webhooks/mailgun/shop HTTP/1.1\nHost: a.test\n\n{}");
    tool.write("body.json", "{\"event\":\"delivered\"}");
    let cases: [(&[&str], &str); 13] = [
        (
            &["--provider", "mailgun", "--secret-file", "key.txt", "body.json"],
            "not an HTTP request",
        ),
        (&["--provider", "mailgun", "--secret-file", "key.txt", "-"], "the input is empty"),
        (&["--provider", "mailgun", "--secret-file", "key.txt", "absent.http"], "cannot be read"),
        (
            &["--provider", "mailgun", "--secret-file", "absent.txt", "request.http"],
            "cannot be read",
        ),
        (&["--provider", "fax", "--secret-file", "key.txt", "request.http"], "fax"),
        (&["--provider", "mailgun", "request.http"], "needs a secret"),
        (&["--provider", "mailgun", "--secret-file", "empty.txt", "request.http"], "empty.txt"),
        (&["--provider", "mailgun", "--secret-file", "binary.txt", "request.http"], "is not text"),
        (&["--provider", "sendgrid", "--secret-file", "key.txt", "request.http"], "in key.txt"),
        (&["--provider", "mandrill", "--secret-file", "key.txt", "request.http"], "--url"),
        (
            &[
                "--provider",
                "generic",
                "--secret-file",
                "key.txt",
                "--signed",
                "{x}",
                "request.http",
            ],
            "{body}",
        ),
        (
            &["--provider", "mailgun", "--secret-file", "key.txt", "--at", "soon", "request.http"],
            "unix seconds",
        ),
        (&["--provider", "mailgun", "--secret-file", "key.txt"], "REQUEST"),
    ];
    for (arguments, word) in cases {
        let output = tool.run(&[&["verify"], arguments].concat());
        assert_eq!((output.code, &*output.text), (2, ""), "{arguments:?}: {output:?}");
        assert!(output.err.contains(word), "{arguments:?}: {output:?}");
    }
}

#[test]
fn options_without_effect_are_notes() {
    let tool = Tool::new();
    let request = tool.signed(Provider::Postal);
    let secret = verifying_key(Provider::Postal);
    let output = tool.run_with(
        &[
            "verify",
            "--provider",
            "postal",
            "--secret-file",
            &secret,
            "--url",
            URL,
            "--tolerance",
            "60",
            "-",
        ],
        &request,
    );
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.text.matches("\nnote ").count(), 2, "{output:?}");
    let put = replaced(&request, "POST /", "PUT /");
    let output = tool.verify(Provider::Postal, AT, &put);
    assert_eq!((output.code, output.text.matches("\nnote ").count()), (0, 1), "{output:?}");
    assert!(output.text.contains("the ingress accepts POST, not PUT"), "{output:?}");
    let mailgun = tool.signed(Provider::Mailgun);
    let output = tool.verify(Provider::Mailgun, AT, &mailgun);
    assert!(output.text.contains("rejects another event with the same signature"), "{output:?}");
}
