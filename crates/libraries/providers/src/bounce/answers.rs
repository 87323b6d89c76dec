//! Tests the classification with the answers of the large mailbox providers and of common mail
//! servers.

use event::BounceClass::{self, *};
use event::{BounceSide, Text};

use super::Evidence;

#[rustfmt::skip]
const ANSWERS: &[(&str, BounceClass)] = &[
    // Gmail
    ("550-5.1.1 The email account that you tried to reach does not exist.", InvalidRecipient),
    ("452 4.2.2 The recipient's inbox is out of storage space.", MailboxFull),
    ("550 5.2.1 The email account that you tried to reach is inactive.", MailboxDisabled),
    ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more", RateLimited),
    ("421-4.7.28 Our system has detected an unusual rate of unsolicited mail from your IP address.", RateLimited),
    ("550-5.7.26 This mail has been blocked because the sender is unauthenticated.", Authentication),
    ("550-5.7.1 [192.0.2.25] Our system has detected that this message is likely unsolicited mail.", Content),
    ("550-5.7.1 detected as suspicious due to the very low reputation of the sending domain.", Reputation),
    ("552-5.7.0 This message was blocked because its content presents a potential security issue.", Content),
    // Microsoft
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", InvalidRecipient),
    ("550 5.4.1 Recipient address rejected: Access denied.", InvalidRecipient),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", InvalidRecipient),
    ("552 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient", MessageTooLarge),
    ("550 5.7.1 Unfortunately, messages from [192.0.2.25] weren't sent, part of their network is on our block list (S3140).", Reputation),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.25]", Reputation),
    ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.", Reputation),
    ("451 4.7.500 Server busy. Please try again later from [192.0.2.25]. (S77719)", RateLimited),
    ("550 5.7.515 Access denied, sending domain shop.example does not meet the required authentication level.", Authentication),
    // Yahoo and AOL
    ("554 delivery error: dd This user doesn't have a yahoo.example account", InvalidRecipient),
    ("554 30 Sorry, your message cannot be delivered. This mailbox is disabled (554.30).", MailboxDisabled),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints", Reputation),
    ("421 4.7.1 [TS03] All messages from 192.0.2.25 will be permanently deferred", Reputation),
    ("553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.25, because the ip is in Spamhaus's list", Reputation),
    ("554 5.7.9 Message not accepted for policy reasons.", Policy),
    // Apple
    ("550 5.1.1 <ada@example.com>: user does not exist", InvalidRecipient),
    ("552 5.2.2 <ada@example.com>: user is over quota", MailboxFull),
    ("550 5.7.1 [CS01] Message rejected due to local policy.", Policy),
    // Regional providers
    ("550 Message was not accepted -- invalid mailbox. Local mailbox is unavailable: user not found", InvalidRecipient),
    ("550 Mail content denied.", Content),
    ("550 Domain frequency limited.", RateLimited),
    ("421 Too many connections, slow down. OFR004_104 [104]", RateLimited),
    ("554 mx.example.net 192.0.2.25 found on one or more DNSBLs", Reputation),
    ("554 mx.example.net example.net block for spam.", Reputation),
    ("554 Transaction failed. Reject due to policy restrictions.", Policy),
    // Postfix
    ("450 4.7.1 <ada@example.com>: Recipient address rejected: Greylisted", RateLimited),
    ("550 5.1.1 <ada@example.com>: Recipient address rejected: User unknown in virtual mailbox table", InvalidRecipient),
    ("450 4.1.8 <news@shop.example>: Sender address rejected: Domain not found", Policy),
    ("454 4.7.1 <ada@example.com>: Relay access denied", Policy),
    ("451 4.3.0 Temporary lookup failure", Technical),
    ("452 4.3.1 Insufficient system storage", Technical),
    ("552 5.3.4 Message size exceeds fixed limit", MessageTooLarge),
    ("554 5.4.6 Too many hops", Technical),
    ("connect to mx.example.com[198.51.100.7]:25: Connection timed out", Technical),
    ("Host or domain name not found. Name service error for name=nowhere.example type=MX: Host not found", InvalidDomain),
    ("556 5.1.10 Recipient address has null MX", InvalidDomain),
    // Exim and qmail
    ("550 Administrative prohibition", Policy),
    ("550-Verification failed for <news@shop.example> 550 Sender verify failed", Policy),
    ("550 sorry, no mailbox here by that name (#5.1.1)", InvalidRecipient),
    // Filters in front of mail servers
    ("554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.25", Reputation),
    ("554 Service unavailable; Client host [192.0.2.25] blocked using Barracuda Reputation", Reputation),
    ("550 5.7.1 This message has been blocked: it looks like phishing", Content),
    ("550 5.7.1 Message rejected per DMARC policy", Authentication),
    ("550 Rejected by header based manually blocked senders", Policy),
    // About the sender, in words that are mostly about the recipient
    ("553 Domain of sender address ada@shop.example does not exist", Policy),
    ("550 Sender ada@shop.example has no A, AAAA, or MX DNS records", Policy),
    ("550 unroutable sender address <ada@shop.example>", Policy),
    ("550 sender email address rejected", Policy),
    ("550 5.1.1 <ada@shop.example>: Sender address rejected: User unknown", Policy),
    ("550 Your domain shop.example does not exist", Policy),
    ("501 5.1.0 Emetteur invalide. Invalid Sender. [405]", Policy),
    ("550 Absender ada@shop.example existiert nicht", Policy),
    ("550 El remitente no existe", Policy),
    // Servers that answer in their own language
    ("550 5.1.1 Adresse d au moins un destinataire invalide. [416]", InvalidRecipient),
    ("550 Utilisateur inconnu", InvalidRecipient),
    ("552 5.1.1 Boîte du destinataire pleine. Recipient overquota. [417]", MailboxFull),
    ("550 5.2.0 Mail rejeté. Mail rejected. [506]", Content),
    ("421 Trop de connexions, veuillez vérifier votre configuration", RateLimited),
    ("550 5.5.0 Boîte du destinataire archivée", MailboxDisabled),
    ("550 Empfänger unbekannt", InvalidRecipient),
    ("552 Das Postfach ist voll", MailboxFull),
    ("552 Postfach voll", MailboxFull),
    ("550 Konto gesperrt", MailboxDisabled),
    ("550 Usuario desconocido", InvalidRecipient),
    ("552 El buzón está lleno", MailboxFull),
    ("550 Nessun utente con questo indirizzo", InvalidRecipient),
    ("552 Casella piena", MailboxFull),
    ("550 Usuário inexistente", InvalidRecipient),
    ("552 Caixa postal cheia", MailboxFull),
    ("550 Gebruiker onbekend", InvalidRecipient),
    ("550 Nieznany użytkownik", InvalidRecipient),
    ("550 Skrzynka jest przepełniona", MailboxFull),
    ("550 Пользователь не найден", InvalidRecipient),
    // What common refusals had no phrase for
    ("550 Email blocked by cbl.abuseat.org", Reputation),
    ("554 Blocklisting in effect", Reputation),
    ("550 Mailbox is full / Blocks limit exceeded / Inode limit exceeded", MailboxFull),
    ("552 extended quota violation", MailboxFull),
    ("552 mailbox size limit exceeded", MailboxFull),
    ("452 daily message quota exceeded", RateLimited),
    ("553 mailbox name not allowed", InvalidRecipient),
    ("556 Invalid account. Tenant or Domain not found", InvalidDomain),
    ("550 I cannot deliver mail for ada@example.com", InvalidRecipient),
    ("550 User ada (ada@example.com) not listed in the directory", InvalidRecipient),
    ("550 User account not activated", MailboxDisabled),
    ("554 MailLoop", Technical),
    ("554 Bad DNS PTR resource record", Authentication),
    ("550 (ada@example.com:blocked)", Policy),
    ("550 Invalid Recipient - see community.mimecast.example", InvalidRecipient),
    ("530 5.7.0 Authentication required", Authentication),
    ("451 Recipient server refused connection", Technical),
    ("delivery temporarily suspended: connect to mx.example.com: Connection refused", Technical),
    ("Host or domain name not found. Name service error for name=example.com: Host not found, try again", Technical),
    ("550 5.1.1 198.51.100.7 has sent to too many recipients this hour", RateLimited),
    ("550 5.5.0 Le compte du destinataire est bloqué", MailboxDisabled),
    ("I am out of the office until Monday", AutoReply),
];

