//! What the original asserts of its management service (spec config-api.md 6), over every store, and what hostile
//! callers try.
#![allow(
    clippy::cognitive_complexity,
    clippy::too_many_lines,
    reason = "each test is one story of many steps, told in order"
)]

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::Databroker;
use prost_reflect::{DeserializeOptions, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::*;
use crate::conformance::Subject;
use crate::grpc::tests::support::SECRET;
use crate::{FileStore, MemoryStore, Store};

/// The service by names and JSON, as its callers see it.
struct Desk {
    manager: Manager,
    broker: Arc<dyn Databroker>,
    clock: ManualClock,
}

impl Desk {
    fn new<S: Store>(subject: &Subject<S>) -> Self {
        let broker = Arc::clone(&subject.broker);
        let clock = subject.clock.clone();
        let manager = Manager::new(
            Arc::clone(&broker).into(),
            crate::grpc::tests::support::validate(),
            Arc::new(clock.clone()),
            Some(SECRET),
            ("1.2.3-test".into(), crate::grpc::tests::support::log_fields()),
        );
        Self {
            manager,
            broker,
            clock,
        }
    }

    async fn call(&self, name: &str, request: Value) -> Result<Value, Status> {
        let operation = self.manager.operation(name).expect(name);
        let options = DeserializeOptions::new();
        let request = DynamicMessage::deserialize_with_options(operation.input(), request, &options)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let answer = self.manager.call(operation, &MetadataMap::new(), request).await?;
        let options = SerializeOptions::new();
        Ok(answer
            .serialize_with_options(serde_json::value::Serializer, &options)
            .unwrap())
    }

    async fn ok(&self, name: &str, request: Value) -> Value {
        self.call(name, request.clone())
            .await
            .unwrap_or_else(|status| panic!("{name} {request}: {status}"))
    }

    async fn code(&self, name: &str, request: Value) -> Code {
        match self.call(name, request.clone()).await {
            Ok(answer) => panic!("{name} {request}: {answer}"),
            Err(status) => status.code(),
        }
    }
}

/// A kind: its name, the plural, the field, the list, and an entity that may be kept.
struct Sort {
    name: &'static str,
    plural: &'static str,
    field: &'static str,
    list: &'static str,
    entity: Value,
    /// Two fields of text that one can change.
    texts: &'static str,
}

fn sorts() -> [Sort; 4] {
    let sort = |name, plural, field, list, texts, entity| Sort {
        name,
        plural,
        field,
        list,
        entity,
        texts,
    };
    [
        sort(
            "KeyPair",
            "KeyPairs",
            "keyPair",
            "keyPairs",
            "name",
            json!({"name": "n", "key": "a2V5"}),
        ),
        sort(
            "Policy",
            "Policies",
            "policy",
            "policies",
            "description",
            json!({"name": "n", "description": "d"}),
        ),
        sort(
            "Route",
            "Routes",
            "route",
            "routes",
            "description",
            json!({"name": "n", "from": "https://a.example.com", "to": ["http://up.example.com"],
                   "allowAnyAuthenticatedUser": true, "description": "d"}),
        ),
        sort(
            "ServiceAccount",
            "ServiceAccounts",
            "serviceAccount",
            "serviceAccounts",
            "description",
            json!({"description": "d", "userId": "u1"}),
        ),
    ]
}

/// How many entities the lists are of.
const MANY: usize = 1000;

async fn entities_are_managed<S: Store>(subject: Subject<S>) {
    let desk = Desk::new(&subject);
    for sort in sorts() {
        manage_one_kind(&desk, &sort).await;
    }
}

async fn manage_one_kind(desk: &Desk, sort: &Sort) {
    let (create, get, update, delete) = (
        format!("Create{}", sort.name),
        format!("Get{}", sort.name),
        format!("Update{}", sort.name),
        format!("Delete{}", sort.name),
    );
    let list = format!("List{}", sort.plural);
    let of = |entity: &Value| json!({sort.field: entity});
    let with = |id: &str, fields: Value| {
        let mut entity = sort.entity.clone();
        entity["id"] = id.into();
        for (name, value) in fields.as_object().unwrap() {
            entity[name] = value.clone();
        }
        entity
    };
    let first = desk.ok(&list, json!({})).await;
    assert_eq!(first, json!({}), "empty at first");
    let creates = (0..MANY).map(|i| desk.ok(&create, of(&with(&format!("id-{i:04}"), json!({})))));
    // Several at once, as many as a store has hands for.
    let created: Vec<Value> = stream::iter(creates).buffered(16).collect().await;
    assert!(
        created
            .iter()
            .all(|reply| reply[sort.field]["modifiedAt"].is_string())
    );
    assert_eq!(created[0].get("jwt").is_some(), sort.name == "ServiceAccount");
    assert_eq!(
        created[0][sort.field].get("createdAt").is_some(),
        sort.name != "ServiceAccount"
    );
    assert_eq!(
        desk.code(&create, of(&with("id-0001", json!({})))).await,
        Code::AlreadyExists
    );

    let page = desk.ok(&list, json!({"limit": 10, "orderBy": "-id"})).await;
    assert_eq!(page["totalCount"], "1000");
    let items = page[sort.list].as_array().unwrap();
    assert_eq!(items.len(), 10);
    assert_eq!(items[0]["id"], "id-0999");
    let one = desk.ok(&get, json!({"id": "id-0999"})).await;
    assert_eq!(one[sort.field], items[0]);
    let found = desk.ok(&list, json!({"filter": {"id": "id-0500"}})).await;
    assert_eq!(found["totalCount"], "1");
    assert_eq!(found[sort.list][0]["id"], "id-0500");
    assert_eq!(
        desk.ok(&list, json!({"limit": 0})).await,
        json!({"totalCount": "1000"})
    );
    assert_eq!(
        desk.ok(&list, json!({"offset": 5000})).await,
        json!({"totalCount": "1000"})
    );
    let last = desk.ok(&list, json!({"offset": 999})).await;
    assert_eq!(last[sort.list][0]["id"], "id-0999");

    desk.ok(&delete, json!({"id": "id-nobody"})).await;
    desk.ok(&delete, json!({"id": "id-0000"})).await;
    assert_eq!(desk.ok(&list, json!({"limit": 1})).await["totalCount"], "999");
    assert_eq!(desk.code(&get, json!({"id": "id-0000"})).await, Code::NotFound);
    assert_eq!(desk.code(&get, json!({})).await, Code::InvalidArgument);
    assert_eq!(desk.code(&delete, json!({})).await, Code::InvalidArgument);

    desk.clock.advance(std::time::Duration::from_secs(1));
    let new = with(
        "id-0001",
        json!({sort.texts: "new", "createdAt": "2001-01-01T00:00:00Z"}),
    );
    let updated = desk.ok(&update, of(&new)).await;
    let now = desk.ok(&get, json!({"id": "id-0001"})).await;
    assert_eq!(now[sort.field][sort.texts], "new");
    assert_eq!(updated[sort.field], now[sort.field]);
    assert_ne!(
        now[sort.field]["modifiedAt"],
        created[1][sort.field]["modifiedAt"]
    );
    assert_eq!(
        now[sort.field].get("createdAt"),
        created[1][sort.field].get("createdAt"),
        "kept from the first"
    );
    assert_eq!(updated.get("jwt").is_some(), sort.name == "ServiceAccount");

    let masked = with("id-0001", json!({"originatorId": "me", sort.texts: "not this"}));
    let request = json!({sort.field: masked, "updateMask": "originatorId"});
    let updated = desk.ok(&update, request).await;
    assert_eq!(updated[sort.field]["originatorId"], "me");
    assert_eq!(updated[sort.field][sort.texts], "new");
    let unset = json!({sort.field: {"id": "id-0001"}, "updateMask": "originatorId"});
    let updated = desk.ok(&update, unset).await;
    assert_eq!(updated[sort.field].get("originatorId"), None);
    assert_eq!(updated[sort.field][sort.texts], "new");

    for name in ["createdAt", "modifiedAt"] {
        let entity = with("id-0001", json!({name: "2001-01-01T00:00:00Z"}));
        let request = json!({sort.field: entity, "updateMask": name});
        assert_eq!(desk.code(&update, request).await, Code::InvalidArgument, "{name}");
    }
    for mask in ["nonsense", "id.x", "createdAt.seconds.x"] {
        let request = json!({sort.field: with("id-0001", json!({})), "updateMask": mask});
        assert_eq!(desk.code(&update, request).await, Code::InvalidArgument, "{mask}");
    }
    assert_eq!(
        desk.code(&update, of(&with("id-nobody", json!({})))).await,
        Code::NotFound
    );
    assert_eq!(
        desk.code(&update, of(&sort.entity)).await,
        Code::InvalidArgument,
        "no id"
    );
    for missing in [&create, &update] {
        assert_eq!(desk.code(missing, json!({})).await, Code::InvalidArgument);
    }
    let fresh = desk.ok(&create, of(&sort.entity)).await;
    let id = fresh[sort.field]["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);

    for order in ["nonsense", "name asc", "id,,"] {
        assert_eq!(
            desk.code(&list, json!({"orderBy": order})).await,
            Code::InvalidArgument,
            "{order}"
        );
    }
    assert_eq!(
        desk.code(&list, json!({"filter": {"$or": "x"}})).await,
        Code::InvalidArgument
    );
    assert_eq!(
        desk.code(&list, json!({"filter": {"id": {"$contains": "x"}}}))
            .await,
        Code::Internal
    );
    let none = desk.ok(&list, json!({"filter": {"no_such_field": "x"}})).await;
    assert_eq!(none, json!({}));
}

async fn settings_are_managed<S: Store>(subject: Subject<S>) {
    let desk = Desk::new(&subject);
    let global = "78408adf-56e4-41d0-af6a-ca1b2d8d2cb6";
    let empty = json!({"settings": {"id": global}});
    assert_eq!(desk.ok("GetSettings", json!({})).await, empty);
    assert_eq!(desk.ok("GetSettings", json!({"id": global})).await, empty);
    for other in [
        json!({"id": "other"}),
        json!({"clusterId": "c"}),
        json!({"namespaceId": "n"}),
    ] {
        assert_eq!(desk.code("GetSettings", other).await, Code::NotFound);
    }
    let invalid = json!({"settings": {"services": "<INVALID>"}});
    assert_eq!(desk.code("UpdateSettings", invalid).await, Code::InvalidArgument);
    for name in ["createdAt", "modifiedAt"] {
        let request = json!({"settings": {}, "updateMask": name});
        let refused = desk.call("UpdateSettings", request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("read-only"), "{refused}");
    }
    let set = json!({"settings": {"logLevel": "debug", "name": "ours"}});
    let set = desk.ok("UpdateSettings", set).await;
    assert_eq!(set["settings"]["id"], global);
    assert!(set["settings"]["createdAt"].is_string());
    assert_eq!(desk.ok("GetSettings", json!({})).await, set);
    let masked = json!({"settings": {"logLevel": "info", "name": "not this"}, "updateMask": "logLevel"});
    let masked = desk.ok("UpdateSettings", masked).await;
    assert_eq!(masked["settings"]["logLevel"], "info");
    assert_eq!(masked["settings"]["name"], "ours");
    assert_eq!(masked["settings"]["createdAt"], set["settings"]["createdAt"]);
    let masked_invalid = json!({"settings": {"services": "<INVALID>"}, "updateMask": "services"});
    assert_eq!(
        desk.code("UpdateSettings", masked_invalid).await,
        Code::InvalidArgument
    );
    for name in ["createdAt", "modifiedAt"] {
        let request = json!({"settings": {}, "updateMask": name});
        assert_eq!(desk.code("UpdateSettings", request).await, Code::InvalidArgument);
    }
    desk.ok(
        "UpdateSettings",
        json!({"settings": {"id": "another", "name": "x"}}),
    )
    .await;
    assert_eq!(
        desk.code("GetSettings", json!({"id": "another"})).await,
        Code::NotFound
    );
    let all = desk.ok("ListSettings", json!({"orderBy": "name"})).await;
    assert_eq!(all["totalCount"], "2");
    assert_eq!(all["settings"][0]["name"], "ours");
}

/// Many writers of one entity: each change is there, none is lost.
async fn changes_at_once_are_all_kept<S: Store>(subject: Subject<S>) {
    let desk = Desk::new(&subject);
    desk.ok("CreatePolicy", json!({"policy": {"id": "p"}})).await;
    let fields = [
        "name",
        "description",
        "explanation",
        "remediation",
        "namespaceId",
        "originatorId",
    ];
    let writes = fields.iter().map(|field| {
        let request = json!({"policy": {"id": "p", *field: "x"}, "updateMask": field});
        desk.ok("UpdatePolicy", request)
    });
    futures_util::future::join_all(writes).await;
    let policy = desk.ok("GetPolicy", json!({"id": "p"})).await;
    for field in fields {
        assert_eq!(policy["policy"][field], "x", "{field}");
    }
    let creates = (0..8).map(|i| {
        desk.call(
            "CreatePolicy",
            json!({"policy": {"id": "q", "name": i.to_string()}}),
        )
    });
    let created = futures_util::future::join_all(creates).await;
    assert_eq!(
        created.iter().filter(|reply| reply.is_ok()).count(),
        1,
        "one is first"
    );
}

macro_rules! managed {
    ($store:ident, $subject:expr) => {
        mod $store {
            use super::*;
            managed! { $subject => entities_are_managed settings_are_managed changes_at_once_are_all_kept }
        }
    };
    ($subject:expr => $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _guard) = $subject;
                super::$name(Subject::new(store)).await;
            }
        )*
    };
}

