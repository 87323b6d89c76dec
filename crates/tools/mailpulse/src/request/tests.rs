use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> CapturedRequest {
    CapturedRequest::read(text.as_bytes()).unwrap()
}

fn error(text: &str) -> String {
    CapturedRequest::read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn heads_have_either_line_end_and_bodies_are_unchanged() {
    let crlf = read("POST /webhooks/x HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n\r\n{\r\n}\r\n");
    assert_eq!((crlf.method.as_str(), &*crlf.target), ("POST", "/webhooks/x"));
    assert_eq!(crlf.headers["x-a"], "1");
    assert_eq!(crlf.body, b"{\r\n}\r\n");
    assert_eq!(crlf.apparent_url().unwrap(), "https://a.test/webhooks/x");

    let lf = read("\n# from the proxy\nPOST http://b.test/x\nX-A:1\nX-A: 2\n\n\n{}");
    assert_eq!(lf.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(lf.body, b"\n{}", "only the first empty line belongs to the head");
    assert_eq!(lf.apparent_url().unwrap(), "http://b.test/x");

    let folded = read("POST / HTTP/1.1\nX-A: one\n  two\nX-B:\n\nb");
    assert_eq!(
        (&folded.headers["x-a"], folded.headers["x-b"].is_empty()),
        (&"one two".parse().unwrap(), true)
    );
    assert_eq!(read("HEAD /webhooks/mandrill HTTP/1.1\nHost: x\n\n").body, b"");
    let binary = CapturedRequest::read(b"\xef\xbb\xbfPOST / HTTP/1.1\n\n\0\xff\r\n").unwrap();
    assert_eq!(binary.body, b"\0\xff\r\n");
}

#[test]
fn content_length_removes_surplus_bytes_and_reports_missing_ones() {
    let cut = read("POST / HTTP/1.1\nContent-Length: 2\n\n{}\n");
    assert_eq!((cut.body, cut.notes.len()), (b"{}".to_vec(), 1));
    let whole = read("POST / HTTP/1.1\nContent-Length: 2\n\n{}");
    assert_eq!((whole.body, whole.notes.len()), (b"{}".to_vec(), 0));
    let short = read("POST / HTTP/1.1\nContent-Length: 9\n\n{}");
    assert_eq!(short.body, b"{}");
    assert!(short.notes[0].contains("part of the body is missing"), "{:?}", short.notes);
    assert!(error("POST / HTTP/1.1\nContent-Length: two\n\n{}").contains("Content-Length"));
}

#[test]
fn chunks_are_joined_if_there_are_any() {
    const HEAD: &str = "POST / HTTP/1.1\nTransfer-Encoding: gzip, Chunked\n\n";
    let chunked = read(&format!("{HEAD}3;x=y\r\n[1,\r\n2\r\n2]\r\n0\r\nTrailer: t\r\n\r\n"));
    assert_eq!((chunked.body, chunked.notes), (b"[1,2]".to_vec(), Vec::new()));
    let plain = read(&format!("{HEAD}[1,2]"));
    assert_eq!((plain.body, plain.notes.len()), (b"[1,2]".to_vec(), 1));
}

#[test]
fn gzip_is_unpacked_if_the_body_is_packed() {
    const HEAD: &str = "POST / HTTP/1.1\nContent-Encoding: gzip\n\n";
    let mut packed = GzEncoder::new(HEAD.as_bytes().to_vec(), Compression::default());
    packed.write_all(b"[1,2]").unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(CapturedRequest::read(&packed).unwrap().body, b"[1,2]");
    assert!(CapturedRequest::read(&packed[..packed.len() - 9]).is_err(), "truncated");
    let plain = read(&format!("{HEAD}[1,2]"));
    assert_eq!((plain.body, plain.notes.len()), (b"[1,2]".to_vec(), 1));
}

#[test]
fn other_input_is_an_error() {
    assert_eq!(error(""), "the input is empty");
    assert_eq!(error("\r\n \n"), "the input is empty");
    for text in [
        "{\"event\":\"delivered\"}",
        "HTTP/1.1 200 OK\n\n",
        "POST",
        "post / HTTP/1.1\n\n",
        "POST webhooks HTTP/1.1\n\n",
        "POST / HTTP/1.1 x\n\n",
        "POST / FTP\n\n",
        "\u{1}\u{2} / HTTP/1.1\n\n",
    ] {
        assert!(error(text).contains("request line"), "{text}");
    }
    for cut in ["POST / HTTP/1.1", "POST / HTTP/1.1\r\n", "POST / HTTP/1.1\nHost: x\n"] {
        assert!(error(cut).contains("incomplete"), "{cut}");
    }
    assert!(CapturedRequest::read(b"\xff\xfe\0").is_err());
    assert!(error("POST / HTTP/1.1\nHost: x\nno header\n\n").starts_with("line 3 is not a header"));
    assert!(error("POST / HTTP/1.1\nX: a\u{1}b\n\n").starts_with("line 2 is not a header"));
    assert!(error("POST / HTTP/1.1\n folded\n\n").starts_with("line 2"));
}

proptest! {
    #[test]
    fn no_input_panics(
        coding in "(Transfer-Encoding: chunked\n|Content-Encoding: gzip\n|Content-Length: [0-9]{1,20}\n){0,2}",
        start in prop_oneof![
            Just(Vec::new()),
            Just(b"\n\x1f\x8b\x08".to_vec()),
            "\n[0-9a-f]{1,17}\n".prop_map(String::into_bytes),
        ],
        rest in vec(any::<u8>(), 0..200),
    ) {
        let head = format!("POST / HTTP/1.1\n{coding}");
        let _ = CapturedRequest::read(&[head.as_bytes(), &start, &rest].concat());
        let _ = CapturedRequest::read(&rest);
    }

    #[test]
    fn bodies_are_read_as_they_were_sent(
        body in vec(any::<u8>(), 0..300),
        value in "[!-~]([ -~]{0,40}[!-~])?",
        chunk in 1_usize..50,
        crlf in prop::bool::ANY,
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let head = format!("POST /x HTTP/1.1{end}X-A: {value}{end}");
        let plain = [head.as_bytes(), end.as_bytes(), &body].concat();
        let mut chunks = format!("{head}Transfer-Encoding: chunked{end}{end}").into_bytes();
        for chunk in body.chunks(chunk) {
            chunks.extend_from_slice(format!("{:x}{end}", chunk.len()).as_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(end.as_bytes());
        }
        chunks.extend_from_slice(format!("0{end}{end}").as_bytes());
        for request in [plain, chunks] {
            let captured = CapturedRequest::read(&request).unwrap();
            prop_assert_eq!(&captured.body, &body);
            prop_assert_eq!(captured.headers["x-a"].as_bytes(), value.as_bytes());
            prop_assert!(captured.notes.is_empty());
        }
    }
}
