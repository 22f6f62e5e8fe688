//! Server reflection: which services there are, and what their messages look like.
//!
//! What is not known is an answer within the stream, after which the caller asks on, as the protocol has it. The two
//! versions of the protocol are the same messages under two names: the former name is served by the later one.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use pomerium_api::described::descriptors;
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use tonic_reflection::pb::{v1, v1alpha};
pub(super) use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// The name of the service, and the one it had before.
pub(super) const NAME: &str = "grpc.reflection.v1.ServerReflection";
pub(super) const FORMER_NAME: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Tells of the services that have these names.
#[derive(Clone)]
pub(super) struct Reflection(Arc<Known>);

struct Known {
    services: BTreeSet<&'static str>,
    pool: DescriptorPool,
}

impl Reflection {
    pub(super) fn new(services: BTreeSet<&'static str>) -> Self {
        let mut pool = descriptors().clone();
        for own in [v1::FILE_DESCRIPTOR_SET, v1alpha::FILE_DESCRIPTOR_SET] {
            if let Err(error) = pool.decode_file_descriptor_set(own) {
                tracing::error!(%error, "server reflection cannot describe itself; it tells of everything else");
            }
        }
        Self(Arc::new(Known { services, pool }))
    }
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let known = Arc::clone(&self.0);
        let answers = request
            .into_inner()
            .map(move |asked| asked.map(|asked| known.reply(asked)));
        Ok(Response::new(answers.boxed()))
    }
}

impl Known {
    fn reply(&self, asked: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &asked.message_request {
            Some(question) => self.answer(question),
            None => Err(failed(Code::InvalidArgument, "the request asks for nothing")),
        };
        ServerReflectionResponse {
            valid_host: asked.host.clone(),
            original_request: Some(asked),
            message_response: Some(answer.unwrap_or_else(Answer::ErrorResponse)),
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, ErrorResponse> {
        let unknown = |what: &str, name: &str| failed(Code::NotFound, &format!("no {what} {name:?} here"));
        let file = |found: Option<FileDescriptor>, what, name: &str| {
            let file = found.ok_or_else(|| unknown(what, name))?;
            Ok(Answer::FileDescriptorResponse(FileDescriptorResponse {
                file_descriptor_proto: vec![file.encode_to_vec()],
            }))
        };
        match question {
            Question::FileByFilename(name) => file(self.pool.get_file_by_name(name), "file", name),
            Question::FileContainingSymbol(name) => file(self.file_of(name), "symbol", name),
            Question::FileContainingExtension(asked) => {
                let number = u32::try_from(asked.extension_number).unwrap_or_default();
                let message = self.pool.get_message_by_name(&asked.containing_type);
                let found = message.and_then(|message| message.get_extension(number));
                let found = found.map(|extension| extension.parent_file());
                file(found, "extension", &format!("{} {number}", asked.containing_type))
            }
            Question::AllExtensionNumbersOfType(name) => {
                let message = self.pool.get_message_by_name(name);
                let message = message.ok_or_else(|| unknown("type", name))?;
                let numbers = message.extensions().map(|extension| extension.number());
                Ok(Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: numbers.filter_map(|number| number.try_into().ok()).collect(),
                }))
            }
            Question::ListServices(_) => {
                let named = |name: &&str| ServiceResponse {
                    name: (*name).to_owned(),
                };
                Ok(Answer::ListServicesResponse(ListServiceResponse {
                    service: self.services.iter().map(named).collect(),
                }))
            }
        }
    }

    /// Where a service, message, enumeration, extension, or a part of one of them is described.
    fn file_of(&self, name: &str) -> Option<FileDescriptor> {
        let whole = self.file_of_whole(name);
        whole.or_else(|| {
            let (whole, part) = name.rsplit_once('.')?;
            self.has(whole, part).then(|| self.file_of_whole(whole)).flatten()
        })
    }

    fn file_of_whole(&self, name: &str) -> Option<FileDescriptor> {
        let pool = &self.pool;
        let service = || pool.get_service_by_name(name).map(|found| found.parent_file());
        let message = || pool.get_message_by_name(name).map(|found| found.parent_file());
        let one_of = || pool.get_enum_by_name(name).map(|found| found.parent_file());
        let extension = || pool.get_extension_by_name(name).map(|found| found.parent_file());
        service().or_else(message).or_else(one_of).or_else(extension)
    }

    fn has(&self, whole: &str, part: &str) -> bool {
        let pool = &self.pool;
        let service = pool.get_service_by_name(whole);
        let message = pool.get_message_by_name(whole);
        let one_of = pool.get_enum_by_name(whole);
        service.is_some_and(|service| service.methods().any(|method| method.name() == part))
            || message.is_some_and(|message| {
                message.get_field_by_name(part).is_some()
                    || message.oneofs().any(|oneof| oneof.name() == part)
            })
            || one_of.is_some_and(|one_of| one_of.values().any(|value| value.name() == part))
    }
}

fn failed(code: Code, what: &str) -> ErrorResponse {
    ErrorResponse {
        error_code: code.into(),
        error_message: what.to_owned(),
    }
}
