use http::HeaderValue;
use service::Secret;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn access(https: bool) -> Access {
    let token = |name: &str, role, secret: &str| Token {
        name: name.to_owned(),
        role,
        secret: Secret::new(secret),
    };
    let tokens = vec![
        token("team", Role::Viewer, "an invented token of the team"),
        token("abuse-desk", Role::Investigator, "an invented token of the desk"),
    ];
    let proxy = Proxy {
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        user_header: HeaderName::from_static("x-user"),
        role_header: Some(HeaderName::from_static("x-role")),
    };
    Access::new(tokens, Some(proxy), false, 3600, https)
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_255_200 + seconds).unwrap()
}

/// Returns the role and the name, or the code of the problem.
fn identify(
    access: &Access,
    peer: IpAddr,
    lines: &[(&'static str, &str)],
) -> Result<(Role, String), &'static str> {
    let visitor = access.identify(peer, &headers(lines), at(0));
    visitor.map(|visitor| (visitor.role, visitor.name)).map_err(|problem| problem.code())
}

#[test]
fn a_token_has_a_role() {
    let access = access(false);
    let by = |value: &str| identify(&access, PEER, &[("authorization", value)]);
    let team = (Role::Viewer, "team".to_owned());
    assert_eq!(by("Bearer an invented token of the team"), Ok(team.clone()));
    assert_eq!(by("bearer an invented token of the team"), Ok(team));
    let desk = (Role::Investigator, "abuse-desk".to_owned());
    assert_eq!(by("Bearer an invented token of the desk"), Ok(desk));
    assert_eq!(by("Bearer an invented token of the tea"), Err("wrong_token"));
    assert_eq!(by("Basic an invented token of the team"), Err("wrong_token"));
    assert_eq!(identify(&access, PEER, &[]), Err("not_logged_in"));
}

#[test]
fn a_session_ends_and_cannot_be_forged() {
    let access = access(true);
    let cookie = access.log_in(PEER, "an invented token of the team", at(0)).unwrap();
    assert!(cookie.starts_with("__Host-console=team."), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=3600"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("invented"), "the cookie contains the token: {cookie}");
    let value = cookie.split(';').next().unwrap();
    let seen = |value: &str, seconds| {
        let visitor = access.identify(PEER, &headers(&[("cookie", value)]), at(seconds));
        visitor.map(|visitor| visitor.role).ok()
    };
    assert_eq!(seen(&format!("a=b; {value}"), 3599), Some(Role::Viewer));
    assert_eq!(seen(value, 3600), None, "it has ended");
    let longer =
        value.replace(&at(3600).as_second().to_string(), &at(7200).as_second().to_string());
    assert_ne!(longer, value);
    assert_eq!(seen(&longer, 0), None, "the end is part of the MAC");
    assert_eq!(seen(&value.replace("team", "abuse-desk"), 0), None, "so is the name");
    assert_eq!(seen(&format!("{value}.x"), 0), None);
    assert!(access.log_out().contains("Max-Age=0"));
}

#[test]
fn wrong_tokens_are_limited_by_network() {
    let access = access(false);
    let code = |peer: IpAddr, token: &str, seconds| {
        access.log_in(peer, token, at(seconds)).map_err(|problem| problem.code()).err()
    };
    for _ in 0..10 {
        assert_eq!(code(PEER, "wrong", 0), Some("wrong_token"));
    }
    assert_eq!(code(PEER, "wrong", 1), Some("too_many_attempts"));
    let other: IpAddr = "198.51.100.1".parse().unwrap();
    assert_eq!(code(other, "wrong", 1), Some("wrong_token"));
    assert_eq!(code(PEER, "wrong", 61), Some("wrong_token"), "a minute later");

    // A client with IPv6 owns a whole /64 network.
    for number in 1..=10 {
        let peer = format!("2001:db8::{number}").parse().unwrap();
        assert_eq!(code(peer, "wrong", 0), Some("wrong_token"));
    }
    assert_eq!(code("2001:db8::b".parse().unwrap(), "wrong", 0), Some("too_many_attempts"));
    assert_eq!(code("2001:db8:0:1::1".parse().unwrap(), "wrong", 0), Some("wrong_token"));
}

#[test]
fn wrong_tokens_of_others_lock_nobody_out() {
    let access = access(false);
    let networks = (0..1_500_u32).map(|number| IpAddr::from(number.to_be_bytes()));
    for peer in networks.chain([PEER; 20]) {
        let _ = access.log_in(peer, "wrong", at(0));
    }
    let further = access.log_in("203.0.113.1".parse().unwrap(), "wrong", at(0));
    assert_eq!(further.unwrap_err().code(), "too_many_attempts", "all networks have a limit");
    let right = "an invented token of the team";
    assert!(access.log_in(PEER, right, at(0)).is_ok());
    let bearer = format!("Bearer {right}");
    let team = (Role::Viewer, "team".to_owned());
    assert_eq!(identify(&access, PEER, &[("authorization", &bearer)]), Ok(team));
}

#[test]
fn only_the_proxy_names_users() {
    let access = access(false);
    let proxy: IpAddr = "10.1.2.3".parse().unwrap();
    let ada = [("x-user", "ada"), ("x-role", "investigator")];
    let known = (Role::Investigator, "ada".to_owned());
    assert_eq!(identify(&access, proxy, &ada), Ok(known.clone()));
    let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
    assert_eq!(identify(&access, mapped, &ada), Ok(known));
    assert_eq!(identify(&access, PEER, &ada), Err("not_logged_in"), "anybody can send the header");
    assert_eq!(identify(&access, proxy, &[("x-user", "ada")]), Err("no_role"));
    assert_eq!(identify(&access, proxy, &[("x-user", "ada"), ("x-role", "root")]), Err("no_role"));
    let twice = [("x-user", "ada"), ("x-user", "eve"), ("x-role", "viewer")];
    assert_eq!(identify(&access, proxy, &twice), Err("repeated_header"));
    assert_eq!(identify(&access, proxy, &[("x-role", "viewer")]), Err("not_logged_in"));
}

#[test]
fn an_open_console_answers_only_to_names_of_this_machine() {
    let access = Access::new(Vec::new(), None, true, 3600, false);
    let by = |host: &str| identify(&access, PEER, &[("host", host)]).map(|(role, _)| role);
    for host in ["127.0.0.1:9180", "localhost:9180", "[::1]:9180", "localhost"] {
        assert_eq!(by(host), Ok(Role::Investigator), "{host}");
    }
    for host in ["evil.example:9180", "127.0.0.1.evil.example", "192.0.2.1", ""] {
        assert_eq!(by(host), Err("wrong_host"), "{host}");
    }
}

#[test]
fn an_open_console_answers_no_request_that_a_proxy_passes_on() {
    let access = Access::new(Vec::new(), None, true, 3600, false);
    for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
        let lines = [("host", "localhost:9180"), (name, "192.0.2.7")];
        assert_eq!(identify(&access, PEER, &lines), Err("through_proxy"), "{name}");
    }
}
