//! The command reference in `docs/` is what the binary says of itself.

use std::path::Path;

use super::sandbox;

#[test]
fn the_reference_is_what_the_binary_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let said = sandbox().idp(["__docs"]).exits(0).stdout;
    if std::env::var_os("IDP_BLESS").is_some() {
        let _ = std::fs::create_dir_all(path.parent().expect("a file lies in a directory"));
        std::fs::write(&path, &said).expect("docs/reference can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == said, "docs/reference/cli.md is out of date: run `cargo xtask bless`");
}
