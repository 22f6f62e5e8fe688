//! What every page has in common, and that nothing from outside becomes markup.
#![allow(
    clippy::too_many_lines,
    reason = "a list of every page is as long as there are pages"
)]

use futures_util::FutureExt;
use http_body_util::BodyExt;

use super::*;
use crate::problem::{Action, Detail, Outcome, PolicyTrace};

const ATTACK: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";

fn html(response: Response) -> String {
    let bytes = response
        .into_body()
        .collect()
        .now_or_never()
        .expect("ready")
        .unwrap()
        .to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Somebody about whom `text` is all that is known.
fn person(text: &str) -> UserInfo<'_> {
    UserInfo {
        session: Some(SessionFacts {
            since: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            until: None,
            provider: Some(text.into()),
            from: Some(text.into()),
            id: text.into(),
            user_id: text.into(),
        }),
        name: text,
        email: "user@example.com",
        picture: Some(text),
        groups: vec![Group {
            id: text.into(),
            name: "g".into(),
            source: text.into(),
        }],
        claims: vec![Claim {
            name: text.into(),
            values: vec![text.into()],
        }],
        devices: Some(Devices {
            list: vec![Device {
                id: text.into(),
                kind: text.into(),
                browser: text.into(),
                ..Device::default()
            }],
            remove_url: Some("/.pomerium/webauthn".into()),
        }),
        sign_out_url: "/.pomerium/sign_out",
        ..UserInfo::default()
    }
}

/// Every page, with `text` wherever something from outside is shown.
fn every_page(text: &str, frame: &Frame<'_>) -> Vec<(&'static str, Response)> {
    let hidden = vec![Hidden {
        name: "csrf",
        value: text,
    }];
    let mut problem = Problem::not_allowed(Some(text), Some(text)).next(text.to_owned());
    problem.details = vec![Detail {
        name: text.into(),
        outcome: Outcome::Denies,
        text: text.into(),
        remedy: text.into(),
    }];
    problem.traces = vec![PolicyTrace {
        id: text.into(),
        explanation: text.into(),
        remediation: text.into(),
        allow: false,
        deny: true,
    }];
    let route = PortalRoute {
        name: text.into(),
        description: text.into(),
        host: text.into(),
        url: Some(text.into()),
        logo_url: Some(text.into()),
        connect_command: Some(text.into()),
    };
    let info = person(text);
    let sign_in_page = SignIn {
        application: text,
        host: text,
        action: "/.pomerium/idp/sign-in",
        username: text,
        error: Some(text),
        hidden: hidden.clone(),
        status: Some(401),
    };
    let out = SignOutConfirm {
        signed_in_as: text,
        action: "/.pomerium/sign_out",
        cancel: text,
        hidden,
    };
    let note = Message {
        title: text,
        paragraphs: vec![text],
        actions: vec![Action::new(text.to_owned(), text)],
        status: None,
    };
    let options = serde_json::json!({ "user": { "name": text } });
    let device_page = DevicePage {
        application: text,
        action: "/.pomerium/webauthn",
        creation: &options,
        request: Some(&options),
        own_device: true,
    };
    vec![
        ("device", device(&device_page, frame)),
        ("error", error(&problem, frame)),
        ("account", user_info(&info, frame)),
        (
            "account without session",
            user_info(
                &UserInfo {
                    sign_in_url: Some(text),
                    ..UserInfo::default()
                },
                frame,
            ),
        ),
        (
            "portal",
            portal(
                &Portal {
                    search: "",
                    routes: vec![route.clone()],
                },
                frame,
            ),
        ),
        (
            "portal search",
            portal(
                &Portal {
                    search: text,
                    routes: vec![route],
                },
                frame,
            ),
        ),
        ("sign in", sign_in(&sign_in_page, frame)),
        ("sign out", sign_out_confirm(&out, frame)),
        (
            "signed out",
            signed_out(
                &SignedOut {
                    sign_in_url: Some(text),
                },
                frame,
            ),
        ),
        ("message", message(&note, frame)),
    ]
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let site = Site::new(Branding {
        name: ATTACK.into(),
        logo_url: Some(ATTACK.into()),
        favicon_url: Some("javascript:alert(1)".into()),
        error_paragraph: Some(format!("{ATTACK} [x](javascript:alert(1))")),
        ..Branding::default()
    });
    for text in [
        ATTACK,
        "javascript:alert(1)",
        "//evil.example.com",
        "data:text/html,x",
    ] {
        for (name, response) in every_page(text, &Frame::new(&site, ATTACK)) {
            let html = html(response);
            assert!(
                !html.contains("<script>") && !html.contains("<img src=x"),
                "{name}"
            );
            for start in [
                "href=\"javascript:",
                "src=\"javascript:",
                "href=\"//",
                "src=\"//",
                "href=\"data:",
            ] {
                assert!(!html.contains(start), "{name}: {start}");
            }
        }
    }
}

