//! Members of a group over gRPC: who answers, who refuses, and what happens when they disagree about who leads
//! (spec databroker.md 10.4, 18 J).

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::clock::{Clock, ManualClock};
use pomerium_api::databroker::remote::Remote;
use pomerium_api::databroker::{Databroker, Error};
use pomerium_api::pb::databroker as pb;
use pomerium_api::pb::databroker::checkpoint_service_client::CheckpointServiceClient;
use pomerium_api::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use pomerium_crypto::service_token;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::Served;
use super::tests::support::{Running, SECRET, client, http1, own_token, serve_on, services, transport};
use crate::MemoryStore;
use crate::cluster::{Leader, Member, Node, Role};
use crate::conformance::{CATS, Subject, all_latest, record};

/// A listener that nobody answers at yet.
struct Place(TcpListener);

impl Place {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn channel(&self) -> Channel {
        let address = self.0.local_addr().unwrap();
        Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy()
    }

    fn serve(self, served: Served, clock: &ManualClock) -> Running {
        serve_on(self.0, services(served, Arc::new(clock.clone())))
    }
}

fn leader_at(channel: Channel, clock: &ManualClock, own_id: &str) -> Leader {
    let remote = Remote::forwarding(
        transport(channel),
        own_token(clock.clone()),
        Duration::from_secs(10),
        own_id,
    );
    Leader {
        broker: Arc::new(remote.unwrap()),
        place: "http://leader.example.com".into(),
    }
}

fn node(channel: Channel, clock: &ManualClock, id: &str) -> Arc<Node<MemoryStore>> {
    Node::follow(
        MemoryStore::new(),
        Arc::new(clock.clone()),
        leader_at(channel, clock, id),
        id,
    )
}

/// What a member serves.
fn served(node: &Arc<Node<MemoryStore>>) -> Served {
    let member = Arc::clone(node) as Arc<dyn Member>;
    Served::Member {
        broker: Arc::clone(node) as Arc<dyn Databroker>,
        member: Arc::downgrade(&member),
    }
}

fn request<T>(message: T, clock: &ManualClock, mode: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let token = service_token::sign(&SECRET, clock.now().as_second());
    request.metadata_mut().insert("jwt", token.parse().unwrap());
    if let Some(mode) = mode {
        request
            .metadata_mut()
            .insert("pomerium-cluster-request-mode", mode.parse().unwrap());
    }
    request
}

fn get(id: &str) -> pb::GetRequest {
    pb::GetRequest {
        r#type: CATS.into(),
        id: id.into(),
    }
}

fn put(id: &str) -> pb::PutRequest {
    pb::PutRequest {
        records: vec![record(CATS, id, "x")],
    }
}

