//! SPDX 2.3 in JSON (spdx/spdx-spec v2.3, and its `schemas/spdx-schema.json`).
//!
//! The specification wants a SHA-1 digest of every file (8.4), and makes a package's verification code of them (7.9). Where a file has
//! none, only its SHA-256 is written: the schema takes that, strict validators remark on it.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use super::{FileFacts, PackageFacts, Reference, expression, purl};

const PACKAGE: &str = "SPDXRef-Package";
const NOTHING: &str = "NOASSERTION";
/// The document's namespace goes on with what makes it one of a kind.
const NAMESPACE: &str = "https://packages.cnoe.io/spdx";

/// The document about a package.
pub fn document(package: &PackageFacts) -> Value {
    let PackageFacts { name, version, .. } = package;
    let licence = expression(package.licenses.as_deref()).unwrap_or(NOTHING);
    let supplier = package.supplier.as_deref().map(|name| format!("Organization: {}", line(name)));
    let mut own = json!({
        "SPDXID": PACKAGE,
        "name": name,
        "versionInfo": version,
        "supplier": supplier.as_deref().unwrap_or(NOTHING),
        "downloadLocation": NOTHING,
        "filesAnalyzed": !package.files.is_empty(),
        "licenseConcluded": NOTHING,
        "licenseDeclared": licence,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": "ARCHIVE",
        "externalRefs": [reference(&purl(name, Some(&package.digest), package.repository.as_deref(), Some(version)))],
    });
    if let Some(description) = &package.description {
        own["summary"] = json!(description);
    }
    if !package.files.is_empty() {
        own["licenseInfoFromFiles"] = json!([NOTHING]);
        if let Some(code) = verification_code(&package.files) {
            own["packageVerificationCode"] = json!({"packageVerificationCodeValue": code});
        }
    }
    let (mut packages, mut relationships) =
        (vec![own], vec![related("SPDXRef-DOCUMENT", "DESCRIBES", PACKAGE)]);
    for (index, image) in package.images.iter().enumerate() {
        let id = format!("SPDXRef-Image-{}", index + 1);
        let Reference { name, tag, repository } = Reference::of(&image.reference);
        let purl = purl(name, image.digest.as_ref(), Some(&repository), tag);
        let mut listed = other(&id, &image.reference, &purl, "CONTAINER");
        if let Some(tag) = tag {
            listed["versionInfo"] = json!(tag);
        }
        packages.push(listed);
        relationships.push(related(PACKAGE, "DEPENDS_ON", &id));
    }
    for (index, dependency) in package.dependencies.iter().enumerate() {
        let id = format!("SPDXRef-Dependency-{}", index + 1);
        let super::DependencyFacts { name, version, repository, digest } = dependency;
        let purl = purl(name, Some(digest), repository.as_deref(), Some(version));
        let mut listed = other(&id, name, &purl, "ARCHIVE");
        listed["versionInfo"] = json!(version);
        packages.push(listed);
        relationships.push(related(PACKAGE, "DEPENDS_ON", &id));
    }
    let mut files = Vec::with_capacity(package.files.len());
    for (index, file) in package.files.iter().enumerate() {
        let id = format!("SPDXRef-File-{}", index + 1);
        let mut checksums = vec![json!({"algorithm": "SHA256", "checksumValue": file.sha256})];
        if let Some(sha1) = &file.sha1 {
            checksums.insert(0, json!({"algorithm": "SHA1", "checksumValue": sha1}));
        }
        files.push(json!({
            "SPDXID": id,
            "fileName": format!("./{}", file.path),
            "checksums": checksums,
            "licenseConcluded": NOTHING,
            "licenseInfoInFiles": [NOTHING],
            "copyrightText": NOTHING,
        }));
        relationships.push(related(PACKAGE, "CONTAINS", &id));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{name}-{version}"),
        "documentNamespace": format!("{NAMESPACE}/{}/{}/{}", super::escaped(name), super::escaped(version), package.digest.hex()),
        "creationInfo": {
            "created": package.created.to_string(),
            "creators": [format!("Tool: idp-{}", package.tool_version)],
        },
        "packages": packages,
        "relationships": relationships,
    });
    if !files.is_empty() {
        document["files"] = json!(files);
    }
    document
}

/// Fields of one line stay one line.
fn line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn other(id: &str, name: &str, purl: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": purpose,
        "externalRefs": [reference(purl)],
    })
}

fn reference(purl: &str) -> Value {
    json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl})
}

fn related(from: &str, how: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to})
}

/// The SHA-1 digest of the sorted SHA-1 digests of all files, in hex (7.9); none where one of them is not known.
fn verification_code(files: &[FileFacts]) -> Option<String> {
    let mut digests = files.iter().map(|file| file.sha1.as_deref()).collect::<Option<Vec<_>>>()?;
    digests.sort_unstable();
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digests.iter().for_each(|digest| context.update(digest.as_bytes()));
    Some(hex(context.finish().as_ref()))
}

/// The SHA-1 digest of a file, for [`FileFacts::sha1`]. SPDX asks for it; nothing relies on it.
pub fn sha1(content: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, content).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
