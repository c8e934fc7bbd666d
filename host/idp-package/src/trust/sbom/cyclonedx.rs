//! CycloneDX 1.6 in JSON (CycloneDX/specification, `schema/bom-1.6.schema.json`).

use serde_json::{Value, json};

use super::{PackageFacts, Reference, expression, purl};

/// The document about a package.
pub fn document(package: &PackageFacts) -> Value {
    let PackageFacts { name, version, digest, .. } = package;
    let own = purl(name, Some(digest), package.repository.as_deref(), Some(version));
    let mut component = json!({
        "type": "application",
        "bom-ref": own,
        "name": name,
        "version": version,
        "purl": own,
    });
    if let Some(description) = &package.description {
        component["description"] = json!(description);
    }
    if let Some(supplier) = &package.supplier {
        component["supplier"] = json!({"name": supplier});
    }
    if let Some(licenses) = &package.licenses {
        component["licenses"] = match expression(Some(licenses)) {
            Some(expression) => json!([{"expression": expression}]),
            None => json!([{"license": {"name": licenses}}]),
        };
    }
    let (mut components, mut needed) = (Vec::new(), Vec::new());
    for image in &package.images {
        let Reference { name, tag, repository } = Reference::of(&image.reference);
        let purl = purl(name, image.digest.as_ref(), Some(&repository), tag);
        // A package may name one image in several ways.
        if needed.contains(&purl) {
            continue;
        }
        let mut listed = json!({"type": "container", "bom-ref": purl, "name": repository, "purl": purl});
        if let Some(version) = tag.or(image.digest.as_ref().map(|digest| digest.as_str())) {
            listed["version"] = json!(version);
        }
        components.push(listed);
        needed.push(purl);
    }
    for dependency in &package.dependencies {
        let super::DependencyFacts { name, version, repository, digest } = dependency;
        let purl = purl(name, Some(digest), repository.as_deref(), Some(version));
        if needed.contains(&purl) {
            continue;
        }
        components.push(json!({
            "type": "application", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        }));
        needed.push(purl);
    }
    let leaves: Vec<Value> = needed.iter().map(|leaf| json!({"ref": leaf})).collect();
    for file in &package.files {
        let mut hashes = vec![json!({"alg": "SHA-256", "content": file.sha256})];
        if let Some(sha1) = &file.sha1 {
            hashes.insert(0, json!({"alg": "SHA-1", "content": sha1}));
        }
        components.push(json!({
            "type": "file", "bom-ref": format!("file:{}", file.path), "name": file.path, "hashes": hashes,
            "properties": [{"name": "idp:file:size", "value": file.size.to_string()}],
        }));
    }
    let mut dependencies = vec![json!({"ref": own, "dependsOn": needed})];
    dependencies.extend(leaves);
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(digest.hex())),
        "version": 1,
        "metadata": {
            "timestamp": package.created.to_string(),
            "tools": {"components": [{"type": "application", "name": "idp", "version": package.tool_version}]},
            "component": component,
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// A UUID of the package's digest: version 8, which is for everybody's own use (RFC 9562, 5.8).
fn uuid(hex: &str) -> String {
    format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
