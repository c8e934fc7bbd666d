//! [`export!`](crate::export): from trait implementations to a component.
//!
//! A component must export exactly what it implements, because the host probes. The bindings hold one tiny world an interface;
//! the macro expands the export macros of the named ones in the provider's crate, each with its own type section, and
//! the tool that makes the component merges them.

use std::marker::PhantomData;

use crate::__bindings as bindings;
use crate::contract::{
    Artifacts, Description, Explanation, Explanations, Identification, Identity, Naming, Pairs, Provider,
    Removal, Repositories, Repository, RepositoryPage, Result, TagPage, Target, Transport, WireName,
};

/// Exports a provider: `export!(Example, manifest = "provider.toml", interfaces = [auth, naming]);`.
///
/// `manifest` is the path from the crate's root; its text becomes the custom section `idp:provider`. `interfaces` names the
/// traits to export: `identity`, `naming`, `auth`, `transport`, `repositories`, `artifacts`, `explanations`. The type must be in
/// scope under a plain name; [`Provider`] is implemented for it here.
#[macro_export]
macro_rules! export {
    ($provider:ident, manifest = $manifest:literal, interfaces = [$($interface:ident),* $(,)?] $(,)?) => {
        impl $crate::Provider for $provider {
            const MANIFEST: &'static str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest));
            const INTERFACES: &'static [&'static str] = &[$(stringify!($interface)),*];
        }

        #[cfg(not(target_arch = "wasm32"))]
        impl $crate::testing::Answers for $provider {
            fn answer(
                question: &str,
                arguments: &$crate::testing::Arguments,
            ) -> Option<$crate::Result<$crate::testing::Value>> {
                $(
                    if let Some(answer) = $crate::testing::ask::$interface::<Self>(question, arguments) {
                        return Some(answer);
                    }
                )*
                $crate::testing::ask::provider::<Self>(question, arguments)
            }
        }

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the wire code of the component model")]
        #[allow(clippy::all, clippy::use_self, unreachable_pub, missing_docs, reason = "generated")]
        const _: () = {
            const LENGTH: usize = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest)).len();
            #[used]
            #[unsafe(link_section = "idp:provider")]
            static MANIFEST: [u8; LENGTH] = *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest));

            type Exported = $crate::export::Exported<$provider>;
            $crate::__bindings::provider::export!(Exported with_types_in $crate::__bindings::provider);
            $($crate::__bindings::$interface::export!(Exported with_types_in $crate::__bindings::$interface);)*
        };
    };
}

/// A provider as the generated code sees it.
#[derive(Debug)]
pub struct Exported<T>(PhantomData<T>);

/// Runs a question, with the panic text going to the host's log: without WASI it would be lost.
fn ask<R>(question: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "wasm32")]
    {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| std::panic::set_hook(Box::new(|info| crate::log::error(&info.to_string()))));
    }
    question()
}

impl<T: Provider> bindings::provider::exports::idp::registry_provider::provider::Guest for Exported<T> {
    fn describe() -> Result<Description> {
        ask(T::describe)
    }
}

impl<T: Identity> bindings::identity::exports::idp::registry_provider::identity::Guest for Exported<T> {
    fn identify() -> Result<Identification> {
        ask(T::identify)
    }
}

impl<T: Naming> bindings::naming::exports::idp::registry_provider::naming::Guest for Exported<T> {
    fn normalize(repository: String, tag: Option<String>) -> Result<WireName> {
        ask(|| T::normalize(repository, tag))
    }
}

#[cfg(target_arch = "wasm32")]
impl<T: crate::Auth> bindings::auth::exports::idp::registry_provider::auth::Guest for Exported<T> {
    fn authorize(
        scopes: Vec<crate::Scope>,
    ) -> Result<bindings::auth::exports::idp::registry_provider::auth::Grant> {
        use crate::contract::Authorization;
        use bindings::auth::exports::idp::registry_provider::auth as wit;
        let grant = ask(|| T::authorize(scopes))?;
        Ok(wit::Grant {
            authorization: match grant.authorization {
                Authorization::Anonymous => wit::Authorization::Anonymous,
                Authorization::Bearer(token) => wit::Authorization::Bearer(token.0),
                Authorization::Basic(username, password) => wit::Authorization::Basic((username, password.0)),
                Authorization::Headers(list) => wit::Authorization::Headers(
                    list.into_iter().map(|(name, value)| (name, value.0)).collect(),
                ),
            },
            scopes: grant.scopes,
            expires_in_s: grant.expires_in_s,
            reuse: grant.reuse,
            extra: grant.extra,
        })
    }

    fn verify() -> Result<Pairs> {
        ask(T::verify)
    }
}

impl<T: Transport> bindings::transport::exports::idp::registry_provider::transport::Guest for Exported<T> {
    fn hints(repository: Option<String>) -> Result<Pairs> {
        ask(|| T::hints(repository))
    }

    fn limits() -> Result<Vec<Pairs>> {
        ask(T::limits)
    }
}

impl<T: Repositories> bindings::repositories::exports::idp::registry_provider::repositories::Guest
    for Exported<T>
{
    fn ensure(name: String, options: Pairs) -> Result<Repository> {
        ask(|| T::ensure(name, options))
    }

    fn info(name: String) -> Result<Repository> {
        ask(|| T::info(name))
    }

    fn list_page(filter: Pairs, limit: u32, cursor: Option<String>) -> Result<RepositoryPage> {
        ask(|| T::list_page(filter, limit, cursor))
    }
}

impl<T: Artifacts> bindings::artifacts::exports::idp::registry_provider::artifacts::Guest for Exported<T> {
    fn list_page(repository: String, filter: Pairs, limit: u32, cursor: Option<String>) -> Result<TagPage> {
        ask(|| T::list_page(repository, filter, limit, cursor))
    }

    fn remove(repository: String, target: Target, options: Pairs) -> Result<Removal> {
        ask(|| T::remove(repository, target, options))
    }
}

impl<T: Explanations> bindings::explanations::exports::idp::registry_provider::explanations::Guest
    for Exported<T>
{
    fn explain() -> Result<Explanation> {
        ask(T::explain)
    }
}

/// A top-level string of the manifest, without a TOML parser in the component: `key = "value"` before the first table.
pub(crate) fn manifest_field(manifest: &str, key: &str) -> Option<String> {
    let top = manifest.lines().take_while(|line| !line.trim_start().starts_with('['));
    top.filter_map(|line| line.split_once('=')).find(|(name, _)| name.trim() == key).and_then(|(_, value)| {
        let value = value.trim().strip_prefix('"')?;
        value.split_once('"').map(|(text, _)| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_manifest() {
        let manifest =
            "schema = 1\nname = \"odd\" # comment\ndisplay-name=\"Odd\"\n[[host]]\nversion = \"9\"\n";
        assert_eq!(manifest_field(manifest, "name").as_deref(), Some("odd"));
        assert_eq!(manifest_field(manifest, "display-name").as_deref(), Some("Odd"));
        assert_eq!(manifest_field(manifest, "version"), None);
        assert_eq!(manifest_field(manifest, "schema"), None);
    }
}