fn refused<T>(result: Result<T, Status>, code: Code, reason: &str) {
    let status = result.err().expect("it is refused");
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().starts_with(&format!("{reason}: ")), "{status}");
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(
        details.contains("google.rpc.ErrorInfo") && details.contains("pomerium.com"),
        "{details}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_say_who_is_to_answer() {
    let leading = Subject::new(MemoryStore::new());
    let clock = &leading.clock;
    let (first, second) = (Place::new().await, Place::new().await);
    let (to_leader, to_follower) = (first.channel(), second.channel());
    let follower = node(to_leader.clone(), clock, "b");
    let _first = first.serve(Served::from(Arc::clone(&leading.broker)), clock);
    let _second = second.serve(served(&follower), clock);
    leading.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let goal = leading.broker.versions().await.unwrap();
    let mut status = follower.status();
    status
        .wait_for(|status| status.role == Role::Follows && status.copied == goal)
        .await
        .unwrap();

    let mut client = DataBrokerServiceClient::new(to_follower.clone());
    for mode in [None, Some("default"), Some("local")] {
        assert!(
            client.get(request(get("tom"), clock, mode)).await.is_ok(),
            "{mode:?}"
        );
    }
    refused(
        client.get(request(get("tom"), clock, Some("leader"))).await,
        Code::FailedPrecondition,
        "NODE_IS_NOT_LEADER",
    );
    refused(
        client.get(request(get("tom"), clock, Some("any"))).await,
        Code::InvalidArgument,
        "UNKNOWN_CLUSTER_REQUEST_MODE",
    );
    for mode in [None, Some("default")] {
        client.put(request(put("kit"), clock, mode)).await.unwrap();
    }
    for mode in ["leader", "local"] {
        refused(
            client.put(request(put("x"), clock, Some(mode))).await,
            Code::FailedPrecondition,
            "NODE_IS_NOT_LEADER",
        );
        let options = pb::GetOptionsRequest { r#type: CATS.into() };
        refused(
            client.get_options(request(options, clock, Some(mode))).await,
            Code::FailedPrecondition,
            "NODE_IS_NOT_LEADER",
        );
        refused(
            client.clear(request((), clock, Some(mode))).await,
            Code::FailedPrecondition,
            "NODE_IS_NOT_LEADER",
        );
    }
    assert!(
        leading.broker.get(CATS, "kit").await.is_ok(),
        "what was passed on is at the leader"
    );
    assert_eq!(leading.broker.get(CATS, "x").await, Err(Error::NotFound));

    let goal = leading.broker.versions().await.unwrap();
    status.wait_for(|status| status.copied == goal).await.unwrap();
    for (channel, leads) in [(to_leader, true), (to_follower, false)] {
        let mut client = CheckpointServiceClient::new(channel);
        let answer = client
            .get_checkpoint(request(pb::GetCheckpointRequest {}, clock, None))
            .await
            .unwrap()
            .into_inner();
        let checkpoint = answer.checkpoint.unwrap();
        assert_eq!(answer.is_leader, leads);
        assert_eq!(
            (checkpoint.server_version, checkpoint.record_version),
            (goal.server_version, goal.latest_record_version)
        );
        let set = pb::SetCheckpointRequest::default();
        refused(
            client.set_checkpoint(request(set, clock, None)).await,
            Code::Unimplemented,
            "SET_CHECKPOINT_NOT_SUPPORTED",
        );
    }
}

/// The management service goes by the same header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_the_management_service_say_who_is_to_answer() {
    let leading = Subject::new(MemoryStore::new());
    let clock = &leading.clock;
    let (first, second) = (Place::new().await, Place::new().await);
    let follower = node(first.channel(), clock, "b");
    let address = second.0.local_addr().unwrap();
    let _first = first.serve(Served::from(Arc::clone(&leading.broker)), clock);
    let _second = second.serve(served(&follower), clock);
    let call = async |call: &str, mode: Option<&str>, message: serde_json::Value| {
        let token = service_token::sign(&SECRET, clock.now().as_second());
        let mut request = http::Request::post(format!("/pomerium.config.ConfigService/{call}"))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer Pomerium-{token}"));
        if let Some(mode) = mode {
            request = request.header("pomerium-cluster-request-mode", mode);
        }
        let reply = http1(address, request.body(message.to_string().into()).unwrap()).await;
        (reply.status.is_success(), reply.json().to_string())
    };
    let policy = json!({"policy": {"id": "p", "name": "n", "description": "d"}});
    let (created, answer) = call("CreatePolicy", None, policy.clone()).await;
    assert!(created, "{answer}");
    let goal = leading.broker.versions().await.unwrap();
    assert_eq!(
        goal.latest_record_version, 1,
        "what was passed on is at the leader"
    );
    let mut status = follower.status();
    status
        .wait_for(|status| status.role == Role::Follows && status.copied == goal)
        .await
        .unwrap();

    let reads = [("GetPolicy", json!({"id": "p"})), ("ListPolicies", json!({}))];
    let writes = [
        ("CreatePolicy", policy.clone()),
        ("UpdatePolicy", policy),
        ("DeletePolicy", json!({"id": "p"})),
    ];
    for (name, message) in &reads {
        for mode in [None, Some("default"), Some("local")] {
            let (answered, answer) = call(name, mode, message.clone()).await;
            assert!(answered && answer.contains("\"p\""), "{name} {mode:?}: {answer}");
        }
    }
    for (name, message) in reads.iter().chain(&writes) {
        for (mode, reason) in [
            ("leader", "NODE_IS_NOT_LEADER"),
            ("any", "UNKNOWN_CLUSTER_REQUEST_MODE"),
        ] {
            let (answered, answer) = call(name, Some(mode), message.clone()).await;
            assert!(!answered && answer.contains(reason), "{name} {mode}: {answer}");
        }
    }
    for (name, message) in &writes {
        let (answered, answer) = call(name, Some("local"), message.clone()).await;
        assert!(
            !answered && answer.contains("NODE_IS_NOT_LEADER"),
            "{name}: {answer}"
        );
    }
    assert_eq!(leading.broker.versions().await, Ok(goal));

    leading.server.close();
    for (name, message) in &reads {
        let (answered, answer) = call(name, Some("local"), message.clone()).await;
        assert!(answered && answer.contains("\"p\""), "{name}: {answer}");
        assert!(
            !call(name, None, message.clone()).await.0,
            "{name} asks the leader"
        );
    }
}

