use super::*;

fn cookie(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(value))])
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

#[test]
fn the_first_of_a_name_wins() {
    let map = cookie("a=1; _pomerium=one; _pomerium=two; b=\"q\"; c");
    assert_eq!(get(&map, "_pomerium"), Some("one"));
    assert_eq!(get(&map, "b"), Some("q"));
    assert_eq!(get(&map, "c"), None);
    assert_eq!(get(&map, "pomerium"), None);
    assert_eq!(get(&HeaderMap::new(), "a"), None);
}

#[test]
fn session_cookie_has_expires_and_no_max_age() {
    let options = CookieOptions {
        domain: Some("example.com".into()),
        same_site: Some(SameSite::Lax),
        ..<_>::default()
    };
    assert_eq!(
        set(&options, "_pomerium", "abc", now()).unwrap(),
        "_pomerium=abc; Path=/; Domain=example.com; Expires=Fri, 02 Jan 2026 17:04:05 GMT; HttpOnly; Secure; SameSite=Lax"
    );
    assert_eq!(
        clear(
            &CookieOptions {
                http_only: false,
                ..<_>::default()
            },
            "_pomerium",
            now()
        )
        .unwrap(),
        "_pomerium=; Path=/; Expires=Fri, 02 Jan 2026 02:04:05 GMT; Max-Age=-1; Secure"
    );
}

#[test]
fn short_lived_cookie_has_both() {
    let made = SetCookie {
        name: "_pomerium_csrf",
        value: "v",
        path: "/oauth2/callback",
        domain: None,
        http_only: true,
        same_site: Some(SameSite::None),
        lifetime: Lifetime::MaxAge(Duration::from_secs(300)),
    };
    assert_eq!(
        made.to_header(now()).unwrap(),
        "_pomerium_csrf=v; Path=/oauth2/callback; Expires=Fri, 02 Jan 2026 03:09:05 GMT; Max-Age=300; HttpOnly; Secure; SameSite=None"
    );
}

#[test]
fn nothing_can_be_smuggled_into_a_cookie() {
    let options = CookieOptions::default();
    for value in ["a;b", "a\r\nSet-Cookie: x=1", "a b", "a,b", "\"a\"", "é", "a\\b"] {
        assert_eq!(
            set(&options, "n", value, now()),
            Err(CookieError::Forbidden),
            "{value}"
        );
    }
    assert_eq!(set(&options, "a=b", "v", now()), Err(CookieError::Forbidden));
    assert_eq!(set(&options, "", "v", now()), Err(CookieError::Forbidden));
    assert_eq!(
        set(&options, "n", &"v".repeat(4096), now()),
        Err(CookieError::TooLarge)
    );
}

#[test]
fn ours_do_not_reach_the_upstream() {
    let own = OwnCookies::new("_pomerium");
    for (sent, left) in [
        ("a=1; _pomerium=x; b=2", "a=1; b=2"),
        ("_pomerium=x", ""),
        ("_pomerium=x;", ""),
        (
            "_pomerium_csrf=c; _pomerium_authenticate=d; _pomerium_pkce_17=e; pomerium_identity_profile0=f; z=1",
            "z=1",
        ),
        ("_pomerium = x; a=1", "a=1"),
        ("_pomerium; a=1", "a=1"),
        ("a=1;b=2 ;  c=3", "a=1;b=2 ;  c=3"),
        (
            "_pomeriumx=1; x_pomerium=2; _POMERIUM=3; _pomerium_other=4",
            "_pomeriumx=1; x_pomerium=2; _POMERIUM=3; _pomerium_other=4",
        ),
    ] {
        let mut map = cookie(sent);
        strip_from_request(&mut map, &own);
        assert_eq!(map[header::COOKIE], left, "{sent}");
    }
}

#[test]
fn a_header_without_ours_is_the_same_bytes_even_if_odd() {
    let mut map = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_bytes(b"a=\xff;; b").unwrap())]);
    strip_from_request(&mut map, &OwnCookies::new("_pomerium"));
    assert_eq!(map[header::COOKIE].as_bytes(), b"a=\xff;; b");
}
