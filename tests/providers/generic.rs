//! The first slice: a component from disk, one question, real HTTP, a grant.

use base64::Engine as _;
use idp_oci::client::dialect::{Authorization, Dialect as _};

use crate::support::{SECRET, Server, Setup, bearer, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_comes_out_of_the_component() {
    let server = Server::start(|_| json(200, r#"{"token":"short-lived-token-1","expires_in":300}"#)).await;
    let provider = Setup::new("generic", &server.address).load().await.expect("loaded");
    let grant = provider.authorize(&bearer(&server.url("/token"))).await.expect("a grant");
    let Authorization::Bearer(token) = grant.authorization else { panic!("{grant:?}") };
    assert_eq!(token.expose(), "short-lived-token-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].method.as_str(), seen[0].uri.path()), ("GET", "/token"));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("robot:{SECRET}"));
    assert_eq!(seen[0].header("authorization"), Some(format!("Basic {basic}").as_str()));
}
