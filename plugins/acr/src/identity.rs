//! Is it Azure's: a custom domain is told by the service of its challenge, which is the login server.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;

/// What the login servers of the clouds end in.
pub(crate) const SUFFIXES: [&str; 4] = [".azurecr.io", ".azurecr.cn", ".azurecr.us", ".azurecr.de"];

/// Whether a host is a login server of Azure's.
pub(crate) fn is_login_server(host: &str) -> bool {
    SUFFIXES.iter().any(|suffix| host.strip_suffix(suffix).is_some_and(|name| !name.is_empty()))
}

/// The login server that a challenge speaks of.
fn login_server(challenge: &Challenge) -> Option<&str> {
    let realm = challenge.realm_url(&invocation::origin())?;
    let service = challenge.param("service")?;
    let ours = challenge.is("bearer") && link::path(&realm) == "/oauth2/token" && is_login_server(service);
    ours.then_some(service)
}

/// No probe is needed: nobody else names such a service.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let found = subject.challenges().iter().any(|challenge| login_server(challenge).is_some());
    let (certainty, product) = if found { (100, "acr") } else { (0, "unknown") };
    Ok(Identification { certainty, product: product.to_owned(), ..Identification::default() })
}