managed!(memory, (MemoryStore::new(), ()));
managed!(file, {
    let folder = tempfile::tempdir().unwrap();
    (FileStore::open(folder.path(), &[[7; 32]]).unwrap(), folder)
});
managed!(postgres, (crate::postgres::tests::fresh_store().await, ()));

fn desk() -> Desk {
    Desk::new(&Subject::new(MemoryStore::new()))
}

#[test]
fn every_call_is_known() {
    let desk = desk();
    let calls: Vec<&Operation> = desk.manager.operations.iter().collect();
    assert_eq!(calls.len(), 25);
    for call in calls {
        let options = call.method().options();
        let level = options
            .get_field_by_name("idempotency_level")
            .and_then(|level| level.as_enum_number());
        assert_eq!(call.is_free(), level == Some(1), "{}", call.method().name());
        let Some(kind) = &call.kind else { continue };
        let mut given = DynamicMessage::new(call.input());
        if call.verb == Verb::Create || call.verb == Verb::Update {
            let entity = prost_reflect::Value::Message(DynamicMessage::new(kind.entity.clone()));
            given.set_field_by_name(&kind.field, entity);
            assert!(kind.given(&given).is_ok(), "{}", call.method().name());
        }
        if call.verb == Verb::List {
            assert!(call.output().get_field_by_name(&kind.list).is_some());
        }
    }
}

