//! `/.pomerium/`: who I am, my session, my groups and claims; never a token (spec authentication.md 13, 19).

use http::Method;
use pomerium_api::pb::session::Session;
use pomerium_api::records::from_proto_time;
use pomerium_authorize::{Principal, json_claims, stringify};
use pomerium_policy::Claims;
use pomerium_web::Response;
use pomerium_web::pages::{self, Claim, ClaimValue, Device, Devices, SessionFacts, UserInfo};

use super::{device, person};
use crate::call::Call;
use crate::device::kind::Kind;
use crate::device::store::{self, Known};
use crate::{Authenticate, Error, reply, service};

impl Authenticate {
    /// On a route: shows who is signed in there, and does not force anybody to sign in.
    pub(crate) async fn who_am_i(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let Some(principal) = call.context.principal.as_deref() else {
            return Ok(self.nobody(call));
        };
        let Some(session) = principal.session.as_deref() else {
            return Ok(self.nobody(call));
        };
        let mut devices = self.own_devices(&session.session).await;
        let own = principal.impersonator.is_none();
        if let Some(devices) = devices.as_mut().filter(|_| own) {
            devices.remove_url = Some(device::removal(self, call));
        }
        Ok(self.somebody(call, &session.session, principal, devices))
    }

    /// On the authenticate host: signs in first.
    pub(crate) async fn who_am_i_here(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let signed = self.options.verify_link(call).is_ok();
        match self.verify(call, None).await? {
            // Parameters of a sign-in that is over.
            Ok(_) if !call.query.is_empty() => Ok(reply::redirect("/.pomerium/")),
            Ok(live) => {
                let (broker, session) = (&*self.deps.broker, &live.session);
                let found = person::of_session(broker, session, &self.options.groups_claim).await?;
                let Some(principal) = found else {
                    return Ok(self.nobody(call));
                };
                let devices = self.own_devices(session).await;
                Ok(self.somebody(call, session, &principal, devices))
            }
            Err(missing) => {
                let provider = self.providers.default_one().ok_or(Error::NoProvider)?;
                self.start_login(call, provider, &missing, (signed, None)).await
            }
        }
    }

    fn nobody(&self, call: &Call) -> Response {
        let sign_in = self.sign_in_link(&call.url(), call.context.route.as_deref(), call.now);
        let has_provider = call
            .context
            .route
            .as_ref()
            .map_or(self.options.idp.is_some(), |route| route.idp.is_some());
        let sign_in_url = has_provider.then_some(sign_in.as_str());
        let page = UserInfo {
            sign_in_url,
            sign_out_url: "/.pomerium/sign_out",
            ..UserInfo::default()
        };
        pages::user_info(&page, &self.frame(call))
    }

    /// The devices of a session's owner; none when they cannot be looked up, which is no reason to show nothing.
    async fn own_devices(&self, session: &Session) -> Option<Devices> {
        match store::devices(&*self.deps.broker, &session.user_id).await {
            Ok(known) => Some(Devices {
                list: known.iter().map(|device| row(device, session)).collect(),
                remove_url: None,
            }),
            Err(error) => {
                tracing::warn!(%error, "the devices of a person cannot be shown");
                None
            }
        }
    }

    fn somebody(
        &self,
        call: &Call,
        session: &Session,
        principal: &Principal,
        devices: Option<Devices>,
    ) -> Response {
        let user = principal.user.as_ref().map(|entry| &entry.user);
        let mut claims = json_claims(&session.claims);
        claims.extend(user.map(|user| json_claims(&user.claims)).unwrap_or_default());
        let first = |name: &str| {
            claims
                .get(name)
                .and_then(|values| values.first())
                .and_then(stringify)
        };
        let name = user
            .map(|user| user.name.clone())
            .filter(|name| !name.is_empty())
            .or_else(|| first("name"));
        let email = Some(principal.email.clone())
            .filter(|email| !email.is_empty())
            .or_else(|| first("email"));
        let picture = first("picture");
        let page = UserInfo {
            session: Some(self.facts(session)),
            name: name.as_deref().unwrap_or_default(),
            email: email.as_deref().unwrap_or_default(),
            picture: picture.as_deref(),
            impersonated: principal.impersonator.is_some(),
            groups: person::groups(principal),
            claims: listed(&claims),
            devices,
            sign_out_url: "/.pomerium/sign_out",
            sign_in_url: None,
        };
        pages::user_info(&page, &self.signed_in_frame(call))
    }

    fn facts(&self, session: &Session) -> SessionFacts {
        let provider = self
            .providers
            .get(&session.idp_id)
            .map(crate::providers::Provider::title);
        SessionFacts {
            since: session.issued_at.as_ref().and_then(from_proto_time),
            until: session.expires_at.as_ref().and_then(from_proto_time),
            provider,
            from: Some(session.client_address.clone()).filter(|address| !address.is_empty()),
            id: session.id.clone(),
            user_id: session.user_id.clone(),
        }
    }
}

/// A device as its owner sees it.
fn row(device: &Known, session: &Session) -> Device {
    let enrollment = device.enrollment.clone().unwrap_or_default();
    Device {
        id: device.credential.id.clone(),
        kind: Kind::built_in(&device.credential.type_id).name,
        since: enrollment.enrolled_at.as_ref().and_then(from_proto_time),
        browser: enrollment.user_agent,
        approved: !enrollment.approved_by.is_empty(),
        here: store::shown(session).any(|shown| shown == device.credential.id),
    }
}

fn listed(claims: &Claims) -> Vec<Claim> {
    let mut listed: Vec<Claim> = claims
        .iter()
        .map(|(name, values)| Claim {
            name: name.clone(),
            values: values.iter().filter_map(|value| readable(name, value)).collect(),
        })
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed
}

/// Claims that are moments, in Unix seconds (RFC 7519 section 4.1, OpenID Connect Core 2 and 5.1).
const MOMENTS: [&str; 5] = ["exp", "iat", "nbf", "auth_time", "updated_at"];

/// A value as people read it: moments as such, whole numbers with all their digits.
fn readable(name: &str, value: &serde_json::Value) -> Option<ClaimValue> {
    let number = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "whole and far below the limit of i64, as just checked"
    )]
    let whole = number.map(|number| number as i64);
    let moment = whole
        .filter(|_| MOMENTS.contains(&name))
        .and_then(|unix| jiff::Timestamp::from_second(unix).ok());
    match (moment, whole) {
        (Some(at), _) => Some(ClaimValue::Moment(at)),
        (None, Some(whole)) => Some(ClaimValue::Text(whole.to_string())),
        (None, None) => stringify(value).map(ClaimValue::Text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ClaimValue, readable};

    #[test]
    fn moments_and_numbers_are_readable() {
        let at = "2026-11-23T05:48:32Z".parse().unwrap();
        assert_eq!(
            readable("exp", &json!(1_795_412_912.0)),
            Some(ClaimValue::Moment(at))
        );
        for (name, value, text) in [
            ("employee", json!(1_234_567.0), "1234567"),
            ("exp", json!(8e15), "8000000000000000"),
            ("name", json!("User"), "User"),
            ("email_verified", json!(true), "true"),
        ] {
            assert_eq!(
                readable(name, &value),
                Some(ClaimValue::Text(text.into())),
                "{name}"
            );
        }
    }
}
