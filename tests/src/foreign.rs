//! Proxies that are not ours, with the configurations of docs/decision-service.md: the text of the guide, with the
//! addresses and files of a test in the place of those it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pomerium_testing::{Environment, Port, Program, RawClient, SignIn, Upstream, lease, tools};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{admin, developer};

/// The password-protected application behind a proxy that asks us.
pub struct ForeignStage {
    /// Our program; nobody talks to its main listener.
    pub env: Environment,
    /// The application.
    pub upstream: Upstream,
    /// Where the proxy listens.
    pub front: Port,
    /// Where the proxy asks.
    pub decision: Port,
    proxy: Option<Program>,
}

/// A code block of the guide, by what stands behind its fence.
pub fn block(info: &str) -> Result<String> {
    let guide = std::fs::read_to_string(tools::root().join("docs/decision-service.md"))?;
    let fence = format!("```{info}\n");
    let (_, rest) = guide
        .split_once(&fence)
        .with_context(|| format!("the guide has no block {info:?}"))?;
    let (block, _) = rest.split_once("\n```").context("a block without an end")?;
    Ok(format!("{block}\n"))
}

/// Replaces what the guide says by what the test has; each must be there.
pub fn fill(mut text: String, places: &[(&str, &str)]) -> Result<String> {
    for (place, value) in places {
        ensure!(text.contains(place), "the guide does not say {place:?}");
        text = text.replace(place, value);
    }
    Ok(text)
}

/// A proxy of tests/python/proxies.txt.
pub fn program(name: &str) -> Result<PathBuf> {
    match std::env::var_os("POMERIUM_TEST_PROXIES") {
        Some(folder) => Ok(PathBuf::from(folder).join(name)),
        None => tools::newest("proxies-")?
            .map(|folder| folder.join("bin").join(name))
            .context("the proxies for tests are missing: run `cargo xtask setup`"),
    }
}

impl ForeignStage {
    /// Our program with a listener for a proxy, and the application. `decision` holds more keys of that listener.
    pub async fn start(decision: Value) -> Result<ForeignStage> {
        let (front, asked) = (lease()?, lease()?);
        let upstream = Upstream::start().await?;
        let mut listener = json!({
            "address": format!("127.0.0.1:{}", asked.number()),
            "trusted_peers": ["127.0.0.1"],
        });
        for (key, value) in decision.as_object().into_iter().flatten() {
            listener[key] = value.clone();
        }
        let wiki = |more: Value| {
            let mut route = json!({
                "from": format!("https://wiki.example.com:{}", front.number()),
                "to": upstream.url(),
                "pass_identity_headers": true,
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                route[key] = value.clone();
            }
            route
        };
        let admins = json!([{ "allow": { "and": [{ "claim/groups": "admins" }] } }]);
        let env = Environment::builder()?
            .sign_in(SignIn::Local(vec![developer(), admin()]))
            .set(
                "authenticate_service_url",
                format!("https://authenticate.example.com:{}", front.number()),
            )
            .set("decision_listener", listener)
            .set("jwt_claims_headers", json!({ "X-Pomerium-Claim-Email": "email" }))
            .set(
                "routes",
                json!([
                    wiki(json!({ "prefix": "/admin", "name": "admin", "policy": admins })),
                    wiki(json!({ "prefix": "/open", "name": "open", "allow_public_unauthenticated_access": true })),
                    wiki(json!({ "name": "wiki", "allow_any_authenticated_user": true })),
                ]),
            )
            .start()
            .await?;
        Ok(ForeignStage {
            env,
            upstream,
            front,
            decision: asked,
            proxy: None,
        })
    }

    /// `https://wiki.example.com:<front><path>`
    pub fn url(&self, path: &str) -> String {
        format!("https://wiki.example.com:{}{path}", self.front.number())
    }

    /// Host and port of the application, as people see it.
    pub fn host(&self) -> String {
        format!("wiki.example.com:{}", self.front.number())
    }

    /// Where the proxy asks.
    pub fn asked(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.decision.number()))
    }

    /// A file of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.env.folder().join(name)
    }

    /// What the guide names, and what it is here.
    pub fn places(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.path(name).display().to_string();
        vec![
            ("127.0.0.1:9090", self.asked().to_string()),
            ("127.0.0.1:8080", self.upstream.address().to_string()),
            ("/run/secrets/fullchain.pem", file("server.pem")),
            ("/run/secrets/privkey.pem", file("server.key")),
        ]
    }

    /// Writes a block of the guide to a file of the test, with `more` put in the place of what it says.
    pub fn write(&self, info: &str, file: &str, more: &[(&str, &str)]) -> Result<PathBuf> {
        let text = fill(block(info)?, more)?;
        let places = self.places();
        let places = places.iter().filter(|(place, _)| text.contains(place));
        let places: Vec<(&str, &str)> = places.map(|(place, value)| (*place, value.as_str())).collect();
        let path = self.path(file);
        std::fs::write(&path, fill(text, &places)?)?;
        Ok(path)
    }

    /// Starts the proxy and waits until it listens.
    pub async fn run(&mut self, command: Command) -> Result<()> {
        let port = self.front.number();
        self.proxy = Some(start(command, port).await?);
        // Some listen before they have read all of their configuration.
        let serving = async {
            while !self.open_door().await.is_ok_and(|status| status == 200) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        pomerium_testing::within("an answer through the proxy", serving)
            .await
            .with_context(|| self.said())?;
        self.upstream.take_requests();
        Ok(())
    }

    /// What a request that everybody may make gets.
    async fn open_door(&self) -> Result<u16> {
        let mut client = self.raw().await?;
        let head = format!(
            "GET /open/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.host()
        );
        client.send(head).await?;
        Ok(client.reply(false).await?.status)
    }

    /// What the proxy wrote.
    pub fn said(&self) -> String {
        self.proxy
            .as_ref()
            .map_or_else(String::new, |proxy| proxy.output().tail(40))
    }

    /// A connection to the proxy.
    pub async fn raw(&self) -> Result<RawClient> {
        let front = SocketAddr::from(([127, 0, 0, 1], self.front.number()));
        RawClient::connect_tls(
            front,
            None,
            self.env.authority(),
            "wiki.example.com",
            &["http/1.1"],
        )
        .await
    }
}

