use super::*;

fn one(address: &str, reason: Reason, since: Option<i64>, wording: Option<&str>) -> Listed {
    Listed { address: address.to_owned(), reason, since, wording: wording.map(str::to_owned) }
}

#[test]
fn the_lists_of_providers_are_read() {
    use Reason::{Complaint, HardBounce, Unsubscribe};
    let created = Some(1_443_651_125);
    let ada = |reason, since, wording| one("ada@example.com", reason, since, wording);
    for (format, file, given, expected) in [
        (
            Format::SendGrid,
            r#"[{"created":1443651125,"email":"ada@example.com","reason":"550 no such user","status":"5.1.1"}]"#,
            Some(HardBounce),
            ada(HardBounce, created, Some("550 no such user")),
        ),
        (
            Format::SendGrid,
            "status,reason,email,created\n5.1.1,\"550, no\",ada@example.com,1443651125\n",
            Some(HardBounce),
            ada(HardBounce, created, Some("550, no")),
        ),
        (
            Format::SendGrid,
            r#"["ada@example.com"]"#,
            Some(Unsubscribe),
            ada(Unsubscribe, None, None),
        ),
        (
            Format::SendGrid,
            r#"{"recipient_emails":["ada@example.com"]}"#,
            Some(Unsubscribe),
            ada(Unsubscribe, None, None),
        ),
        (
            Format::Mailgun,
            r#"{"items":[{"address":"ada@example.com","code":"550","error":"No such mailbox","created_at":"Wed, 30 Sep 2015 22:12:05 UTC"}],"paging":{}}"#,
            None,
            ada(HardBounce, created, Some("No such mailbox")),
        ),
        (
            Format::Mailgun,
            "address,tags,created_at\nada@example.com,*,2015-09-30 22:12:05\n",
            None,
            ada(Unsubscribe, created, None),
        ),
        (
            Format::Mailgun,
            r#"[{"address":"ada@example.com","created_at":"Wed, 30 Sep 2015 22:12:05 UTC"}]"#,
            Some(Complaint),
            ada(Complaint, created, None),
        ),
        (
            Format::Ses,
            r#"{"SuppressedDestinationSummaries":[{"EmailAddress":"ada@example.com","Reason":"COMPLAINT","LastUpdateTime":1443651125.5}]}"#,
            None,
            ada(Complaint, created, None),
        ),
        (
            Format::Ses,
            "{\"emailAddress\":\"ada@example.com\",\"reason\":\"BOUNCE\"}\n",
            None,
            ada(HardBounce, None, None),
        ),
        (Format::Ses, "ada@example.com,BOUNCE\n", None, ada(HardBounce, None, None)),
        (
            Format::Postmark,
            r#"{"Suppressions":[{"EmailAddress":"ada@example.com","SuppressionReason":"ManualSuppression","Origin":"Recipient","CreatedAt":"2015-09-30T18:12:05-04:00"}]}"#,
            None,
            ada(Unsubscribe, created, None),
        ),
    ] {
        assert_eq!(read(format, file, given), Ok(vec![expected]), "{file}");
    }
}

#[test]
fn every_line_and_every_element_is_an_entry() {
    let lines = "{\"emailAddress\":\"a@x.com\",\"reason\":\"BOUNCE\"}\n{\"emailAddress\":\"b@x.com\",\"reason\":\"COMPLAINT\"}";
    assert_eq!(read(Format::Ses, lines, None).unwrap().len(), 2);
    assert_eq!(read(Format::Ses, "a@x.com,BOUNCE\nb@x.com,COMPLAINT", None).unwrap().len(), 2);
    assert_eq!(read(Format::Ses, "", None), Ok(Vec::new()));
}

/// As `aws sesv2 list-suppressed-destinations` prints them, one call after the other, and as files of import jobs.
#[test]
fn the_pages_and_import_files_of_ses_are_read() {
    let page = |address: &str, more: &str| {
        format!(
            r#"{{"SuppressedDestinationSummaries":[{{"EmailAddress":"{address}","Reason":"BOUNCE","LastUpdateTime":"2015-09-30T22:12:05.123000+00:00"}}]{more}}}"#
        )
    };
    let pages = [page("a@x.com", r#","NextToken":"AAMA-EFR""#), page("b@x.com", "")];
    let last = r#"{"SuppressedDestinationSummaries":[]}"#;
    for file in [
        format!("{}\n{}\n{last}\n", pages[0], pages[1]),
        format!("[{},{},{last}]", pages[0], pages[1]),
    ] {
        let at = Some(1_443_651_125);
        let expected = ["a@x.com", "b@x.com"].map(|it| one(it, Reason::HardBounce, at, None));
        assert_eq!(read(Format::Ses, &file, None).unwrap(), expected, "{file}");
    }
    let csv = "recipient1@example.com,BOUNCE\r\nrecipient2@example.com, COMPLAINT\r\n";
    let reasons: Vec<_> =
        read(Format::Ses, csv, None).unwrap().iter().map(|it| it.reason).collect();
    assert_eq!(reasons, [Reason::HardBounce, Reason::Complaint]);
    let unknown = r#"{"emailAddress":"a@x.com","reason":"OTHER"}"#;
    assert_eq!(read(Format::Ses, unknown, None), Err(ReadError::NoReason { entry: 1 }));
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = |format, file: &str| read(format, file, None).unwrap_err().to_string();
    assert!(error(Format::SendGrid, r#"["a@x.com"]"#).contains("entry 1 has no reason"));
    let two = r#"[{"address":"a@x.com","code":"550"},{"email":"b@x.com","code":"550"}]"#;
    assert!(error(Format::Mailgun, two).contains("entry 2 has no address"));
    assert!(error(Format::Ses, "{\"emailAddress\"").contains("neither JSON nor CSV"));
    assert!(error(Format::Postmark, "[7]").contains("entry 1 has no address"));
}

#[test]
fn what_is_written_is_read_back() {
    use Reason::{Complaint, HardBounce, Unsubscribe};
    let entries = |reason| {
        ["ada@example.com", "\"b,c\"@example.com"].map(|address| Listing {
            address: address.to_owned(),
            reason,
            since: 1_443_651_125,
        })
    };
    for (format, reason) in [
        (Format::SendGrid, Unsubscribe),
        (Format::Mailgun, HardBounce),
        (Format::Mailgun, Complaint),
        (Format::Mailgun, Unsubscribe),
        (Format::Ses, HardBounce),
        (Format::Ses, Complaint),
    ] {
        let text = write(format, Some(reason), &entries(reason)).unwrap();
        let back = read(format, &text, Some(reason)).unwrap();
        let back: Vec<_> = back.into_iter().map(|it| (it.address, it.reason)).collect();
        let expected = entries(reason).map(|it| (it.address, it.reason));
        assert_eq!(back, expected, "{text}");
    }
    assert_eq!(write(Format::Mailgun, None, &[]), Err(WriteError::ReasonNeeded));
    assert_eq!(write(Format::Postmark, None, &[]), Err(WriteError::NoImport));
}
