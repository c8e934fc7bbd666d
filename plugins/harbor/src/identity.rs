//! Is it Harbor: service and path of the token are fixed in its code; one probe says how it knows its users.

use idp_provider_sdk::prelude::*;

use crate::api::SystemInfo;

/// Whether a challenge is Harbor's.
fn is_ours(challenge: &Challenge) -> bool {
    let realm = challenge.realm_url(&invocation::origin()).unwrap_or_default();
    challenge.is("bearer")
        && challenge.param("service") == Some("harbor-registry")
        && idp_provider_sdk::link::path(&realm) == "/service/token"
}

/// One probe: what Harbor tells everybody of itself. The version is not part of that.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    if !subject.challenges().iter().any(is_ours) {
        return Ok(Identification { product: "unknown".to_owned(), ..Identification::default() });
    }
    let probe = Request::get(Client::url("/api/v2.0/systeminfo")).send()?;
    let told = if probe.is_success() {
        probe.json::<SystemInfo>().unwrap_or_default()
    } else {
        SystemInfo::default()
    };
    let mut settings: Pairs = Vec::new();
    let named = [("auth-mode", &told.auth_mode), ("version", &told.harbor_version)];
    settings.extend(named.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?))));
    Ok(Identification {
        // A proxy may hide the API; the challenge alone is certain enough to be let in by.
        certainty: if told.auth_mode.is_some() { 100 } else { 95 },
        product: "harbor".to_owned(),
        version: told.harbor_version,
        settings,
        extra: Vec::new(),
    })
}
