//! `mailpulse sign`: its output, its keys, and the options of every scheme.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tool::{AT, Output, Tool, replaced};

/// Signs the file `body` and verifies the result, both with these options.
fn round_trip(tool: &Tool, provider: &str, keys: [&str; 2], options: &[&str]) -> Output {
    let [private, public] = keys;
    let sign = ["sign", "--provider", provider, "--secret-file", private, "--at", AT, "body"];
    let request = tool.run(&[&sign[..], options].concat());
    assert_eq!(request.code, 0, "{request:?}");
    let verify = ["verify", "--provider", provider, "--secret-file", public, "--at", AT, "-"];
    let options: Vec<&str> = options.iter().copied().filter(|option| *option != "--curl").collect();
    let output = tool.run_with(&[&verify[..], &options].concat(), &request.out);
    assert_eq!(output.code, 0, "{}: {output:?}", request.text);
    request
}

#[test]
fn a_generic_scheme_is_signed_as_configured() {
    let tool = Tool::new();
    tool.write("body", b"{\"event\":\"opened\"}\r\n\xff");
    tool.write("key", "c2VjcmV0\n");
    let templates: [&[&str]; 5] = [
        &[],
        &["--signed", "body", "--prefix", "", "--algorithm", "sha1", "--header", "X-Hub-Signature"],
        &["--signed", "v0:{timestamp}:{body}", "--prefix", "v0=", "--timestamp-header", "X-Time"],
        &[
            "--signed",
            "{id}.{timestamp}.{body}",
            "--id-header",
            "X-Id",
            "--timestamp-unit",
            "milliseconds",
        ],
        &["--encoding", "base64", "--secret-encoding", "base64", "--algorithm", "sha512"],
    ];
    for options in templates {
        let request = round_trip(&tool, "generic", ["key", "key"], options);
        assert!(request.out.ends_with(b"{\"event\":\"opened\"}\r\n\xff"), "{request:?}");
    }
}

#[test]
fn ses_signs_both_versions_and_any_message() {
    let tool = Tool::new();
    let made = tool.run(&["sign", "--provider", "ses", "--generate-key", "k"]);
    assert_eq!((made.code, &*made.text), (0, ""), "{made:?}");
    let keys = ["k/ses-private-key.pem", "k/ses-certificate.pem"];
    for body in [
        "{\"eventType\":\"Send\"}\n",
        "Successfully validated SNS topic for Amazon SES event publishing.",
        "{\"Type\":\"SubscriptionConfirmation\",\"MessageId\":\"1\",\"Token\":\"t\",\
         \"TopicArn\":\"arn:aws:sns:eu-west-1:123456789012:x\",\"Message\":\"m\",\
         \"SubscribeURL\":\"https://sns.eu-west-1.amazonaws.com/?x\",\"Timestamp\":\"2026-11-21T10:00:00.000Z\"}",
    ] {
        tool.write("body", body);
        for version in ["1", "2"] {
            let request = round_trip(&tool, "ses", keys, &["--signature-version", version]);
            let field = format!("\"SignatureVersion\" : \"{version}\"");
            assert!(request.text.contains(&field), "{request:?}");
        }
    }
    let of_topic =
        round_trip(&tool, "ses", keys, &["--topic", "arn:aws:sns:eu-west-1:123456789012:x"]);
    assert!(of_topic.text.contains("\"TopicArn\" : \"arn:aws:sns:eu-west-1:123456789012:x\""));
}

/// The body is put into an envelope, or its old signature is replaced.
#[test]
fn envelopes_get_a_new_signature() {
    let tool = Tool::new();
    tool.write("key", "key");
    let event =
        "{\"event\":\"opened\",\"recipient\":\"ada@example.com\",\"timestamp\":1795255200.5}";
    let form = "event=opened&recipient=ada%40example.com&timestamp=1&token=old&signature=old";
    for body in
        [event, &format!("{{\"signature\":{{\"token\":\"old\"}},\"event-data\":{event}}}"), form]
    {
        tool.write("body", body);
        let request = round_trip(&tool, "mailgun", ["key", "key"], &[]);
        assert!(!request.text.contains("old"), "{request:?}");
        assert!(request.text.contains("opened"), "{request:?}");
    }
    let url = ["--url", "https://hooks.example.com:8443/m?x=1"];
    for body in ["[{\"event\":\"open\"}]", "mandrill_events=%5B%7B%22event%22%3A%22open%22%7D%5D"] {
        tool.write("body", body);
        let request = round_trip(&tool, "mandrill", ["key", "key"], &url);
        assert!(
            request.text.starts_with("POST /m?x=1 HTTP/1.1\r\nhost: hooks.example.com:8443\r\n")
        );
        assert!(request.text.ends_with("mandrill_events=%5B%7B%22event%22%3A%22open%22%7D%5D"));
    }
}

