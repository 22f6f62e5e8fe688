//! What a connection string leaves to the environment, and what it tells the server, with a real one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::connect::Target;
use super::running::Postgres;
use super::tests::{KEY, fresh, tell};
use super::{OpenError, PostgresStore};

/// Whoever is not the administrator has to show a password.
const RULES: &str = "local all postgres trust\nlocal all all scram-sha-256\n";

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

/// A server that asks for passwords, and the folder of its socket.
async fn guarded() -> (Postgres, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::write(&rules, RULES).unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path(), mode(0o755)).unwrap();
    std::fs::set_permissions(&rules, mode(0o644)).unwrap();
    let setting = format!("hba_file={}", rules.display());
    let server = tokio::task::spawn_blocking(move || Postgres::start_with(&[&setting]).unwrap());
    let server = server.await.unwrap();
    let administrator = server.connection("postgres");
    tell(
        &administrator,
        "CREATE ROLE guarded LOGIN PASSWORD 'hunter2'; CREATE ROLE poor LOGIN PASSWORD 'hunter2'",
    )
    .await;
    tell(&administrator, "CREATE DATABASE kept OWNER guarded").await;
    let socket = administrator
        .split_whitespace()
        .find_map(|pair| pair.strip_prefix("host="));
    let socket = socket.unwrap().to_owned();
    (server, folder, socket)
}

#[tokio::test]
async fn the_password_may_come_from_the_environment_or_from_the_file_of_passwords() {
    let (_server, folder, socket) = guarded().await;
    let open = async |more: &[(&str, &str)]| {
        let mut environment = environment(&[("PGHOST", &socket), ("PGUSER", "guarded")]);
        environment.extend(self::environment(more));
        PostgresStore::open_with("dbname=kept", &environment, &[KEY]).await
    };
    let refused = async |more: &[(&str, &str)]| match open(more).await {
        Err(OpenError::Server { problem, .. }) => problem,
        other => panic!("{:?}", other.err()),
    };
    let missing = refused(&[]).await;
    assert!(
        missing.contains("password") && !missing.contains("new object"),
        "{missing}"
    );
    assert!(refused(&[("PGPASSWORD", "wrong")]).await.contains("password"));
    open(&[("PGPASSWORD", "hunter2")]).await.unwrap();

    let file = folder.path().join("passwords");
    std::fs::write(&file, format!("{socket}:*:kept:guarded:hunter2\n")).unwrap();
    let name = file.display().to_string();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(
        refused(&[("PGPASSFILE", &name)]).await.contains("password"),
        "others can read it"
    );
    mode(0o600);
    open(&[("PGPASSFILE", &name)]).await.unwrap();
}

#[tokio::test]
async fn settings_of_a_session_are_told_to_the_server_and_those_of_this_program_stay() {
    let connection = fresh().await;
    let more = r#"search_path='"a b", public' timezone=Europe/Berlin options='-c work_mem=1MB' statement_timeout=1
                  statement_cache_capacity=5 default_query_exec_mode=exec pool_min_idle_conns=2 sslsni=1"#;
    let target = Target::parse(&format!("{connection} {more}"), &BTreeMap::new()).unwrap();
    let (client, task) = target.connect().await.unwrap();
    let task = tokio::spawn(task);
    let shown = async |name: &str| {
        let row = client.query_one(&format!("SHOW {name}"), &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!(shown("search_path").await, r#""a b", public"#);
    assert_eq!(shown("timezone").await, "Europe/Berlin");
    assert_eq!(shown("work_mem").await, "1MB");
    task.abort();
    let pool = target.pool().unwrap();
    let pooled = pool.get().await.unwrap();
    let row = pooled.query_one("SHOW statement_timeout", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "8s");

    let unknown = format!("{connection} no_such_setting=1");
    let error = PostgresStore::open(&unknown, &[KEY])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

/// Three reasons why tables cannot be made, each with what to do.
#[tokio::test]
async fn a_user_with_too_few_rights_is_told_which_are_missing() {
    let (server, _folder, socket) = guarded().await;
    let refused = async |user: &str, database: &str| {
        let connection = format!("host={socket} user={user} password=hunter2 dbname={database}");
        let error = PostgresStore::open(&connection, &[KEY]).await;
        error.err().unwrap().to_string()
    };
    let poor = refused("poor", "kept").await;
    assert!(poor.contains("the right to create a schema"), "{poor}");

    let owned = format!("host={socket} user=guarded password=hunter2 dbname=kept");
    drop(PostgresStore::open(&owned, &[KEY]).await.unwrap());
    let poor = refused("poor", "kept").await;
    assert!(poor.contains("belongs to another user"), "{poor}");

    let administrator = server.connection("postgres");
    tell(&administrator, "CREATE DATABASE replica OWNER guarded").await;
    tell(
        &administrator,
        "ALTER DATABASE replica SET default_transaction_read_only = on",
    )
    .await;
    let replica = refused("guarded", "replica").await;
    assert!(
        replica.contains("read-only") && !replica.contains("the right"),
        "{replica}"
    );
}
