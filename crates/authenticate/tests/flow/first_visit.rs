//! The way of honest people.

use http::{Method, StatusCode};

use crate::support::{APP, AUTH, Browser, OTHER, USER, World, session_of};

#[tokio::test]
async fn a_person_signs_in_and_comes_back_to_where_they_were() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.open(&format!("{APP}/some/path?x=1&y=%20")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Sample application") && page.body.contains("app.example.com"), "{}", page.body);
    let reply = browser.submit(&page, &[("username", "User@Example.com"), ("password", USER.1)]).await;
    let reply = browser.follow(reply).await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "hello user@example.com"));
    assert_eq!(browser.visited.last().unwrap(), &format!("{APP}/some/path?x=1&y=%20"));

    let sessions = world.broker.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].client_address, "192.0.2.7");
    let route = browser.cookie("_pomerium", "app.example.com").unwrap();
    assert!(session_of(&sessions, &world, &route.value).is_some());
    assert!(browser.cookie("_pomerium_login", "authenticate.example.com").is_none(), "no login is left over");
}