#[test]
fn keys_made_by_openssl_are_accepted() {
    let tool = Tool::new();
    tool.write("body", "{}");
    let script = "openssl ecparam -name prime256v1 -genkey -out ec.pem && \
        openssl ec -in ec.pem -pubout -outform DER | base64 -w0 > ec.txt && \
        openssl ec -in ec.pem -pubout -out ec.pub && \
        openssl genrsa -traditional -out rsa.pem 2048 && \
        openssl rsa -in rsa.pem -pubout -out rsa.pub && \
        openssl genpkey -algorithm ed25519 -out ed.pem";
    let made = Command::new("sh").arg("-c").arg(script).current_dir(tool.path(".")).output();
    let Ok(made) = made else { return };
    if !made.status.success() {
        return;
    }
    round_trip(&tool, "sendgrid", ["ec.pem", "ec.txt"], &[]);
    round_trip(&tool, "sendgrid", ["ec.pem", "ec.pub"], &[]);
    round_trip(&tool, "postal", ["rsa.pem", "rsa.pub"], &[]);
    let output =
        tool.run(&["sign", "--provider", "svix", "--secret-file", "ed.pem", "--at", AT, "body"]);
    assert!(output.text.contains("webhook-signature: v1a,"), "{output:?}");
}

#[test]
fn fresh_keys_are_private_and_never_overwritten() {
    let tool = Tool::new();
    for provider in testkit::PROVIDERS {
        let generate =
            || tool.run(&["sign", "--provider", provider.as_str(), "--generate-key", "keys"]);
        let first = generate();
        assert_eq!((first.code, &*first.text), (0, ""), "{provider}: {first:?}");
        let mut signing = 0;
        for line in first.err.lines() {
            let (file, what) = line.split_once(' ').unwrap();
            let mode = tool.path(file).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if what == "signs" { 0o600 } else { 0o644 }, "{line}");
            signing += usize::from(what == "signs");
        }
        assert!(signing > 0, "{first:?}");
        let again = generate();
        assert_eq!(again.code, 2, "{provider}: {again:?}");
    }
}

/// A shell and a real curl run the command, if curl is installed, and the received request is verified.
#[test]
fn the_curl_command_sends_every_byte() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let tool = Tool::new();
    tool.write(
        "body",
        "{\"text\":\"it's 100% $HOME \\\\ `x`\",\r\n \"email\":\"ä@example.com\"}\n\n",
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/resend/app?x=1", listener.local_addr().unwrap());
    let generated = tool.run(&["sign", "--provider", "resend", "--generate-key", "keys"]);
    assert_eq!(generated.code, 0, "{generated:?}");
    let secret = "keys/resend-secret.txt";
    let command = tool.run(&[
        "sign",
        "--provider",
        "resend",
        "--secret-file",
        secret,
        "--at",
        AT,
        "--url",
        &url,
        "--curl",
        "body",
    ]);
    assert_eq!(command.code, 0, "{command:?}");
    let script = command.text.replace("curl ", "curl --silent --noproxy '*' ");
    let shell = std::thread::spawn(move || Command::new("sh").arg("-c").arg(script).output());
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let end = "\"ä@example.com\"}\n\n".as_bytes();
    while !request.ends_with(end) {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert!(shell.join().unwrap().unwrap().status.success());
    let output = tool.run_with(
        &["verify", "--provider", "resend", "--secret-file", secret, "--at", AT, "-"],
        &request,
    );
    assert_eq!(output.code, 0, "{output:?}");
    let other = replaced(&request, "it's", "it is");
    let output = tool.run_with(
        &["verify", "--provider", "resend", "--secret-file", secret, "--at", AT, "-"],
        &other,
    );
    assert_eq!(output.code, 1, "{output:?}");
}

#[test]
fn unusable_arguments_exit_with_2() {
    let tool = Tool::new();
    tool.write("key", "key");
    tool.write("empty", "");
    tool.write("binary", b"\xff");
    tool.write("zero", b"\0");
    tool.write("body", "{}");
    let cases: [(&[&str], &str); 12] = [
        (&["--provider", "mailgun", "body"], "--secret-file"),
        (&["--provider", "mailgun", "--secret-file", "key"], "BODY"),
        (&["--provider", "mailgun", "--secret-file", "key", "absent"], "cannot be read"),
        (&["--provider", "mailgun", "--secret-file", "key", "binary"], "UTF-8"),
        (&["--provider", "mandrill", "--secret-file", "key", "body"], "--url"),
        (&["--provider", "sendgrid", "--secret-file", "key", "body"], "P-256"),
        (&["--provider", "postal", "--secret-file", "key", "body"], "RSA"),
        (&["--provider", "resend", "--secret-file", "empty", "body"], "whsec_"),
        (&["--provider", "postmark", "--secret-file", "key", "body"], "user:password"),
        (&["--provider", "generic", "--secret-file", "empty", "body"], "no text"),
        (
            &["--provider", "generic", "--secret-file", "key", "--signed", "{what}", "body"],
            "{body}",
        ),
        (&["--provider", "mailersend", "--secret-file", "key", "--curl", "zero"], "zero byte"),
    ];
    for (arguments, word) in cases {
        let output = tool.run(&[&["sign"], arguments].concat());
        assert_eq!((output.code, &*output.text), (2, ""), "{arguments:?}: {output:?}");
        assert!(output.err.contains(word), "{arguments:?}: {output:?}");
    }
}

#[test]
fn help_shows_an_example_for_each_verb_and_completions_know_them() {
    let tool = Tool::new();
    for verb in ["verify", "parse", "sign"] {
        let output = tool.run(&[verb, "--help"]);
        assert!(output.text.contains(&format!("  mailpulse {verb} --provider ")), "{output:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = tool.run(&["completions", shell]);
        assert_eq!(output.code, 0);
        for word in ["verify", "secret-file", "standardwebhooks"] {
            assert!(output.text.contains(word), "{shell}: {word}");
        }
    }
}