#[tokio::test]
async fn what_needs_no_entity() {
    let desk = desk();
    assert_eq!(
        desk.ok("GetServerInfo", json!({})).await,
        json!({"serverType": "SERVER_TYPE_CORE", "version": "1.2.3-test"})
    );
    let fields = desk.ok("ListAvailableLogFields", json!({})).await;
    let expected = json!({
        "availableAccessLogFields": ["method", "path"], "defaultAccessLogFields": ["path"],
        "availableAuthorizeLogFields": ["user"],
    });
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn what_would_not_work_is_not_kept() {
    let desk = desk();
    let bad = json!({"policy": {"id": "p", "sourcePpl": "allow: ["}});
    assert_eq!(desk.code("CreatePolicy", bad).await, Code::InvalidArgument);
    let bad = json!({"route": {"id": "r", "from": "<INVALID>", "to": ["http://up.example.com"]}});
    assert_eq!(desk.code("CreateRoute", bad).await, Code::InvalidArgument);
    desk.ok(
        "CreatePolicy",
        json!({"policy": {"id": "p", "sourcePpl": "allow:\n  or: [accept: true]"}}),
    )
    .await;
    let bad = json!({"policy": {"id": "p", "sourcePpl": "allow: ["}, "updateMask": "sourcePpl"});
    assert_eq!(desk.code("UpdatePolicy", bad).await, Code::InvalidArgument);
    let kept = desk.ok("GetPolicy", json!({"id": "p"})).await;
    assert!(
        kept["policy"]["sourcePpl"].as_str().unwrap().contains("accept"),
        "the old one stays"
    );
    // A moment that nobody could read back.
    let request = json!({"serviceAccount": {"id": "sa"}});
    desk.ok("CreateServiceAccount", request).await;
    let operation = desk.manager.operation("CreateKeyPair").unwrap();
    let pair = b"\x0a\x10\x0a\x02kp\x3a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    let request = DynamicMessage::decode(operation.input(), pair.as_slice()).unwrap();
    // The time is the server's, whatever was sent.
    let answer = desk.manager.call(operation, &MetadataMap::new(), request).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn service_accounts_get_tokens_that_name_them() {
    let desk = desk();
    let account = json!({"serviceAccount": {
        "id": "", "userId": "u1", "description": "d", "createdAt": "1970-01-12T13:46:40Z",
        "expiresAt": "2100-01-01T00:00:00Z",
    }});
    let created = desk.ok("CreateServiceAccount", account).await;
    let id = created["serviceAccount"]["id"].as_str().unwrap();
    assert!(!id.is_empty(), "an empty id is none");
    let claims: Value =
        pomerium_crypto::jwt::hs256_verify(&SECRET, created["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(
        claims,
        json!({"jti": id, "sub": "u1", "iat": 1_000_000, "nbf": 1_000_000, "exp": 4_102_444_800_i64})
    );
    let record = desk
        .broker
        .get("type.googleapis.com/user.ServiceAccount", id)
        .await
        .unwrap();
    let kept: pomerium_api::pb::user::ServiceAccount = pomerium_api::records::from_record(&record).unwrap();
    assert_eq!(kept.issued_at.unwrap().seconds, 1_000_000);
    assert_eq!(kept.user_id, "u1");
    assert_eq!(kept.accessed_at, None);
    let updated = desk
        .ok(
            "UpdateServiceAccount",
            json!({"serviceAccount": {"id": id, "userId": "u2"}}),
        )
        .await;
    assert!(updated["serviceAccount"]["accessedAt"].is_string());
    assert_eq!(updated["serviceAccount"].get("expiresAt"), None);
    let claims: Value =
        pomerium_crypto::jwt::hs256_verify(&SECRET, updated["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(
        claims,
        json!({"jti": id, "sub": "u2", "iat": 1_000_000, "nbf": 1_000_000})
    );
    let bare = desk
        .ok("CreateServiceAccount", json!({"serviceAccount": {"id": "bare"}}))
        .await;
    let claims: Value = pomerium_crypto::jwt::hs256_verify(&SECRET, bare["jwt"].as_str().unwrap()).unwrap();
    assert_eq!(claims, json!({"jti": "bare", "sub": "", "iat": 0, "nbf": 0}));
    // Every field that callers know has a place in what is kept.
    let kind = Kind::named("ServiceAccount").unwrap();
    for field in kind.entity.fields() {
        let kept = match field.name() {
            "created_at" => "issued_at",
            "modified_at" => continue,
            name => name,
        };
        let kept = kind.kept.get_field_by_name(kept).unwrap();
        assert_eq!(
            format!("{:?}", kept.kind()),
            format!("{:?}", field.kind()),
            "{}",
            field.name()
        );
    }
}

#[tokio::test]
async fn lists_are_in_the_order_asked_for() {
    let desk = desk();
    for (id, name) in [("1", "b"), ("2", "a"), ("3", "b"), ("4", "")] {
        let name = if name.is_empty() { Value::Null } else { name.into() };
        desk.clock.advance(std::time::Duration::from_secs(1));
        desk.ok("CreatePolicy", json!({"policy": {"id": id, "name": name}}))
            .await;
    }
    let ids = async |order: &str| -> String {
        let list = desk.ok("ListPolicies", json!({"orderBy": order})).await;
        let list = list["policies"].as_array().unwrap();
        list.iter().map(|policy| policy["id"].as_str().unwrap()).collect()
    };
    assert_eq!(ids("").await, "1234");
    assert_eq!(ids("name").await, "4213");
    assert_eq!(ids("-name").await, "1324");
    assert_eq!(ids(" -name , -id ").await, "3124");
    assert_eq!(ids("-modified_at").await, "4321");
    assert_eq!(ids("-created_at").await, "4321");
}

/// What other writers may leave behind.
#[tokio::test]
async fn records_of_others_are_read_or_named() {
    let desk = desk();
    let from = json!({"from": "https://a.example.com"});
    let mut record = pomerium_api::config_records::from_json("Route", "no-id-inside", &from).unwrap();
    // A field that once was.
    record
        .data
        .as_mut()
        .unwrap()
        .value
        .extend_from_slice(b"\xa2\x02\x01x");
    desk.broker.put(vec![record]).await.unwrap();
    let route = desk.ok("GetRoute", json!({"id": "no-id-inside"})).await;
    assert_eq!(route["route"]["id"], "no-id-inside");
    assert_eq!(route["route"]["from"], "https://a.example.com");
    let mut broken = pomerium_api::config_records::from_json("Policy", "broken", &json!({})).unwrap();
    broken.data.as_mut().unwrap().value = vec![0xff];
    let mut other = pomerium_api::config_records::from_json("Policy", "other", &json!({})).unwrap();
    other.data.as_mut().unwrap().type_url = "type.googleapis.com/example.Unknown".into();
    desk.broker.put(vec![broken, other]).await.unwrap();
    for id in ["broken", "other"] {
        let refused = desk.call("GetPolicy", json!({"id": id})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal);
        assert!(refused.message().contains(id), "{refused}");
        let anew = json!({"policy": {"id": id, "name": "anew"}});
        let masked = json!({"policy": {"id": id, "name": "anew"}, "updateMask": "name"});
        assert_eq!(desk.code("UpdatePolicy", masked).await, Code::Internal);
        let written = desk.ok("UpdatePolicy", anew).await;
        assert!(written["policy"]["createdAt"].is_string(), "{written}");
        desk.ok("DeletePolicy", json!({"id": id})).await;
    }
    assert_eq!(desk.ok("ListPolicies", json!({})).await, json!({}));
}

/// What is damaged is no reason to try again; it can be deleted, and made anew then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_stored_data_is_an_internal_error() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(FileStore::open(folder.path(), &[[7; 32]]).unwrap());
    let desk = Desk::new(&subject);
    let policy = json!({"policy": {"id": "p", "name": "one"}});
    desk.ok("CreatePolicy", policy.clone()).await;
    let key = ("type.googleapis.com/pomerium.config.Policy", "p");
    crate::file::tests::spoil(subject.server.store(), folder.path(), key, -1);
    let id = json!({"id": "p"});
    assert_eq!(desk.code("GetPolicy", id.clone()).await, Code::Internal);
    assert_eq!(desk.code("UpdatePolicy", policy.clone()).await, Code::Internal);
    assert_eq!(
        desk.code("CreatePolicy", policy.clone()).await,
        Code::AlreadyExists
    );
    desk.ok("DeletePolicy", id.clone()).await;
    assert_eq!(desk.code("GetPolicy", id).await, Code::NotFound);
    desk.ok("CreatePolicy", policy).await;
}
