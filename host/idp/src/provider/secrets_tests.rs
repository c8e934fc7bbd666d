use idp_oci::secret::Secret;

use super::{Audience, Held, Part, SecretError, assemble, decode, encode, hash, hex, mac, sign};
use crate::provider::pattern::{Origin, Symbols};

fn symbols() -> Symbols {
    Symbols {
        registry: Origin::registry("https", "r.example").expect("an origin"),
        realms: vec![(Origin::registry("https", "auth.example").expect("an origin"), "/token".to_owned())],
    }
}

fn held(value: &str, audience: &[&str]) -> Held {
    let audience = audience.iter().map(|text| text.parse().expect("an origin")).collect();
    Held::credential(&Secret::new(value), Audience::only(audience))
}

fn text(value: &str) -> Part {
    Part::Text(value.to_owned())
}

#[test]
fn an_audience_only_ever_narrows() {
    let wide = held("a", &["registry", "realm"]);
    let narrow = held("b", &["registry"]);
    let both = assemble(&[Part::Secret(wide.clone()), text(":"), Part::Secret(narrow)]).expect("assembled");
    let symbols = symbols();
    assert!(wide.admits(&symbols.realms[0].0, &symbols));
    assert!(both.admits(&symbols.registry, &symbols));
    assert!(!both.admits(&symbols.realms[0].0, &symbols));
    assert!(!encode(&both, "base64").expect("encoded").admits(&symbols.realms[0].0, &symbols));
    assert!(both.long_lived());
    assert!(!mac("hmac-sha256", &both, &[]).expect("a tag").admits(&symbols.realms[0].0, &symbols));
    assert!(assemble(&[text("free")]).expect("assembled").admits(&symbols.realms[0].0, &symbols));
}

#[test]
fn fields_of_whole_documents_only() {
    let document = held("{\"key\":\"x\",\"n\":1}", &["registry"]);
    assert_eq!(document.json_field("/key").expect("a field").expose(), b"x");
    assert!(document.json_field("/n").is_none());
    let assembled = assemble(&[Part::Secret(document.clone())]).expect("assembled");
    assert!(assembled.json_field("/key").is_none(), "it would be an equality oracle");
    let field = document.json_field("/key").expect("a field");
    assert!(field.json_field("").is_none(), "a field is no document");
}

#[test]
fn a_document_in_base64_is_one_when_it_is_decoded() {
    let wrapped = held("eyJrZXkiOiJ4In0=", &["registry"]);
    assert!(wrapped.json_field("/key").is_none());
    let document = decode(&wrapped, "base64").expect("decoded");
    assert_eq!(document.json_field("/key").expect("a field").expose(), b"x");
    assert!(encode(&document, "base64").expect("encoded").json_field("").is_none());
    let field =
        held("{\"inner\":\"eyJrZXkiOiJ4In0=\"}", &["registry"]).json_field("/inner").expect("a field");
    assert!(
        decode(&field, "base64").expect("decoded").json_field("/key").is_none(),
        "a field is no document"
    );
}

#[test]
fn decoding_is_no_oracle() {
    let secret = held("0a1b", &["registry"]);
    // "Is the first digit below 8?": a surrogate or not. "Is the length even?": hexadecimal or not.
    for (before, after, encoding) in [("\"\\ud", "\"", "json-string"), ("0", "", "hex"), ("", "==", "base64")]
    {
        let probe = assemble(&[text(before), Part::Secret(secret.clone()), text(after)]).expect("assembled");
        assert_eq!(decode(&probe, encoding).map(|_| ()), Err(SecretError::Assembled), "{encoding}");
        let again = encode(&probe, "hex").expect("encoded");
        assert_eq!(decode(&again, "hex").map(|_| ()), Err(SecretError::Assembled), "{encoding}");
    }
    let tag = mac("hmac-sha256", &secret, &[]).expect("a tag");
    assert_eq!(decode(&tag, "hex").map(|_| ()), Err(SecretError::Assembled));
    let field = held("{\"key\":\"MTI=\"}", &["registry"]).json_field("/key").expect("a field");
    assert_eq!(decode(&field, "base64").expect("decoded").expose(), b"12");
}

#[test]
fn encodings_go_there_and_back() {
    let secret = held("pä/ss+?\"\n", &["registry"]);
    for encoding in
        ["base64", "base64-nopad", "base64url", "base64url-nopad", "hex", "percent", "json-string"]
    {
        let there = encode(&secret, encoding).expect(encoding);
        assert_eq!(decode(&there, encoding).expect(encoding).expose(), secret.expose(), "{encoding}");
    }
    assert_eq!(encode(&secret, "rot13").map(|_| ()), Err(SecretError::Unsupported));
    assert_eq!(decode(&secret, "base64").map(|_| ()), Err(SecretError::Form));
}

#[test]
fn known_digests_and_tags() {
    let digest = hash("sha256", &[text("abc")]).expect("a digest");
    assert_eq!(hex(digest.expose()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // RFC 4231, test case 2.
    let tag = mac("hmac-sha256", &held("Jefe", &["registry"]), &[text("what do ya want for nothing?")]);
    assert_eq!(
        hex(tag.expect("a tag").expose()),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert!(mac("hmac-md5", &held("k", &["registry"]), &[]).is_err());
}

#[test]
fn signatures_verify() {
    use base64::Engine as _;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    };
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let body = base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let signed = sign("es256", &held(&pem, &["registry"]), &[text("message")]).expect("signed");
    ring::signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
        .verify(b"message", signed.expose())
        .expect("a good signature");
    assert!(sign("rs256", &held(&pem, &["registry"]), &[text("message")]).is_err(), "the wrong kind of key");
    assert!(sign("es256", &held("no key", &["registry"]), &[]).is_err());
}

#[test]
fn doubling_ends() {
    let mut secret = held(&"x".repeat(1000), &["registry"]);
    let error = loop {
        match assemble(&[Part::Secret(secret.clone()), Part::Secret(secret.clone())]) {
            Ok(next) => secret = next,
            Err(error) => break error,
        }
    };
    assert_eq!(error, SecretError::TooLarge);
}

#[test]
fn nothing_prints_it() {
    assert_eq!(format!("{:?}", held("hunter2", &["registry"])), "Held(…)");
}
