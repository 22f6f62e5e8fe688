//! What the smaller services do: health, reflection, the registry across its wire, checkpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_api::databroker::{Databroker, Service};
use pomerium_api::pb::databroker::checkpoint_service_client::CheckpointServiceClient;
use pomerium_api::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use pomerium_api::pb::databroker::{GetCheckpointRequest, GetRequest, SetCheckpointRequest};
use pomerium_api::pb::grpc_health::HealthCheckRequest;
use pomerium_api::pb::grpc_health::health_client::HealthClient;
use pomerium_api::pb::health::health_notifier_client::HealthNotifierClient;
use pomerium_api::pb::health::{HealthStreamRequest, OverallStatus};
use pomerium_crypto::service_token;
use tonic::Request;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::support::{Running, SECRET, channel, client, own_token, serve, services};
use crate::{MemoryStore, Server};

async fn start() -> (std::net::SocketAddr, Running) {
    let clock = Arc::new(SystemClock);
    let server = Server::start(MemoryStore::new(), clock.clone());
    serve(services(server as Arc<dyn Databroker>, clock)).await
}

fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = service_token::sign(&SECRET, SystemClock.now().as_second());
    request.metadata_mut().insert("jwt", token.parse().unwrap());
    request
}

#[tokio::test]
async fn anybody_may_ask_whether_it_answers() {
    let (address, _running) = start().await;
    let mut health = HealthClient::new(channel(address));
    for service in ["", "pomerium-databroker", "pomerium.config.ConfigService"] {
        let service = service.to_owned();
        let request = HealthCheckRequest { service };
        let answer = health.check(request.clone()).await.unwrap();
        assert_eq!(answer.metadata().get("x-pomerium-version").unwrap(), "1.2.3-test");
        assert_eq!(answer.into_inner().status, 1);
        let mut watched = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    }
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = health.check(ask("pomerium-proxy")).await.unwrap();
    assert_eq!(answer.into_inner().status, 2, "it has not begun");
    let answer = health.check(ask("pomerium-authorize")).await;
    assert_eq!(answer.unwrap_err().code(), tonic::Code::NotFound);
    let mut watched = health.watch(ask("authorize")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 3);
}

#[tokio::test]
async fn the_parts_are_told_at_once() {
    let (address, _running) = start().await;
    let mut notifier = HealthNotifierClient::new(channel(address));
    let stream = notifier
        .sync_health(signed(HealthStreamRequest {}))
        .await
        .unwrap();
    let first = stream.into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.overall_status(), OverallStatus::Starting);
    assert_eq!(first.required, ["proxy.service", "storage.backend"]);
}

#[tokio::test]
async fn checkpoints_and_services_cross_the_wire() {
    let (address, _running) = start().await;
    let broker = client(channel(address), own_token(SystemClock));
    let mut checkpoints = CheckpointServiceClient::new(channel(address));
    let checkpoint = checkpoints.get_checkpoint(signed(GetCheckpointRequest {}));
    let checkpoint = checkpoint.await.unwrap().into_inner();
    assert!(checkpoint.is_leader && checkpoint.checkpoint.is_some());
    let set = checkpoints.set_checkpoint(signed(SetCheckpointRequest { checkpoint: None }));
    assert_eq!(set.await.unwrap_err().code(), tonic::Code::Unimplemented);

    let mut watched = broker.watch_services(vec![4]).await.unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap(), vec![]);
    let service = |kind, endpoint: &str| Service {
        kind,
        endpoint: endpoint.into(),
    };
    let all = vec![
        service(1, "https://a.example.com"),
        service(4, "https://b.example.com"),
    ];
    let again = broker.report(all.clone()).await.unwrap();
    assert_eq!(again.as_secs(), 15);
    assert_eq!(watched.next().await.unwrap().unwrap(), all[1..]);
    assert_eq!(broker.services(vec![]).await.unwrap(), all);
    let many = vec![service(4, "https://a.example.com"); 1000];
    assert!(broker.report(many).await.is_err());
    assert!(broker.report(vec![service(4, &"x".repeat(5000))]).await.is_err());
}

