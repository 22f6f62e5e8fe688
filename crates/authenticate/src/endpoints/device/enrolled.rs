//! Where somebody lands who came for the registration alone.

use http::Method;
use pomerium_web::Response;
use pomerium_web::pages::{self, Message};
use pomerium_web::problem::Action;

use crate::call::Call;
use crate::{Authenticate, Error, service};

impl Authenticate {
    /// `/.pomerium/device-enrolled`.
    pub(crate) fn device_enrolled(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let texts = &self.deps.site.texts;
        let page = Message {
            title: texts.device_enrolled,
            paragraphs: vec![texts.device_enrolled_what, texts.device_enrolled_next],
            actions: vec![Action::new(texts.devices_see, "/.pomerium/#devices")],
            status: None,
        };
        Ok(pages::message(&page, &self.frame(call)))
    }
}
