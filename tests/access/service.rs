//! docker_auth, a token service of others, before our registry.

use idp_oci::client::standard::Credential;
use idp_test_support::peers::{DockerAuth, Tokens, require};
use serde_json::json;

use crate::Registry;
use crate::own::{client, push, tag, user};

#[tokio::test]
async fn its_tokens_are_taken_for_what_they_are_for() {
    let Some(service) = require(DockerAuth::service().await, "docker_auth") else { return };
    let home = tempfile::tempdir().expect("a directory");
    let settings = |keys: std::path::PathBuf| {
        json!({"kind": "token", "token": {
            "realm": format!("http://{}/auth", service.address()),
            "service": "our-registry",
            "issuer": Tokens::ISSUER,
            "trustedKeys": keys,
        }})
    };
    // By the key alone, and by the certificate that has it.
    for keys in ["keys.json", "certificate.pem"] {
        let registry = Registry::start(home.path(), settings(service.dir().join(keys))).await;
        let (writer, reader) = (DockerAuth::WRITER, DockerAuth::READER);
        let writer = client(&registry, user(writer.0, writer.1));
        let reader = client(&registry, user(reader.0, reader.1));
        writer.check().await.expect("let in");
        push(&writer, "team/app", &[]).await.expect("pushed");
        push(&writer, "public/app", &["team/app"]).await.expect("pushed");
        assert_eq!(writer.catalog().await.expect("listed").len(), 2);
        let (team, public) = ("team/app".parse().expect("a name"), "public/app".parse().expect("a name"));
        reader.manifest(&team, &tag(), None).await.expect("read");
        push(&reader, "team/app", &[]).await.expect_err("it may read");
        reader.delete_manifest(&team, &tag()).await.expect_err("it may read");
        let nobody = client(&registry, Credential::Anonymous);
        nobody.manifest(&public, &tag(), None).await.expect("read");
        nobody.manifest(&team, &tag(), None).await.expect_err("not for everybody");
        client(&registry, user("writer", "wrong")).check().await.expect_err("a wrong password");
        writer.delete_manifest(&team, &tag()).await.expect("deleted");
        assert_eq!(registry.count("GET /token"), 0);
    }
    // The keys of somebody else.
    let other = rcgen::KeyPair::generate().expect("a key");
    let path = home.path().join("other.pem");
    std::fs::write(&path, other.public_key_pem()).expect("written");
    let registry = Registry::start(home.path(), settings(path)).await;
    let writer = client(&registry, user(DockerAuth::WRITER.0, DockerAuth::WRITER.1));
    writer.check().await.expect_err("nobody here knows who signed");
}
