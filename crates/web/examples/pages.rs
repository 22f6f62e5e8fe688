//! Writes every page to the folder given as argument, for looking at in a browser:
//! `cargo run -p pomerium-web --example pages -- /tmp/pages`, then open `index.html` through any static
//! file server (the pages load their stylesheets from `/.pomerium/assets/`).

use std::{error::Error, fs, path::Path};

use http_body_util::BodyExt;
use pomerium_web::{
    Response,
    canonical::Refusal,
    pages::{
        self, Branding, Claim, Device, DevicePage, Devices, Frame, Group, Hidden, Message, Portal,
        PortalRoute, SessionFacts, SignIn, SignOutConfirm, SignedOut, Site, UserInfo,
    },
    problem::{Action, Detail, Outcome, Problem},
};

const REQUEST: &str = "5f0c1c86-6a53-4f0e-9a25-1f2f6c9b7d10";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder.join(".pomerium/assets"))?;
    let site = Site::default();
    write_assets(folder, &site)?;
    for (name, response) in refusals(&site).into_iter().chain(our_pages(&site)) {
        write(folder, &format!("{name}.html"), response)?;
    }
    let branded = branded()?;
    write_assets(folder, &branded)?;
    let problem = denied();
    write(
        folder,
        "branded.html",
        pages::error(&problem, &Frame::new(&branded, REQUEST)),
    )?;
    let mut mirrored = Site::default();
    mirrored.texts.dir = "rtl";
    mirrored.texts.lang = "ar";
    write(
        folder,
        "rtl-account.html",
        account(&Frame::signed_in(&mirrored, REQUEST, true)),
    )?;
    write(
        folder,
        "rtl-denied.html",
        pages::error(&problem, &Frame::new(&mirrored, REQUEST)),
    )?;
    Ok(())
}

fn branded() -> Result<Site, Box<dyn Error>> {
    let branding = Branding {
        name: "Example Works".into(),
        error_paragraph: Some(
            "The service desk helps: [desk.example.com](https://desk.example.com), extension 100.".into(),
        ),
        ..Branding::default()
    };
    Ok(Site::new(branding.with_colors(
        Some("#ffd400"),
        Some("#00a0ff"),
        None,
        None,
    )?))
}

fn denied() -> Problem {
    Problem::not_allowed(Some("user@example.com"), Some("/.pomerium/sign_out"))
}

fn refusals(site: &Site) -> Vec<(&'static str, Response)> {
    let frame = Frame::new(site, REQUEST);
    let detail = |name: &str, outcome, text: &str, remedy: &str| Detail {
        name: name.into(),
        outcome,
        text: text.into(),
        remedy: remedy.into(),
    };
    let explained = denied().with_details(vec![
        detail(
            "allow, rule 1",
            Outcome::NotMet,
            "group is not one of: platform",
            "Ask for the group platform.",
        ),
        detail(
            "deny, rule 2",
            Outcome::Denies,
            "source address is outside 10.0.0.0/8",
            "Use the office network.",
        ),
    ]);
    let refusal = Refusal {
        status: 400,
        detail: "path holds an escaped slash",
        redirect: None,
        close: true,
    };
    let problems = [
        ("denied", denied()),
        ("denied-explained", explained),
        ("sign-in-needed", Problem::sign_in_needed("/.pomerium/sign_in")),
        ("not-found", Problem::not_found("app.example.com")),
        ("refused", Problem::refused(&refusal)),
        (
            "upstream-down",
            Problem::upstream_down("no_healthy_upstream", "UH").retry("/reports?year=2026"),
        ),
        (
            "upstream-slow",
            Problem::upstream_timeout("response_timeout", "UT").retry("/reports"),
        ),
        ("undecided", Problem::undecided().retry("/")),
        ("login-loop", Problem::login_loop().action("Try once more", "/")),
        ("clock", Problem::provider_clock().retry("/")),
        ("cookie", Problem::cookie_missing().retry("/")),
        ("certificate", Problem::client_certificate()),
        (
            "refused-by-provider",
            Problem::sign_in_refused("User is not assigned to this application.").retry("/"),
        ),
    ];
    problems
        .into_iter()
        .map(|(name, problem)| (name, pages::error(&problem, &frame)))
        .collect()
}