/// The leader is killed; a follower takes its place while another one still asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_over_with_what_it_has() {
    let leading = Subject::new(MemoryStore::new());
    let clock = &leading.clock;
    let (first, second) = (Place::new().await, Place::new().await);
    let (to_leader, to_follower) = (first.channel(), second.channel());
    let follower = node(to_leader, clock, "b");
    let running = first.serve(Served::from(Arc::clone(&leading.broker)), clock);
    let _second = second.serve(served(&follower), clock);
    for i in 0..50 {
        leading
            .broker
            .put(vec![record(CATS, &i.to_string(), "x")])
            .await
            .unwrap();
    }
    let goal = leading.broker.versions().await.unwrap();
    let mut status = follower.status();
    status
        .wait_for(|status| status.role == Role::Follows && status.copied == goal)
        .await
        .unwrap();
    let client = client(to_follower.clone(), own_token(clock.clone()));
    drop(running);
    leading.server.close();
    status
        .wait_for(|status| matches!(status.role, Role::Alone(_)))
        .await
        .unwrap();
    let failed = client.put(vec![record(CATS, "new", "x")]).await.unwrap_err();
    assert!(
        matches!(&failed, Error::Unavailable(why) if why.contains("leader.example.com")),
        "{failed}"
    );
    let mut raw = DataBrokerServiceClient::new(to_follower);
    assert!(
        raw.get(request(get("7"), clock, Some("local"))).await.is_ok(),
        "the copy still answers"
    );

    follower.promote(false).await.unwrap();
    client.put(vec![record(CATS, "new", "x")]).await.unwrap();
    assert_eq!(all_latest(&*client, CATS).await.0.len(), 51);
    assert!(
        raw.get(request(get("7"), clock, Some("leader"))).await.is_ok(),
        "now it leads"
    );
}

/// Each takes the other for the leader: calls end with an error instead of going round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_followers_is_noticed() {
    let clock = &ManualClock::new(jiff::Timestamp::from_second(1_000_000).unwrap());
    let (first, second, third) = (Place::new().await, Place::new().await, Place::new().await);
    let to = [first.channel(), second.channel(), third.channel()];
    let members = [
        node(to[1].clone(), clock, "a"),
        node(to[0].clone(), clock, "b"),
        node(to[2].clone(), clock, "c"),
    ];
    let _running = [
        first.serve(served(&members[0]), clock),
        second.serve(served(&members[1]), clock),
        third.serve(served(&members[2]), clock),
    ];
    let mut client = DataBrokerServiceClient::new(to[0].clone());
    let status = client.get(request(get("tom"), clock, None)).await.unwrap_err();
    assert!(status.message().contains("NODE_IS_NOT_LEADER"), "{status}");
    let mut client = DataBrokerServiceClient::new(to[2].clone());
    let status = client.get(request(get("tom"), clock, None)).await.unwrap_err();
    assert!(status.message().contains("FORWARDING_CYCLE_DETECTED"), "{status}");
}