#[test]
fn every_page_has_the_same_strict_headers_and_no_inline_code() {
    let site = Site::default();
    for (name, response) in every_page("text", &Frame::signed_in(&site, "req-1", true)) {
        let headers = response.headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"),
            "{name}"
        );
        assert!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'; base-uri 'none'"),
            "{name}"
        );
        assert_eq!(
            policy.contains("form-action 'self' https:"),
            name.starts_with("sign ") || name == "device",
            "{name}"
        );
        assert_eq!(headers["cache-control"], "no-store", "{name}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{name}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{name}");
        assert_eq!(headers["x-pomerium-intercepted-response"], "true", "{name}");
        let html = html(response);
        assert!(!html.contains("style=\"") && !html.contains("<style"), "{name}");
        // The data blocks of a page are data: no browser runs them.
        let data = html.matches("<script type=\"application/json\" id=\"").count();
        let (blocks, modules) = match name {
            "error" => (1, 1),
            "device" => (2, 2),
            _ => (0, 1),
        };
        assert_eq!(data, blocks, "{name}");
        assert!(
            !html.contains(" onclick") && html.matches("<script").count() == modules + blocks,
            "{name}"
        );
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        assert!(
            html.contains("<html lang=\"en\" dir=\"ltr\">") && html.contains("<main"),
            "{name}"
        );
        assert!(html.contains("id=\"request-id\">req-1<"), "{name}");
        assert!(html.len() < 12_000, "{name}: {}", html.len());
    }
}

#[test]
fn statuses() {
    let site = Site::default();
    let pages = every_page("text", &Frame::new(&site, "r"));
    let status = |name: &str| {
        pages
            .iter()
            .find(|page| page.0 == name)
            .map(|page| page.1.status().as_u16())
    };
    assert_eq!(
        (status("error"), status("sign in"), status("message")),
        (Some(403), Some(401), Some(200))
    );
}

#[test]
fn a_token_among_the_claims_is_not_shown() {
    let site = Site::default();
    let claim = |name: &str| Claim {
        name: name.into(),
        values: vec![format!("value-of-{name}").as_str().into()],
    };
    let info = UserInfo {
        session: Some(SessionFacts::default()),
        claims: ["email", "access_token", "refresh_token", "id_token", "nonce"]
            .map(claim)
            .to_vec(),
        ..UserInfo::default()
    };
    let html = html(user_info(&info, &Frame::new(&site, "")));
    assert!(html.contains("value-of-email"));
    for name in ["access_token", "refresh_token", "id_token", "nonce"] {
        assert!(!html.contains(name), "{name}");
    }
}

/// The script turns every `time` into the reader's own zone: one page must not show two.
#[test]
fn all_times_of_the_account_page_are_marked_as_such() {
    let site = Site::default();
    let at = |text: &str| text.parse().unwrap();
    let info = UserInfo {
        session: Some(SessionFacts {
            since: Some(at("2026-03-02T08:15:00Z")),
            ..SessionFacts::default()
        }),
        claims: vec![Claim {
            name: "auth_time".into(),
            values: vec![ClaimValue::Moment(at("2026-03-02T08:14:00Z"))],
        }],
        ..UserInfo::default()
    };
    let html = html(user_info(&info, &Frame::new(&site, "")));
    for minute in [14, 15] {
        let shown =
            format!("<time datetime=\"2026-03-02T08:{minute}:00Z\">2026-03-02 08:{minute} UTC</time>");
        assert!(html.contains(&shown), "{html}");
    }
}

#[test]
fn the_portal_searches_without_scripts() {
    let site = Site::default();
    let route = |name: &str| PortalRoute {
        name: name.into(),
        host: format!("{name}.example.com"),
        ..PortalRoute::default()
    };
    let find = |search| {
        let page = Portal {
            search,
            routes: vec![route("Grafana"), route("Wiki")],
        };
        html(portal(&page, &Frame::new(&site, "")))
    };
    assert!(find("").contains("Grafana") && find("").contains("Wiki"));
    assert!(find(" WIKI ").contains(">Wiki<") && !find("wiki").contains("Grafana"));
    assert!(find("nothing").contains("role=\"status\">Nothing matches"));
    let none = html(portal(&Portal::default(), &Frame::new(&site, "")));
    assert!(none.contains("no application here for you") && !none.contains("<form"));
}

#[test]
fn links_at_the_top_follow_the_session() {
    let site = Site::default();
    let page = |frame: &Frame<'_>| html(signed_out(&SignedOut::default(), frame));
    assert!(!page(&Frame::new(&site, "")).contains("<nav"));
    assert!(!page(&Frame::signed_in(&site, "", false)).contains("/.pomerium/routes"));
    assert!(page(&Frame::signed_in(&site, "", true)).contains("/.pomerium/routes"));
}
