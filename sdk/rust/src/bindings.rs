//! Bindings of `wit/v0.1`, generated: `host` is what a provider may call, and there is one module for each interface it may
//! export. Every export is a world of its own, because a component must not export what it does not implement, and the
//! type section of a world travels with its export macro. Nothing outside the crate names this module, except
//! the expansion of [`export!`](crate::export).

/// What a provider may call.
pub mod host {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "idp:registry-provider/imports",
        generate_unused_types: true,
        pub_export_macro: true,
        additional_type_attributes: {
            "idp:registry-provider/types@0.1.0/scope": [#[derive(PartialEq, Eq, Hash)]],
            "idp:registry-provider/types@0.1.0/error": [#[derive(PartialEq, Eq)]],
            "idp:registry-provider/invocation@0.1.0/challenge": [#[derive(PartialEq, Eq)]],
        },
    });
}

/// The world of one exported interface, over the types of [`host`].
macro_rules! exported {
    ($(#[$doc:meta])* $module:ident, $world:tt, $interface:tt, [$($with:tt)*], { $($attributes:tt)* }) => {
        $(#[$doc])*
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit/v0.1",
                inline: $world,
                with: {
                    "idp:registry-provider/types@0.1.0": crate::__bindings::host::idp::registry_provider::types,
                    $($with)*
                    $interface: generate,
                },
                pub_export_macro: true,
                default_bindings_module: "idp_provider_sdk::__bindings",
                additional_type_attributes: { $($attributes)* },
            });
        }
    };
}

exported!(
    /// `provider`
    provider,
    "package idp:sdk-provider; world sdk-provider { export idp:registry-provider/provider@0.1.0; }",
    "idp:registry-provider/provider@0.1.0",
    [],
    { "idp:registry-provider/provider@0.1.0/description": [#[derive(Default, PartialEq, Eq)]] }
);
exported!(
    /// `identity`
    identity,
    "package idp:sdk-identity; world sdk-identity { export idp:registry-provider/identity@0.1.0; }",
    "idp:registry-provider/identity@0.1.0",
    [],
    { "idp:registry-provider/identity@0.1.0/identification": [#[derive(Default, PartialEq, Eq)]] }
);
exported!(
    /// `naming`
    naming,
    "package idp:sdk-naming; world sdk-naming { export idp:registry-provider/naming@0.1.0; }",
    "idp:registry-provider/naming@0.1.0",
    [],
    { "idp:registry-provider/naming@0.1.0/wire-name": [#[derive(Default, PartialEq, Eq)]] }
);
exported!(
    /// `auth`
    auth,
    "package idp:sdk-auth; world sdk-auth { export idp:registry-provider/auth@0.1.0; }",
    "idp:registry-provider/auth@0.1.0",
    ["idp:registry-provider/secrets@0.1.0": crate::__bindings::host::idp::registry_provider::secrets,],
    {}
);
exported!(
    /// `transport`
    transport,
    "package idp:sdk-transport; world sdk-transport { export idp:registry-provider/transport@0.1.0; }",
    "idp:registry-provider/transport@0.1.0",
    [],
    {}
);
exported!(
    /// `repositories`
    repositories,
    "package idp:sdk-repositories; world sdk-repositories { export idp:registry-provider/repositories@0.1.0; }",
    "idp:registry-provider/repositories@0.1.0",
    [],
    {
        "idp:registry-provider/repositories@0.1.0/repository": [#[derive(Default, PartialEq, Eq)]],
        "idp:registry-provider/repositories@0.1.0/page": [#[derive(Default, PartialEq, Eq)]]
    }
);
exported!(
    /// `artifacts`
    artifacts,
    "package idp:sdk-artifacts; world sdk-artifacts { export idp:registry-provider/artifacts@0.1.0; }",
    "idp:registry-provider/artifacts@0.1.0",
    [],
    {
        "idp:registry-provider/artifacts@0.1.0/tag": [#[derive(Default, PartialEq, Eq)]],
        "idp:registry-provider/artifacts@0.1.0/page": [#[derive(Default, PartialEq, Eq)]],
        "idp:registry-provider/artifacts@0.1.0/target": [#[derive(PartialEq, Eq)]],
        "idp:registry-provider/artifacts@0.1.0/removal": [#[derive(Default, PartialEq, Eq)]]
    }
);
exported!(
    /// `explanations`
    explanations,
    "package idp:sdk-explanations; world sdk-explanations { export idp:registry-provider/explanations@0.1.0; }",
    "idp:registry-provider/explanations@0.1.0",
    [],
    { "idp:registry-provider/explanations@0.1.0/explanation": [#[derive(Default, PartialEq, Eq)]] }
);
