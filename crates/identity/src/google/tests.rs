//! Tokens from a metadata server and from a token endpoint that are not Google's.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response};
use parking_lot::Mutex;
use pomerium_crypto::encoding::base64url_encode;
use serde_json::Value;

use super::*;
use crate::HttpErrorKind;

const AUDIENCE: &str = "https://service.example.com";
const RSA: &[u8] = include_bytes!("../../../crypto/testdata/rsa-pkcs1.pem");

struct At(Mutex<Timestamp>);

impl Clock for At {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

type Answer = Result<Response<Bytes>, HttpError>;

#[derive(Default)]
struct Google {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Request<Bytes>>>,
}

impl HttpClient for Google {
    fn send(&self, request: Request<Bytes>, _: usize) -> BoxFuture<'_, Answer> {
        self.asked.lock().push(request);
        let answer = self.answers.lock().pop_front();
        async { answer.unwrap_or_else(|| Err(down())) }.boxed()
    }
}

fn down() -> HttpError {
    HttpError {
        kind: HttpErrorKind::Connect,
        text: "down".into(),
    }
}

fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn token(audience: &str, seconds: i64) -> String {
    let claims = json!({"aud": audience, "exp": start().as_second() + seconds});
    format!("e30.{}.c2ln", base64url_encode(claims.to_string().as_bytes()))
}

fn metadata_answer(status: u16, flavor: &str, body: impl Into<Bytes>) -> Answer {
    Ok(Response::builder()
        .status(status)
        .header(FLAVOR, flavor)
        .body(body.into())
        .unwrap())
}

fn tokens(source: GoogleSource, answers: impl IntoIterator<Item = Answer>) -> (Arc<Google>, GoogleTokens) {
    let google = Arc::new(Google::default());
    google.answers.lock().extend(answers);
    let clock = Arc::new(At(Mutex::new(start())));
    (google.clone(), GoogleTokens::new(source, google, clock))
}

fn from_metadata(answers: impl IntoIterator<Item = Answer>) -> (Arc<Google>, GoogleTokens) {
    tokens(GoogleSource::Metadata(METADATA_HOST.into()), answers)
}

#[tokio::test]
async fn the_metadata_server_is_asked_as_google_says() {
    let given = token(AUDIENCE, 3600);
    let (google, tokens) = from_metadata([metadata_answer(200, "Google", given.clone())]);
    assert_eq!(tokens.fetch(AUDIENCE).await.unwrap().raw, given);
    let asked = google.asked.lock();
    assert_eq!(
        asked[0].uri(),
        "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity?audience=https%3A%2F%2Fservice.example.com&format=full"
    );
    assert_eq!(asked[0].headers()[FLAVOR], "Google");
}

#[tokio::test]
async fn what_is_no_token_for_us_is_not_sent_on() {
    let good = token(AUDIENCE, 3600);
    for (answer, says) in [
        (metadata_answer(404, "Google", good.clone()), "404"),
        (metadata_answer(200, "Other", good.clone()), "no metadata server"),
        (metadata_answer(200, "Google", ""), "no identity token"),
        (
            metadata_answer(200, "Google", format!("{good}\n{good}")),
            "no identity token",
        ),
        (
            metadata_answer(200, "Google", token("https://other.example.com", 3600)),
            "another audience",
        ),
        (
            metadata_answer(200, "Google", token(AUDIENCE, -1)),
            "over already",
        ),
        (metadata_answer(200, "Google", "a.b.c"), "no identity token"),
    ] {
        let (_, tokens) = from_metadata([answer]);
        let error = tokens.fetch(AUDIENCE).await.map(|token| token.raw).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_service_account_signs_what_it_wants() {
    let key = SigningKey::from_pem(RSA).unwrap();
    let source = GoogleSource::Account {
        email: "proxy@project.example.com".into(),
        key_id: "key-1".into(),
        key: Box::new(SigningKey::from_pem(RSA).unwrap()),
        token_uri: "https://tokens.example.com/token".into(),
    };
    let given = token(AUDIENCE, 3600);
    let body = json!({"id_token": given}).to_string();
    let (google, tokens) = tokens(source, [Ok(Response::new(body.into()))]);
    assert_eq!(tokens.fetch(AUDIENCE).await.unwrap().raw, given);
    let asked = google.asked.lock();
    assert_eq!(asked[0].uri(), "https://tokens.example.com/token");
    let form = Query::parse(std::str::from_utf8(asked[0].body()).unwrap());
    assert_eq!(form.get("grant_type"), Some(GRANT));
    let assertion = form.get("assertion").unwrap();
    let header = base64url_decode(assertion.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(
        (&header["kid"], &header["alg"]),
        (&json!("key-1"), &json!("RS256"))
    );
    let payload = base64url_decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["target_audience"], AUDIENCE);
    assert_eq!(claims["aud"], "https://tokens.example.com/token");
    assert_eq!(claims["iss"], "proxy@project.example.com");
    assert_eq!(key.alg(), "RS256");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_for_three_quarters_of_an_hour_and_used_while_it_holds() {
    let (first, second) = (token(AUDIENCE, 3600), token(AUDIENCE, 7200));
    let (google, tokens) = from_metadata([
        Err(down()),
        metadata_answer(200, "Google", first.clone()),
        metadata_answer(500, "Google", ""),
        metadata_answer(200, "Google", second.clone()),
    ]);
    let kept = KeptToken::new(AUDIENCE.into(), Arc::new(tokens));
    assert_eq!(kept.bearer(start()), None);
    let _running = tokio::spawn(kept.clone().run());
    kept.tried().await;
    assert_eq!(kept.bearer(start()), None, "it failed once");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let bearer = |token: &str| Some(HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    assert_eq!(kept.bearer(start()), bearer(&first));
    assert!(kept.bearer(start()).unwrap().is_sensitive());
    let late = start() + jiff::SignedDuration::from_secs(3580);
    assert_eq!(kept.bearer(late), None, "it is nearly over");

    tokio::time::sleep(Duration::from_secs(45 * 60 - 2)).await;
    assert_eq!(google.asked.lock().len(), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(google.asked.lock().len(), 3);
    assert_eq!(
        kept.bearer(start()),
        bearer(&first),
        "the old one serves while a new one is not to be had"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(kept.bearer(start()), bearer(&second));
}
