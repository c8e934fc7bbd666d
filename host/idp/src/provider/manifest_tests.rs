use super::{EnsureWhen, Manifest, ManifestError};

const LEAST: &str = "schema = 1\ncontract = \"0.1\"\nname = \"example\"\nversion = \"1.0.0\"\n";

fn leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn custom(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    leb(name.len(), &mut body);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    let mut out = vec![0];
    leb(body.len(), &mut out);
    out.extend(body);
    out
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

/// A core module section (1) of a component.
fn nested(sections: &[Vec<u8>]) -> Vec<u8> {
    let module = [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat();
    let mut out = vec![1];
    leb(module.len(), &mut out);
    out.extend(module);
    out
}

#[test]
fn the_section_is_found_wherever_the_toolchain_put_it() {
    let section = custom("idp:provider", LEAST.as_bytes());
    for bytes in
        [component(std::slice::from_ref(&section)), component(&[nested(std::slice::from_ref(&section))])]
    {
        assert_eq!(Manifest::of_component(&bytes).expect("a manifest").label(), "example 1.0.0");
    }
    let twice = component(&[nested(std::slice::from_ref(&section)), section.clone()]);
    assert_eq!(Manifest::of_component(&twice), Err(ManifestError::Several(2)));
}

#[test]
fn what_is_no_provider_is_refused_with_its_reason() {
    assert_eq!(Manifest::of_component(&component(&[])), Err(ManifestError::Missing));
    assert_eq!(Manifest::of_component(b"\x7fELF\x02\x01"), Err(ManifestError::Precompiled));
    assert!(matches!(Manifest::of_component(b"hello"), Err(ManifestError::NotComponent(_))));
    assert!(matches!(Manifest::of_component(b"\0asm\x01\0\0\0"), Err(ManifestError::NotComponent(_))));
    let long = custom("idp:provider", &vec![b'#'; 70_000]);
    assert_eq!(Manifest::of_component(&component(&[long])), Err(ManifestError::Long(70_000)));
    let mut cut = component(&[custom("idp:provider", LEAST.as_bytes())]);
    cut.truncate(cut.len() - 3);
    assert!(matches!(Manifest::of_component(&cut), Err(ManifestError::NotComponent(_))));
}

#[test]
fn contracts_and_schemas_of_other_hosts() {
    for (contract, good) in
        [("0.1", true), ("0.1.0", true), ("0.1.1", false), ("0.2", false), ("1.0.0", false)]
    {
        let parsed = Manifest::parse(&LEAST.replace("\"0.1\"", &format!("\"{contract}\"")));
        assert_eq!(parsed.is_ok(), good, "{contract}");
        if !good {
            let text = parsed.expect_err("refused").to_string();
            assert!(text.contains(&format!("needs idp ≥ {contract}")), "{text}");
        }
    }
    assert_eq!(
        Manifest::parse(&LEAST.replace("schema = 1", "schema = 2\nnew = true")),
        Err(ManifestError::Schema(2))
    );
}

#[test]
fn misspelt_and_senseless_values_are_noticed() {
    for (text, expect) in [
        ("egres = []", "egres"),
        ("[[egress]]\norigin = \"https://x.example/path\"", "not an origin"),
        ("[[egress]]\norigin = \"registry\"\nmethod = [\"GET\"]", "method"),
        ("[[egress]]\norigin = \"registry\"\nmethods = [\"get\"]", "not a method"),
        ("[[egress]]\norigin = \"registry\"\npaths = [\"v2\"]", "does not start"),
        ("[[host]]\npattern = \"*\"", "not a host pattern"),
        ("[[host]]\npattern = \"a.example\"\nwire = \"https://b.example\"", "not a registry"),
        ("[[fingerprint]]\ncertainty = 50", "every registry"),
        ("[[public]]\npath = \"/\"\npointers = [\"token\"]", "JSON pointer"),
    ] {
        let error = Manifest::parse(&format!("{LEAST}{text}\n")).expect_err(text).to_string();
        assert!(error.contains(expect), "{text}: {error}");
    }
    assert!(Manifest::parse(&LEAST.replace("\"example\"", "\"Ex ample\"")).is_err());
    assert!(Manifest::parse("schema = 1").is_err());
}

#[test]
fn a_name_may_stand_for_another_host() {
    let text = "[[host]]\npattern = \"short.example\"\nwire = \"long.example\"\n[[host]]\npattern = \"long.example\"\n";
    let manifest = Manifest::parse(&format!("{LEAST}{text}")).expect("a manifest");
    for (registry, expect) in
        [("short.example", Some("long.example")), ("long.example", None), ("other.example", None)]
    {
        let wire = manifest.wire_host(&registry.parse().expect("a registry"));
        assert_eq!(wire.map(|wire| wire.to_string()).as_deref(), expect, "{registry}");
    }
}

#[test]
fn defaults() {
    let manifest = Manifest::parse(&format!("{LEAST}[[egress]]\norigin = \"realm\"\n")).expect("a manifest");
    assert_eq!(manifest.egress[0].methods, ["GET"]);
    assert_eq!(manifest.egress[0].paths, ["/"]);
    assert_eq!((manifest.ensure.when, manifest.fuel()), (EnsureWhen::Never, 200_000_000));
}

#[test]
fn nothing_in_it_draws_on_terminals() {
    let head = "schema = 1\ncontract = \"0.1\"\nname = \"x\"\nversion = \"1\"\n";
    for rest in [
        "display-name = \"Good \\u001b[2Kbuilt in\"\n",
        "[[setting]]\nname = \"a\"\ndescription = \"b\\u202ec\"\n",
        "[[host]]\npattern = \"a\\u001b.example.com\"\n",
        "[[credential]]\nslot = \"a\"\nsources = [\"env:\\rX\"]\n",
    ] {
        let error = Manifest::parse(&format!("{head}{rest}")).expect_err(rest);
        assert!(!error.to_string().chars().any(|c| c.is_control() || c == '\u{202e}'), "{error}");
    }
    let error = Manifest::parse(&format!("{head}wrong = 1\n")).expect_err("unknown").to_string();
    assert!(error.contains("line 5") && error.contains("wrong"), "{error}");
}
