//! Which implementation a plain registry is, and what that says about moving bytes.

use idp_provider_sdk::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Discovery {
    #[serde(default)]
    extensions: Vec<Extension>,
}

#[derive(Debug, Deserialize)]
struct Extension {
    name: String,
    #[serde(default)]
    url: String,
}

/// zot by its extension list, distribution by its header. Neither is certain: any registry may send the header, and a
/// provider that knows the product is the better choice.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let registry = matches!(subject.status, 200 | 401 | 403)
        && (subject.header("docker-distribution-api-version").is_some() || !subject.challenges().is_empty());
    if !registry {
        return Ok(Identification { product: "unknown".to_owned(), ..Identification::default() });
    }
    // Its answer says nothing of its own, so that the one probe is for zot.
    let answer = Request::get(Client::url("/v2/_oci/ext/discover")).send()?;
    let zot = if answer.is_success() {
        let discovery = answer.json::<Discovery>().ok();
        discovery.and_then(|found| found.extensions.into_iter().find(|extension| extension.name == "_zot"))
    } else {
        None
    };
    Ok(match zot {
        Some(extension) => identified(60, "zot", version(&extension.url)),
        None if subject.header("docker-distribution-api-version") == Some("registry/2.0") => {
            identified(20, "distribution", None)
        }
        None => identified(10, "unknown", None),
    })
}

fn identified(certainty: u8, product: &str, version: Option<String>) -> Identification {
    let settings = if product == "unknown" { Vec::new() } else { pairs([("product", product)]) };
    Identification { certainty, product: product.to_owned(), version, settings, extra: Vec::new() }
}

/// The tag in the address of zot's extension page: `…/blob/v2.1.5/pkg/…`.
fn version(url: &str) -> Option<String> {
    let tag = url.split_once("/blob/")?.1.split('/').next()?;
    tag.starts_with('v').then(|| tag.to_owned())
}

/// What is known to differ from the defaults.
pub(crate) fn hints(product: Option<&str>) -> Pairs {
    match product {
        Some("zot") => pairs([
            ("mount", "yes"),
            ("referrers", "yes"),
            ("digest-algorithms", "sha256,sha512"),
            ("manifest-max", "4194304"),
            ("page-size", "1000"),
        ]),
        // It stores sha512 blobs and cannot read them back; its referrers are a 404 page.
        Some("distribution") => pairs([
            ("mount", "yes"),
            ("referrers", "no"),
            ("digest-algorithms", "sha256"),
            ("manifest-max", "4194304"),
            ("validates-manifest", "yes"),
            ("page-size", "1000"),
        ]),
        _ => Vec::new(),
    }
}