type Asking = ServerReflectionClient<tonic::transport::Channel>;

/// What is asked on one stream is answered on it, one after the other.
async fn ask_all(client: &mut Asking, questions: Vec<MessageRequest>) -> Vec<MessageResponse> {
    let requests = questions.into_iter().map(|question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    });
    let request = signed(futures_util::stream::iter(requests.collect::<Vec<_>>()));
    let answers = client.server_reflection_info(request).await.unwrap().into_inner();
    answers
        .map(|answer| answer.unwrap().message_response.unwrap())
        .collect()
        .await
}

async fn ask(client: &mut Asking, question: MessageRequest) -> MessageResponse {
    ask_all(client, vec![question]).await.remove(0)
}

#[tokio::test]
async fn tools_learn_which_services_there_are_and_what_they_say() {
    let (address, _running) = start().await;
    let mut client = ServerReflectionClient::new(channel(address));
    let answer = ask(&mut client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    let expected = [
        "databroker.CheckpointService",
        "databroker.DataBrokerService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "health.HealthNotifier",
        "pomerium.config.ConfigService",
        "registry.Registry",
    ];
    let ours: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(ours, expected, "and nothing that is for this program alone");
    let parts = [
        "pomerium.config.Settings",
        "session.Session",
        "session.Session.user_id",
    ];
    let calls = ["databroker.DataBrokerService.Put", "registry.ServiceKind.PROXY"];
    for symbol in expected.into_iter().chain(parts).chain(calls) {
        let answer = ask(&mut client, MessageRequest::FileContainingSymbol(symbol.into())).await;
        assert!(
            matches!(answer, MessageResponse::FileDescriptorResponse(_)),
            "{symbol}: {answer:?}"
        );
    }
}

/// A tool that asks for several things gets the rest of them.
#[tokio::test]
async fn what_is_not_known_is_an_answer_among_others() {
    use tonic_reflection::pb::v1::ExtensionRequest;

    let (address, _running) = start().await;
    let mut client = ServerReflectionClient::new(channel(address));
    let extension = ExtensionRequest {
        containing_type: "session.Session".into(),
        extension_number: 1000,
    };
    let questions = vec![
        MessageRequest::FileContainingSymbol("no.Such".into()),
        MessageRequest::FileContainingSymbol("session.Session.nothing".into()),
        MessageRequest::FileByFilename("no_such.proto".into()),
        MessageRequest::FileContainingExtension(extension),
        MessageRequest::AllExtensionNumbersOfType("no.Such".into()),
        MessageRequest::AllExtensionNumbersOfType("session.Session".into()),
        MessageRequest::FileContainingSymbol("session.Session".into()),
    ];
    let answers = ask_all(&mut client, questions).await;
    let codes: Vec<Option<i32>> = answers
        .iter()
        .map(|answer| match answer {
            MessageResponse::ErrorResponse(error) => Some(error.error_code),
            _ => None,
        })
        .collect();
    assert_eq!(codes[..5], [Some(5); 5], "NOT_FOUND: {answers:?}");
    assert_eq!(codes[5..], [None, None], "{answers:?}");
}

/// Tools of before the service had its name of today.
#[tokio::test]
async fn the_former_name_of_reflection_is_served() {
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;

    let (address, _running) = start().await;
    let request = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request = signed(futures_util::stream::iter([request]));
    let mut client = ServerReflectionClient::new(channel(address));
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(
        matches!(answer, Some(MessageResponse::ListServicesResponse(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_message_that_is_too_large_has_the_code_of_grpc() {
    let (address, _running) = start().await;
    let mut records = DataBrokerServiceClient::new(channel(address));
    let request = GetRequest {
        r#type: "x".repeat(5 << 20),
        id: "x".into(),
    };
    let status = records.get(signed(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("4194304"), "{status:?}");
}