/// Starts a program and waits until it listens on `port`.
pub async fn start(mut command: Command, port: u16) -> Result<Program> {
    command.env("NO_COLOR", "1");
    let mut program = Program::start(command)?;
    let listening = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = program.ended() {
                bail!("it ended ({status}):\n{}", program.output().tail(40));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    };
    pomerium_testing::within("the proxy's listener", listening).await??;
    Ok(program)
}

/// nginx with the guide's configuration.
pub async fn nginx(stage: &mut ForeignStage) -> Result<()> {
    let port = format!("listen 127.0.0.1:{} ssl;", stage.front.number());
    let folder = stage.path("nginx");
    std::fs::create_dir_all(&folder)?;
    let own = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {};\n", folder.join(name).display()));
    let http = format!("http {{\n    access_log off;\n{}", own.concat());
    let file = stage.write(
        "nginx",
        "nginx.conf",
        &[("listen 443 ssl;", &port), ("http {\n", &http)],
    )?;
    let mut command = Command::new(tools::find("nginx")?);
    command.arg("-p").arg(&folder).arg("-c").arg(file).args([
        "-e",
        "stderr",
        "-g",
        &format!(
            "daemon off; master_process off; error_log stderr; pid {};",
            folder.join("pid").display()
        ),
    ]);
    stage.run(command).await
}

/// Traefik with the guide's configuration.
pub async fn traefik(stage: &mut ForeignStage) -> Result<()> {
    let port = format!("127.0.0.1:{}", stage.front.number());
    let routes = stage.write("yaml traefik-routes", "routes.yaml", &[])?;
    let routes = routes.display().to_string();
    let file = stage.write(
        "yaml traefik",
        "traefik.yaml",
        &[(":443", &port), ("/etc/traefik/routes.yaml", &routes)],
    )?;
    let mut command = Command::new(program("traefik")?);
    command
        .arg(format!("--configFile={}", file.display()))
        .current_dir(stage.env.folder());
    stage.run(command).await
}

/// Caddy with the guide's configuration.
pub async fn caddy(stage: &mut ForeignStage) -> Result<()> {
    let at = |name: &str| format!("https://{name}.example.com:{} {{", stage.front.number());
    let file = stage.write(
        "caddyfile",
        "Caddyfile",
        &[
            ("https://wiki.example.com {", &at("wiki")),
            ("https://authenticate.example.com {", &at("authenticate")),
        ],
    )?;
    let mut command = Command::new(program("caddy")?);
    let home = stage.path("caddy");
    std::fs::create_dir_all(&home)?;
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(file)
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", &home)
        .env("XDG_DATA_HOME", &home);
    stage.run(command).await
}

/// Envoy with the guide's configuration.
pub async fn envoy(stage: &mut ForeignStage) -> Result<()> {
    let file = stage.write(
        "yaml envoy",
        "envoy.yaml",
        &[
            (
                "address: 0.0.0.0, port_value: 443",
                &format!("address: 127.0.0.1, port_value: {}", stage.front.number()),
            ),
            (
                "port_value: 8080",
                &format!("port_value: {}", stage.upstream.address().port()),
            ),
            (
                "port_value: 9090",
                &format!("port_value: {}", stage.decision.number()),
            ),
        ],
    )?;
    stage.run(envoy_command(&file)?).await
}

/// Envoy with a configuration; several run side by side.
pub fn envoy_command(file: &Path) -> Result<Command> {
    let mut command = Command::new(program("envoy")?);
    command.arg("-c").arg(file).args([
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
    ]);
    Ok(command)
}
