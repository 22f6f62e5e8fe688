//! The management service over Connect, as scripts and Terraform use it: what is written counts at once.

use anyhow::Result;
use http::Method;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_crypto::service_token;
use pomerium_testing::{Client, Environment, Port, Reply, lease, within};
use serde_json::{Value, json};

/// Of every environment of the tests.
const SHARED: &[u8; 32] = b"tests only: the shared secret !!";

struct Desk {
    port: Port,
    client: Client,
}

impl Desk {
    async fn call(&self, method: &str, message: &Value, token: Option<&str>) -> Result<Reply> {
        let url = format!(
            "http://127.0.0.1:{}/pomerium.config.ConfigService/{method}",
            self.port.number()
        );
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("connect-protocol-version", "1"),
        ];
        headers.extend(
            authorization
                .iter()
                .map(|value| ("authorization", value.as_str())),
        );
        self.client
            .send(Method::POST, &url, &headers, message.to_string())
            .await
    }
}

#[tokio::test]
async fn a_route_that_is_created_is_served_and_one_that_is_deleted_is_not() -> Result<()> {
    let port = lease()?;
    let env = Environment::builder()?
        .set("grpc_address", format!("127.0.0.1:{}", port.number()))
        .start()
        .await?;
    let desk = Desk {
        port,
        client: env.client()?,
    };
    let token = service_token::sign(SHARED, SystemClock.now().as_second());
    let token = Some(token.as_str());
    let route = json!({ "route": {
        "id": "hello", "from": format!("https://{}", env.authority_of("hello")),
        "response": { "status": 200, "body": "from a record" }, "allowPublicUnauthenticatedAccess": true,
    }});

    assert_eq!(
        desk.call("GetServerInfo", &json!({}), None).await?.status,
        200,
        "open to everybody"
    );
    for stranger in [None, Some("nonsense")] {
        let reply = desk.call("CreateRoute", &route, stranger).await?;
        assert_eq!(reply.status, 401, "{}", reply.text());
        assert_eq!(reply.json()?["code"], "unauthenticated");
    }
    let mut bad = route.clone();
    bad["route"]["from"] = "nowhere".into();
    let reply = desk.call("CreateRoute", &bad, token).await?;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()?["code"]),
        (400, &json!("invalid_argument"))
    );

    let created = desk.call("CreateRoute", &route, token).await?;
    assert_eq!(created.status, 200, "{}", created.text());
    let (client, url) = (env.client()?, env.url("hello", "/"));
    let answers = async |wanted: u16| {
        within("the change", async {
            while client.get(&url).await?.status != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        })
        .await?
    };
    answers(200).await?;
    let again = desk.call("CreateRoute", &route, token).await?;
    assert_eq!(again.json()?["code"], "already_exists");
    let deleted = desk.call("DeleteRoute", &json!({ "id": "hello" }), token).await?;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    answers(404).await
}