fn our_pages(site: &Site) -> Vec<(&'static str, Response)> {
    let plain = Frame::new(site, REQUEST);
    let known = Frame::signed_in(site, REQUEST, true);
    let hidden = vec![Hidden {
        name: "csrf",
        value: "token",
    }];
    let form = SignIn {
        application: "Quarterly reports",
        host: "reports.example.com",
        action: "/.pomerium/idp/sign-in",
        hidden: hidden.clone(),
        ..SignIn::default()
    };
    let failed = SignIn {
        username: "user@example.com",
        error: Some("That user name and password do not belong together."),
        status: Some(401),
        ..form.clone()
    };
    let confirm = SignOutConfirm {
        signed_in_as: "user@example.com",
        action: "/.pomerium/sign_out",
        cancel: "/",
        hidden,
    };
    let note = Message {
        title: "Your device is registered",
        paragraphs: vec![
            "From now on this device counts as yours.",
            "You may close this page.",
        ],
        actions: vec![Action::new("Open the application", "/")],
        status: None,
    };
    let nobody = UserInfo {
        sign_in_url: Some("/"),
        ..UserInfo::default()
    };
    vec![
        ("account", account(&known)),
        ("account-nobody", pages::user_info(&nobody, &plain)),
        ("portal", pages::portal(&applications(""), &known)),
        ("portal-nothing", pages::portal(&applications("zzz"), &known)),
        ("portal-empty", pages::portal(&Portal::default(), &known)),
        ("sign-in", pages::sign_in(&form, &plain)),
        ("sign-in-failed", pages::sign_in(&failed, &plain)),
        ("sign-out", pages::sign_out_confirm(&confirm, &plain)),
        (
            "signed-out",
            pages::signed_out(
                &SignedOut {
                    sign_in_url: Some("/"),
                },
                &plain,
            ),
        ),
        ("message", pages::message(&note, &plain)),
        ("device", pages::device(&asked(None), &known)),
        (
            "device-known",
            pages::device(&asked(Some(&serde_json::Value::Null)), &known),
        ),
    ]
}

fn account(frame: &Frame<'_>) -> Response {
    let claim = |name: &str, values: &[&str]| Claim {
        name: name.into(),
        values: values.iter().copied().map(Into::into).collect(),
    };
    let group = |id: &str, name: &str, source: &str| Group {
        id: id.into(),
        name: name.into(),
        source: source.into(),
    };
    let info = UserInfo {
        session: Some(SessionFacts {
            since: "2026-03-02T08:15:00Z".parse().ok(),
            until: "2026-03-02T22:15:00Z".parse().ok(),
            provider: Some("Local accounts".into()),
            from: Some("203.0.113.9".into()),
            id: "0d0c4c9a-5df4-4f27-a9f0-7d3c6e0e9b61".into(),
            user_id: "auth0|5f7c8ec7c33c6c004bbafe82".into(),
        }),
        name: "Maximiliane-Friederike von Hohenlohe-Waldenburg",
        email: "user@example.com",
        groups: vec![
            group("platform", "platform", "claim groups"),
            group("00g1emaKYZTWRYYRRTSK", "Everyone in engineering", "directory"),
        ],
        claims: vec![
            claim("email_verified", &["true"]),
            claim("roles", &["reader", "writer"]),
            claim(
                "https://claims.example.com/a-very-long-name/that-does-not-end",
                &["a-value-without-any-blank-that-is-longer-than-a-phone-is-wide-0123456789"],
            ),
        ],
        devices: Some(Devices {
            list: vec![device(true), device(false)],
            remove_url: Some("/.pomerium/webauthn".into()),
        }),
        sign_out_url: "/.pomerium/sign_out",
        ..UserInfo::default()
    };
    pages::user_info(&info, frame)
}

fn asked(request: Option<&serde_json::Value>) -> DevicePage<'_> {
    DevicePage {
        application: "Quarterly reports",
        action: "/.pomerium/webauthn",
        creation: &serde_json::Value::Null,
        request,
        own_device: request.is_some(),
    }
}

fn device(approved: bool) -> Device {
    Device {
        id: "8Ds2nXzSgGtZpJ5CTBBZGkH1nJyrwqXy8Ds2nXzSgGtZpJ5CTBBZGkH1nJyrwqXy".into(),
        kind: "Any".into(),
        since: "2026-03-02T08:16:00Z".parse().ok(),
        browser: "Mozilla/5.0 (X11; Linux x86_64) Example/1.0".into(),
        approved,
        here: approved,
    }
}

fn applications(search: &str) -> Portal<'_> {
    let web = |name: &str, host: &str, description: &str| PortalRoute {
        name: name.into(),
        host: host.into(),
        description: description.into(),
        url: Some(format!("https://{host}/")),
        ..PortalRoute::default()
    };
    let tunnel = PortalRoute {
        name: "Warehouse database".into(),
        host: "db.example.com:5432".into(),
        connect_command: Some("pomerium-cli tcp db.example.com:5432".into()),
        ..PortalRoute::default()
    };
    let routes = vec![
        web(
            "Quarterly reports",
            "reports.example.com",
            "Figures of the last eight quarters.",
        ),
        web("Wiki", "wiki.example.com", ""),
        tunnel,
    ];
    Portal { search, routes }
}

fn write_assets(folder: &Path, site: &Site) -> Result<(), Box<dyn Error>> {
    for path in [
        site.assets.style(),
        site.assets.theme(),
        site.assets.script(),
        site.assets.device(),
        site.assets.icon(),
    ] {
        let file = site.assets.get(path).ok_or("asset without content")?;
        write(folder, path.trim_start_matches('/'), file)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, response: Response) -> Result<(), Box<dyn Error>> {
    let body =
        futures_util::FutureExt::now_or_never(response.into_body().collect()).ok_or("body is not ready")?;
    let body = body.map_err(|error| error.to_string())?;
    Ok(fs::write(folder.join(name), body.to_bytes())?)
}