#[test]
fn every_answer_has_its_class() {
    for (answer, class) in ANSWERS {
        let evidence = Evidence { diagnostic: Some(Text::from(*answer)), ..Evidence::default() };
        let bounce = evidence.bounce();
        assert_eq!(bounce.class, *class, "{answer}");
    }
}

/// Suppression depends on the side: a refusal of the sender says nothing about the address.
#[test]
fn a_refusal_of_the_sender_is_not_on_the_recipients_side() {
    for (answer, side) in [
        ("550 Sender address rejected: Domain not found", BounceSide::Sender),
        ("550 Recipient address rejected: Domain not found", BounceSide::Recipient),
        ("550 5.7.1 Access denied, banned sender", BounceSide::Sender),
        ("550 5.4.1 Recipient address rejected: Access denied", BounceSide::Recipient),
        ("451 your host has too many connections", BounceSide::Sender),
        ("451 connection to the store timed out", BounceSide::Network),
        ("553 Domain of sender address ada@shop.example does not exist", BounceSide::Sender),
        ("550 sender email address rejected", BounceSide::Sender),
        ("550 5.1.1 Sender address rejected: User unknown", BounceSide::Sender),
        ("550 Empfänger unbekannt", BounceSide::Recipient),
        ("550 no", BounceSide::Unknown),
    ] {
        let evidence = Evidence { diagnostic: Some(Text::from(answer)), ..Evidence::default() };
        assert_eq!(evidence.bounce().side, side, "{answer}");
    }
}

/// Prints class and side of each line of a file, to measure the tables against a collection of answers
/// that is not ours to publish. `docs/providers.md` describes such a measurement.
#[test]
#[ignore = "needs MAILPULSE_ANSWERS, the path of a file with one answer per line"]
#[expect(clippy::disallowed_methods, reason = "the file is chosen by whoever measures")]
fn measured_answers() {
    let path = std::env::var("MAILPULSE_ANSWERS").unwrap();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let diagnostic = Some(Text::from(line));
        let bounce = Evidence { diagnostic, ..Evidence::default() }.bounce();
        println!("{}\t{}\t{line}", bounce.class.as_str(), bounce.side.as_str());
    }
}
